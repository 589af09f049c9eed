"""Networks as NNX modules. They know at most an axis name: no data, no optimiser, no devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax
    from flax import nnx
    from ml_collections import ConfigDict


def build(config: ConfigDict, key: jax.Array, classes: int = 0) -> nnx.Module:
    """The network that `config.model.name` names, with initial weights drawn from `key`.

    Args:
      config: a resolved config.
      classes: output units where `config.model.classes` is 0.

    Raises:
      ConfigError: impossible shapes.
    """
    from alexnet_jax.models.alexnet import AlexNet  # imported here so that `geometry` stays free of JAX

    return {"alexnet": AlexNet}[config.model.name](config, classes, key)
