"""The catalogue of ablations, and a user's own ablation."""

import json

import numpy as np
import pytest

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from configs import author_runs, networks
from configs.sweeps import initialisation
from experiments.claims.record import of_arm
from experiments.claims.registry import CLAIMS
from experiments.sweep import ablations, plan, sweep_file
from experiments.sweep.ablations import Arm


def _config(network=None, **overrides):
    config = config_lib.default()
    with config.unlocked():
        config.optim.schedule = "constant"
        if network:
            network(config)
    return config_lib.resolve(config_lib.override(config, overrides))


def _arms(ablation, config):
    """{name: (arm, its resolved config)}."""
    return {arm.name: (arm, config_lib.resolve(config_lib.override(config, arm.overrides)))
            for arm in ablations.arms_of([ablation], config)}


def test_norms_are_left_where_the_arm_says():
    arms = _arms("lrn", _config(networks.alexnet32, **{"model.same_map.layers": (2,)}))
    left = {name: [(layer.name, layer.same_map) for layer in geometry.layers(config) if layer.lrn]
            for name, (_, config) in arms.items()}
    assert left == {"no_lrn": [], "lrn_first": [("conv1", False)], "lrn_second": [("conv2", True)],
                    "lrn_before_relu": [("conv1", False), ("conv2", True)]}
    for name, (arm, config) in arms.items():
        assert arm.ablation == "lrn"
        before = [x.order.index("lrn") < x.order.index("relu") for x in geometry.layers(config)[:2]]
        assert before == [name == "lrn_before_relu"] * 2


def test_norm_orders_of_the_released_recipe_are_run_166_and_the_papers():
    arms = _arms("lrn", config_lib.resolve(author_runs.get_config("145")))
    orders = {name: [x.order for x in geometry.layers(config)[:2]] for name, (_, config) in arms.items()}
    assert orders["lrn_before_relu"] == [("lrn", "pool", "relu"), ("lrn", "relu", "pool")]  # 145's conv1, 166's conv2
    assert orders["lrn_after_relu"] == [("relu", "lrn", "pool")] * 2


def test_columns_are_the_authors_runs():
    # Parameters by hand: kernels × (what each sees + 1), of layers-{145-half,150,132,127}.cfg on run 145's network.
    dense = 4096 * (9216 + 1) + 4096 * (4096 + 1) + 1000 * 4096 + 1000
    first, conv5 = 96 * (363 + 1), 256 * (9 * 192 + 1)
    expected = {
        "one_column": 48 * (363 + 1) + 128 * (25 * 48 + 1) + 192 * (9 * 128 + 1) + 192 * (9 * 192 + 1)
                      + 256 * (9 * 192 + 1) + dense,
        "no_exchange": first + 320 * (25 * 48 + 1) + 384 * (9 * 160 + 1) + 384 * (9 * 192 + 1) + conv5
                       + 8192 * (36 * 128 + 1) + 4096 * (4096 + 1) + 1000 * 4096 + 1000,
        "exchange_conv4": first + 256 * (25 * 48 + 1) + 384 * (9 * 128 + 1) + 384 * (9 * 384 + 1) + conv5 + dense,
        "no_exchange_conv3": first + 256 * (25 * 48 + 1) + 512 * (9 * 128 + 1) + 384 * (9 * 256 + 1) + conv5 + dense,
        # Nobody's: the network without columns.
        "exchange_everywhere": first + 256 * (25 * 96 + 1) + 384 * (9 * 256 + 1) + 384 * (9 * 384 + 1)
                               + 256 * (9 * 384 + 1) + dense,
    }
    base = _config()
    for arm in ablations.arms_of(["columns"], base):
        table = geometry.layers(config_lib.resolve(config_lib.override(base, arm.overrides)), 1000)
        assert sum(layer.parameters for layer in table) == expected.pop(arm.name), arm.name
        seen = {layer.name: layer.sees for layer in table}
        assert (seen["fc6"] == "all columns") == (arm.name not in ("no_exchange", "one_column"))
        assert (seen["conv4"] == "all columns") == (arm.name in ("exchange_conv4", "exchange_everywhere"))
        assert (seen["conv3"] == "all columns") == (arm.name == "exchange_everywhere")
    assert not expected


@pytest.mark.parametrize(("ablation", "arm", "run"), [
    ("columns", "one_column", "145-half"), ("columns", "no_exchange", "150"), ("columns", "exchange_conv4", "132"),
    ("columns", "no_exchange_conv3", "127"), ("pooling", "nonoverlapping", "147"), ("lrn", "no_lrn", "148")])
def test_at_full_size_the_arms_are_the_authors_runs(ablation, arm, run):
    base = config_lib.resolve(author_runs.get_config("145"))
    arms = {a.name: a.overrides for a in ablations.arms_of([ablation], base)}
    mine = config_lib.resolve(config_lib.override(base, arms[arm]))
    assert config_lib.identity(mine) == config_lib.identity(config_lib.resolve(author_runs.get_config(run)))


def test_tanh_has_no_bias_to_feed_relus_and_changes_nothing_else():
    arms = _arms("activation", _config())
    (arm, _), (relu, _) = arms["tanh"], arms["relu"]
    assert relu.overrides == {"model.activation": "relu"}
    assert arm.search == relu.search  # the same budget
    assert arm.against == "relu"
    ones = {f"model.{layer}.bias": 0.0 for layer in ("conv2", "conv4", "conv5", "fc6", "fc7")}
    assert arm.overrides == {"model.activation": "tanh", **ones}


@pytest.mark.parametrize(("network", "padding", "sizes"), [
    # Run 147: pool1 28, conv2 26, pool2 13, conv5 11, pool5 6.
    (None, {"model.conv2.padding": 1, "model.conv5.padding": 0}, [55, 28, 26, 13, 13, 13, 11, 6]),
    (networks.alexnet64, {"model.conv2.padding": 1}, [26, 13, 11, 6, 6, 6, 6, 3]),
    (networks.alexnet32, {}, [24, 12, 12, 6, 6, 6, 6, 3]),
])
def test_nonoverlapping_pooling_keeps_the_sizes_from_pool2_on(network, padding, sizes):
    base = _config(network)
    arm, config = _arms("pooling", base)["nonoverlapping"]
    assert arm.overrides == {"model.pool.window": 2, "model.pool.stride": 2, **padding}
    found = []
    for layer in geometry.layers(config)[:5]:
        found += [layer.size, layer.out_size] if layer.pool else [layer.size]
    assert found == sizes
    mine, theirs = geometry.layers(config), geometry.layers(base)
    assert [x.out_size for x in mine[1:5]] == [x.out_size for x in theirs[1:5]]
    assert [x.parameters for x in mine] == [x.parameters for x in theirs]


def test_sizes_that_cannot_be_kept_are_refused():
    with pytest.raises(ConfigError, match="cannot be kept"):
        ablations.arms_of(["pooling"], _config(networks.alexnet32,
                                               **{"model.pool.window": 4, "model.pool.stride": 3}))


def test_padding_never_becomes_negative():
    config = _config(networks.alexnet64, **{"model.conv2.padding": 0, "model.conv2.kernel": 1})
    with pytest.raises(ConfigError, match="cannot be kept"):
        ablations.arms_of(["pooling"], config)


def test_the_catalogue_has_a_line_each():
    lines = ablations.describe().splitlines()
    assert [line.split()[0] for line in lines] == list(ablations.CATALOGUE)
    assert all(len(line.split()) > 3 for line in lines)


EXPECTED = {
    "lrn": {"no_lrn", "lrn_first", "lrn_second", "lrn_before_relu", "lrn_after_relu"},
    "pooling": {"nonoverlapping", "average_pooling"}, "activation": {"relu", "tanh"},
    "columns": {"one_column", "no_exchange", "exchange_conv4", "no_exchange_conv3",
                "exchange_everywhere"}, "dropout": {"no_dropout"},
    "pca": {"no_pca"}, "augmentation": {"no_augmentation", "no_crops", "no_mirrors"},
    "depth": {"no_conv3", "no_conv4", "no_conv5"}, "init": {"init_0.01"}, "bias_init": {"zero_bias"},
    "decay": {"no_decay"}, "recipe": {"paper", "caffe"}, "views": {"centre"}}
OF_THE_PAPER = EXPECTED | {"lrn": EXPECTED["lrn"] - {"lrn_after_relu"}, "init": {"init_0.03"},
                           "recipe": {"released", "caffe"}}


@pytest.mark.parametrize("path", ["configs/cifar10.py", "configs/cifar10.py:paper", "configs/shapes.py",
                                  "configs/tiny_imagenet.py", "configs/imagenet_released.py",
                                  "configs/imagenet_paper.py"])
def test_every_arm_of_the_catalogue_is_possible_on_every_config(path):
    config = config_lib.resolve(cli.load_config(path))
    for name, arms in (OF_THE_PAPER if "paper" in path else EXPECTED).items():
        found = _arms(name, config)
        assert set(found) == arms
        for arm, changed in found.values():
            assert geometry.layers(changed)[-1].is_output
            same = config_lib.identity(changed) == config_lib.identity(config)
            assert same == (arm.name in ("relu", "centre")), arm.name
            assert of_arm(CLAIMS, name, arm.name) is not None or arm.name in NOT_IN_THE_PAPER


NOT_IN_THE_PAPER = (
    "exchange_everywhere", "lrn_second", "lrn_after_relu", "average_pooling", "relu", "no_crops", "no_mirrors",
    "init_0.01", "init_0.03", "paper", "released", "caffe")


@pytest.mark.parametrize("name", ["no_conv3", "no_conv4", "no_conv5"])
def test_without_a_middle_layer_the_rest_sees_what_it_saw(name):
    base = _config()
    layers = {x.name: x for x in geometry.layers(_arms("depth", base)[name][1], 1000)}
    assert name not in layers
    pooled = [x.name for x in layers.values() if x.pool]
    assert pooled == ["conv1", "conv2", "conv4" if name == "no_conv5" else "conv5"]
    assert [x.name for x in layers.values() if x.sees == "all columns"] == [
        "conv4" if name == "no_conv3" else "conv3", "fc6", "fc7", "fc8"]
    assert layers["fc6"].in_features == 36 * (384 if name == "no_conv5" else 256)


def test_a_recipe_keeps_the_networks_shape_and_the_length_of_the_base():
    for path in ("configs/cifar10.py", "configs/shapes.py"):
        base = config_lib.resolve(cli.load_config(path))
        # The same network with the recipe from its own config file: what is left out is what `short` sets.
        theirs = config_lib.resolve(cli.load_config(f"{path}:paper"))
        assert config_lib.identity(_arms("recipe", base)["paper"][1]) == config_lib.identity(theirs)
        caffe = _arms("recipe", base)["caffe"][1]
        assert caffe.model.lrn.k == 1.0
        assert (caffe.train, caffe.optim.table, caffe.data.crop) == (base.train, base.optim.table, 24)


def test_the_recorded_initialisation_sweep_is_this_one():
    base = config_lib.resolve(config_lib.override(cli.load_config("configs/cifar10.py"), {"train.epochs": 4}))
    written_out = initialisation.get_sweep()["arms"]
    for arm, recorded in (("init", "init_0.01"), ("recipe", "paper")):
        mine = _arms(arm, base)[recorded][1]
        theirs = config_lib.resolve(config_lib.override(base, written_out[recorded]))
        assert config_lib.run_id(mine) == config_lib.run_id(theirs)


def test_without_decay_no_layer_has_any():
    config = config_lib.resolve(cli.load_config("configs/conv_local.py:11"))
    changed = _arms("decay", config)["no_decay"][1]
    assert changed.optim.weight_decay == 0.0
    assert not any(decay > 0 for decay in changed.optim.layer_decay.values())


MINE = '''
from experiments.sweep.ablations import Arm

def width(config):
    """Half and twice the units of fc6."""
    for factor in (0.5, 2):
        yield Arm(f"fc6_x{factor:g}", {"model.fc6.features": int(config.model.fc6.features * factor)})

def empty(config):
    yield from ()

def wrong(config):
    yield {"model.dropout": 0.0}

def broken(config):
    yield Arm("a", {"model.dropout": config.model.no_such_thing})

number = 3
'''


def test_a_users_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    arms = ablations.arms_of([f"{file}:width", "lrn.no_lrn"], _config())
    assert [(a.name, a.ablation, dict(a.overrides)) for a in arms] == [
        ("fc6_x0.5", "mine:width", {"model.fc6.features": 2048}),
        ("fc6_x2", "mine:width", {"model.fc6.features": 8192}),
        ("no_lrn", "lrn", {"model.lrn.layers": ()})]


def test_one_arm_of_an_ablation_comes_with_what_it_is_compared_with():
    arms = ablations.arms_of(["activation.tanh", "lrn.lrn_first"], _config())
    assert [(a.ablation, a.name) for a in arms] == [("activation", "relu"), ("activation", "tanh"),
                                                    ("lrn", "lrn_first")]


@pytest.mark.parametrize(("spec", "message"), [
    ("lrn.no_lnr", "no such arm for this config; there are no_lrn, lrn_first"),
    ("poling", "--ablations=poling: no such ablation (did you mean pooling?)"),
    ("nothing_like_it", "there are lrn, pooling, activation"),
    ("absent.py:width", "--ablations=absent.py: no such file"),
    ("{}:height", "it has width, empty, wrong, broken"),
    ("{}", "name a generator of the file"),
    ("{}:number", "name a generator of the file"),
    ("{}:empty", "yields no arm"),
    ("dropout_by_images", "yields no arm for this config; what it does: With and without dropout on 3,000 to 40,000"),
    ("{}:wrong", "each must be Arm"),
    ("{}:broken", "no_such_thing"),
])
def test_a_wrong_name_or_file_is_one_line(tmp_path, spec, message):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    with pytest.raises(ConfigError) as caught:
        ablations.arms_of([spec.format(file)], _config())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_baseline_comes_first_and_repeated_arms_count_once():
    arm = Arm("no_lrn", {"model.lrn.layers": ()}, "lrn")
    assert [a.name for a in ablations.check_arms([arm, arm])] == ["baseline", "no_lrn"]


@pytest.mark.parametrize(("arms", "message"), [
    ([Arm("a", {"model.dropout": 0.0}), Arm("a", {"model.dropout": 0.1})], "two different arms"),
    ([Arm("baseline", {"model.dropout": 0.0})], "the base config without overrides"),
    ([Arm("a/b", {})], "a name is a folder's too"),
    ([Arm("", {})], "a name is a folder's too"),
    ([Arm("a", {}, against="b")], "is to be compared with 'b', which is not among the arms"),
    ([Arm("a", {}, views="left")], "not one of five_view, ten_view, centre"),
])
def test_ambiguous_and_impossible_arms_are_refused(arms, message):
    with pytest.raises(ConfigError, match=message):
        ablations.check_arms(arms)


def test_numbers_of_numpy_and_jax_are_python_s(tmp_path):
    (tmp_path / "mine.py").write_text("""
import jax.numpy as jnp, numpy as np
from experiments.sweep.ablations import Arm

def numbers(config):
    for i, (rate, epochs, mirror, layers) in enumerate((
            (np.float64(0.1), np.int64(3), np.bool_(False), np.array([1, 2])),
            (np.float32(0.1), np.array(3), np.array(False), (np.int32(1), np.int64(2))),
            (jnp.float32(0.1), jnp.int32(3), jnp.bool_(False), jnp.array([1, 2])),
            (0.1, 3, False, (1, 2)))):
        yield Arm(f"a{i}", {"optim.learning_rate": rate, "train.epochs": epochs, "augment.mirror": mirror,
                            "model.lrn.layers": layers})
""", encoding="utf-8")
    base = config_lib.resolve(cli.load_config("configs/shapes.py"))
    arms = ablations.arms_of([f"{tmp_path}/mine.py:numbers"], base)
    built = plan.build(base, "", "", arms, (0,))
    assert [arm.overrides for arm in arms] == 4 * [{"optim.learning_rate": 0.1, "train.epochs": 3,
                                                    "augment.mirror": False, "model.lrn.layers": (1, 2)}]
    assert {type(value) for value in arms[1].overrides.values()} == {float, int, bool, tuple}
    assert len({run for arm in built.arms[1:] for run in arm.runs.values()}) == 1
    assert json.dumps(built.to_json())
    for value in (np.float64("nan"), np.complex64(1), np.zeros((1, 1)), np.str_("a")):
        with pytest.raises(ConfigError, match="is not a number"):
            config_lib.override(base, {"optim.learning_rate": value})


def test_the_files_of_a_sweep_file_are_looked_for_beside_it(tmp_path, monkeypatch):
    arm = ("from experiments.sweep.ablations import Arm\n\ndef width(config):\n"
           "    return [Arm('{}', {{'model.dropout': 0.1}})]\n")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.py").write_text(arm.format("beside"), encoding="utf-8")
    (tmp_path / "here.py").write_text(arm.format("here"), encoding="utf-8")
    (tmp_path / "mine.py").write_text(arm.format("here"), encoding="utf-8")
    (tmp_path / "sweeps" / "sweep.py").write_text(
        "def get_sweep():\n    return {'config': 'base.py', 'ablations': ('mine.py:width', 'here.py:width')}\n",
        encoding="utf-8")
    (tmp_path / "sweeps" / "base.py").write_text("from configs.shapes import get_config\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = sweep_file.load("sweeps/sweep.py")
    base = cli.load_config(found.config, found.folder)
    assert [a.name for a in ablations.arms_of(found.ablations, base, beside=found.folder)] == ["beside", "here"]
    assert [a.name for a in ablations.arms_of(["mine.py:width"], base)] == ["here"]  # of the command line
