"""Layers of several columns, and the one place where columns meet.

A column is a leading array axis: kernels `[column, kh, kw, in, out]`, activations
`[column, batch, height, width, channel]`. On a mesh, inside `jax.shard_map`, a device holds its local
columns only and runs an ordinary dense convolution for each: that is what makes it half the work
(a grouped convolution that is sharded by channels is computed whole on every device).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alexnet_jax.models import arithmetic, layers
from alexnet_jax.models.geometry import Layer


def exchange(x: jax.Array, axis: str | None) -> jax.Array:
    """The input of a layer "that sees both columns": the columns concatenated along the channels.

    Paper, section 3.2 and figure 2: the two GPUs communicate only before such layers. The only collective of
    the hidden layers, an all-gather over `axis` (none where all columns are local).

    Args:
      x: [local columns, batch, ..., channel].
      axis: name of the mesh axis that splits the columns, inside `shard_map`; None outside.

    Returns:
      [batch, ..., columns · channel], column by column.
    """
    if axis is not None:
        x = lax.all_gather(x, axis, axis=0, tiled=True)
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def _columnar(value: jax.Array) -> nnx.Param:
    # Metadata only (no mesh needed): the partition specs of the whole project are derived from it.
    return nnx.Param(value, out_sharding=("column",), eager_sharding=False)


def _weights(key: jax.Array, layer: Layer, shape: tuple[int, ...], dtype) -> jax.Array:
    """[columns, *shape] of N(0, init_std), or uniform with that deviation; each column from its own key."""
    def draw(column):
        own = jax.random.fold_in(key, column)
        if layer.uniform:
            edge = math.sqrt(3.0)
            return jax.random.uniform(own, shape, dtype, -edge, edge)
        return jax.random.normal(own, shape, dtype)

    return layer.init_std * jax.vmap(draw)(jnp.arange(layer.columns))


class ColumnConv(nnx.Module):
    """A convolution of each column with its own kernels; parameters [column, kh, kw, in, out], [column, out]."""

    def __init__(self, layer: Layer, key: jax.Array, dtype):
        self.stride, self.padding = layer.stride, layer.padding
        shape = (layer.kernel, layer.kernel, layer.in_features, layer.features)
        self.kernel = _columnar(_weights(key, layer, shape, dtype))
        self.bias = _columnar(jnp.full((layer.columns, layer.features), layer.bias, dtype))

    def __call__(self, x: jax.Array, pool: Callable[[jax.Array], jax.Array] = lambda y: y) -> jax.Array:
        """[batch, h, w, in] that all columns see, or [column, batch, h, w, in] → [column, batch, h', w', out].

        Args:
          pool: maxima over windows, [batch, h', w', out] → [batch, h'', w'', out], taken before the biases are added.
            The result is the same as afterwards, with fewer values to add to and to move.
        """
        kernel = self.kernel[...].astype(x.dtype)
        columns, kh, kw, channels, features = kernel.shape
        if x.ndim == 4:
            # The same input for all: one convolution with the local columns' kernels side by side.
            side_by_side = jnp.moveaxis(kernel, 0, 3).reshape(kh, kw, channels, columns * features)
            y = pool(arithmetic.convolve(x, side_by_side, self.stride, self.padding))
            y = jnp.moveaxis(y.reshape(*y.shape[:-1], columns, features), -2, 0)
        else:
            y = jnp.stack([pool(arithmetic.convolve(x[i], kernel[i], self.stride, self.padding))
                           for i in range(columns)])
        return arithmetic.add_bias(y, self.bias[...].astype(x.dtype))


class ColumnLocal(nnx.Module):
    """A locally connected layer of each column: a convolution with separate weights at each position.

    `LocalUnsharedLayer` of cuda-convnet. Parameters [column, h', w', kh·kw·in, out], [column, h', w', out].
    """

    def __init__(self, layer: Layer, key: jax.Array, dtype):
        self.window, self.stride, self.padding = layer.kernel, layer.stride, layer.padding
        place = (layer.size, layer.size)
        self.kernel = _columnar(_weights(key, layer, (*place, layer.fan_in, layer.features), dtype))
        self.bias = _columnar(jnp.full((layer.columns, *place, layer.features), layer.bias, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, h, w, in] that all columns see, or [column, batch, h, w, in] → [column, batch, h', w', out]."""
        kernel = self.kernel[...].astype(x.dtype)
        y = jnp.stack([arithmetic.convolve_unshared(x if x.ndim == 4 else x[i], kernel[i], self.window, self.stride,
                                                self.padding) for i in range(kernel.shape[0])])
        return y + self.bias[...].astype(x.dtype)[:, None]


class ColumnDense(nnx.Module):
    """A dense layer of each column; parameters [column, in, out], [column, out]."""

    def __init__(self, layer: Layer, key: jax.Array, dtype):
        shape = (layer.in_features, layer.features)
        self.kernel = _columnar(_weights(key, layer, shape, dtype))
        self.bias = _columnar(jnp.full((layer.columns, layer.features), layer.bias, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, in] that all columns see, or [column, batch, in] → [column, batch, out]."""
        kernel = self.kernel[...].astype(x.dtype)
        return arithmetic.dense(x, kernel) + self.bias[...].astype(x.dtype)[:, None, :]


class ColumnSum(nnx.Module):
    """The output layer: each column's partial products, summed over the columns; one bias for all.

    Parameters [column, in, out] and [out]: the bias is the one parameter without a column axis.
    """

    def __init__(self, layer: Layer, key: jax.Array, dtype):
        shape = (layer.in_features, layer.features)
        self.kernel = _columnar(_weights(key, layer, shape, dtype))
        self.bias = nnx.Param(jnp.full((layer.features,), layer.bias, dtype))

    def __call__(self, x: jax.Array, axis: str | None) -> jax.Array:
        """[column, batch, in] → [batch, out], in float32 at least: the softmax follows."""
        kernel = self.kernel[...].astype(x.dtype)
        wide = layers.wide_dtype(x.dtype)
        y = arithmetic.dense(x, kernel, wide).sum(axis=0)
        if axis is not None:
            y = lax.psum(y, axis)
        return y + self.bias[...].astype(wide)[None, :]
