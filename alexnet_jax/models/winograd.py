"""Convolutions with fewer multiplications, for CPUs (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308).

m neighbouring outputs y of a filter w with r taps depend on t = m + r − 1 inputs d. They cost m·r multiplications, and
t are enough, because a filter is a product of polynomials read backwards:

    y = Aᵀ [(G w) ∘ (Bᵀ d)],    B = V⁻¹, V the Vandermonde matrix of t points, the last of them infinity;
                                A and G are its columns for m and r coefficients

Here along the height only: a convolution becomes t convolutions with filters one row high, on maps of an m-th of the
height. Along both sides, as on GPUs, the products are many and small, and reading and writing them costs a CPU what
they save (benchmarks/RESULTS.md).

The result is that of a plain convolution but for rounding: in float32 errors of some 10^-6 of the largest output, about
five times as large as a plain convolution's.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2)
MOST = 4  # outputs at a time: more of them lose more digits
LONGEST = len(_POINTS) + 2 - MOST  # filter, in rows


@functools.cache
def transforms(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [t, m], G [t, r] and B [t, t] of the module's formula, t = m + r − 1."""
    t = m + r - 1
    powers = np.arange(t)

    def vandermonde(columns: int) -> np.ndarray:
        infinity = powers[:columns] == columns - 1
        return np.vstack([np.array(_POINTS[:t - 1], float)[:, None] ** powers[:columns], infinity])

    b = np.linalg.inv(vandermonde(t))
    b[np.abs(b) < 1e-9] = 0.0  # by rounding; its other elements are no smaller than 1/90
    return vandermonde(m), vandermonde(r), b


def outputs_at_a_time(rows: int, r: int) -> int:
    """The m up to MOST with the fewest multiplications for `rows` outputs; 1 where nothing is saved."""
    return min(range(1, MOST + 1), key=lambda m: (-(-rows // m) * (m + r - 1), m))


def convolve(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """The convolution of `layers.convolve`, at stride 1, with a square kernel of at most LONGEST rows."""
    rows = x.shape[1] + sum(padding) - kernel.shape[0] + 1
    m = outputs_at_a_time(rows, kernel.shape[0])
    a, g, _ = transforms(m, kernel.shape[0])
    pieces = zip(_inputs(x, kernel.shape[0], m, padding), _mixed(g, kernel), strict=True)
    products = [_row_convolution(d, w, padding) for d, w in pieces]
    y = jnp.stack(_mixed(a.T, products), axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :rows]


def gradients(x: jax.Array, kernel: jax.Array, padding: tuple[int, int], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Those of `convolve` with respect to x and kernel, given that of its result."""
    r, before, after = kernel.shape[0], *padding
    m = outputs_at_a_time(g.shape[1], r)
    a, to_kernel, _ = transforms(m, r)
    whole = jnp.pad(g, ((0, 0), (0, -g.shape[1] % m), (0, 0), (0, 0)))
    parts = []
    for d, product in zip(_inputs(x, r, m, padding), _mixed(a, [whole[:, i::m] for i in range(m)]), strict=True):
        # Given a part of the kernel for its type, which under shard_map says over which axes it varies.
        transposed = jax.linear_transpose(functools.partial(_row_convolution, d, padding=padding), kernel[0])
        parts += transposed(product)
    # The inputs' gradient is a convolution too, with the filter turned round.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return convolve(g, turned, (r - 1 - before, r - 1 - after)), jnp.stack(_mixed(to_kernel.T, parts))


def _inputs(x: jax.Array, r: int, m: int, padding: tuple[int, int]) -> list[jax.Array]:
    """Bᵀ d for all tiles: t arrays [batch, tiles, width, channel]."""
    rows = x.shape[1] + sum(padding) - r + 1
    tiles = -(-rows // m)
    after = tiles * m + r - 1 - x.shape[1] - padding[0]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (padding[0], after, 0), (0, 0, 0), (0, 0, 0)))
    b = transforms(m, r)[2]
    return _mixed(b.T, [x[:, i:i + (tiles - 1) * m + 1:m] for i in range(m + r - 1)])


def _mixed(matrix: np.ndarray, arrays: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """The product of a small matrix and a vector of arrays, without its zeros."""
    return [functools.reduce(operator.add, [value * arrays[i] for i, value in enumerate(row.tolist()) if value])
            for row in matrix]


def _row_convolution(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    return lax.conv_general_dilated(x, kernel[None], (1, 1), ((0, 0), padding),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))
