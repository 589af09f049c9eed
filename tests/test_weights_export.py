"""Exporting a run's network: the other framework gives the same logits, and exported files can be imported."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny_run
from oracle import needs_torch, network, params_of
from photographs import needs_photos, photographs

from alexnet_jax import cli, weights
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import augment
from alexnet_jax.weight_files import state_dict
from alexnet_jax.weights import exporting, importing
from alexnet_jax.weights.exported import Exported
from configs import networks, recipes

try:
    import reference_networks as reference
    import torch
except ImportError:
    torch = None
try:
    import onnx
    import onnxruntime
except ImportError:
    onnx = None

needs_onnx = pytest.mark.skipif(onnx is None, reason="onnx and onnxruntime are not installed (extra: export)")
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = {"model.fc6.features": 32, "model.fc7.features": 24}


def small(recipe="released", **overrides):
    c = config_lib.default()
    networks.alexnet32(c)
    recipes.apply(c, recipe)
    c.data.tune_split = "train[:100]"
    return config_lib.resolve(config_lib.override(c, SMALL | overrides))


def other(name, **overrides):
    return config_lib.resolve(config_lib.override(cli.load_config(f"configs/{name}"), overrides))


NETWORKS = {
    "paper": lambda: small("paper"), "released": lambda: small("released"), "caffe": lambda: small("caffe"),
    "no exchange": lambda: small("caffe", **{"model.exchange": (), "model.lrn.window": "column",
                                             "model.pool.rounding": "floor", "model.conv1.kernel": 4}),
    "all else": lambda: small("released", **{
        "model.columns": 4, "model.conv3.features": 0, "model.conv1.stride": 2, "model.conv1.padding": 0,
        "model.lrn.window": "layer", "model.pool.kind": "avg", "model.activation": "tanh", "model.lrn.alpha": 0.5,
        "model.lrn.order": ("relu-lrn-pool", "pool-relu-lrn"), "model.lrn.n": 7}),
    "four_layer": lambda: other("four_layer.py:relu"), "lenet": lambda: other("lenet.py"),
    "torchvision": lambda: other("torchvision.py", **SMALL, **{
        f"model.conv{i}.features": 8 for i in range(1, 6)}, **{"data.size": 80, "data.crop": 67}),
    "caffenet": lambda: other("caffenet.py", **SMALL, **{f"model.conv{i}.features": 8 for i in range(1, 6)},
                              **{"data.size": 80, "data.crop": 67}),
}


def exported(config, seed=0):
    """A network of random weights with biases other than 0, its mean that of the photographs."""
    params = jax.tree.map(lambda a: a.astype(np.float32), params_of(config, 10, seed))
    rng = np.random.default_rng(seed)
    photos = photographs(6, config.data.size).astype(np.float64)
    mean = photos.mean(0).astype(np.float32)

    class statistics:
        pass

    statistics.mean, statistics.eigenvalues, statistics.eigenvectors = mean, rng.uniform(1, 9, 3), np.eye(3)
    consts = augment.constants(config, statistics)
    names = [f"thing {i}" for i in range(10)]
    return Exported(config, params, consts.mean, consts.colour, {"keys": names, "names": names},
                              {"revision": "abc", "step": "7"})


def crops(config, count=3):
    """uint8 [count, size, size, 3] and their centre crops."""
    photos = photographs(count, config.data.size)
    first = (config.data.size - config.data.crop) // 2
    return photos, photos[:, first:first + config.data.crop, first:first + config.data.crop]


def ours(net, photos):
    config = net.config
    consts = augment.Constants(net.mean, net.colour)
    x = augment.test_view(photos, augment.centre_view(config)[0], consts, config)
    return np.asarray(jax.jit(network(config, 10))(net.params, x))


def assert_same(found, expected):
    assert expected.std(axis=0).max() > 0.02 * np.abs(expected).max(), "logits that don't tell images apart"
    assert np.abs(np.asarray(found) - expected).max() <= 3e-5 * np.abs(expected).max()


def assert_equal(params, expected):
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(dict(expected)), strict=True):
        np.testing.assert_array_equal(one, two)


def example():
    spec = importlib.util.spec_from_file_location("torch_alexnet", ROOT / "examples" / "torch_alexnet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_torch
@needs_onnx
@needs_photos
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_photographs_in_pytorch_and_onnxruntime(tmp_path, name):
    net = exported(NETWORKS[name]())
    photos, seen = crops(net.config)
    expected = ours(net, photos)
    pixels = np.ascontiguousarray(seen.transpose(0, 3, 1, 2), np.float32)
    exporting.write(net, tmp_path / "a.pth", "columns")
    model = example().AlexNet(torch.load(tmp_path / "a.pth", weights_only=True)).eval()
    assert_same(model(torch.from_numpy(pixels)).detach().numpy(), expected)
    exporting.write(net, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert_same(session.run(["logits"], {"images": pixels})[0], expected)
    assert_same(session.run(["logits"], {"images": pixels[1:]})[0], expected[1:])  # any batch
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"])["names"][3] == "thing 3"
    assert config_lib.flatten(config_lib.from_json(json.loads(about["config"]))) == config_lib.flatten(net.config)


@needs_photos
@pytest.mark.parametrize("name", ["released", "lenet"])
def test_stablehlo(tmp_path, name):
    net = exported(NETWORKS[name]())
    photos, seen = crops(net.config)
    exporting.write(net, tmp_path / "a.stablehlo", batch=3)
    function = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    assert function.platforms == ("cpu", "cuda", "tpu")
    assert_same(function.call(seen.astype(np.float32)), ours(net, photos))


@needs_torch
@needs_photos
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_what_was_written_is_read_to_the_bit(tmp_path, name, ending):
    net = exported(NETWORKS[name]())
    path = tmp_path / f"a{ending}"
    exporting.write(net, path)
    assert_equal(weights.load(path, net.config), net.params)
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    read = weights.read(path)
    assert config_lib.flatten(config_lib.from_json(read.config)) == config_lib.flatten(net.config)
    np.testing.assert_array_equal(read.inputs["mean"], net.mean)
    np.testing.assert_array_equal(read.inputs["colour"], net.colour)
    assert read.classes == net.classes


@needs_photos
def test_layers_whose_weights_are_unshared(tmp_path):
    net = exported(other("conv_local.py:11"))
    exporting.write(net, tmp_path / "a.safetensors")
    assert_equal(weights.load(tmp_path / "a.safetensors", net.config), net.params)
    for name in ("a.pth", "a.onnx"):
        with pytest.raises(ConfigError, match=r"config\.model\.conv3\.unshared: separate weights for each position"):
            exporting.write(net, tmp_path / name)
        assert not (tmp_path / name).exists()


@needs_torch
@needs_photos
@pytest.mark.slow
def test_torchvision_s_own_network_in_full(tmp_path):
    config = other("torchvision.py")
    sizes = reference.shapes((64, 192, 384, 256, 256), 4096, 1000, 1)
    kernels, biases = reference.random_weights(sizes)
    state = {f"{state_dict.TORCHVISION[name]}.{leaf}": torch.from_numpy(a[name])
             for name in sizes for leaf, a in (("weight", kernels), ("bias", biases))}
    torch.save(state, tmp_path / "theirs.pth")
    params = weights.load(tmp_path / "theirs.pth", config)
    names = [str(i) for i in range(1000)]
    net = Exported(config, params, np.zeros((1, 1, 3), np.float32), np.zeros((3, 3), np.float32),
                             {"keys": names, "names": names}, {"revision": "abc", "step": "0"})
    exporting.write(net, tmp_path / "ours.pth")
    exporting.write(net, tmp_path / "ours.safetensors", "torchvision")
    again = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert list(again) == list(state)
    for name, tensor in state.items():
        assert torch.equal(tensor, again[name])
    assert_equal(weights.load(tmp_path / "ours.safetensors", config), params)


@needs_photos
@pytest.mark.parametrize(("name", "part"), [
    ("released", "conv1's columns is 2 here and 1 in torchvision's"), ("four_layer", "the layers here are conv1, co"),
    ("torchvision", "conv1's features is 8 here and 64 in torchvision's alexnet; --layout=columns writes any network")])
def test_what_torchvision_s_layout_cannot_express_is_refused(tmp_path, name, part):
    net = exported(NETWORKS[name]())
    for file in ("a.pth", "a.safetensors"):
        with pytest.raises(ConfigError, match=part):
            exporting.write(net, tmp_path / file, "torchvision")


@pytest.mark.parametrize(("fields", "part"), [
    ({}, ""), ({"model.lrn.layers": (2,)}, "conv2's lrn is True here and False in"),
    ({"model.pool.rounding": "ceil", "data.size": 300, "data.crop": 231}, "conv5's"),
    ({"model.dropout_scale": "test"}, "doesn't scale outputs at test"),
    ({"model.activation": "tanh"}, "has config.model.activation=relu"),
    ({"model.pool.kind": "avg"}, "conv1's pool is 'avg' here"),
    ({"model.fc6.features": 2048}, "fc6's features is 2048"),
    ({"data.crop": 230}, ""), ({"data.crop": 120}, "conv5's out_size is 2 here and 6")])
def test_which_networks_are_torchvision_s(fields, part):
    said = exporting.difference_from_torchvision(other("torchvision.py", **fields), 1000)
    assert part in said
    assert bool(said) == bool(part)


@needs_photos
@pytest.mark.parametrize(("name", "fields", "to", "options", "part"), [
    ("paper", {"model.lrn.n": 4}, "a.onnx", {}, "over an odd number of channels"),
    ("released", {"model.same_map.size": 4}, "a.pth", {}, "is even, which PyTorch's layers cannot express"),
    ("paper", {}, "a.h5", {}, r"has to end in \.safetensors, \.pth, \.onnx, \.stablehlo"),
    ("paper", {}, "a.onnx", {"layout": "columns"}, r"only for \.safetensors and \.pth")])
def test_what_a_format_cannot_express_is_refused(tmp_path, name, fields, to, options, part):
    net = exported(small(name, **fields))
    with pytest.raises(ConfigError, match=part):
        exporting.write(net, tmp_path / to, **options)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_out_and_comes_back(finished, tmp_path, capsys):
    exporting.main([f"--workdir={finished}", f"--to={tmp_path / 'one.safetensors'}"])
    assert "step 8" in capsys.readouterr().out
    before = Trained(finished)
    read = weights.read(tmp_path / "one.safetensors")
    importing.run_folder(tmp_path / "one.safetensors", config_lib.from_json(read.config), tmp_path / "back")
    assert capsys.readouterr().out == ""  # its classes are in the file
    after = Trained(tmp_path / "back")
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    view = augment.centre_view(before.config)[0]
    np.testing.assert_array_equal(*(n.program.view_log_probs(n.params, images, view, n.consts)
                                    for n in (before, after)))
    assert after.known == before.known
    assert str(finished.parent) not in json.dumps(read.config)


def test_another_run_s_weights_in_one_line(finished, tiny):
    assert_equal(weights.load(finished, tiny(), 10), Trained(finished).params)
