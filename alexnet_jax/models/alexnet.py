"""The two-column AlexNet (paper, section 3.5 and figure 2), any sizes, any number of columns.

The CIFAR-10 networks of cuda-convnet and LeNet-5 are this module with layers left out (`alexnet_jax/networks.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from ml_collections import ConfigDict

from alexnet_jax.models import arithmetic, columns, geometry


@dataclasses.dataclass(frozen=True)
class Dropout:
    """What a training pass's dropout masks depend on: the step's `key`, and `rows` [local batch], the examples."""

    key: jax.Array
    rows: jax.Array


class AlexNet(nnx.Module):
    """Logits from images, with the columns meeting only at the layers that `model.exchange` names.

    Args:
      config: a resolved config; `model` and `data.crop` are used.
      classes: output units where `model.classes` is 0.
      key: for the initial weights.

    Raises:
      ConfigError: impossible shapes (`geometry.layers`).
    """

    def __init__(self, config: ConfigDict, classes: int, key: jax.Array):
        self.layers = tuple(geometry.layers(config, classes))
        model = config.model
        self.activation = model.activation
        self.lrn = {"k": model.lrn.k, "n": model.lrn.n, "alpha": model.lrn.alpha, "beta": model.lrn.beta,
                        "alpha_over_n": model.lrn.alpha_over_n}
        self.lrn_window = model.lrn.window
        self.same_map = {"size": model.same_map.size, "alpha": model.same_map.alpha, "beta": model.same_map.beta}
        self.pooling = {"window": model.pool.window, "stride": model.pool.stride, "rounding": model.pool.rounding}
        self.dropout_rate, self.dropout_scale = model.dropout, model.dropout_scale
        wide = jnp.float64 if config.train.precision == "float64" else jnp.float32
        self.dtype = jnp.dtype(config.train.precision)
        for number, layer in enumerate(self.layers):
            kind: Callable[..., nnx.Module]
            if layer.is_conv:
                kind = columns.ColumnLocal if layer.unshared else columns.ColumnConv
            else:
                kind = columns.ColumnSum if layer.is_output else columns.ColumnDense
            setattr(self, layer.name, kind(layer, jax.random.fold_in(key, number), wide))

    def __call__(self, images: jax.Array, *, axis: str | None = None, dropout: Dropout | None = None,
                 observe: Callable[[str, jax.Array], None] | None = None) -> jax.Array:
        """Logits [batch, classes] (float32 or wider) of `images` [batch, crop, crop, channels], already centred.

        Args:
          axis: name of the mesh axis that splits the columns, inside `shard_map`; None if all are local.
          dropout: in training; None at test.
          observe: called with each layer's name and output [column, batch, ...], and with the logits [batch, classes].
        """
        seen = observe or (lambda name, x: None)
        x = images.astype(self.dtype)
        for number, layer in enumerate(self.layers):
            with jax.named_scope(layer.name):  # the layer's name in profiles and compiled programs
                x = self._layer(number, layer, x, axis, dropout)
            seen(layer.name, x)
        return x

    def _layer(self, number: int, layer: geometry.Layer, x: jax.Array, axis: str | None,
               dropout: Dropout | None) -> jax.Array:
        """The layer's output [column, batch, ...]; the output layer's logits [batch, classes]."""
        module = getattr(self, layer.name)
        if layer.is_output:
            return module(_flat(x), axis)
        if layer.is_conv:
            if layer.sees == "all columns":
                x = columns.exchange(x, axis)
            if layer.pool == "max" and not layer.lrn and not layer.unshared:
                # Bias and activation are monotone in each map, so max pooling may come before them: the maxima are the
                # same, and there is less left to compute.
                x = arithmetic.activate(module(x, self._pool(layer)), self.activation)
            else:
                x = self._after_conv(layer, module(x), axis)
        else:
            if layer.sees == "own column":
                x = _flat(x)
            else:
                x = columns.exchange(x, axis) if layer.sees == "all columns" else x
                x = x.reshape(x.shape[0], -1)
            x = arithmetic.activate(module(x), self.activation)
        return self._dropout(x, number, axis, dropout) if layer.dropout else x

    def _pool(self, layer: geometry.Layer) -> Callable[[jax.Array], jax.Array]:
        return functools.partial(arithmetic.pool, kind=layer.pool, **self.pooling)

    def _after_conv(self, layer: geometry.Layer, x: jax.Array, axis: str | None) -> jax.Array:
        """Activation, norm and pooling in the layer's own order."""
        for step in layer.order:
            if step == "relu":
                x = arithmetic.activate(x, self.activation)
            elif step == "lrn" and layer.lrn:
                x = self._normalise(x, axis)
                if layer.same_map:
                    x = arithmetic.same_map_norm(x, **self.same_map)
            elif step == "pool" and layer.pool:
                x = self._pool(layer)(x)
        return x

    def _normalise(self, x: jax.Array, axis: str | None) -> jax.Array:
        if self.lrn_window == "column":
            return arithmetic.local_response_norm(x, **self.lrn)
        # The text's "N kernels in the layer": the window crosses the columns, so all must be local
        # (alexnet_jax.parallel.column_costs refuses other meshes).
        columns_here, channels = x.shape[0], x.shape[-1]
        whole = arithmetic.local_response_norm(columns.exchange(x, None), **self.lrn)
        return jnp.moveaxis(whole.reshape(*whole.shape[:-1], columns_here, channels), -2, 0)

    def _dropout(self, x: jax.Array, number: int, axis: str | None, dropout: Dropout | None) -> jax.Array:
        """Dropout of a layer's outputs [column, batch, ...], with a mask for each column."""
        mask = None
        if dropout is not None:
            local, features = x.shape[0], math.prod(x.shape[2:])
            first = 0 if axis is None else lax.axis_index(axis) * local
            columns_here = first + jnp.arange(local, dtype=jnp.int32)
            mask = arithmetic.dropout_mask(jax.random.fold_in(dropout.key, number), columns_here, dropout.rows,
                                           features, self.dropout_rate).reshape(x.shape)
        return arithmetic.dropout(x, mask, self.dropout_rate, self.dropout_scale)


def _flat(x: jax.Array) -> jax.Array:
    """[column, batch, ...] → [column, batch, values]."""
    return x.reshape(*x.shape[:2], -1)
