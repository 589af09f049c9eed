"""Compares this project's networks with those of benchmarks/peer.py in PyTorch: weights, images, comparisons."""

import json
import math
import os
import pathlib

import emulated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax import config as config_lib
from alexnet_jax import models
from alexnet_jax.models import geometry

try:
    import torch
    import torch.nn.functional as F

    from benchmarks import peer
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="the oracle is PyTorch, which is not installed (extra: parity)")
_CIFAR = pathlib.Path(os.environ.get("ALEXNET_DATA_DIR", "/nowhere")) / "cifar-10-batches-bin" / "data_batch_1.bin"
needs_cifar10 = pytest.mark.skipif(
    not _CIFAR.is_file(), reason="needs cifar-10-batches-bin in the folder that ALEXNET_DATA_DIR names")


def params_of(config, classes, seed=0):
    """Weights that keep the signal alive, biases other than 0: {layer: {kernel, bias}} in float64."""
    rng = np.random.default_rng(seed)
    params = {}
    for x in geometry.layers(config, classes):
        bias = (x.columns, x.features)
        if x.unshared:
            kernel = (x.columns, x.size, x.size, x.fan_in, x.features)
            bias = (x.columns, x.size, x.size, x.features)
        elif x.is_conv:
            kernel = (x.columns, x.kernel, x.kernel, x.in_features, x.features)
        else:
            kernel = (x.columns, x.in_features, x.features)
        params[x.name] = {"kernel": rng.standard_normal(kernel) * math.sqrt(2 / x.fan_in),
                          "bias": 0.3 * rng.standard_normal(bias[-1:] if x.is_output else bias)}
    return params


_LAST = {}  # a full network's take seconds, and half a gigabyte


def single_params_of(config, classes):
    """Those of `params_of` as float32 holds them, in float64; not to be changed."""
    key = json.dumps([config_lib.to_json(config), classes])
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = jax.tree.map(lambda a: a.astype(np.float32).astype(np.float64), params_of(config, classes))
    return _LAST[key]


def network(config, classes):
    """(params, images) → logits, at test, with no mesh."""
    graph, abstract = nnx.split(nnx.eval_shape(lambda: models.build(config, jax.random.key(0), classes)))

    def apply(params, images):
        state = jax.tree.map(lambda leaf: leaf, abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(images)

    return apply


def random_images(config, batch, seed=1):
    """Centred images on the 0–255 scale: smooth patches and noise, each of a contrast of its own."""
    rng = np.random.default_rng(seed)
    crop, channels = config.data.crop, 1 if config.augment.grey else 3
    side = -(-crop // 4)
    coarse = rng.standard_normal((batch, 4, 4, channels)).repeat(side, 1).repeat(side, 2)[:, :crop, :crop]
    return (coarse + 0.5 * rng.standard_normal(coarse.shape)) * np.linspace(20, 80, batch)[:, None, None, None]


def real_images(config, batch, first=0):
    """Photographs of CIFAR-10, enlarged to the network's input, less their mean."""
    records = np.fromfile(_CIFAR, np.uint8, 3073 * batch, offset=3073 * first).reshape(batch, 3073)
    images = np.moveaxis(records[:, 1:].reshape(batch, 3, 32, 32), 1, -1).astype(np.float64)
    crop = config.data.crop
    times = -(-crop // 32)
    images = images.repeat(times, 1).repeat(times, 2)[:, :crop, :crop]
    if config.augment.grey:
        images = images.mean(axis=-1, keepdims=True)
    return images - images.mean(axis=0)


def _margin(margins, window, stride):
    """Takes down how near the values that enter a ReLU or a pooling come to where its gradient jumps."""
    def observe(what, x):
        x = x.detach()
        if what == "relu":
            margins.append(float(x.abs().min() / x.std()))
            return
        windows = x.unfold(2, window, stride).unfold(3, window, stride)
        first, second = windows.flatten(4).topk(2).values.unbind(-1)
        gaps = (first - second)[first > 0]  # below, ReLU stops the gradient whichever is the maximum
        margins.append(float(gaps.min() / x.std()))

    return observe


def clear_of_kinks(config, classes, sees_all, images, margin, likely):
    """As many of `images` as there are numbers in `likely`, which are tried first, such that no value of the network is
    within `margin` (in standard deviations of its layer) of where its gradient jumps: a ReLU at 0, a pooling window
    with two equal maxima.

    Nearer than float32 can resolve, either side is right: one of some 10^5 windows then credits another pixel,
    which shows as an error of about 2e-4 of conv1's largest gradient, in this project or in PyTorch.
    """
    params = single_params_of(config, classes)
    chosen = []
    for image in [*images[likely], *np.delete(images, likely, axis=0)]:  # most are not, and each takes a second
        margins = []
        x = torch.tensor(np.moveaxis(image[None].astype(np.float32).astype(np.float64), -1, 1))
        with torch.no_grad():
            peer.logits(config, peer.tensors(params), x, sees_all,
                        observe=_margin(margins, config.model.pool.window, config.model.pool.stride))
        if min(margins) > margin:
            chosen.append(image)
        if len(chosen) == len(likely):
            return np.stack(chosen)
    raise AssertionError(f"{len(chosen)} of {len(images)} images are clear of kinks by {margin}, not {len(likely)}")


DOUBLE = {"float64": 1e-10}


def assert_parity(config, batches, sees_all, classes=10, tolerances=None, usual=()):
    """Logits, loss and every parameter's gradient on each of `batches` of centred images, from the same weights.

    The largest error is at most `tolerances[precision]` × the oracle's largest value, for each precision given.
    The oracle always computes in float64, from weights and images that float32 holds exactly.

    usual: the precisions whose program is compiled as a user's are, which takes three to ten times as long, and not as
      the other tests' are (conftest.py).
    """
    params = single_params_of(config, classes)
    batches = [images.astype(np.float32).astype(np.float64) for images in batches]
    labels = [np.arange(len(images)) * 3 % classes for images in batches]
    theirs = [_torch_results(config, params, *batch, sees_all) for batch in zip(batches, labels, strict=True)]
    for precision, tolerance in (tolerances or DOUBLE).items():
        ours = _our_results(config_lib.override(config, {"train.precision": precision}), classes, precision in usual)
        for images, own_labels, (expected, value, oracle) in zip(batches, labels, theirs, strict=True):
            (own_value, logits), gradients = ours(
                jax.tree.map(lambda a: a.astype(precision), params), images.astype(precision), own_labels)  # noqa: B023
            assert logits.dtype == np.dtype(precision)
            spread = expected.std(axis=0).max() / np.abs(expected).max()
            assert spread > 0.03, f"logits that don't tell images apart prove little: {spread}"
            assert np.abs(np.asarray(logits) - expected).max() <= tolerance * np.abs(expected).max()
            assert float(own_value) == pytest.approx(value, rel=tolerance)
            for name, leaves in gradients.items():
                for leaf, gradient in leaves.items():
                    largest = np.abs(oracle[name][leaf]).max()
                    assert largest > 1e-12, f"{name}.{leaf}: no gradient arrives"
                    error = np.abs(np.asarray(gradient) - oracle[name][leaf]).max()
                    assert error <= tolerance * largest, f"{precision}: {name}.{leaf}: {error / largest}"


def _our_results(config, classes, usual):
    apply = network(config, classes)

    def loss(params, images, labels):
        logits = apply(params, images)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean(), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=emulated.USUAL if usual else None)


def _torch_results(config, params, images, labels, sees_all):
    """(logits, loss, gradients like `params`)."""
    theirs = peer.tensors(params)
    logits = peer.logits(config, theirs, torch.tensor(np.moveaxis(images, -1, 1)), sees_all)
    loss = F.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    gradients = {name: peer.gradients(name, theirs[name], params[name]) for name in params}
    return logits.detach().numpy(), float(loss.detach()), gradients
