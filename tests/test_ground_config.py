"""The config: valid values of fields, combinations that are refused, and what determines a run's id."""

import json
import pathlib

import pytest

from alexnet_jax import cli, config_rules
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.training import optim
from configs import author_runs, conv_local, recipes
from configs.sweeps import cifar10_three
from experiments.sweep import ablations

CONFIGS = sorted(p.name for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
                 if p.name not in ("__init__.py", "networks.py", "recipes.py"))
# What may stand behind the colon, where it isn't a recipe.
VARIANTS = {**dict.fromkeys(("torchvision.py", "bvlc_alexnet.py", "caffenet.py", "imagenet_paper.py"), ()),
            "imagenet_released.py": (), "four_layer.py": ("relu", "tanh"),
            "figure1.py": ("relu", "tanh"), "conv_local.py": conv_local.VARIANTS,
            "conv_local_test.py": conv_local.VARIANTS, "lenet.py": ("cifar10", "shapes"),
            "author_runs.py": author_runs.RUNS}
ANCESTORS = ("four_layer.py", "figure1.py", "conv_local.py", "conv_local_test.py", "lenet.py")


def _config(**overrides):
    return config_lib.resolve(config_lib.override(config_lib.default(), {"optim.schedule": "constant"} | overrides))


def _with(dotted):
    return config_lib.resolve(config_lib.override(_config(), dotted))


@pytest.mark.parametrize("name", config_lib.FIELDS)
def test_every_default_passes_its_own_check(name):
    field = config_lib.FIELDS[name]
    value = config_lib.override(config_lib.default(), {name: field.default})
    for key in name.split("."):
        value = value[key]
    assert (value, type(value)) == (field.default, type(field.default))
    assert not isinstance(field.default, tuple) or field.item is not None


@pytest.mark.parametrize("name", config_lib.FIELDS)
def test_a_description_says_what_auto_and_empty_values_and_each_choice_mean(name):
    field = config_lib.FIELDS[name]
    assert field.doc
    if field.default in ("", (), "auto"):
        assert f"{field.default if field.default == 'auto' else repr(field.default)}:" in field.doc
    if not isinstance(field.default, tuple):
        assert [choice for choice in field.choices if choice not in field.doc] == []


def test_the_defaults_alone_lack_only_the_plateau_rule_s_images():
    with pytest.raises(ConfigError, match=r"^config\.data\.tune_split: the plateau rule needs"):
        config_lib.resolve(config_lib.default())


# Recorded results lie under these names: a test that fails here says that they would be lost.
@pytest.mark.parametrize(("arm", "expected"), [
    ("baseline", "eb49329850"), ("no_lrn", "5e4e58c28f"), ("nonoverlapping", "188834dc61"), ("tanh", "e9e752e772")])
def test_ids_of_recorded_runs_never_change(arm, expected):
    sweep = cifar10_three.get_sweep()
    base = config_lib.resolve(config_lib.override(cli.load_config(sweep["config"]), sweep["overrides"]))
    overrides = {a.name: a.overrides for a in ablations.arms_of(sweep["ablations"], base)} | {"baseline": {}}
    assert config_lib.run_id(config_lib.resolve(config_lib.override(base, overrides[arm]))) == expected


def test_the_id_is_of_what_differs_from_the_declared_defaults():
    assert config_lib.identity(_config()) == {"optim.schedule": "constant"}
    assert config_lib.run_id(_config()) == "ef871cbb46"


@pytest.mark.parametrize(("name", "value"), [
    ("mesh.data", 4), ("mesh.column", "2"), ("data.dir", "elsewhere"), ("data.store", "elsewhere"),
    ("checkpoint.every_seconds", 1.0), ("checkpoint.keep", 7)])
def test_ids_are_the_same_on_every_machine(name, value):
    assert config_lib.run_id(_with({name: value})) == config_lib.run_id(_config())


@pytest.mark.parametrize(("name", "value"), [
    ("seed", 1), ("train.epochs", 1), ("train.batch_size", 64), ("optim.learning_rate", 0.02), ("data.size", 300),
    ("model.lrn.layers", ()), ("model.activation", "tanh"), ("train.precision", "bfloat16"),
    ("data.on_corrupt", "refuse"), ("data.eval_split", "train")])
def test_ids_differ_with_what_can_change_the_result(name, value):
    assert config_lib.run_id(_with({name: value})) != config_lib.run_id(_config())


SETS = ("model.exchange", "model.lrn.layers", "model.same_map.layers", "model.pool.layers", "model.dropout_layers",
        "init.skip", "optim.freeze")
SEQUENCES = {"model.lrn.order", "model.pool.kinds", "optim.table.at", "optim.table.factors", "optim.conv1.at",
             "optim.conv1.factors", "augment.divide", "augment.mean_values"}


def test_each_field_of_several_values_is_a_set_or_a_sequence():
    assert {name for name, field in config_lib.FIELDS.items() if isinstance(field.default, tuple)} == {
        *SETS, *SEQUENCES}
    assert {name for name, field in config_lib.FIELDS.items() if field.unordered} == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_one_spelling_and_nothing_twice(name):
    field = config_lib.FIELDS[name]
    items = tuple(field.choices[:3]) if field.choices else (1, 2, 5)
    plain = _with({name: items})
    assert config_lib.flatten(plain)[name] == items
    for other in (items[::-1], (items[1], items[2], items[0])):
        assert config_lib.flatten(_with({name: other})) == config_lib.flatten(plain)
        recorded = config_lib.to_json(config_lib.override(plain, {name: other}))
        assert config_lib.recorded_id(recorded) == config_lib.run_id(plain)
    with pytest.raises(ConfigError, match=f"config.{name}: {items[0]!r} appears more than once in "):
        _with({name: (items[0], items[1], items[0])})


def test_the_kinds_of_pooling_move_with_their_layers():
    pool = _with({"model.pool.layers": (5, 1, 2), "model.pool.kinds": ("avg", "max", "avg")}).model.pool
    assert (pool.layers, pool.kinds) == ((1, 2, 5), ("max", "avg", "avg"))
    with pytest.raises(ConfigError, match=r"config\.model\.pool\.layers: 1 appears more than once"):
        _with({"model.pool.layers": (1, 1), "model.pool.kinds": ("max", "avg")})
    with pytest.raises(ConfigError, match="2 kinds for the 3 layers"):
        _with({"model.pool.layers": (5, 1, 2), "model.pool.kinds": ("avg", "max")})


@pytest.mark.parametrize(("spelt", "plain"), [
    ("train[0:40000]", "train[:40000]"), (" train [ : 40000 ] ", "train[:40000]"), ("train[:040000]", "train[:40000]"),
    ("train[:]", "train"), ("train[0%:100%]", "train"), ("train[00:12.50%]", "train[:12.5%]"),
    ("train[-010:]", "train[-10:]"), ("train[:-0]", "train[:-0]"), ("train[36000:40000]", "train[36000:40000]"),
    ("train[:40%]", "train[:40%]"), ("train[:100]", "train[:100]")])
def test_a_split_has_one_spelling(spelt, plain):
    one, other = _with({"data.train_split": spelt}), _with({"data.train_split": plain})
    assert one.data.train_split == plain
    assert config_lib.run_id(one) == config_lib.run_id(other)


@pytest.mark.parametrize(("name", "spelt", "plain"), [
    ("optim.weight_decay", -0.0, 0.0), ("train.epochs", 3.0, 3),
    ("data.name", "image_folder:/some//where/./cats/", "image_folder:/some/where/cats"),
    ("data.name", "image_folder:../cats", "image_folder:../cats")])
def test_a_value_has_one_spelling(name, spelt, plain):
    one, other = _with({name: spelt}), _with({name: plain})
    assert repr(config_lib.flatten(one)[name]) == repr(plain)
    recorded = config_lib.to_json(config_lib.override(other, {name: spelt}))
    assert config_lib.run_id(one) == config_lib.run_id(other) == config_lib.recorded_id(recorded)


def test_what_is_no_config_has_no_id():
    for tree in ({"model": {"lrn": {"layers": [1, 1]}}}, {"data": {"train_split": 3}}, {"data": 3}, {"x": [{}]}):
        assert config_lib.recorded_id(tree) is None


def test_equal_values_of_another_type_have_one_id():
    one, other = _with({"optim.learning_rate": 1, "model.lrn.layers": [1]}), _with(
        {"optim.learning_rate": 1.0, "model.lrn.layers": (1,), "train.epochs": 90.0})
    assert config_lib.run_id(one) == config_lib.run_id(other)
    assert (type(other.train.epochs), type(one.optim.learning_rate)) == (int, float)


@pytest.mark.parametrize("path", [":".join((file, *variant)) for file in CONFIGS
                                  for variant in ((), *((v,) for v in VARIANTS.get(file, recipes.RECIPES)))])
def test_every_config_file_resolves_and_has_possible_shapes(path):
    config = config_lib.resolve(cli.load_config(f"configs/{path}"))
    names = [layer.name for layer in geometry.layers(config)]
    if path.partition(":")[0] not in ANCESTORS:
        assert names == [*geometry.CONVS, *geometry.DENSE, geometry.OUTPUT]
    assert names[-1] == geometry.OUTPUT


@pytest.mark.parametrize("file", CONFIGS)
def test_a_config_survives_run_json(file):
    config = config_lib.resolve(cli.load_config(f"configs/{file}"))
    back = config_lib.from_json(json.loads(json.dumps(config_lib.to_json(config))))
    assert config_lib.flatten(back) == config_lib.flatten(config)
    assert config_lib.run_id(back) == config_lib.run_id(config)


def test_what_an_older_run_json_lacks_has_its_default_and_what_is_unknown_is_refused():
    tree = config_lib.to_json(_with({"train.epochs": 3}))
    del tree["model"]["same_map"], tree["seed"]
    assert config_lib.flatten(config_lib.from_json(tree)) == config_lib.flatten(_with({"train.epochs": 3}))
    with pytest.raises(ConfigError, match=r"config\.model\.depth: no such field"):
        config_lib.from_json(tree | {"model": tree["model"] | {"depth": 8}})


@pytest.mark.parametrize(("name", "value", "message"), [
    ("train.epoch", 3, r"config\.train\.epoch: no such field; did you mean config\.train\.epochs"),
    ("lrn.alpha", 3, r"did you mean .*config\.model\.lrn\.alpha"),
    ("alpha", 3, r"did you mean .*config\.model\.lrn\.alpha"),
    ("xyzzy", 3, r"config\.xyzzy: no such field$"),
    ("model.lrn", 3, r"config\.model\.lrn is a group of fields"),
    ("train.epochs", "3", r"config\.train\.epochs: '3' is not a whole number"),
    ("train.epochs", 2.5, r"is not a whole number"),
    ("train.epochs", True, r"is not a whole number"),
    ("train.epochs", 0, r"config\.train\.epochs: 0 is below 1"),
    ("optim.learning_rate", float("nan"), r"is not a number"),
    ("optim.learning_rate", float("inf"), r"^config\.optim\.learning_rate: inf is not finite"),
    ("optim.momentum", 1.0, r"config\.optim\.momentum: 1\.0 is above 0\.9999"),
    ("augment.mirror", 1, r"config\.augment\.mirror: 1 is not True or False"),
    ("data.name", None, r"is not a string"),
    ("model.activation", "rellu", r"'rellu' is not one of relu, tanh, scaled_tanh \(did you mean relu\?\)"),
    ("model.lrn.layers", 1, r"config\.model\.lrn\.layers: 1 is not a tuple; write it as in \(1, 2\)"),
    ("init.skip", "fc8", r"config\.init\.skip: 'fc8' is not a tuple; write it as in \('conv1', 'conv2'\)"),
    ("model.lrn.layers", (1, 6), r"config\.model\.lrn\.layers: 6 is above 5"),
    ("model.lrn.layers", ("1",), r"is not a whole number"),
    ("model.exchange", ("conv1",), r"config\.model\.exchange: 'conv1' is not one of"),
    ("mesh.data", 0, r"config\.mesh\.data: 0 is neither 'auto' nor a number"),
    ("mesh.column", "two", r"config\.mesh\.column: 'two' is neither 'auto' nor a number"),
])
def test_one_field_is_refused(name, value, message):
    with pytest.raises(ConfigError, match=message) as error:
        config_lib.override(_config(), {name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("overrides", "field"), [
    ({"data.size": 100}, "data.crop"),
    ({"augment.crop_offsets": 34}, "augment.crop_offsets"),
    ({"augment.chunk": 3}, "augment.chunk"),
    ({"optim.table.at": (1.0,)}, "optim.table"),
    ({"optim.table.at": (2.0, 1.0), "optim.table.factors": (0.1, 0.01)}, "optim.table.at"),
    ({"optim.conv1.factors": (0.1,)}, "optim.conv1"),
    ({"optim.table.at": (2.0,), "optim.table.factors": (0.1,), "train.schedule_unit": "run"}, "train.schedule_unit"),
    ({"augment.pca.off_at": 67.0, "train.schedule_unit": "run"}, "train.schedule_unit"),
    ({"model.lrn.order": ("relu-lrn-pool",)}, "model.lrn.order"),
    ({"optim.schedule": "plateau"}, "data.tune_split"),
    ({"optim.schedule": "table", "optim.plateau.stop": True}, "optim.plateau.stop"),
    ({"model.pool.kinds": ("max",)}, "model.pool.kinds"),
    ({"augment.divide": (1.0, 2.0)}, "augment.divide"),
    ({"augment.grey": True, "augment.pca.amount": 0.0, "augment.divide": (1.0, 2.0, 3.0)}, "augment.divide"),
    ({"augment.grey": True}, "augment.pca.amount"),
    ({"data.fold_split": "train"}, "data.fold_split"),
    ({"data.fold_at": 3.0}, "data.fold_split"),
    ({"data.fold_split": "train", "data.fold_at": 90.0}, "data.fold_at"),
    ({"data.fold_split": "train", "data.fold_at": 1.5, "train.schedule_unit": "run"}, "train.schedule_unit"),
])
def test_fields_that_contradict_each_other_are_refused(overrides, field):
    with pytest.raises(ConfigError) as error:
        _with(overrides)
    assert str(error.value).startswith(f"config.{field}")
    assert "\n" not in str(error.value)


def test_the_conv_local_schedule_scales_with_the_run():
    # Author's: about 350 epochs, 150 with the validation images folded in, 10 at ε/10, 10 at ε/100.
    for epochs, fold in ((520, 350), (52, 35)):
        c = config_lib.resolve(config_lib.override(cli.load_config("configs/conv_local.py:11"),
                                                   {"train.epochs": epochs}))
        assert config_rules.fold_epoch(c) == fold
        rates = [optim.rates(c, epoch * epochs / 520, optim.Plateau()) for epoch in (0, 499, 501, 511)]
        assert [r["weights"] for r in rates] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
        assert [r["biases"] for r in rates] == [0.002] * 4


def test_a_config_that_did_not_start_from_the_defaults():
    config = _config().copy_and_resolve_references()
    with config.unlocked():
        del config.optim.momentum
    with pytest.raises(ConfigError, match=r"^config\.optim\.momentum: missing; config files start from"):
        config_lib.resolve(config)


def test_overrides_leave_the_original_alone():
    config = _config()
    new = config_lib.override(config, {"model.lrn.k": 1.0, "seed": 5})
    assert (config.model.lrn.k, config.seed, new.model.lrn.k, new.seed) == (2.0, 0, 1.0, 5)
    with pytest.raises(AttributeError):
        new.sede = 3
