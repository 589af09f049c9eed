"""The layers' arithmetic: response normalisation, pooling, convolution, dropout. Pure functions.

Arrays are `[…, height, width, channel]`; leading axes (column, batch) are carried along.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
    # A banded matrix product is several times faster than n shifted slices on a CPU, forward and backward.
    offset = np.arange(channels)[:, None] - np.arange(channels)[None, :]  # source − target
    band = ((offset >= -(n // 2)) & (offset <= (n - 1) // 2)).astype(np.float64) * scale
    denominator = k + jnp.matmul(jnp.square(wide), jnp.asarray(band, wide.dtype), precision=lax.Precision.HIGHEST)
    return (wide * _inverse_power(denominator, beta)).astype(x.dtype)


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
    total = jnp.square(wide)
    for axis in (x.ndim - 3, x.ndim - 2):
        total = _window(total, axis, size, 1, (size // 2, (size - 1) // 2), 0.0, lax.add)
    denominator = 1.0 + (alpha / size**2) * total
    return (wide * _inverse_power(denominator, beta)).astype(x.dtype)


def _window(x, axis, window, stride, padding, fill, combine):
    """Combines the entries of each window along one axis, as shifted strided slices."""
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (*padding, 0)
    x = lax.pad(x, jnp.asarray(fill, x.dtype), pads)
    positions = (x.shape[axis] - window) // stride + 1
    out = None
    for i in range(window):
        part = lax.slice_in_dim(x, i, i + (positions - 1) * stride + 1, stride, axis)
        out = part if out is None else combine(out, part)
    return out


def pool(x: jax.Array, window: int, stride: int, kind: str = "max", rounding: str = "ceil") -> jax.Array:
    """Max or average pooling with the ceil rule: 1 + ⌈(N − z)/s⌉ positions, the last window clipped.

    Paper, section 3.4 (z = 3, s = 2 overlaps); the rule is the released code's (`layer.py`). An average is over the
    pixels that the clipped window holds. With `rounding='floor'` a window that would be clipped is left out.

    Slices and elementwise maxima, rows first, then columns: XLA's gradient of a windowed reduction is many
    times slower on a CPU. The gradient of tied maxima is shared among them and sums to one; the released code
    credits each of them in full, XLA and PyTorch only one.

    Args:
      x: [..., height, width, channel].

    Returns:
      [..., height', width', channel].
    """
    dtype, counts = x.dtype, None
    if kind == "avg":
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a sum of float16 overflows
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis]
        positions = 1 + ((size - window) // stride if rounding == "floor" else -(-(size - window) // stride))
        needed = (positions - 1) * stride + window
        overhang = max(needed - size, 0)
        if size > needed:
            x = lax.slice_in_dim(x, 0, needed, 1, axis)
        fill = -jnp.inf if kind == "max" else 0.0
        x = _window(x, axis, window, stride, (0, overhang), fill, lax.max if kind == "max" else lax.add)
        if kind == "avg":
            inside = np.minimum(np.arange(positions) * stride + window, size) - np.arange(positions) * stride
            shape = [1] * x.ndim
            shape[axis] = positions
            along = inside.reshape(shape).astype(np.float64)
            counts = along if counts is None else counts * along
    return x if counts is None else (x / jnp.asarray(counts, x.dtype)).astype(dtype)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """A dense convolution (cross-correlation, as everywhere in this field).

    Args:
      x: [batch, height, width, in].
      kernel: [kh, kw, in, out].
      padding: zeros before and after, the same along both sides; unequal where the last filter hangs over
        the edge (ceil rule, `geometry.layers`).

    Returns:
      [batch, height', width', out].
    """
    return lax.conv_general_dilated(x, kernel, (stride, stride), (padding, padding),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))


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
