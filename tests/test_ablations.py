"""The catalogue of ablations, and a user's own."""

import pytest

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from configs import author_runs, networks
from experiments import ablations
from experiments.ablations import Arm


def _config(network=None, **overrides):
    config = config_lib.default()
    with config.unlocked():
        config.optim.schedule = "constant"
        if network:
            network(config)
    return config_lib.resolve(config_lib.override(config, overrides))


def _one(name, config):
    (arm,) = ablations.arms_of([name], config)
    return arm, config_lib.resolve(config_lib.override(config, arm.overrides))


def test_without_lrn_no_norm_is_left():
    arm, config = _one("lrn", _config(networks.alexnet32, **{"model.same_map.layers": (2,)}))
    assert (arm.name, arm.ablation) == ("no_lrn", "lrn")
    assert not any(layer.lrn or layer.same_map for layer in geometry.layers(config))


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
    }
    base = _config()
    for arm in ablations.arms_of(["columns"], base):
        table = geometry.layers(config_lib.resolve(config_lib.override(base, arm.overrides)), 1000)
        assert sum(layer.parameters for layer in table) == expected.pop(arm.name), arm.name
        seen = {layer.name: layer.sees for layer in table}
        assert (seen["fc6"] == "all columns") == (arm.name not in ("no_exchange", "one_column"))
        assert (seen["conv4"] == "all columns") == (arm.name == "exchange_conv4")
        assert seen["conv3"] == "own column"
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
    arm, _ = _one("activation", _config())
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
    arm, config = _one("pooling", base)
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


def test_every_ablation_of_the_catalogue_builds_on_every_config():
    for recipe in ("released", "paper"):
        config = config_lib.override(cli.load_config(f"configs/cifar10.py:{recipe}"),
                                     {"data.tune_split": "train[36000:40000]"})
        for arm in ablations.arms_of(list(ablations.CATALOGUE), config_lib.resolve(config)):
            geometry.layers(config_lib.resolve(config_lib.override(config, arm.overrides)))


MINE = '''
from experiments.ablations import Arm

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
    arms = ablations.arms_of([f"{file}:width", "lrn"], _config())
    assert [(a.name, a.ablation, dict(a.overrides)) for a in arms] == [
        ("fc6_x0.5", "mine:width", {"model.fc6.features": 2048}),
        ("fc6_x2", "mine:width", {"model.fc6.features": 8192}),
        ("no_lrn", "lrn", {"model.lrn.layers": ()})]


@pytest.mark.parametrize(("spec", "message"), [
    ("poling", "--ablations=poling: no such ablation; did you mean pooling?"),
    ("nothing_like_it", "There are lrn, pooling, activation"),
    ("absent.py:width", "--ablations=absent.py: no such file"),
    ("{}:height", "it has width, empty, wrong, broken"),
    ("{}", "name a generator of the file"),
    ("{}:number", "name a generator of the file"),
    ("{}:empty", "yields no arm"),
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
])
def test_ambiguous_and_impossible_arm_names_are_refused(arms, message):
    with pytest.raises(ConfigError, match=message):
        ablations.check_arms(arms)
