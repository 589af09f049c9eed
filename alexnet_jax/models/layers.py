"""The layers' arithmetic: response normalisation, convolution, dropout (pooling: `pooling.py`). Pure functions.

Arrays are `[…, height, width, channel]`; leading axes (column, batch) are carried along.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.models import pooling, winograd


def local_response_norm(x: jax.Array, k: float, n: int, alpha: float, beta: float,
                        alpha_over_n: bool = False) -> jax.Array:
    """Response normalisation across channels, b_c = a_c / (k + α' Σ_{c'} a_{c'}²)^β.

    The sum runs over the n adjacent channels c − ⌊n/2⌋ … c + ⌊n/2⌋ − (n even), clipped to those that `x` has.

    Where the sources differ:
      paper, section 3.3   α' = α = 1e-4, k = 2, n = 5, β = 0.75, on ReLU outputs, before pooling
      released code        α' = α/n (`layer.py`: `scale /= size`), `minDiv` = k; after conv1 on the signed
                           pre-activations, before pooling and ReLU
      Caffe, PyTorch       α' = α/n, k = 1 by default;  TensorFlow's `lrn`: α' = α

    Args:
      x: [..., channel]. Its last axis is the window's world: pass one column for a window that ends at
        the column's edge.

    Returns:
      An array of x's shape and dtype; the sum and the power are taken in float32 at least.
    """
    channels = x.shape[-1]
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = alpha / n if alpha_over_n else alpha
    offset = np.arange(channels)[:, None] - np.arange(channels)[None, :]  # source − target
    band = ((offset >= -(n // 2)) & (offset <= (n - 1) // 2)).astype(np.float64) * scale

    def banded(squares):
        return jnp.matmul(squares, jnp.asarray(band, squares.dtype), precision=lax.Precision.HIGHEST)

    def shifted(squares):
        return scale * pooling.sum_of_windows(squares, squares.ndim - 1, n, 1, before=n // 2)

    def window_sum(squares):
        # A banded matrix product is several times faster than n shifted slices on a CPU. On a GPU the slices become
        # part of the loops that read x and write the result: a fifth less memory traffic (benchmarks/RESULTS.md).
        return lax.platform_dependent(squares, cuda=shifted, rocm=shifted, default=banded)

    return _normalise(wide, window_sum, k, beta).astype(x.dtype)


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


def same_map_norm(x: jax.Array, size: int, alpha: float, beta: float) -> jax.Array:
    """Normalisation over a window of the same map, b = a / (1 + α/size² Σ a²)^β.

    The window is size × size around the pixel, clipped at the map's edge. In the released network after
    conv2's LRN (`rnorm2` of type rnorm in layers/layers-*.cfg); the paper doesn't mention it.

    Args:
      x: [..., height, width, channel].
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def window_sum(squares):
        for axis in (x.ndim - 3, x.ndim - 2):
            squares = pooling.sum_of_windows(squares, axis, size, 1, before=size // 2)
        return (alpha / size**2) * squares

    return _normalise(wide, window_sum, 1.0, beta).astype(x.dtype)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """A dense convolution (cross-correlation, as everywhere in this field).

    On a CPU a small filter on few channels (conv1 of 32-pixel networks) computes several neighbouring outputs at once:
    a matrix product over 5 · 5 · 3 values for 32 kernels is too small to be efficient. A filter of 3 to 5 rows on more
    channels (conv2 to conv5) goes by Winograd's algorithm there, from float32 on (`winograd.py`).

    Args:
      x: [batch, height, width, in].
      kernel: [kh, kw, in, out].
      padding: zeros before and after, the same along both sides; unequal where the last filter hangs over
        the edge (ceil rule, `geometry.layers`).

    Returns:
      [batch, height', width', out].
    """
    side, _, channels, features = kernel.shape
    neighbours = min(4, 128 // features)
    width = x.shape[2] + sum(padding) - kernel.shape[1] + 1
    if stride == 1 and channels <= 4 and neighbours > 1 and width % neighbours == 0:
        return _convolve_few(x, kernel, padding, neighbours)
    if (stride == 1 and kernel.shape[1] == side and 3 <= side <= winograd.LONGEST and min(channels, features) >= 16
            and x.dtype.itemsize >= 4):  # its sums and differences need the digits
        return _convolve_winograd(x, kernel, padding)
    return _convolve(x, kernel, stride, padding)


def _convolve(x, kernel, stride, padding):
    return lax.conv_general_dilated(x, kernel, (stride, stride), (padding, padding),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_few(x, kernel, padding, neighbours):
    return lax.platform_dependent(x, kernel, cpu=lambda x, k: _convolve_neighbours(x, k, padding, neighbours),
                                  default=lambda x, k: _convolve(x, k, 1, padding))


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
    return _convolve(x, wide, 1, (0, 0)).reshape(batch, height - kh + 1, outputs * n, features)


def _few_forward(x, kernel, padding, neighbours):
    return _convolve_few(x, kernel, padding, neighbours), (x, kernel)


def _few_backward(padding, neighbours, residuals, g):
    # The weight gradient is quicker as it is; the input's is of images, and nobody asks for it.
    return jax.vjp(lambda x, kernel: _convolve(x, kernel, 1, padding), *residuals)[1](g)


_convolve_few.defvjp(_few_forward, _few_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_winograd(x, kernel, padding):
    return lax.platform_dependent(x, kernel, cpu=lambda x, k: winograd.convolve(x, k, padding),
                                  default=lambda x, k: _convolve(x, k, 1, padding))


def _winograd_forward(x, kernel, padding):
    return _convolve_winograd(x, kernel, padding), (x, kernel)


def _winograd_backward(padding, residuals, g):
    return lax.platform_dependent(
        *residuals, g, cpu=lambda x, k, g: winograd.gradients(x, k, padding, g),
        default=lambda x, k, g: jax.vjp(lambda x, k: _convolve(x, k, 1, padding), x, k)[1](g))


_convolve_winograd.defvjp(_winograd_forward, _winograd_backward)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [column, batch, height, width, channel] + bias [column, channel].

    On a CPU over rows of many pixels at once: XLA sums a bias gradient of few channels eight times faster so.
    """
    pixels, channels = math.prod(x.shape[1:-1]), x.shape[-1]
    together = 1
    while pixels % (2 * together) == 0 and 2 * together * channels <= 1024:
        together *= 2

    def wide(x, bias):
        rows = x.reshape(x.shape[0], pixels // together, together * channels)
        return (rows + jnp.tile(bias, together)[:, None, :]).reshape(x.shape)

    return lax.platform_dependent(x, bias, cpu=wide, default=lambda x, bias: x + bias[:, None, None, None, :])


def convolve_unshared(x: jax.Array, kernel: jax.Array, window: int, stride: int, padding: tuple[int, int]) -> jax.Array:
    """A convolution with weights of its own at each position (cuda-convnet's `local` layers).

    Args:
      x: [batch, height, width, in].
      kernel: [height', width', window · window · in, out], the window's rows first, channels last.
      padding: as in `convolve`.

    Returns:
      [batch, height', width', out].
    """
    rows, cols = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    parts = [x[:, i:i + (rows - 1) * stride + 1:stride, j:j + (cols - 1) * stride + 1:stride]
             for i in range(window) for j in range(window)]
    return jnp.einsum("bhwk,hwko->bhwo", jnp.concatenate(parts, axis=-1), kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(x: jax.Array, kernel: jax.Array, dtype=None) -> jax.Array:
    """A matrix product for each column, in `dtype` (default: that of x).

    Each product, the two gradients' too, is written so that the kernel is read as it lies in memory. XLA for CPUs
    transposes it else, forward and again where the optimiser adds the gradient: a fifth of the full network's step.

    Args:
      x: [batch, in] that all columns see, or [column, batch, in]. kernel: [column, in, out].

    Returns:
      [column, batch, out].
    """
    return jnp.einsum("cbi,cio->cbo", _for_each(x, kernel), kernel, preferred_element_type=dtype)


def _for_each(x, kernel):
    return jnp.broadcast_to(x, (kernel.shape[0], *x.shape)) if x.ndim == 2 else x


def _dense_forward(x, kernel, dtype):
    return dense(x, kernel, dtype), (x, kernel)


def _dense_backward(dtype, residuals, g):
    x, kernel = residuals
    to_x = jnp.einsum("cio,cbo->cib", kernel, g)
    to_x = to_x.sum(axis=0).T if x.ndim == 2 else jnp.swapaxes(to_x, 1, 2)
    to_kernel = jnp.einsum("cbi,cbo->cio", _for_each(x, kernel), g)
    # The kernel's gradient waits for the input's: measured to be quicker on two cores, for reasons that are not known
    # (benchmarks/RESULTS.md).
    return lax.platform_dependent(to_x.astype(x.dtype), to_kernel.astype(kernel.dtype),
                                  cpu=lambda *both: lax.optimization_barrier(both), default=lambda *both: both)


dense.defvjp(_dense_forward, _dense_backward)


def dropout_mask(key: jax.Array, columns: jax.Array, rows: jax.Array, features: int, rate: float) -> jax.Array:
    """Which units stay, as a pure function of (key, column, example): the same on every mesh.

    Args:
      key: of the step and the layer.
      columns: [local columns] global numbers of the columns at hand.
      rows: [local batch] positions of the examples at hand within the global batch.
      features: units per column.
      rate: probability of zeroing a unit, a multiple of 2^-16 to within rounding.

    Returns:
      bool [local columns, local batch, features].
    """
    def row(column_key, index):
        example = jax.random.fold_in(column_key, index)
        if rate == 0.5:  # one random bit a unit
            words = jax.random.bits(example, (-(-features // 32),), jnp.uint32)
            bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
            return bits.reshape(-1)[:features].astype(bool)
        return jax.random.bits(example, (features,), jnp.uint16) >= round(rate * 65536)

    keys = jax.vmap(lambda column: jax.random.fold_in(key, column))(columns)
    return jax.vmap(lambda column_key: jax.vmap(lambda index: row(column_key, index))(rows))(keys)


def activate(x: jax.Array, name: str) -> jax.Array:
    """relu: max(0, x); tanh (paper, section 3.1); scaled_tanh: 1.7159 tanh(2x/3) (LeCun et al. 1998, appendix A)."""
    if name == "relu":
        return jax.nn.relu(x)
    return jnp.tanh(x) if name == "tanh" else 1.7159 * jnp.tanh(x * (2 / 3))
