"""Imports other projects' weights as this project's parameters, and exports this project's networks.

    params = weights.load("alexnet.pth", config)          # nested dict of NumPy arrays, as the network has them

`read` recognises the format by the file's content; `load` fits the weights to a config's network, or says what does not
fit. `python -m alexnet_jax.weights import` makes a run's folder from a weights file, `… export` writes a run's network
(docs/weights.md). Reading a file never runs code that is in it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.weight_files import Network, fitting, read

__all__ = ["Network", "load", "read"]


def load(path: str | pathlib.Path, config: ConfigDict, classes: int = 0, skip: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters of `config`'s network from a weights file or a run's folder: {layer: {'kernel', 'bias'}}, float32.

    Args:
      config: a resolved config. classes: output units if `config.model.classes` is 0; 0: as many as the file has.
      skip: layers to leave out, e.g. ('fc8',) for a network of other classes.

    Raises:
      CheckpointError: the file is absent or damaged, or does not fit the network; then the message names the layer,
        both shapes and, if one is found, a config that fits.
      ConfigError: the config's network fits into no such file.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        from alexnet_jax.inspect.trained import Trained  # JAX starts here

        return fitting.params(fitting.of_params(Trained(path).params), config, classes, str(path), skip)
    return fitting.params(read(path), config, classes, str(path), skip)
