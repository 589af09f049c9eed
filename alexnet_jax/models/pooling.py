"""Pooling with the ceil rule. Arrays are `[…, height, width, channel]`; leading axes are carried along."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.models import geometry, layers


def pool(x: jax.Array, window: int, stride: int, kind: str = "max", rounding: str = "ceil") -> jax.Array:
    """Max or average pooling with the ceil rule: 1 + ⌈(N − z)/s⌉ positions, the last window clipped.

    Paper, section 3.4 (z = 3, s = 2 overlaps); the rule is the released code's (`layer.py`). An average is over the
    pixels that the clipped window holds. With `rounding='floor'` a window that would be clipped is left out.

    One of several tied maxima gets the whole gradient, as in PyTorch; the released code credits each of them in full.

    Args:
      x: [..., height, width, channel].

    Returns:
      [..., height', width', channel].
    """
    def over_windows(x: jax.Array, combine, start: float) -> jax.Array:
        windows, strides, clipped = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
        for axis in (x.ndim - 3, x.ndim - 2):
            positions = geometry.pool_size(x.shape[axis], window, stride, rounding)
            windows[axis], strides[axis] = window, stride
            clipped[axis] = (0, max((positions - 1) * stride + window - x.shape[axis], 0))
        return lax.reduce_window(x, start, combine, windows, strides, clipped)

    if kind == "max":
        return over_windows(x, lax.max, -np.inf)
    a = layers.wide(x)  # a sum of float16 overflows
    return (over_windows(a, lax.add, 0.0) / over_windows(jnp.ones_like(a), lax.add, 0.0)).astype(x.dtype)
