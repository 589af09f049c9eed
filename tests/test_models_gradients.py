"""Gradients against central differences, values against loops in NumPy: drawn shapes, windows, constants and dtypes.

What is compared is a random projection φ(t) = Σ r · f(x + t u): its slope at 0 by differences and by the gradient,
along a random direction u and along a few coordinates. The bounds are worst cases that are derived here, not
tolerances that happened to fit.

The points x ± h u are exact: x and u are whole multiples of powers of two, h is a power of two. So the central
difference (φ(h) − φ(−h)) / 2h is off by two things alone:

  truncation   h²/6 · sup |φ'''|, by Taylor's theorem
  rounding     Σ |r| δ / h, where δ is the largest error of a value of f
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from alexnet_jax.models import arithmetic, geometry

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # of one operation
COORDINATES = 3
LARGEST_STEP = 2.0**-4

# Each example compiles one small program, so there are few; they are the same ones every time.
few = settings(max_examples=12, deadline=None, derandomize=True, database=None,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@pytest.fixture(autouse=True, scope="module")
def x64():
    with jax.enable_x64(True):
        yield


def _on_a_grid(rng, shape, step, largest):
    """Normal numbers times `largest`/3, cut off at ± `largest`, rounded to multiples of `step`."""
    return np.clip(np.round(rng.standard_normal(shape) * largest / 3 / step) * step, -largest, largest)


def _directions(rng, shape):
    """[1 + COORDINATES, *shape]: a direction with entries in [−1, 1], then the unit vectors of some coordinates."""
    size = math.prod(shape)
    u = np.zeros((1 + COORDINATES, size))
    u[0] = _on_a_grid(rng, size, 2.0**-8, 1.0)
    for i, coordinate in enumerate(rng.integers(0, size, COORDINATES)):
        u[1 + i, coordinate] = 1.0
    return u.reshape(-1, *shape)


def _value_and_slopes(function, x, u, r, h):
    """f(x), then φ's slope along each u by differences and by the gradient; all in one compiled program.

    All points go through one call: the functions carry leading axes along. The sums over r are taken exactly.
    """
    def both(points, x, r):
        y, pullback = jax.vjp(function, x)
        return y, function(points), pullback(r)[0]

    points = np.concatenate([x + h * u, x - h * u])
    assert (points[:len(u)] - x == h * u).all(), "a point was rounded"
    y, values, gradient = (np.asarray(a) for a in jax.jit(both)(points, x, r))
    assert y.dtype == gradient.dtype == np.float64
    assert gradient.shape == x.shape
    phi = [math.fsum((r * value).ravel()) for value in values]
    by_differences = [(forward - back) / (2 * h) for forward, back in zip(phi[:len(u)], phi[len(u):], strict=True)]
    return y, np.asarray(by_differences), np.asarray([math.fsum((gradient * one).ravel()) for one in u])


# Both norms are f_c = x_c · s_c^−β with s_c = k + α' Σ x² over a window around c. So they share their error analysis.


def _third_derivative(k, alpha, beta):
    """C with |d³f_c/dt³| ≤ C ‖u‖³ everywhere on the line x + t u.

    s' = 2α' Σ (x + t u) u and s'' = 2α' Σ u² = 2 s q², with q² = α' ‖u‖² / s; by Cauchy and Schwarz |s'| ≤ 2 s q.
    So w = s^−β has |w'| ≤ 2β q w, |w''| ≤ (4β(β+1) + 2β) q² w, |w'''| ≤ (8β(β+1)(β+2) + 12β(β+1)) q³ w.
    As α' x_c² ≤ s, |x_c| q ≤ ‖u‖. Then f''' = x_c w''' + 3 u_c w'' is at most
    (8β(β+1)(β+2) + 12β(β+1) + 3 (4β(β+1) + 2β)) ‖u‖ q² w, where q² w ≤ α' ‖u‖² k^(−β−1).
    """
    return (8 * beta * (beta + 1) * (beta + 2) + 24 * beta * (beta + 1) + 6 * beta) * alpha * k ** (-beta - 1)


def _roundings(terms, log_s, beta):
    """How many roundings a norm's value may be off by, relatively.

    A square, times α' (itself rounded), the sum of `terms` of these, all of one sign, the rounded k and its addition:
    terms + 4 in s. The power multiplies what is in s by β. Computed as exp(−β ln s) it adds the rounding of ln s and of
    its product with β, each β |ln s| once it is in the exponent, and its own; then the product with x is rounded:
    two functions good to two roundings each, and one. (The roots in place of β = 3/4 make no more.)
    """
    return beta * (terms + 4) + 2 * beta * log_s + 5


def _check_norm(function, reference, x, k, alpha, terms, beta, rng):
    """Value and slopes of a norm at x; `reference` gives value and s in NumPy, `alpha` is α'."""
    u, r = _directions(rng, x.shape), rng.standard_normal(x.shape)
    norm = np.sqrt(np.square(u).reshape(len(u), -1).sum(axis=1))
    expected, s = reference(x)
    # |(ln s)'| ≤ 2 q ≤ 2 √(α'/k) ‖u‖: so far it may move between the points.
    log_s = np.abs(np.log(s)).max() + 2 * LARGEST_STEP * math.sqrt(alpha / k) * norm.max()
    relative = ROUNDING["float64"] * _roundings(terms, log_s, beta)
    # |df_c/dt| = |u_c w + x_c w'| ≤ (1 + 2β) k^−β ‖u‖ = slope ‖u‖; a value grows by h times that.
    slope = (1 + 2 * beta) * k**-beta
    error = relative * math.fsum(np.abs(r * expected).ravel())
    third = _third_derivative(k, alpha, beta) * np.abs(r).sum()
    # h²/6 · third + error/h is least where h³ = 3 error / third; the next power of two.
    best = 3 * error / third if third else 1.0
    h = min(2.0 ** round(math.log2(best) / 3), LARGEST_STEP)
    y, by_differences, along = _value_and_slopes(function, x, u, r, h)
    # The reference is rounded too, in the same places.
    assert (np.abs(y - expected) <= 2 * relative * np.abs(expected)).all()
    # The gradient holds s^(−β−1) in place of s^−β, another sum of `terms`, and some ten products more.
    own = relative + ROUNDING["float64"] * (_roundings(terms, log_s, beta + 1) + terms + 10)
    bound = h**2 / 6 * third * norm**3 + error / h + own * slope * norm * np.abs(r).sum()
    assert (np.abs(by_differences - along) <= bound).all(), (by_differences, along, bound, h)
    # A bound worth having: seven digits of what a slope can be.
    assert (bound <= 1e-7 * slope * norm * np.abs(r).sum()).all()


def _lrn(x, k, n, alpha, beta):
    """Response normalisation and its denominator before the power, as the formula says; α is what multiplies Σ."""
    s = np.empty_like(x)
    for c in range(x.shape[-1]):
        s[..., c] = k + alpha * np.square(x[..., max(0, c - n // 2):c + (n - 1) // 2 + 1]).sum(axis=-1)
    return x * s**-beta, s


def _same_map(x, size, alpha, beta):
    s = np.empty_like(x)
    for i in range(x.shape[-3]):
        for j in range(x.shape[-2]):
            rows = slice(max(0, i - size // 2), i + (size - 1) // 2 + 1)
            cols = slice(max(0, j - size // 2), j + (size - 1) // 2 + 1)
            s[..., i, j, :] = 1 + alpha / size**2 * np.square(x[..., rows, cols, :]).sum(axis=(-3, -2))
    return x * s**-beta, s


seeds = st.integers(0, 2**32 - 1)
alphas = st.sampled_from([1e-4, 0.02, 0.3, 0.0])
betas = st.sampled_from([0.75, 0.5, 1.0, 0.3, 0.0])
largest = st.sampled_from([1.0, 240.0])  # of x
norms = st.fixed_dictionaries({"k": st.sampled_from([2.0, 1.0, 0.5]), "n": st.integers(1, 12), "alpha": alphas,
                               "beta": betas, "alpha_over_n": st.booleans()})
same_maps = st.fixed_dictionaries({"size": st.integers(1, 8), "alpha": alphas, "beta": betas})


@few
@given(seed=seeds, lead=st.integers(1, 3), channels=st.integers(1, 9), largest=largest, norm=norms)
def test_local_response_norm(seed, lead, channels, largest, norm):
    rng = np.random.default_rng(seed)
    x = _on_a_grid(rng, (lead, 2, channels), 2.0**-10, largest)
    k, n, beta = norm["k"], norm["n"], norm["beta"]
    alpha = norm["alpha"] / n if norm["alpha_over_n"] else norm["alpha"]
    _check_norm(lambda x: arithmetic.local_response_norm(x, **norm), lambda x: _lrn(x, k, n, alpha, beta), x, k, alpha,
                min(n, channels), beta, rng)


@few
@given(seed=seeds, height=st.integers(1, 6), width=st.integers(1, 6), largest=largest, norm=same_maps)
def test_same_map_norm(seed, height, width, largest, norm):
    rng = np.random.default_rng(seed)
    x = _on_a_grid(rng, (2, height, width, 2), 2.0**-10, largest)
    size, beta = norm["size"], norm["beta"]
    _check_norm(lambda x: arithmetic.same_map_norm(x, **norm), lambda x: _same_map(x, **norm), x, 1.0,
                norm["alpha"] / size**2, min(size, height) * min(size, width), beta, rng)


# Pooling.


@st.composite
def pools(draw):
    """(height, width, window, stride) that `geometry.layers` lets through: each window holds a pixel."""
    height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    window = draw(st.integers(1, 10))
    stride = draw(st.integers(max(1, window - min(height, width) + 1), window + 2))
    for size in (height, width):
        positions = geometry.pool_size(size, window, stride)
        assume(positions >= 1 and (positions - 1) * stride < size)
    return height, width, window, stride


def _windows(x, window, stride):
    """((i, j), the part of x [..., height, width, channel] in the window of that position)."""
    rows, cols = (geometry.pool_size(size, window, stride) for size in x.shape[-3:-1])
    for i in range(rows):
        for j in range(cols):
            yield (i, j), x[..., i * stride:i * stride + window, j * stride:j * stride + window, :]


def _pooled(x, window, stride, reduce):
    rows, cols = (geometry.pool_size(size, window, stride) for size in x.shape[-3:-1])
    out = np.empty((*x.shape[:-3], rows, cols, x.shape[-1]))
    for (i, j), part in _windows(x, window, stride):
        out[..., i, j, :] = reduce(part, axis=(-3, -2))
    return out


@few
@given(seed=seeds, pool=pools())
def test_max_pooling_of_distinct_values(seed, pool):
    # Values at least 1 apart and u within ± 1: a step of 1/4 changes no maximum. φ is then a straight line, all its
    # numbers are multiples of 2^-10 below 2^10, and the differences are exact.
    height, width, window, stride = pool
    rng = np.random.default_rng(seed)
    x = rng.permutation(height * width * 4).reshape(2, height, width, 2).astype(np.float64)
    x -= x.size // 2  # signed: a clipped window reads nothing in place of what it lacks, not zeros
    expected = _pooled(x, window, stride, np.max)
    u, r = _directions(rng, x.shape), _on_a_grid(rng, expected.shape, 2.0**-8, 4.0)
    y, by_differences, along = _value_and_slopes(lambda x: arithmetic.pool(x, window, stride), x, u, r, 0.25)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(along, by_differences)


@few
@given(seed=seeds, pool=pools())
def test_average_pooling(seed, pool):
    # Linear: no truncation, whatever the step. Sums of numbers on the grid are exact, so a value is rounded once, by
    # the division. In the gradient each r / count is rounded, and so is the sum of those of overlapping windows.
    height, width, window, stride = pool
    rng, h = np.random.default_rng(seed), 0.25
    x = _on_a_grid(rng, (2, height, width, 2), 2.0**-10, 240.0)
    expected = _pooled(x, window, stride, np.mean)
    u, r = _directions(rng, x.shape), _on_a_grid(rng, expected.shape, 2.0**-8, 4.0)
    y, by_differences, along = _value_and_slopes(lambda x: arithmetic.pool(x, window, stride, "avg"), x, u, r, h)
    one, overlap = ROUNDING["float64"], math.ceil(window / stride) ** 2
    assert (np.abs(y - expected) <= 2 * one * np.abs(expected)).all()
    # h u moves a value by h at most; |∂φ/∂u| ≤ Σ |r| · max |u|.
    bound = one * (np.sum(np.abs(r) * (np.abs(expected) + h)) / h + (1 + overlap) * np.abs(r).sum())
    assert (np.abs(by_differences - along) <= bound).all(), (by_differences, along, bound)


@few
@given(seed=seeds, pool=pools(), values=st.integers(1, 4))
def test_tied_maxima_share_one_credit(seed, pool, values):
    height, width, window, stride = pool
    x = np.random.default_rng(seed).integers(-values, 1, (height, width, 2)).astype(np.float64)
    rows, cols = (geometry.pool_size(size, window, stride) for size in (height, width))
    # A copy of x for each window, with a credit of 1 for that window alone.
    credit = np.zeros((rows, cols, rows, cols, 2))
    for i in range(rows):
        for j in range(cols):
            credit[i, j, i, j] = 1.0
    copies = np.broadcast_to(x, (rows, cols, *x.shape))
    gradient = np.asarray(jax.jit(lambda x, r: jax.vjp(lambda x: arithmetic.pool(x, window, stride), x)[1](r)[0])(
        copies, credit))
    assert (gradient >= 0).all()
    # Shares are halves of halves: their sum is exact.
    np.testing.assert_array_equal(gradient.sum(axis=(2, 3)), 1.0)
    for (i, j), part in _windows(x, window, stride):
        is_maximum = np.zeros(x.shape, bool)
        is_maximum[i * stride:i * stride + window, j * stride:j * stride + window] = part == part.max(axis=(0, 1))
        assert (gradient[i, j][~is_maximum] == 0).all()


# Narrow dtypes: each value against the same numbers in float64, and gradients of the right kind.

narrow = st.sampled_from(["float32", "bfloat16", "float16"])


def _in(dtype, x):
    """x rounded to `dtype`, as that and as float64."""
    rounded = x.astype(jnp.dtype(dtype))
    return rounded, rounded.astype(np.float64)


def _value_and_gradient(function, x):
    """function(x) as float64, its dtype and its gradient's having been looked at."""
    def both(x):
        y, pullback = jax.vjp(function, x)
        return y, pullback(jnp.ones_like(y))[0]

    y, gradient = (np.asarray(a) for a in jax.jit(both)(x))
    assert y.dtype == gradient.dtype == x.dtype
    assert gradient.shape == x.shape
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    return y.astype(np.float64)


def _check_narrow_norm(function, expected, s, x, terms, beta):
    """A norm computes in float32 whatever x is and rounds its value to x's dtype once."""
    y = _value_and_gradient(function, x)
    single = ROUNDING["float32"] * _roundings(terms, np.abs(np.log(s)), beta)
    last = 0.0 if x.dtype == jnp.float32 else ROUNDING[x.dtype.name]
    smallest = float(jnp.finfo(x.dtype).smallest_subnormal)  # below the normal numbers roundings are absolute
    # Two roundings of the whole in a row: (1 + single) (1 + last) − 1.
    bound = np.abs(expected) * (single + last + single * last) + smallest / 2
    assert (np.abs(y - expected) <= bound).all(), np.max(np.abs(y - expected) / bound)


@few
@given(seed=seeds, dtype=narrow, channels=st.integers(1, 9), largest=largest, norm=norms)
def test_local_response_norm_in_narrow_dtypes(seed, dtype, channels, largest, norm):
    x, wide = _in(dtype, _on_a_grid(np.random.default_rng(seed), (2, 3, channels), 2.0**-4, largest))
    k, n, beta = norm["k"], norm["n"], norm["beta"]
    expected, s = _lrn(wide, k, n, norm["alpha"] / n if norm["alpha_over_n"] else norm["alpha"], beta)
    _check_narrow_norm(lambda x: arithmetic.local_response_norm(x, **norm), expected, s, x, min(n, channels), beta)


@few
@given(seed=seeds, dtype=narrow, height=st.integers(1, 6), width=st.integers(1, 6), largest=largest, norm=same_maps)
def test_same_map_norm_in_narrow_dtypes(seed, dtype, height, width, largest, norm):
    x, wide = _in(dtype, _on_a_grid(np.random.default_rng(seed), (2, height, width, 2), 2.0**-4, largest))
    expected, s = _same_map(wide, **norm)
    terms = min(norm["size"], height) * min(norm["size"], width)
    _check_narrow_norm(lambda x: arithmetic.same_map_norm(x, **norm), expected, s, x, terms, norm["beta"])


@few
@given(seed=seeds, dtype=narrow, pool=pools(), kind=st.sampled_from(["max", "avg"]))
def test_pooling_in_narrow_dtypes(seed, dtype, pool, kind):
    height, width, window, stride = pool
    x, wide = _in(dtype, np.random.default_rng(seed).standard_normal((2, height, width, 2)))
    y = _value_and_gradient(lambda x: arithmetic.pool(x, window, stride, kind), x)
    if kind == "max":  # takes values as they are
        np.testing.assert_array_equal(y, _pooled(wide, window, stride, np.max))
        return
    # An average is summed in float32, row by row: window − 1 additions along each axis and one division, each of them
    # at most one rounding of the mean of |x|; then it is rounded once to the dtype.
    roundings = (1 + ROUNDING[dtype]) * (1 + ROUNDING["float32"]) ** (2 * (window - 1) + 1) - 1
    bound = roundings * _pooled(np.abs(wide), window, stride, np.mean)
    assert (np.abs(y - _pooled(wide, window, stride, np.mean)) <= bound).all()
