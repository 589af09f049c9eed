"""The quick forms of `fast.py` against the plain ones of `layers.py`, `pooling.py`: values and gradients, in float64.

What CPUs, GPUs and TPUs compute in forms of their own is all tried on this machine: `lax.platform_dependent` would only
ever take the CPU's form here, and is made to take another's.
"""

import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from oracle import network, params_of, random_images

from alexnet_jax import config as config_lib
from alexnet_jax.models import arithmetic, fast, layers, pooling
from alexnet_jax.training import augment
from configs import networks

PLAIN = types.SimpleNamespace(**vars(layers) | {"pool": pooling.pool})


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


def _alike(function, *arguments):
    """`function(forms, …)` by quick forms and by plain ones: the same values and gradients, to rounding in float64."""
    g = _random(*jax.eval_shape(lambda *a: function(PLAIN, *a), *arguments).shape, seed=9)

    def value_and_gradients(form):
        def both(g, *a):
            y, pullback = jax.vjp(lambda *a: function(form, *a), *a)
            return y, *pullback(g)

        return jax.jit(both)(g, *arguments)  # one program: operation by operation each would be compiled alone

    (y, *mine), (expected, *theirs) = value_and_gradients(fast), value_and_gradients(PLAIN)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_response_norm(platform, n, beta):
    _alike(lambda form, x: form.local_response_norm(x, 2.0, n, 0.1, beta, n == 4), _random(3, 4, 12))
    name, taken = platform
    assert set(taken) >= ({name} if name in ("cuda", "rocm") else {"default"})


@pytest.mark.parametrize(("size", "window", "stride", "rounding"), [
    (8, 3, 2, "ceil"), (8, 3, 2, "floor"), (6, 2, 2, "ceil"), (7, 2, 3, "ceil"), (5, 5, 1, "ceil")])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling(platform, kind, size, window, stride, rounding):
    _alike(lambda form, x: form.pool(x, window, stride, kind, rounding), _random(2, size, size + 1, 3))


@pytest.mark.parametrize("size", [1, 4, 5])
def test_same_map_norm(platform, size):
    _alike(lambda form, x: form.same_map_norm(x, size, 0.1, 0.75), _random(2, 7, 6, 3))


@pytest.mark.parametrize(("size", "kernel", "padding", "channels", "features"), [
    (24, 5, (2, 2), 3, 32), (24, 5, (2, 2), 3, 64), (12, 3, (1, 2), 1, 8), (9, 5, (0, 3), 4, 8),
    (8, 5, (2, 2), 3, 200)])
def test_convolution_of_few_channels(platform, size, kernel, padding, channels, features):
    _alike(lambda form, x, w: form.convolve(x, w, 1, padding), _random(2, size, size, channels),
           _random(kernel, kernel, channels, features, seed=1))


@pytest.mark.parametrize(("size", "kernel", "padding"), [(13, 3, (1, 1)), (9, 5, (2, 2))])
def test_convolution_of_many_channels(platform, size, kernel, padding):
    _alike(lambda form, x, w: form.convolve(x, w, 1, padding), _random(2, size, size, 16),
           _random(kernel, kernel, 16, 24, seed=1))


@pytest.mark.parametrize("shape", [(2, 4, 6, 6, 16), (1, 3, 5, 5, 7), (2, 2, 1, 1, 2048)])
def test_bias(platform, shape):
    _alike(lambda form, x, bias: form.add_bias(x, bias), _random(*shape), _random(shape[0], shape[-1], seed=1))


@pytest.mark.parametrize("shared", [True, False])
def test_dense(platform, shared):
    _alike(lambda form, x, kernel: form.dense(x, kernel), _random(4, 6) if shared else _random(2, 4, 6),
           _random(2, 6, 5, seed=1))


def test_every_quick_form_has_a_plain_one_and_networks_take_it():
    quick = [name for name, value in vars(fast).items() if getattr(value, "__module__", "") == fast.__name__
             and not name.startswith("_")]
    assert sorted(quick) == ["add_bias", "convolve", "dense", "local_response_norm", "pool", "same_map_norm"]
    for name in quick:
        assert list(inspect.signature(getattr(fast, name)).parameters.values()) == list(
            inspect.signature(getattr(PLAIN, name)).parameters.values()), name
        assert getattr(arithmetic, name) is getattr(fast, name)


def test_a_whole_network_of_plain_forms_computes_the_same(monkeypatch):
    c = config_lib.default()
    networks.alexnet32(c)
    c = config_lib.resolve(config_lib.override(c, {
        "model.conv3.features": 0, "model.conv4.features": 0, "model.conv5.features": 0, "model.fc6.features": 0,
        "model.fc7.features": 16, "optim.schedule": "constant", "train.precision": "float64", "model.lrn.alpha": 0.01}))
    with jax.enable_x64(True):
        apply, params, images = network(c, 10), params_of(c, 10), random_images(c, 2)

        def results():
            def loss(params):
                logits = apply(params, images)
                return jax.nn.logsumexp(logits), logits

            (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
            return logits, gradients

        quick = results()
        taken = set()
        for name in ("add_bias", "convolve", "dense", "local_response_norm", "pool", "same_map_norm"):
            def plain(*arguments, name=name, **options):
                taken.add(name)
                return getattr(PLAIN, name)(*arguments, **options)

            monkeypatch.setattr(arithmetic, name, plain)
        for mine, theirs in zip(jax.tree.leaves(quick), jax.tree.leaves(results()), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())
    assert taken >= {"add_bias", "convolve", "dense", "local_response_norm", "pool"}


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
