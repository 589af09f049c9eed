"""The two-column network: counts, shapes, connections. Against PyTorch: test_models_parity.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracle import network, params_of, random_images

from alexnet_jax import config as config_lib
from alexnet_jax import models, networks, recipes
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.models.alexnet import Dropout
from alexnet_jax.schema import SCHEMA


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def _config(recipe="released", size=networks.alexnet32, overrides=()):
    c = config_lib.default()
    if size:
        size(c)
    recipes.apply(c, recipe)
    c.data.tune_split = "train[:100]"
    return config_lib.resolve(config_lib.override(c, dict(overrides)))


TINY = {f"model.conv{i}.features": 8 for i in range(1, 6)} | {
    "model.fc6.features": 16, "model.fc7.features": 16, "train.precision": "float64"}


PARAMETERS = {"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
              "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_the_full_network_is_the_papers(recipe):
    c = _config(recipe, size=None)
    model = nnx.eval_shape(lambda: models.build(c, jax.random.key(0), 1000))
    params = nnx.to_pure_dict(nnx.state(model))
    counts = {name: sum(math.prod(leaf.shape) for leaf in leaves.values()) for name, leaves in params.items()}
    assert counts == PARAMETERS
    assert sum(counts.values()) == 60_965_224
    table = {x.name: x for x in geometry.layers(c, 1000)}
    assert {name: x.parameters for name, x in table.items()} == PARAMETERS
    assert table["conv1"].padding == (0, 3), "224 → 55: the last filter hangs 3 pixels over"
    assert [(x.size, x.out_size) for x in table.values() if x.is_conv] == [
        (55, 27), (27, 13), (13, 13), (13, 13), (13, 6)]
    assert {name: x.sees for name, x in table.items()} == {
        "conv1": "image", "conv2": "own column", "conv3": "all columns", "conv4": "own column", "conv5": "own column",
        "fc6": "all columns", "fc7": "all columns", "fc8": "all columns"}
    assert [table[n].features for n in table] == [48, 128, 192, 192, 128, 2048, 2048, 1000]
    # Initial deviations and biases.
    deep = 0.03 if recipe == "released" else 0.01
    assert [x.init_std for x in table.values()] == [0.01, 0.01, deep, deep, deep, 0.01, 0.01, 0.01]
    assert [x.bias for x in table.values()] == [0, 1, 0, 1, 1, 1, 1, 0]

    # The same sizes in the arrays themselves.
    shapes = []

    def follow(images):
        x = images
        for layer in model.layers:
            if not layer.is_conv:
                return model(images)
            x = models.alexnet.columns.exchange(x, None) if layer.sees == "all columns" else x
            x = getattr(model, layer.name)(x)
            before = x.shape
            x = model._after_conv(layer, x, None)
            shapes.append((before[2], x.shape))
        raise AssertionError

    graph, state = nnx.split(model)

    def run(state, images):
        nonlocal model
        model = nnx.merge(graph, state)
        return follow(images)

    logits = jax.eval_shape(run, state, jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32))
    assert logits.shape == (2, 1000)
    assert shapes == [(55, (2, 2, 27, 27, 48)), (27, (2, 2, 13, 13, 128)), (13, (2, 2, 13, 13, 192)),
                      (13, (2, 2, 13, 13, 192)), (13, (2, 2, 6, 6, 128))]


def test_non_overlapping_pooling_of_run_147():
    c = _config("released", size=None, overrides={
        "model.pool.window": 2, "model.pool.stride": 2, "model.conv2.padding": 1, "model.conv5.padding": 0})
    assert [(x.size, x.out_size) for x in geometry.layers(c) if x.is_conv] == [
        (55, 28), (26, 13), (13, 13), (13, 13), (11, 6)]


@pytest.mark.parametrize(("order", "activation"), [
    *(("relu-lrn-pool", name) for name in SCHEMA["model"]["activation"].choices), ("lrn-pool-relu", "relu")])
def test_maxima_taken_before_the_bias_are_those_of_the_configs_order(x64, order, activation):
    c = _config(overrides=TINY | {"model.lrn.layers": (), "model.lrn.order": (order, order), "model.conv2.bias": 0.3,
                                  "model.activation": activation})
    graph, state = nnx.split(models.build(c, jax.random.key(1), 7))
    rng = np.random.default_rng(0)
    for number, leading in enumerate([(2,), (2, 2)]):  # conv1: an image that all columns see; conv2: a map of each
        layer = nnx.merge(graph, state).layers[number]
        assert (layer.pool, layer.lrn) == ("max", False)
        x = jnp.asarray(rng.standard_normal((*leading, layer.in_size, layer.in_size, layer.in_features)))

        def first(state, x, number=number, layer=layer):
            return nnx.merge(graph, state)._layer(number, layer, x, None, None)

        def in_order(state, x, layer=layer):
            model = nnx.merge(graph, state)
            return model._after_conv(layer, getattr(model, layer.name)(x), None)

        (mine, pull), (theirs, plain_pull) = (jax.vjp(jax.jit(f), state, x) for f in (first, in_order))
        np.testing.assert_array_equal(mine, theirs)
        g = jnp.asarray(rng.standard_normal(mine.shape))
        for a, b in zip(jax.tree.leaves(pull(g)), jax.tree.leaves(plain_pull(g)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, np.abs(b).max()))


def test_initial_weights_are_the_configs_and_the_model_works_without_a_mesh():
    c = _config("released", overrides=TINY | {"train.precision": "float32", "model.fc6.features": 128})
    model = models.build(c, jax.random.key(1), 7)
    for x in model.layers:
        module = getattr(model, x.name)
        kernel = np.asarray(module.kernel[...])
        assert kernel.dtype == np.float32
        assert kernel.std() == pytest.approx(x.init_std, rel=5 / math.sqrt(2 * kernel.size)), x.name
        assert abs(kernel.mean()) < 5 * x.init_std / math.sqrt(kernel.size)
        assert (np.asarray(module.bias[...]) == x.bias).all()
        assert kernel.shape[0] == 2
        assert not np.allclose(kernel[0], kernel[1]), "columns start alike"
    images = random_images(c, 2).astype(np.float32)
    logits = jax.jit(lambda images: model(images))(images)
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("scale", ["test", "train"])
@pytest.mark.parametrize("layer", ["fc7", "conv5"])
def test_dropout_in_training_is_the_test_s_network_on_average(x64, scale, layer):
    """The output layer is linear in the dropped layer below it: mean and variance over masks are known exactly."""
    rows, p = 4096, 0.3
    above = {"model.fc6.features": 0, "model.fc7.features": 0} if layer == "conv5" else {}
    c = _config(overrides=TINY | {"model.dropout": p, "model.dropout_layers": (layer,), "model.dropout_scale": scale}
                | above)
    params, images = params_of(c, 10), random_images(c, 1)
    graph, state = nnx.split(nnx.eval_shape(lambda: models.build(c, jax.random.key(0), 10)))
    nnx.replace_by_pure_dict(state, params)
    model, seen = nnx.merge(graph, state), {}
    test = np.asarray(model(images, observe=lambda name, x: seen.update({name: np.asarray(x)})))[0]

    # One image with a mask of its own in each row: only the dropped layer is computed again.
    dropped = seen[layer] / (1 - p) if scale == "test" else seen[layer]  # before dropout
    number = [x.name for x in model.layers].index(layer)
    masked = np.asarray(jax.jit(lambda x: model._dropout(x, number, None, Dropout(
        jax.random.key(3), jnp.arange(rows))))(np.repeat(dropped, rows, axis=1)))
    kept = dropped if scale == "test" else dropped / (1 - p)
    assert ((masked == 0) | (np.abs(masked - kept) <= 1e-15 * np.abs(kept))).all()
    flat = lambda x: x.reshape(2, x.shape[1], -1)  # noqa: E731
    logits = np.einsum("cbi,cio->bo", flat(masked), params["fc8"]["kernel"]) + params["fc8"]["bias"]
    deviation = np.sqrt(p * (1 - p) * np.einsum("ci,cio->o", flat(kept)[:, 0] ** 2, params["fc8"]["kernel"] ** 2))
    # `released` and the paper drop in training and halve at test; inverted dropout scales in training.
    assert (np.abs(logits.mean(axis=0) - test) < 5 * deviation / math.sqrt(rows)).all()
    np.testing.assert_allclose(logits.std(axis=0), deviation, rtol=0.1)
    assert (deviation > 0).all()


@pytest.mark.parametrize(("cut", "apart", "beyond"), [
    ("conv3", ("conv1", "conv2"), ("conv3", "conv4", "conv5", "fc6", "fc7")),
    ("fc6", ("conv3", "conv4", "conv5"), ("conv1", "conv2", "fc6", "fc7")),
    ("fc7", ("fc6",), ("conv1", "conv2", "conv3", "conv4", "conv5", "fc7")),
])
def test_columns_meet_only_where_both_are_seen(x64, cut, apart, beyond):
    """Where a layer is made blind to column 1, nothing of column 1 since the exchange before reaches the logits."""
    c = _config(overrides=TINY)
    params, images = params_of(c, 10), random_images(c, 2)
    kernel = params[cut]["kernel"]
    if cut == "conv3":
        kernel[:, :, :, kernel.shape[3] // 2:] = 0
    elif cut == "fc6":  # values of [height, width, column, channel]
        kernel.reshape(2, 9, 2, 4, -1)[:, :, 1] = 0
    else:
        kernel[:, kernel.shape[1] // 2:] = 0
    weight = np.random.default_rng(5).standard_normal((2, 10))
    apply = network(c, 10)
    gradients = jax.jit(jax.grad(lambda params: (weight * apply(params, images)).sum()))(params)
    for name in apart:
        g = np.asarray(gradients[name]["kernel"])
        assert (g[1] == 0).all(), f"{name} of column 1 is seen before {cut}"
        assert (np.asarray(gradients[name]["bias"])[1] == 0).all()
        assert np.abs(g[0]).max() > 0
    for name in beyond:
        g = np.asarray(gradients[name]["kernel"])
        assert np.abs(g[0]).max() > 0
        assert np.abs(g[1]).max() > 0


def _sees(overrides):
    c = _config(overrides=overrides)
    return {x.name: x.sees for x in geometry.layers(c, 10)}


def test_the_exchange_of_a_layer_left_out_moves_to_the_next():
    full = _sees({})
    assert _sees({"model.conv3.features": 0}) == {
        k: "all columns" if k == "conv4" else v for k, v in full.items() if k != "conv3"}
    assert _sees({"model.fc6.features": 0})["fc7"] == "all columns"
    assert _sees({"model.conv3.features": 0, "model.conv4.features": 0})["conv5"] == "all columns"
    assert _sees({"model.exchange": ("conv2",)}) == {
        k: v if v == "image" else "all columns" if k in ("conv2", "fc8") else "own column" for k, v in full.items()}


def test_one_column_sees_itself():
    c = _config(overrides={"model.columns": 1})
    table = {x.name: x for x in geometry.layers(c, 10)}
    assert table["conv3"].in_features == c.model.conv2.features
    assert table["fc7"].in_features == c.model.fc6.features


def test_the_norms_window_ends_at_the_column_or_crosses_it(x64):
    x = np.random.default_rng(3).standard_normal((2, 1, 2, 2, 4)) * 50
    out = {}
    for window in ("column", "layer"):
        c = _config("paper", overrides=TINY | {"model.lrn.window": window, "model.lrn.alpha": 0.1})
        model = nnx.eval_shape(lambda c=c: models.build(c, jax.random.key(0), 10))
        out[window] = np.asarray(model._normalise(jnp.asarray(x), None))
    channels = np.concatenate(list(x), axis=-1)  # column by column
    for window in out:
        for channel in range(8):
            low, high = max(0, channel - 2), min(8, channel + 3)
            if window == "column":
                low, high = max(low, channel // 4 * 4), min(high, channel // 4 * 4 + 4)
            expected = channels[..., channel] / (2 + 0.1 * (channels[..., low:high] ** 2).sum(-1)) ** 0.75
            np.testing.assert_allclose(out[window][channel // 4, ..., channel % 4], expected, rtol=1e-12)


@pytest.mark.parametrize(("field", "overrides"), [
    ("config.model.conv2.features", {"model.conv2.features": 49}),
    ("config.model.fc6.features", {"model.fc6.features": 511}),
    ("config.model.conv1.features", {"model.columns": 5}),
    ("config.model.pool", {"model.pool.window": 7}),
    ("config.model.pool", {"model.pool.layers": (1, 2, 3, 4, 5), "model.pool.window": 4}),
    ("config.model.pool", {"model.pool.window": 1, "model.pool.stride": 30, "model.conv5.kernel": 2,
                           "model.conv5.padding": 1}),
    ("config.model.conv1.kernel", {"model.conv1.kernel": 32}),
    ("config.model.conv5.kernel", {"model.conv5.kernel": 11}),
    ("config.model", {f"model.{n}.features": 0 for n in (*geometry.CONVS, *geometry.DENSE)}),
])
def test_impossible_shapes_name_the_field(field, overrides):
    c = _config(overrides=overrides)
    with pytest.raises(ConfigError) as caught:
        models.build(c, jax.random.key(0), 10)
    message = str(caught.value)
    assert message.startswith(field + ":")
    assert "\n" not in message
