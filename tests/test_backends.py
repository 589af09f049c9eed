"""What layers compute on CPUs, GPUs and TPUs in forms of their own: each form on this machine, against the plain one.

`lax.platform_dependent` would only ever take the CPU's form here; it is made to take another's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alexnet_jax import config as config_lib
from alexnet_jax.data import augment
from alexnet_jax.models import layers, pooling


@pytest.fixture(params=["cpu", "cuda", "rocm", "tpu"])
def platform(request, monkeypatch):
    taken = []

    def take(*arguments, default, **forms):
        taken.append(request.param if request.param in forms else "default")
        return forms.get(request.param, default)(*arguments)

    monkeypatch.setattr(lax, "platform_dependent", take)
    with jax.enable_x64(True):
        yield request.param, taken


def _random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _alike(ours, plain, *arguments):
    """The same values and the same gradients, to rounding in float64."""
    y, pullback = jax.vjp(ours, *arguments)
    expected, plain_pullback = jax.vjp(plain, *arguments)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    g = _random(*y.shape, seed=9)
    for mine, theirs in zip(pullback(g), plain_pullback(g), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_response_norm(platform, n):
    def plain(x):
        padded = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (n // 2, (n - 1) // 2)))
        return x / (2 + 0.1 * sum(padded[..., i:i + x.shape[-1]] for i in range(n))) ** 0.75

    _alike(lambda x: layers.local_response_norm(x, 2.0, n, 0.1, 0.75), plain, _random(3, 4, 12))
    name, taken = platform
    assert set(taken) >= ({name} if name in ("cuda", "rocm") else {"default"})


@pytest.mark.parametrize(("size", "window", "stride"), [(8, 3, 2), (13, 3, 2), (6, 2, 2), (7, 2, 3), (5, 5, 1)])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling(platform, kind, size, window, stride):
    count = 1 + -(-(size - window) // stride)
    over = max((count - 1) * stride + window - size, 0)

    def plain(x):
        start, combine = (-jnp.inf, lax.max) if kind == "max" else (0.0, lax.add)

        def reduce(x):
            return lax.reduce_window(x, start, combine, (1, window, window, 1), (1, stride, stride, 1),
                                     ((0, 0), (0, over), (0, over), (0, 0)))

        return reduce(x) if kind == "max" else reduce(x) / reduce(jnp.ones_like(x))

    _alike(lambda x: pooling.pool(x, window, stride, kind), plain, _random(2, size, size, 3))


@pytest.mark.parametrize("size", [1, 4, 5])
def test_same_map_norm(platform, size):
    def plain(x):
        total = lax.reduce_window(jnp.square(x), 0.0, lax.add, (1, size, size, 1), (1, 1, 1, 1), (
            (0, 0), (size // 2, (size - 1) // 2), (size // 2, (size - 1) // 2), (0, 0)))
        return x / (1 + 0.1 / size**2 * total) ** 0.75

    _alike(lambda x: layers.same_map_norm(x, size, 0.1, 0.75), plain, _random(2, 7, 6, 3))


@pytest.mark.parametrize(("size", "kernel", "padding", "channels", "features"), [
    (24, 5, (2, 2), 3, 32), (24, 5, (2, 2), 3, 64), (12, 3, (1, 2), 1, 8), (9, 5, (0, 3), 4, 8),
    (8, 5, (2, 2), 3, 200)])
def test_convolution_of_few_channels(platform, size, kernel, padding, channels, features):
    _alike(lambda x, w: layers.convolve(x, w, 1, padding),
           lambda x, w: lax.conv_general_dilated(x, w, (1, 1), (padding, padding),
                                                 dimension_numbers=("NHWC", "HWIO", "NHWC")),
           _random(2, size, size, channels), _random(kernel, kernel, channels, features, seed=1))


@pytest.mark.parametrize(("size", "kernel", "padding"), [(13, 3, (1, 1)), (9, 5, (2, 2))])
def test_convolution_of_many_channels(platform, size, kernel, padding):
    _alike(lambda x, w: layers.convolve(x, w, 1, padding),
           lambda x, w: lax.conv_general_dilated(x, w, (1, 1), (padding, padding),
                                                 dimension_numbers=("NHWC", "HWIO", "NHWC")),
           _random(2, size, size, 16), _random(kernel, kernel, 16, 24, seed=1))


@pytest.mark.parametrize("shape", [(2, 4, 6, 6, 16), (1, 3, 5, 5, 7), (2, 2, 1, 1, 2048)])
def test_bias(platform, shape):
    _alike(layers.add_bias, lambda x, bias: x + bias[:, None, None, None], _random(*shape),
           _random(shape[0], shape[-1], seed=1))


@pytest.mark.parametrize("shared", [True, False])
def test_dense(platform, shared):
    x = _random(4, 6) if shared else _random(2, 4, 6)
    _alike(layers.dense, lambda x, kernel: jnp.einsum("bi,cio->cbo" if shared else "cbi,cio->cbo", x, kernel), x,
           _random(2, 6, 5, seed=1))


def test_large_images_are_augmented_alike_one_by_one_and_at_once(monkeypatch):
    c = config_lib.resolve(config_lib.override(config_lib.default(), {
        "data.size": 112, "data.crop": 100, "augment.pca.amount": 0.1, "augment.mirror": True,
        "optim.schedule": "constant"}))
    images = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3)).astype(np.uint8)
    size = {"pixel": 112, "centre": 100}[c.augment.mean]
    consts = augment.Constants(np.full((size, size, 3), 120, np.float32), np.eye(3, dtype=np.float32))
    found = {}
    for form in ("cpu", "cuda"):
        with monkeypatch.context() as patched:
            patched.setattr(lax, "platform_dependent",
                            lambda *a, default, form=form, **forms: forms.get(form, default)(*a))
            found[form] = np.asarray(augment.training_views(images, jax.random.key(1), np.arange(5), np.float32(0.1),
                                                            consts, c))
    assert found["cpu"].shape == (5, 100, 100, 3)
    np.testing.assert_allclose(found["cpu"], found["cuda"], rtol=1e-6, atol=1e-4)
    assert len({view.tobytes() for view in found["cpu"]}) == 5
