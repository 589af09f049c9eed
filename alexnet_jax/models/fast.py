"""Faster forms of the functions of `layers.py` and `pooling.py`, with custom gradients.

Equal to the plain forms up to rounding (tests/test_models_fast.py). Most are for CPUs; `lax.platform_dependent` leaves
accelerators the plain form where XLA is fast by itself. benchmarks/RESULTS.md has what each gains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.models import geometry, layers, winograd

# Norms.


def local_response_norm(x: jax.Array, k: float, n: int, alpha: float, beta: float,
                        alpha_over_n: bool = False) -> jax.Array:
    """`layers.local_response_norm`."""
    channels = x.shape[-1]
    scale = alpha / n if alpha_over_n else alpha
    offset = np.arange(channels)[:, None] - np.arange(channels)[None, :]  # source − target
    band = ((offset >= -(n // 2)) & (offset <= (n - 1) // 2)).astype(np.float64) * scale

    def banded(squares):
        return jnp.matmul(squares, jnp.asarray(band, squares.dtype), precision=lax.Precision.HIGHEST)

    def shifted(squares):
        return scale * _sum_of_windows(squares, squares.ndim - 1, n, 1, before=n // 2)

    def window_sum(squares):
        # A banded matrix product is several times faster than n shifted slices on a CPU. On a GPU the slices become
        # part of the loops that read x and write the result: a fifth less memory traffic (benchmarks/RESULTS.md).
        return lax.platform_dependent(squares, cuda=shifted, rocm=shifted, default=banded)

    return _normalise(layers.wide(x), window_sum, k, beta).astype(x.dtype)


def same_map_norm(x: jax.Array, size: int, alpha: float, beta: float) -> jax.Array:
    """`layers.same_map_norm`."""
    def window_sum(squares):
        for axis in (x.ndim - 3, x.ndim - 2):
            squares = _sum_of_windows(squares, axis, size, 1, before=size // 2)
        return (alpha / size**2) * squares

    return _normalise(layers.wide(x), window_sum, 1.0, beta).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _normalise(x: jax.Array, window_sum: Callable[[jax.Array], jax.Array], k: float, beta: float) -> jax.Array:
    """x / (k + window_sum(x²))^β for a linear `window_sum`."""
    return x * _inverse_power(k + window_sum(jnp.square(x)), beta)


def _normalise_forward(x, window_sum, k, beta):
    denominator = k + window_sum(jnp.square(x))
    return x * _inverse_power(denominator, beta), (x, denominator)


def _normalise_backward(window_sum, k, beta, residuals, g):
    """g·d^-β − 2β x · windowᵀ(g·x·d^-(β+1)): JAX's own derivative of the roots costs a third more of a step."""
    x, denominator = residuals
    direct = g * _inverse_power(denominator, beta)
    (spread,) = jax.vjp(window_sum, x)[1](direct * x / denominator)  # its transpose
    return (direct - (2 * beta) * x * spread,)


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _inverse_power(s: jax.Array, beta: float) -> jax.Array:
    """s^-β; for β = 3/4 by two square roots, as a general power costs a logarithm and an exponential."""
    if beta == 0.75:
        root = lax.rsqrt(s)
        return root * jnp.sqrt(root)
    return s**-beta


# Convolution.


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """`layers.convolve`.

    On a CPU a small filter on few channels (conv1 of 32-pixel networks) computes several neighbouring outputs at once:
    a matrix product over 5 · 5 · 3 values for 32 kernels is too small to be efficient. A filter of 3 to 5 rows on more
    channels (conv2 to conv5) goes by Winograd's algorithm there, from float32 on (`winograd.py`).
    """
    side, _, channels, features = kernel.shape
    neighbours = min(4, 128 // features)
    width = x.shape[2] + sum(padding) - kernel.shape[1] + 1
    if stride == 1 and channels <= 4 and neighbours > 1 and width % neighbours == 0:
        return _convolve_few(x, kernel, padding, neighbours)
    if (stride == 1 and kernel.shape[1] == side and 3 <= side <= winograd.LONGEST and min(channels, features) >= 16
            and x.dtype.itemsize >= 4):  # its sums and differences need the digits
        return _convolve_winograd(x, kernel, padding)
    return layers.convolve(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_few(x, kernel, padding, neighbours):
    return lax.platform_dependent(x, kernel, cpu=lambda x, k: _convolve_neighbours(x, k, padding, neighbours),
                                  default=lambda x, k: layers.convolve(x, k, 1, padding))


def _convolve_neighbours(x, kernel, padding, n):
    """Outputs n·q … n·q + n − 1 of a row as n times as many channels: pixels in groups of n, kernels shifted."""
    kh, kw, channels, features = kernel.shape
    batch, height, width = x.shape[0], x.shape[1] + sum(padding), x.shape[2] + sum(padding)
    groups = -(-(kw + n - 1) // n)  # of input pixels that n neighbouring outputs see
    outputs = (width - kw + 1) // n
    far = (outputs + groups - 1) * n - x.shape[2] - padding[0]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*padding, 0), (padding[0], far, 0), (0, 0, 0)))
    x = x.reshape(batch, height, outputs + groups - 1, n * channels)
    shifted = [jnp.pad(kernel, ((0, 0), (i, groups * n - kw - i), (0, 0), (0, 0))) for i in range(n)]
    wide = jnp.concatenate(shifted, axis=-1).reshape(kh, groups, n * channels, n * features)
    return layers.convolve(x, wide, 1, (0, 0)).reshape(batch, height - kh + 1, outputs * n, features)


def _few_forward(x, kernel, padding, neighbours):
    return _convolve_few(x, kernel, padding, neighbours), (x, kernel)


def _few_backward(padding, neighbours, residuals, g):
    # The plain weight gradient is faster; the input's gradient is of images and not needed.
    return jax.vjp(lambda x, kernel: layers.convolve(x, kernel, 1, padding), *residuals)[1](g)


_convolve_few.defvjp(_few_forward, _few_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_winograd(x, kernel, padding):
    return lax.platform_dependent(x, kernel, cpu=lambda x, k: winograd.convolve(x, k, padding),
                                  default=lambda x, k: layers.convolve(x, k, 1, padding))


def _winograd_forward(x, kernel, padding):
    return _convolve_winograd(x, kernel, padding), (x, kernel)


def _winograd_backward(padding, residuals, g):
    return lax.platform_dependent(
        *residuals, g, cpu=lambda x, k, g: winograd.gradients(x, k, padding, g),
        default=lambda x, k, g: jax.vjp(lambda x, k: layers.convolve(x, k, 1, padding), x, k)[1](g))


_convolve_winograd.defvjp(_winograd_forward, _winograd_backward)


# Biases and matrix products.


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """`layers.add_bias`.

    On a CPU with the bias's gradient as a matrix product by ones. XLA is slow at sums down to few channels, unless over
    rows of many pixels; but then the loop that computes the summands runs over such rows too, and is slow.
    """
    return layers.add_bias(x, bias)


def _bias_forward(x, bias):
    return add_bias(x, bias), None


def _bias_backward(_, g):
    def product(g):
        rows = g.reshape(g.shape[0], -1, g.shape[-1])
        return jnp.einsum("cp,cpf->cf", jnp.ones_like(rows[..., 0]), rows)

    return g, lax.platform_dependent(g, cpu=product, default=lambda g: g.sum(axis=tuple(range(1, g.ndim - 1))))


add_bias.defvjp(_bias_forward, _bias_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x: jax.Array, kernel: jax.Array, dtype=None) -> jax.Array:
    """`layers.dense`.

    Each product, also in the gradients, is written so that the kernel is read in its memory layout. Otherwise XLA for
    CPUs transposes it, forward and again where the optimiser adds the gradient: a fifth of the full network's step.
    """
    return jnp.einsum("cbi,cio->cbo", _for_each(x, kernel), kernel, preferred_element_type=dtype)


def _for_each(x, kernel):
    return jnp.broadcast_to(x, (kernel.shape[0], *x.shape)) if x.ndim == 2 else x


def _dense_forward(x, kernel, dtype):
    return dense(x, kernel, dtype), (x, kernel)


def _dense_backward(dtype, residuals, g):
    x, kernel = residuals
    # In the type of g, which is wider than x where `dtype` is.
    to_x = jnp.einsum("cio,cbo->cib", kernel.astype(g.dtype), g)
    to_x = to_x.sum(axis=0).T if x.ndim == 2 else jnp.swapaxes(to_x, 1, 2)
    to_kernel = jnp.einsum("cbi,cbo->cio", _for_each(x, kernel).astype(g.dtype), g)
    # The kernel's gradient waits for the input's: measured to be quicker on two cores, for reasons that are not known
    # (benchmarks/RESULTS.md).
    return lax.platform_dependent(to_x.astype(x.dtype), to_kernel.astype(kernel.dtype),
                                  cpu=lambda *both: lax.optimization_barrier(both), default=lambda *both: both)


dense.defvjp(_dense_forward, _dense_backward)


# Pooling.


def pool(x: jax.Array, window: int, stride: int, kind: str = "max", rounding: str = "ceil") -> jax.Array:
    """`pooling.pool`, rows first, then columns, with a gradient of our own: XLA's for a windowed maximum is several
    times slower on a CPU. It gives that of tied maxima to the first column's first row that has one."""
    axes = (x.ndim - 3, x.ndim - 2)
    positions = [geometry.pool_size(x.shape[axis], window, stride, rounding) for axis in axes]
    for axis, count in zip(axes, positions, strict=True):
        reach = (count - 1) * stride + window
        if x.shape[axis] > reach:  # beyond the last window
            x = lax.slice_in_dim(x, 0, reach, 1, axis)
    if kind == "max":
        for axis in axes:
            x = _combine("max", _Windows(axis, x.shape[axis], window, stride, 0, positions[axis - axes[0]]), x)
        return x
    total = layers.wide(x)
    inside = np.ones([1] * x.ndim)
    for axis, count in zip(axes, positions, strict=True):
        starts = np.arange(count) * stride
        along = np.minimum(starts + window, x.shape[axis]) - starts
        inside = inside * np.expand_dims(along, [other for other in range(x.ndim) if other != axis])
        total = _sum_of_windows(total, axis, window, stride)
    return (total / jnp.asarray(inside, total.dtype)).astype(x.dtype)


def _sum_of_windows(x: jax.Array, axis: int, window: int, stride: int, before: int = 0) -> jax.Array:
    """Sums of the entries of each window along `axis`, windows clipped at both ends.

    The first window begins `before` entries ahead of the array. There are as many as the ceil rule gives, or one for
    each entry where `before` is not 0.
    """
    count = x.shape[axis] if before else geometry.pool_size(x.shape[axis], window, stride)
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


def _combine_forward(kind, w, x):
    y = _combine(kind, w, x)
    return y, ((x, y) if kind == "max" else None)


def _combine_backward(kind, w, residuals, g):
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


_combine.defvjp(_combine_forward, _combine_backward)
