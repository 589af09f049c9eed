"""Pooling with the ceil rule, and windows along one axis.

Arrays are `[…, height, width, channel]`; leading axes (column, batch) are carried along. Windows are combined along
rows first, then along columns, with a gradient of our own: XLA's for a windowed maximum is several times slower on a
CPU (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def pool(x: jax.Array, window: int, stride: int, kind: str = "max", rounding: str = "ceil") -> jax.Array:
    """Max or average pooling with the ceil rule: 1 + ⌈(N − z)/s⌉ positions, the last window clipped.

    Paper, section 3.4 (z = 3, s = 2 overlaps); the rule is the released code's (`layer.py`). An average is over the
    pixels that the clipped window holds. With `rounding='floor'` a window that would be clipped is left out.

    The gradient of tied maxima goes to the first column's first row that has one, as XLA and PyTorch give it to one
    of them; the released code credits each of them in full.

    Args:
      x: [..., height, width, channel].

    Returns:
      [..., height', width', channel].
    """
    axes = (x.ndim - 3, x.ndim - 2)
    positions = [_positions(x.shape[axis], window, stride, rounding) for axis in axes]
    for axis, count in zip(axes, positions, strict=True):
        reach = (count - 1) * stride + window
        if x.shape[axis] > reach:  # beyond the last window
            x = lax.slice_in_dim(x, 0, reach, 1, axis)
    if kind == "max":
        for axis in axes:
            x = _combine("max", _Windows(axis, x.shape[axis], window, stride, 0, positions[axis - axes[0]]), x)
        return x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a sum of float16 overflows
    inside = np.ones((1, 1, 1))
    for axis, count in zip(axes, positions, strict=True):
        starts = np.arange(count) * stride
        along = np.minimum(starts + window, x.shape[axis]) - starts
        inside = inside * along.reshape((-1, 1, 1) if axis == axes[0] else (1, -1, 1))
        wide = sum_of_windows(wide, axis, window, stride)
    return (wide / jnp.asarray(inside, wide.dtype)).astype(x.dtype)


def _positions(size: int, window: int, stride: int, rounding: str) -> int:
    return 1 + ((size - window) // stride if rounding == "floor" else -(-(size - window) // stride))


def sum_of_windows(x: jax.Array, axis: int, window: int, stride: int, before: int = 0) -> jax.Array:
    """Sums of the entries of each window along `axis`, windows clipped at both ends.

    The first window begins `before` entries ahead of the array. There are as many as the ceil rule gives, or one for
    each entry where `before` is not 0.
    """
    count = x.shape[axis] if before else _positions(x.shape[axis], window, stride, "ceil")
    return _combine("sum", _Windows(axis, x.shape[axis], window, stride, before, count), x)


class _Windows(NamedTuple):
    """`positions` windows along `axis`, of `size` entries, the first of which begins `before` entries ahead of it."""

    axis: int
    size: int
    window: int
    stride: int
    before: int
    positions: int

    @property
    def after(self) -> int:
        """How far the last window hangs over the end; negative where entries are left over."""
        return (self.positions - 1) * self.stride + self.window - self.before - self.size


_COMBINE = {"max": (lax.max, -np.inf), "sum": (lax.add, 0.0)}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _combine(kind: str, w: _Windows, x: jax.Array) -> jax.Array:
    """Maxima or sums of windows.

    On a CPU a windowed reduction: it is as fast as slices forward, and XLA does not compute it a second time inside
    the transposition that the next convolution's weight gradient asks for, at twenty times its cost.
    """
    return lax.platform_dependent(x, cpu=lambda x: _reduce_windows(kind, w, x), default=lambda x: functools.reduce(
        _COMBINE[kind][0], _entries(x, w, _COMBINE[kind][1])))


def _reduce_windows(kind: str, w: _Windows, x: jax.Array) -> jax.Array:
    along = [(1, 1, (0, 0))] * x.ndim
    along[w.axis] = (w.window, w.stride, (w.before, w.after))
    window, stride, padding = zip(*along, strict=True)
    combine, start = _COMBINE[kind]
    return lax.reduce_window(x, np.asarray(start, x.dtype), combine, window, stride, padding)


def _entries(x: jax.Array, w: _Windows, fill: float) -> list[jax.Array]:
    """The first entries of all windows, the second entries, …; `fill` where a window hangs over the edge.

    Each slice is padded, not the array: XLA computes a padded array that several slices read first, as a pass of its
    own through memory.
    """
    out = []
    for offset in range(w.window):
        places = np.arange(w.positions) * w.stride + offset - w.before
        inside = np.flatnonzero((places >= 0) & (places < w.size))
        pads = [(0, 0, 0)] * x.ndim
        if inside.size:
            first, last = inside[0], inside[-1]
            pads[w.axis] = (int(first), int(w.positions - 1 - last), 0)
            part = lax.slice_in_dim(x, places[first], places[last] + 1, w.stride, w.axis)
        else:
            pads[w.axis] = (w.positions, 0, 0)
            part = lax.slice_in_dim(x, 0, 0, 1, w.axis)
        out.append(lax.pad(part, jnp.asarray(fill, x.dtype), pads))
    return out


def _forward(kind, w, x):
    y = _combine(kind, w, x)
    return y, ((x, y) if kind == "max" else None)


def _backward(kind, w, residuals, g):
    """Each entry collects from the windows that hold it: all of them for a sum, those whose first maximum it is.

    By phases: the entries p, p + s, p + 2s, … are the p-th of their windows, the (p + s)-th of the windows before,
    and so on, so that their gradient is a sum of shifted arrays and no scatter.
    """
    zero = jnp.zeros((), g.dtype)
    credits = [g] * w.window
    if kind == "max":
        x, y = residuals
        taken = None
        for offset, entry in enumerate(_entries(x, w, -np.inf)):
            # One of them is the maximum: the last, if none before.
            here = jnp.full_like(y, True, bool) if offset == w.window - 1 else entry == y
            credits[offset] = jnp.where(here if taken is None else here & ~taken, g, zero)
            taken = here if taken is None else taken | here
    # In cells of `stride` entries that begin where the first window does.
    cells = -(-max(w.before + w.size, (w.positions - 1) * w.stride + w.window) // w.stride)
    phases = []
    for phase in range(w.stride):
        total = None
        for back, offset in enumerate(range(phase, w.window, w.stride)):
            pads = [(0, 0, 0)] * g.ndim
            pads[w.axis] = (back, cells - w.positions - back, 0)
            credit = lax.pad(credits[offset], zero, pads)
            total = credit if total is None else total + credit
        phases.append(total)
    empty = (*g.shape[:w.axis], cells, *g.shape[w.axis + 1:])
    out = jnp.stack([jnp.broadcast_to(zero, empty) if p is None else p for p in phases], w.axis + 1)
    out = out.reshape(*g.shape[:w.axis], cells * w.stride, *g.shape[w.axis + 1:])
    return (lax.slice_in_dim(out, w.before, w.before + w.size, 1, w.axis),)


_combine.defvjp(_forward, _backward)
