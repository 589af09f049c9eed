"""The layers' arithmetic, as in the sources: norms, convolution, dense layers, dropout, activation.

Pure functions; arrays are `[…, height, width, channel]`, with any leading axes (column, batch). Pooling is in
`pooling.py`. Networks use faster forms of the same functions where there are some (`fast.py`, chosen in
`arithmetic.py`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
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
      x: [..., channel]. The window ends at the edges of the last axis: pass one column for a window within it.

    Returns:
      An array of x's shape and dtype; the sum and the power are taken in float32 at least.
    """
    a = wide(x)
    scale = alpha / n if alpha_over_n else alpha
    return (a / (k + scale * _sum_around(jnp.square(a), x.ndim - 1, n)) ** beta).astype(x.dtype)


def same_map_norm(x: jax.Array, size: int, alpha: float, beta: float) -> jax.Array:
    """Normalisation over a window of the same map, b = a / (1 + α/size² Σ a²)^β.

    The window is size × size around the pixel, clipped at the map's edge. In the released network after
    conv2's LRN (`rnorm2` of type rnorm in layers/layers-*.cfg); the paper doesn't mention it.

    Args:
      x: [..., height, width, channel].
    """
    a = wide(x)
    total = _sum_around(_sum_around(jnp.square(a), x.ndim - 3, size), x.ndim - 2, size)
    return (a / (1 + alpha / size**2 * total) ** beta).astype(x.dtype)


def wide(x: jax.Array) -> jax.Array:
    """x in float32 at least: half precision has neither the digits nor the range for sums of squares."""
    return x.astype(wide_dtype(x.dtype))


def wide_dtype(dtype) -> jnp.dtype:
    """`dtype`, or float32 for one that is narrower."""
    return jnp.dtype(dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.float32)


def _sum_around(x: jax.Array, axis: int, n: int) -> jax.Array:
    """For each entry along `axis`, the sum of n entries from ⌊n/2⌋ before it on, clipped at both ends."""
    beyond = [(0, 0)] * x.ndim
    beyond[axis] = (n // 2, (n - 1) // 2)
    padded = jnp.pad(x, beyond)
    return sum((lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(n)), jnp.zeros_like(x))


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
    """A convolution with separate weights at each position (cuda-convnet's `local` layers).

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


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [column, batch, height, width, channel] + bias [column, channel]."""
    return x + bias[:, None, None, None, :]


def dense(x: jax.Array, kernel: jax.Array, dtype=None) -> jax.Array:
    """A matrix product for each column, in `dtype` (default: that of x).

    Args:
      x: [batch, in] that all columns see, or [column, batch, in]. kernel: [column, in, out].

    Returns:
      [column, batch, out].
    """
    columns = "bi,cio->cbo" if x.ndim == 2 else "cbi,cio->cbo"
    return jnp.einsum(columns, x, kernel, preferred_element_type=dtype)


def activate(x: jax.Array, name: str) -> jax.Array:
    """relu: max(0, x); tanh (paper, section 3.1); scaled_tanh: 1.7159 tanh(2x/3) (LeCun et al. 1998, appendix A)."""
    if name == "relu":
        return jax.nn.relu(x)
    return jnp.tanh(x) if name == "tanh" else 1.7159 * jnp.tanh(x * (2 / 3))


def dropout(x: jax.Array, mask: jax.Array | None, rate: float, scale: str) -> jax.Array:
    """Zeroes the units where `mask` (bool, like x) is False; mask None: at test, all stay.

    Where the sources differ:
      paper, section 4.2, and released code   scale='test': at test all outputs × (1 − rate)
      later codes ("inverted dropout")        scale='train': in training those that stay / (1 − rate)
    """
    keep = jnp.asarray(1.0 - rate, x.dtype)
    if mask is None:
        return x * keep if scale == "test" else x
    x = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return x if scale == "test" else x / keep


def dropout_mask(key: jax.Array, columns: jax.Array, rows: jax.Array, features: int, rate: float) -> jax.Array:
    """Which units stay, as a pure function of (key, column, example): the same on every mesh.

    Args:
      key: of the step and the layer.
      columns: [local columns], their global numbers.
      rows: [local batch], positions of the examples in the global batch.
      features: units per column.
      rate: probability of zeroing a unit, a multiple of 2^-16 to within rounding.

    Returns:
      bool [local columns, local batch, features].
    """
    def row(column_key, index):
        example = jax.random.fold_in(column_key, index)
        if rate == 0.5:  # one random bit a unit
            words = jax.random.bits(example, (-(-features // 32),), jnp.uint32)
            bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None, :]) & 1
            return bits.reshape(-1)[:features].astype(bool)
        return jax.random.bits(example, (features,), jnp.uint16) >= round(rate * 65536)

    keys = jax.vmap(lambda column: jax.random.fold_in(key, column))(columns)
    return jax.vmap(lambda column_key: jax.vmap(lambda index: row(column_key, index))(rows))(keys)
