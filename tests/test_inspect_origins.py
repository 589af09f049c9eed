"""The origin of each config value (`describe --all`), compared with the lines of the named files."""

import pathlib
import re

import pytest
from ml_collections import ConfigDict

from alexnet_jax import cli, describe
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect import origins

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py") if "def get_config" in path.read_text())


def _line(place):
    """The text of the line that `place` names first."""
    file, number = re.search(r"([\w./]+\.py):(\d+)", place).groups()
    return (ROOT / file).read_text().splitlines()[int(number) - 1].strip()


def test_why_this_learning_rate():
    _, places = origins.load("configs/cifar10.py", {})
    assert places["optim.learning_rate"].startswith("released, alexnet_jax/recipes.py:")
    assert _line(places["optim.learning_rate"]) == "c.optim.learning_rate = 0.01"
    assert _line(places["optim.learning_rate"].partition("←")[2]).startswith("recipes.apply(c, recipe)")
    assert _line(places["data.name"]) == 'c.data.name = "cifar10"'
    assert places["model.lrn.n"] == "declared default"
    assert places["optim.table.at"].startswith("short, alexnet_jax/recipes.py:")


def test_the_command_line_has_the_last_word():
    config, places = origins.load("configs/cifar10.py:paper", {"optim.learning_rate": 0.003})
    assert (config.optim.learning_rate, places["optim.learning_rate"]) == (0.003, "command line")
    assert places["optim.decay_biases"].startswith("paper, ")


def test_a_sweep_file_stands_for_its_baseline(tmp_path):
    _, places = origins.load("configs/sweeps/initialisation.py", {})
    assert places["train.epochs"] == "overrides of configs/sweeps/initialisation.py"
    assert places["data.train_split"].startswith("configs/cifar10.py:")
    (tmp_path / "s.py").write_text("def get_sweep():\n    return {}\n")
    with pytest.raises(ConfigError, match=r"s\.py: KeyError: 'config'"):
        origins.load(str(tmp_path / "s.py"), {})


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_not_at_its_default_was_set_somewhere(name):
    config, places = origins.load(f"configs/{name}", {})
    flat = config_lib.flatten(config)
    assert places.keys() == flat.keys() == config_lib.FIELDS.keys()
    assert flat == config_lib.flatten(config_lib.resolve(cli.load_config(f"configs/{name}")))
    for field, value in flat.items():
        if value != config_lib.FIELDS[field].default:
            assert ".py:" in places[field]
            words = _line(places[field])
            assert "=" in words or "override(" in words


def test_nothing_is_recorded_afterwards():
    methods = ConfigDict.__setitem__, ConfigDict.copy_and_resolve_references
    origins.load("configs/cifar10.py", {})
    with pytest.raises(ConfigError, match="no such file"):
        origins.load("configs/nowhere.py", {})
    assert (ConfigDict.__setitem__, ConfigDict.copy_and_resolve_references) == methods


def test_the_table():
    lines = describe.fields(*origins.load("configs/shapes.py", {"data.dir": "a\nb"})).splitlines()
    assert len(lines) == len(config_lib.FIELDS)
    assert re.fullmatch(r"config\.data\.dir +'a\\nb' +command line", lines[list(config_lib.FIELDS).index("data.dir")])
