"""Whole networks against PyTorch: outputs and all parameter gradients from the same weights."""

import jax
import numpy as np
import pytest
from oracle import assert_parity, clear_of_kinks, needs_cifar10, needs_torch, random_images, real_images

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.models import geometry
from configs import networks, recipes
from experiments.sweep import ablations

pytestmark = needs_torch
TWO_COLUMNS = ("conv1", "conv3", "fc6", "fc7")


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def _config(recipe="released", size=networks.alexnet32, **overrides):
    c = config_lib.default()
    if size:
        size(c)
    recipes.apply(c, recipe)
    c.data.tune_split = "train[:100]"
    return config_lib.resolve(config_lib.override(c, {k.replace("__", "."): v for k, v in overrides.items()}))


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_the_small_network_of_each_recipe(recipe):
    c = _config(recipe, model__fc6__features=64, model__fc7__features=48)
    assert_parity(c, [random_images(c, 3)], TWO_COLUMNS)


@pytest.mark.parametrize(("arm", "meet"), [
    ("no_exchange", ("conv1",)), ("exchange_conv4", ("conv1", "conv4", "fc6", "fc7")),
    ("no_exchange_conv3", ("conv1", "fc6", "fc7"))])
def test_the_authors_other_exchanges(arm, meet):
    c = _config(model__fc6__features=64, model__fc7__features=48)
    chosen = next(a for a in ablations.columns(c) if a.name == arm)
    assert_parity(config_lib.override(c, chosen.overrides), [random_images(c, 3)], meet)


def test_all_else_at_once():
    # Four columns, no conv3, overhang in conv1, the norm's window over the layer, averages, tanh, inverted dropout.
    c = _config(model__columns=4, model__conv3__features=0, model__conv1__stride=2,
                model__conv1__padding=0, model__lrn__window="layer", model__pool__kind="avg", model__activation="tanh",
                model__lrn__alpha=0.5, model__lrn__order=("relu-lrn-pool", "pool-relu-lrn"),
                model__dropout_scale="train", model__fc6__features=64, model__fc7__features=48)
    assert_parity(c, [random_images(c, 3)], ("conv1", "conv4", "fc6", "fc7"))


# Which of the random images and which of the photographs is clear of kinks.
CLEAR = {"paper": (4, 11), "released": (0, 3), "caffe": (3, 0)}


@needs_cifar10
@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_the_full_network_of_each_recipe(recipe):
    # The real input size, a random image and a photograph. All 60,965,224 parameters are in the paper's recipe. Recipes
    # differ up to conv5's pool (geometry, norms, their order) and after it in dropout alone, of which there is none at
    # test: the others have all kernels of the five convolutions and narrow dense layers. In float32 compiled as a
    # user's are; Caffe's, which has the paper's layers in the paper's order, as the other tests' are.
    c = _config(recipe, size=None)
    assert sum(x.parameters for x in geometry.layers(c, 1000)) == 60_965_224
    assert c.data.crop == (227 if recipe == "caffe" else 224)
    classes, tolerances = 1000, {"float32": 1e-4, "float64": 1e-10}
    if recipe != "paper":
        c = config_lib.override(c, {"model.fc6.features": 128, "model.fc7.features": 128})
        classes, tolerances = 100, {"float32": 1e-4}
    usual = () if recipe == "caffe" else ["float32"]
    chosen = [clear_of_kinks(c, classes, TWO_COLUMNS, images, margin=2e-6, likely=[likely])
              for images, likely in zip((random_images(c, 80), real_images(c, 80)), CLEAR[recipe], strict=True)]
    assert_parity(c, [np.concatenate(chosen)], TWO_COLUMNS, classes, tolerances, usual)


@needs_cifar10
@pytest.mark.parametrize(("file", "parameters"), [
    # By hand: (25·3 + 1)·32 + (25·32 + 1)·32 + (25·32 + 1)·64 + (4·4·64 + 1)·10
    ("four_layer.py:relu", 89_578),
    ("four_layer.py:tanh", 89_578),
    # (25·3 + 1)·64 + (25·64 + 1)·64 + 36·(9·64 + 1)·m + 36·(9·m + 1)·32 + (36·32 + 1)·10 with m = 32 or 64 maps
    ("conv_local.py:13", 1_116_490),
    ("conv_local.py:11", 2_112_970),
    ("conv_local.py:11_no_lrn", 2_112_970),
    # LeCun et al. 1998 with C3 fully connected: 156 + 2,416 + 48,120 + 10,164 + 850
    ("lenet.py", 61_706),
])
def test_the_ancestors(file, parameters):
    c = config_lib.resolve(cli.load_config(f"configs/{file}"))
    assert sum(x.parameters for x in geometry.layers(c, 10)) == parameters
    images = [random_images(c, 3), real_images(c, 3)]
    if c.augment.divide:
        images = [x / c.augment.divide[0] for x in images]
    assert_parity(c, images, ())


def test_average_pooling_in_alexnet():
    c = _config(model__pool__kind="avg")
    assert_parity(c, [random_images(c, 3)], TWO_COLUMNS)


def _one_column(**overrides):
    c = config_lib.default()
    c.model.columns = 1
    for name, features in (("conv1", 64), ("conv2", 192), ("conv3", 384), ("conv4", 256), ("conv5", 256)):
        c.model[name].features = features
    c.data.tune_split = "train[:100]"
    return config_lib.resolve(config_lib.override(c, {k.replace("__", "."): v for k, v in overrides.items()}))


def test_torchvisions_alexnet_can_be_expressed():
    # No norm, dropout before fc6 and fc7, i.e. on pool5 and fc6; sizes rounded down; a later, one-column network.
    c = _one_column(model__lrn__layers=(), model__conv1__padding=2, model__rounding="floor",
                    model__pool__rounding="floor", model__dropout_layers=("conv5", "fc6"),
                    model__dropout_scale="train", model__init_scaling="fan_in", model__init_distribution="uniform")
    assert sum(x.parameters for x in geometry.layers(c, 1000)) == 61_100_840
    assert [(x.size, x.out_size) for x in geometry.layers(c) if x.is_conv] == [
        (55, 27), (27, 13), (13, 13), (13, 13), (13, 6)]
    small = config_lib.override(c, {f"model.conv{i}.features": 8 for i in range(1, 6)} | {
        "model.fc6.features": 16, "model.fc7.features": 16})
    assert_parity(small, [random_images(small, 2)], (), usual=["float64"])


def test_cuda_convnet2s_alexnet_can_be_expressed():
    # layers-223-1gpu.cfg: one column, conv1 normed before pooling and ReLU, the output's biases start at −7.
    c = _one_column(model__lrn__order=("lrn-pool-relu", "relu-lrn-pool"), model__lrn__alpha_over_n=True,
                    model__fc8__bias=-7.0, **{f"model__conv{i}__init_std": 0.03 for i in (3, 4, 5)})
    layers = geometry.layers(c, 1000)
    assert [x.bias for x in layers] == [0, 1, 0, 1, 1, 1, 1, -7]
    assert [x.out_size for x in layers if x.is_conv] == [27, 13, 13, 13, 6]
    small = config_lib.override(c, {f"model.conv{i}.features": 8 for i in range(1, 6)} | {
        "model.fc6.features": 16, "model.fc7.features": 16})
    assert_parity(small, [random_images(small, 2)], (), usual=["float64"])
