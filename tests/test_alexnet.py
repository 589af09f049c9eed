"""The two-column network: counts, shapes, what meets what, and the whole of it against PyTorch with groups=2."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax import config as config_lib
from alexnet_jax import models
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from configs import networks, recipes

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="the oracle is PyTorch, which is not installed (extra: parity)")


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


def _params(config, classes, seed=0):
    """Weights that keep the signal alive, biases other than 0: {layer: {kernel, bias}} in float64."""
    rng = np.random.default_rng(seed)
    params = {}
    for x in geometry.layers(config, classes):
        if x.is_conv:
            kernel = (x.columns, x.kernel, x.kernel, x.in_features, x.features)
        else:
            kernel = (x.columns, x.in_features, x.features)
        params[x.name] = {"kernel": rng.standard_normal(kernel) * math.sqrt(2 / x.fan_in),
                          "bias": 0.3 * rng.standard_normal(kernel[-1:] if x.is_output else (x.columns, x.features))}
    return params


def _network(config, classes):
    """(params, images) → logits, at test, with no mesh."""
    graph, abstract = nnx.split(nnx.eval_shape(lambda: models.build(config, jax.random.key(0), classes)))

    def apply(params, images):
        state = jax.tree.map(lambda leaf: leaf, abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(images)

    return apply


def _images(config, batch, seed=1):
    """Centred images on the 0–255 scale: smooth patches and noise, each of a contrast of its own."""
    rng = np.random.default_rng(seed)
    crop = config.data.crop
    coarse = rng.standard_normal((batch, 4, 4, 3)).repeat(-(-crop // 4), 1).repeat(-(-crop // 4), 2)[:, :crop, :crop]
    return (coarse + 0.5 * rng.standard_normal(coarse.shape)) * np.linspace(20, 80, batch)[:, None, None, None]


# The whole network in PyTorch. Written from network.md, in PyTorch's own layout: columns are groups of channels.


def _torch_params(params):
    out = {}
    for name, p in params.items():
        k = p["kernel"]
        if name.startswith("conv"):  # [column, h, w, in, out] → [column · out, in, h, w]
            w = k.transpose(0, 4, 3, 1, 2).reshape(-1, k.shape[3], *k.shape[1:3])
        elif name == "fc8":  # [column, in, classes] → [classes, column · in]
            w = k.reshape(-1, k.shape[2]).T
        else:  # [column, in, out] → [column · out, in]
            w = k.transpose(0, 2, 1).reshape(-1, k.shape[1])
        out[name] = [torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (w, p["bias"].reshape(-1))]
    return out


def _torch_gradient(name, tensors, like):
    w, k = tensors[0].grad.numpy(), like["kernel"]
    if name.startswith("conv"):
        columns, h, kw, i, o = k.shape
        kernel = w.reshape(columns, o, i, h, kw).transpose(0, 3, 4, 2, 1)
    elif name == "fc8":
        kernel = w.T.reshape(k.shape)
    else:
        kernel = w.reshape(k.shape[0], k.shape[2], k.shape[1]).transpose(0, 2, 1)
    return {"kernel": kernel, "bias": tensors[1].grad.numpy().reshape(like["bias"].shape)}


def _torch_lrn(m, x):
    shape = x.shape
    if m.lrn.window == "column":  # the window doesn't know the other column
        x = x.reshape(shape[0] * m.columns, -1, *shape[2:])
    alpha = m.lrn.alpha if m.lrn.alpha_over_n else m.lrn.alpha * m.lrn.n  # PyTorch divides α by n
    return F.local_response_norm(x, m.lrn.n, alpha, m.lrn.beta, m.lrn.k).reshape(shape)


def _torch_same_map(m, x):
    size = m.same_map.size
    total = size**2 * F.avg_pool2d(x**2, size, 1, padding=size // 2)  # counts the padding: the sum / size²
    return x / (1 + m.same_map.alpha / size**2 * total) ** m.same_map.beta


def _torch_logits(config, params, images, sees_all):
    m = config.model
    activate = F.relu if m.activation == "relu" else torch.tanh
    x = torch.tensor(np.moveaxis(images, -1, 1))
    dense = False
    for name, (w, b) in params.items():
        if name.startswith("conv"):
            conv = m[name]
            positions = 1 + math.ceil((2 * conv.padding + x.shape[-1] - conv.kernel) / conv.stride)
            far = conv.padding + conv.stride
            x = F.conv2d(F.pad(x, (conv.padding, far, conv.padding, far)), w, b, stride=conv.stride,
                         groups=1 if name in sees_all else m.columns)[..., :positions, :positions]
            number = int(name[-1])
            order = m.lrn.order[number - 1].split("-") if number < 3 else ["relu", "pool"]
            for what in order:
                if what == "relu":
                    x = activate(x)
                elif what == "lrn" and number in m.lrn.layers:
                    x = _torch_lrn(m, x)
                    x = _torch_same_map(m, x) if number in m.same_map.layers else x
                elif what == "pool" and number in m.pool.layers:
                    pool = F.max_pool2d if m.pool.kind == "max" else F.avg_pool2d
                    more = {} if m.pool.kind == "max" else {"count_include_pad": False}
                    x = pool(x, m.pool.window, m.pool.stride, ceil_mode=True, **more)
            continue
        if not dense:  # [batch, height, width, channel], the order of the values
            x, dense = x.permute(0, 2, 3, 1).flatten(1), True
        if name == "fc8":
            return F.linear(x, w, b)
        x = activate(F.linear(x, w, b)) * (1 - m.dropout if m.dropout_scale == "test" else 1)
    raise AssertionError


@needs_torch
@pytest.mark.parametrize(("recipe", "overrides", "sees_all"), [
    ("paper", {}, ("conv1", "conv3", "fc6", "fc7")),
    ("released", {}, ("conv1", "conv3", "fc6", "fc7")),
    # All else: four columns, no conv3, overhang in conv1, the norm's window over the layer, averages, tanh.
    ("released", {"model.columns": 4, "model.conv3.features": 0, "model.conv1.stride": 2, "model.conv1.padding": 0,
                  "model.lrn.window": "layer", "model.pool.kind": "avg", "model.activation": "tanh",
                  "model.lrn.alpha": 0.5, "model.lrn.order": ("relu-lrn-pool", "pool-relu-lrn"),
                  "model.dropout_scale": "train"}, ("conv1", "conv4", "fc6", "fc7")),
])
def test_outputs_and_all_gradients_against_torch(x64, recipe, overrides, sees_all):
    c = _config(recipe, overrides={"train.precision": "float64", "model.fc6.features": 64, "model.fc7.features": 48,
                                   **overrides})
    classes, batch = 10, 3
    params, images = _params(c, classes), _images(c, batch)
    labels = np.arange(batch) * 3
    apply = _network(c, classes)

    @jax.jit
    def ours(params, images):
        def loss(params):
            logits = apply(params, images)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean(), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, logits), gradients = ours(params, images)
    theirs = _torch_params(params)
    their_logits = _torch_logits(c, theirs, images, sees_all)
    their_loss = F.cross_entropy(their_logits, torch.tensor(labels))
    their_loss.backward()

    logits = np.asarray(logits)
    assert logits.dtype == np.float64
    assert logits.std(axis=0).max() > 0.03 * np.abs(logits).max(), "logits that don't tell images apart prove little"
    expected = their_logits.detach().numpy()
    assert np.abs(logits - expected).max() <= 1e-10 * np.abs(expected).max()
    assert float(value) == pytest.approx(float(their_loss.detach()), rel=1e-12)
    for name, leaves in gradients.items():
        oracle = _torch_gradient(name, theirs[name], params[name])
        for leaf, gradient in leaves.items():
            largest = np.abs(oracle[leaf]).max()
            assert largest > 1e-12, f"{name}.{leaf}: no gradient arrives"
            error = np.abs(np.asarray(gradient) - oracle[leaf]).max()
            assert error <= 1e-10 * largest, f"{name}.{leaf}: {error / largest}"


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
    images = _images(c, 2).astype(np.float32)
    logits = jax.jit(lambda images: model(images))(images)
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(("cut", "apart", "beyond"), [
    ("conv3", ("conv1", "conv2"), ("conv3", "conv4", "conv5", "fc6", "fc7")),
    ("fc6", ("conv3", "conv4", "conv5"), ("conv1", "conv2", "fc6", "fc7")),
    ("fc7", ("fc6",), ("conv1", "conv2", "conv3", "conv4", "conv5", "fc7")),
])
def test_columns_meet_only_where_both_are_seen(x64, cut, apart, beyond):
    """Where a layer is made blind to column 1, nothing of column 1 since the exchange before reaches the logits."""
    c = _config(overrides=TINY)
    params, images = _params(c, 10), _images(c, 2)
    kernel = params[cut]["kernel"]
    if cut == "conv3":
        kernel[:, :, :, kernel.shape[3] // 2:] = 0
    elif cut == "fc6":  # values of [height, width, column, channel]
        kernel.reshape(2, 9, 2, 4, -1)[:, :, 1] = 0
    else:
        kernel[:, kernel.shape[1] // 2:] = 0
    weight = np.random.default_rng(5).standard_normal((2, 10))
    apply = _network(c, 10)
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
