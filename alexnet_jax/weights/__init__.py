"""Weights in and out: networks of others as this project's parameters, and its networks for others.

    params = weights.load("alexnet.pth", config)          # nested dict of NumPy arrays, as the network has them

`read` finds the format by the file's content; `load` fits what it holds to a config's network, or says what doesn't
fit. `python -m alexnet_jax.weights import` makes a run's folder of it, `… export` writes a run's network for others
(docs/weights.md). No file that is read can run code.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import CheckpointError
from alexnet_jax.weights import caffe, cuda_convnet, fitting, state_dict
from alexnet_jax.weights.tensors import Network, mapped

__all__ = ["Network", "load", "read"]

_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_OTHERS = {b"\x89HDF": "an HDF5 file; of Caffe's files .caffemodel is read",
           b"\x1f\x8b": "compressed; unpack it first (gunzip)", b"\x08": "perhaps an ONNX file, which is written here "
           "and not read"}


def read(path: str | pathlib.Path) -> Network:
    """The network that a weights file holds, its format told by its content.

    Raises:
      CheckpointError: absent, damaged, or of no format that is known.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; name a weights file (load takes a run's folder too)")
    head = bytes(mapped(path)[:16])
    if head[:2] == b"PK" or head.startswith(_LEGACY_TORCH):
        return state_dict.read_torch(path)
    if head[8:9] == b"{":
        return state_dict.read_safetensors(path)
    if head[:1] in (b"\x80", b"}") or head[:2] in (b"(d", b"(i"):
        return cuda_convnet.read(path)
    if head[:1] in (b"\x0a", b"\x12", b"\xa2", b"\x1a"):
        return caffe.read(path)
    what = next((words for start, words in _OTHERS.items() if head.startswith(start)), "no file of a format that is "
                "known: PyTorch's state dict, safetensors, Caffe's caffemodel, cuda-convnet's checkpoint")
    raise CheckpointError(f"{path}: {what}")


def load(path: str | pathlib.Path, config: ConfigDict, classes: int = 0, skip: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters of `config`'s network from a weights file or a run's folder: {layer: {'kernel', 'bias'}}, float32.

    Args:
      config: a resolved config. classes: output units where `config.model.classes` is 0; 0: as many as the file has.
      skip: layers to leave out, whatever the file has of them, e.g. ('fc8',) for a network of other classes.

    Raises:
      CheckpointError: no such file, damaged, or it doesn't fit the network: the layer, both shapes, the likely config.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        from alexnet_jax.inspect.trained import Trained  # JAX starts here

        return fitting.params(fitting.of_params(Trained(path).params), config, classes, str(path), skip)
    return fitting.params(read(path), config, classes, str(path), skip)
