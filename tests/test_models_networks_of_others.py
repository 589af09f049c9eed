"""The networks of torchvision and Caffe as configs: parameters, sizes, preprocessing, departures."""

import jax.numpy as jnp
import numpy as np
import pytest
from data_files import data_config, encoded, pixels

from alexnet_jax import cli, describe
from alexnet_jax import config as config_lib
from alexnet_jax.data import open_split
from alexnet_jax.data.readers import decode, photographs
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.training import augment


def load(name, **overrides):
    return config_lib.resolve(config_lib.override(cli.load_config(f"configs/{name}.py"), overrides))


@pytest.mark.parametrize(("name", "parameters", "sizes"), [
    # 64·363 + 192·1600 + 384·1728 + 256·3456 + 256·2304 + 4096·9216 + 4096² + 1000·4096 and 9,344 + 1,000 biases
    ("torchvision", 61_100_840, [27, 13, 13, 13, 6]), ("bvlc_alexnet", 60_965_224, [27, 13, 13, 13, 6]),
    ("caffenet", 60_965_224, [27, 13, 13, 13, 6])])
def test_parameters_and_sizes(name, parameters, sizes):
    layers = geometry.layers(load(name), 1000)
    assert sum(x.parameters for x in layers) == parameters
    assert [x.out_size for x in layers if x.is_conv] == sizes


def test_departures_from_the_paper_are_listed():
    torchvision = {name for name, _, _ in describe.departures(load("torchvision"), "paper")}
    assert {"model.columns", "model.conv1.padding", "model.lrn.layers", "model.dropout_layers", "augment.mean_values",
            "augment.divide", "model.rounding", "data.resize"} <= torchvision
    caffe = {name: own for name, own, _ in describe.departures(load("caffenet"), "paper")}
    assert caffe["model.lrn.order"] == ("relu-pool-lrn", "relu-pool-lrn")
    assert (caffe["data.crop"], caffe["model.lrn.k"], caffe["model.lrn.alpha_over_n"]) == (227, 1.0, True)
    only = {name for name, _, _ in describe.departures(load("bvlc_alexnet"), "paper")} ^ set(caffe)
    assert only == {"model.lrn.order", *(f"model.{x}.bias" for x in ("conv2", "conv4", "conv5", "fc6", "fc7"))}


def test_torchvision_s_normalisation():
    c = load("torchvision", **{"data.size": 8, "data.crop": 8})
    consts = augment.constants(c, _Statistics(8))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    ours = augment.test_view(jnp.asarray(images), jnp.asarray([0, 0, 0]), consts, c)
    expected = (images / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


class _Statistics:
    def __init__(self, size):
        self.mean, self.eigenvalues, self.eigenvectors = np.full((size, size, 3), 99.0), np.ones(3), np.eye(3)


def test_fixed_means_are_those_given_whatever_the_images_are():
    c = load("torchvision", **{"augment.mean_values": (1.0, 2.0, 3.0)})
    np.testing.assert_array_equal(augment.constants(c, _Statistics(256)).mean, [[[1, 2, 3]]])


@pytest.mark.parametrize("fields", [
    {"augment.mean_values": ()}, {"augment.mean_values": (1.0, 2.0)}, {"augment.mean": "pixel"},
    {"augment.grey": True, "augment.divide": ()}])
def test_fixed_means_that_cannot_be(fields):
    with pytest.raises(ConfigError, match=r"config\.augment\.mean_values: .* one number, or one for each channel"):
        load("torchvision", **fields)


def test_photographs_become_squares_by_the_network_s_own_rule(tmp_path):
    content = encoded(pixels(4, 33, 57))
    (tmp_path / "a.png").write_bytes(content)
    for name, rule in (("torchvision", "torchvision"), ("caffenet", "warp")):
        [(_, image)] = photographs.decoded([tmp_path / "a.png"], load(name, **{"data.size": 16, "data.crop": 16}).data)
        np.testing.assert_array_equal(image, decode.decode(content, 16, resize=rule))


def test_each_rule_of_resizing_has_a_store_of_its_own(tmp_path):
    content = encoded(pixels(5, 21, 40))
    for wnid in ("a", "b"):
        for split in ("train", "val"):
            place = tmp_path / "data" / "photos" / split / wnid
            place.mkdir(parents=True)
            (place / "1.png").write_bytes(content)
    opened = {}
    for rule in ("warp", "torchvision", "shorter"):
        data = data_config(tmp_path / "store", name="image_folder:photos", dir=tmp_path / "data", resize=rule)
        opened[rule] = open_split(data, "val", report=lambda line: None)
        np.testing.assert_array_equal(opened[rule].images[0], decode.decode(content, 8, resize=rule))
    assert len({split.store.folder for split in opened.values()}) == 3
