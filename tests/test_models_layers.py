"""The layers' plain forms against PyTorch and loops in NumPy: outputs and gradients, in float64.

The quick forms are held against these in test_models_fast.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.models import fast, geometry, layers, pooling

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="the oracle is PyTorch, which is not installed (extra: parity)")
TOLERANCE = 1e-10  # of the tensor's largest value


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def _close(ours, oracle, tolerance=TOLERANCE):
    ours, oracle = np.asarray(ours), np.asarray(oracle)
    assert ours.shape == oracle.shape
    assert ours.dtype == np.float64
    largest = np.abs(oracle).max()
    assert largest > 0, "an oracle of zeros proves nothing"
    assert np.abs(ours - oracle).max() <= tolerance * largest


def _random(seed, *shape, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def _nchw(array):
    return torch.tensor(np.moveaxis(array, -1, 1), requires_grad=True)


def _value_and_pullback(function, seed, *x):
    """The value of `function` at `x` and the gradients of Σ value · seed, compiled once."""
    def both(seed, *x):
        y, pullback = jax.vjp(function, *x)
        gradients = pullback(seed)
        return y, *gradients

    return jax.jit(both)(seed, *x)


def _against_torch(ours, theirs, x):
    """Both functions' values and gradients (of Σ values · random numbers) at x [batch, height, width, channel]."""
    seed = _random(99, *jax.eval_shape(ours, x).shape)
    y, gradient = _value_and_pullback(ours, jnp.asarray(seed), jnp.asarray(x))
    tx = _nchw(x)
    ty = theirs(tx)
    _close(y, np.moveaxis(ty.detach().numpy(), 1, -1))
    ty.backward(torch.tensor(np.moveaxis(seed, -1, 1)))
    _close(gradient, np.moveaxis(tx.grad.numpy(), 1, -1))


@needs_torch
@pytest.mark.parametrize(("size", "kernel", "stride", "pad"), [
    (20, 11, 4, 0),  # 1 + ⌈9/4⌉ = 4 positions: the last filter hangs 3 pixels over, as at 224
    (9, 5, 1, 2),
    (10, 3, 2, 1),
])
def test_convolution_reads_zeros_where_the_last_filter_hangs_over(size, kernel, stride, pad):
    positions = geometry.conv_size(size, kernel, stride, pad)
    far = max((positions - 1) * stride + kernel - size - pad, 0)
    x, w = _random(0, 2, size, size, 3), _random(1, kernel, kernel, 3, 4)

    def ours(x, w):
        return layers.convolve(x, w, stride, (pad, far))

    seed = _random(2, 2, positions, positions, 4)
    y, gx, gw = _value_and_pullback(ours, jnp.asarray(seed), jnp.asarray(x), jnp.asarray(w))
    assert y.shape == (2, positions, positions, 4)
    tx, tw = _nchw(x), torch.tensor(w.transpose(3, 2, 0, 1), requires_grad=True)
    # Far more zeros than are needed; then the positions that the ceil rule counts.
    ty = F.conv2d(F.pad(tx, (pad, pad + stride, pad, pad + stride)), tw, stride=stride)[..., :positions, :positions]
    _close(y, np.moveaxis(ty.detach().numpy(), 1, -1))
    ty.backward(torch.tensor(np.moveaxis(seed, -1, 1)))
    _close(gx, np.moveaxis(tx.grad.numpy(), 1, -1))
    _close(gw, tw.grad.numpy().transpose(2, 3, 1, 0))


@needs_torch
@pytest.mark.parametrize(("k", "n", "alpha", "beta", "alpha_over_n"), [
    (2.0, 5, 1e-4, 0.75, False),  # paper
    (2.0, 5, 1e-4, 0.75, True),  # released
    (1.0, 5, 1e-4, 0.75, True),  # Caffe
    (2.0, 4, 0.3, 0.75, False),  # an even window reaches one further down
    (1.0, 17, 0.1, 0.5, True),  # wider than the channels on both sides
    (1.5, 1, 0.2, 1.0, False),
])
def test_lrn_under_each_convention(k, n, alpha, beta, alpha_over_n):
    # PyTorch divides α by n.
    theirs = alpha if alpha_over_n else alpha * n
    x = _random(3, 2, 3, 2, 7, scale=80.0)  # signed, as the released conv1 feeds it
    _against_torch(lambda x: layers.local_response_norm(x, k, n, alpha, beta, alpha_over_n),
                   lambda x: F.local_response_norm(x, n, theirs, beta, k), x)


def test_lrn_window_by_hand():
    x = np.arange(1.0, 7.0).reshape(1, 1, 1, 6)
    y = layers.local_response_norm(jnp.asarray(x), 2.0, 5, 0.01, 0.75)
    a = x.ravel()
    by_hand = [a[c] / (2 + 0.01 * sum(a[j] ** 2 for j in range(max(0, c - 2), min(6, c + 3)))) ** 0.75
               for c in range(6)]
    _close(y.ravel(), by_hand)


def test_lrn_keeps_half_precision_and_sums_in_single():
    # Each square is 2^18: in float16 (largest value 65,504) the sum would overflow.
    x = jnp.full((1, 1, 1, 5), 512.0, jnp.float16)
    y = layers.local_response_norm(x, 2.0, 5, 1e-4, 0.75)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(np.asarray(y, np.float64)[..., 2], 512 / (2 + 1e-4 * 5 * 2.0**18) ** 0.75, rtol=1e-3)


@pytest.mark.parametrize(("size", "height", "width"), [(5, 7, 6), (3, 2, 5), (4, 5, 5), (5, 2, 1)])
def test_same_map_norm_is_the_loop(size, height, width):
    x = _random(4, 2, height, width, 3, scale=60.0)
    expected = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            rows = slice(max(0, i - size // 2), i + (size - 1) // 2 + 1)
            cols = slice(max(0, j - size // 2), j + (size - 1) // 2 + 1)
            total = (x[:, rows, cols] ** 2).sum(axis=(1, 2))
            expected[:, i, j] = x[:, i, j] / (1 + 0.001 / size**2 * total) ** 0.75
    _close(layers.same_map_norm(jnp.asarray(x), size, 0.001, 0.75), expected)


@needs_torch
def test_same_map_norm_against_torch():
    def theirs(x):
        # PyTorch's average counts the padding: it is the sum / 25.
        return x / (1 + 0.001 * F.avg_pool2d(x**2, 5, 1, padding=2, count_include_pad=True)) ** 0.75

    _against_torch(lambda x: layers.same_map_norm(x, 5, 0.001, 0.75), theirs, _random(5, 2, 7, 6, 3, scale=60.0))


POOLS = [(9, 3, 2), (8, 3, 2), (7, 2, 2), (7, 2, 3)]  # exact, two clipped, and one that leaves a pixel out


@needs_torch
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("size", "window", "stride"), POOLS)
def test_pooling_with_clipped_windows(kind, size, window, stride):
    def theirs(x):
        if kind == "max":
            return F.max_pool2d(x, window, stride, ceil_mode=True)
        return F.avg_pool2d(x, window, stride, ceil_mode=True, count_include_pad=False)

    x = _random(6, 1, size, size + 1, 2)
    _against_torch(lambda x: pooling.pool(x, window, stride, kind), theirs, x)
    assert pooling.pool(jnp.asarray(x), window, stride, kind).shape[1] == geometry.pool_size(size, window, stride)


@needs_torch
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("size", "window", "stride"), POOLS)
def test_pooling_rounded_down(kind, size, window, stride):
    pool = F.max_pool2d if kind == "max" else F.avg_pool2d
    x = _random(6, 1, size, size + 1, 2)
    _against_torch(lambda x: pooling.pool(x, window, stride, kind, "floor"), lambda x: pool(x, window, stride), x)
    assert pooling.pool(jnp.asarray(x), window, stride, kind, "floor").shape[1] == geometry.pool_size(
        size, window, stride, "floor")


@pytest.mark.parametrize(("size", "window", "stride", "pad"), [(6, 3, 1, (1, 1)), (7, 3, 2, (1, 1)), (5, 2, 2, (0, 1))])
def test_unshared_convolution_is_the_loop(size, window, stride, pad):
    positions = (size + sum(pad) - window) // stride + 1
    x = _random(1, 2, size, size, 3)
    w = _random(2, positions, positions, window * window * 3, 4)
    padded = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    expected = np.empty((2, positions, positions, 4))
    for i in range(positions):
        for j in range(positions):
            patch = padded[:, i * stride:i * stride + window, j * stride:j * stride + window]
            expected[:, i, j] = patch.reshape(2, -1) @ w[i, j]
    _close(layers.convolve_unshared(jnp.asarray(x), jnp.asarray(w), window, stride, pad), expected)


def test_unshared_convolution_with_the_same_weights_everywhere_is_a_convolution():
    x, kernel = _random(3, 2, 6, 6, 3), _random(4, 3, 3, 3, 5)
    w = np.broadcast_to(kernel.reshape(1, 1, -1, 5), (6, 6, 27, 5))
    _close(layers.convolve_unshared(jnp.asarray(x), jnp.asarray(w), 3, 1, (1, 1)),
           layers.convolve(jnp.asarray(x), jnp.asarray(kernel), 1, (1, 1)))


def test_pooling_carries_leading_axes_along():
    x = jnp.asarray(_random(7, 2, 3, 6, 6, 4))
    whole = pooling.pool(x, 3, 2)
    for column in range(2):
        np.testing.assert_array_equal(whole[column], pooling.pool(x[column], 3, 2))


@pytest.mark.parametrize("form", [pooling, fast])
def test_the_gradient_of_tied_maxima_stays_on_them_and_sums_to_one(form):
    # Few distinct values, so that most windows hold ties, clipped windows included.
    x = np.random.default_rng(0).integers(-1, 2, (1, 8, 8, 2)).astype(np.float64)
    positions = geometry.pool_size(8, 3, 2)
    pullback = jax.jit(lambda x, seed: jax.vjp(lambda x: form.pool(x, 3, 2), x)[1](seed)[0])
    for i in range(positions):
        for j in range(positions):
            one = np.zeros((1, positions, positions, 2))
            one[0, i, j] = 1.0
            g = np.asarray(pullback(x, one))
            window = (slice(None), slice(2 * i, 2 * i + 3), slice(2 * j, 2 * j + 3))
            inside = np.zeros_like(g)
            inside[window] = g[window]
            np.testing.assert_array_equal(g, inside)
            maxima = x[window] == x[window].max(axis=(1, 2), keepdims=True)
            assert (g[window][~maxima] == 0).all()
            assert (g >= 0).all()
            np.testing.assert_allclose(g.sum(axis=(1, 2)), 1.0, atol=1e-12)


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_dropout_mask_is_a_pure_function_of_column_and_row(rate):
    features = 70  # not a multiple of 32
    compiled = jax.jit(layers.dropout_mask, static_argnums=(3, 4))

    def mask(seed, columns, rows):
        return np.asarray(compiled(jax.random.key(seed), np.asarray(columns), np.asarray(rows), features, rate))

    whole = mask(3, range(4), range(64))
    assert whole.shape == (4, 64, features)
    assert whole.dtype == bool
    # What a device of a 2 × 2 mesh holds, and rows in another order.
    np.testing.assert_array_equal(whole[2:, 32:], mask(3, range(2, 4), range(32, 64)))
    np.testing.assert_array_equal(whole[1:2, [63, 5, 17]], mask(3, [1], [63, 5, 17]))
    # 17,920 units: five standard errors.
    assert abs(whole.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / whole.size)
    # Each unit, row and column has a fate of its own.
    assert abs(whole.mean(axis=(0, 1)) - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / 256)
    assert len({row.tobytes() for row in whole.reshape(-1, features)}) == 4 * 64
    other = mask(4, range(4), range(64))
    assert abs((whole == other).mean() - (rate**2 + (1 - rate) ** 2)) < 0.03


def test_dropout_mask_of_rate_zero_keeps_all():
    assert np.asarray(layers.dropout_mask(jax.random.key(0), jnp.arange(2), jnp.arange(8), 33, 0.0)).all()


def test_activation():
    x = jnp.asarray([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(layers.activate(x, "relu"), [0, 0, 3])
    _close(layers.activate(x, "tanh"), np.tanh([-2.0, 0.0, 3.0]))
    # LeCun et al. 1998: so that f(1) = 1 and f(−1) = −1.
    np.testing.assert_allclose(layers.activate(jnp.asarray([1.0, -1.0, 0.5]), "scaled_tanh"),
                               [1.0, -1.0, 1.7159 * np.tanh(1 / 3)], atol=1e-4)
