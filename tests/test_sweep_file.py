"""Sweep files and seeds on the command line: valid values."""

import pytest

from alexnet_jax.errors import ConfigError
from experiments.sweep import sweep_file
from experiments.sweep.ablations import Arm


def _sweep(tmp_path, body):
    file = tmp_path / "mine.py"
    file.write_text(f"def get_sweep():\n    return {body}\n")
    return str(file)


def test_a_sweep_file(tmp_path):
    found = sweep_file.load(_sweep(tmp_path, "dict(config='configs/shapes.py:paper', ablations=('lrn',), seeds=3, "
                              "jobs=2, arms={'a': {'model.dropout': 0.1}}, overrides={'train.epochs': 2})"))
    assert found == sweep_file.Sweep("configs/shapes.py:paper", "mine", {"train.epochs": 2}, ("lrn",),
                                (Arm("a", {"model.dropout": 0.1}),), (0, 1, 2), 2)
    assert sweep_file.load("configs/sweeps/three.py").ablations == (
        "lrn.no_lrn", "pooling.nonoverlapping", "activation.tanh")


@pytest.mark.parametrize(("body", "message"), [
    ("dict(config='c.py', seed=3)", "'seed': no such key (did you mean seeds?)"),
    ("dict(seeds=3)", "config: needs the path"),
    ("dict(config='c.py', seeds=0)", "seeds: 0 is neither"),
    ("dict(config='c.py', seeds=(0, -1))", "seeds: (0, -1) is neither"),
    ("dict(config='c.py', seeds='3')", "seeds: '3' is neither"),
    ("dict(config='c.py', jobs=-1)", "jobs: -1 is not a number"),
    ("dict(config='c.py', arms=['a'])", "arms: must be a dict"),
    ("dict(config='c.py', arms={'a': 3})", "arms: a: must be a dict from fields"),
    ("dict(config='c.py', overrides=3)", "overrides: must be a dict from fields"),
    ("dict(config='c.py', ablations=3)", "ablations: must be names"),
    ("dict(config='c.py', name=3)", "name: 3 is not a string"),
    ("dict(config='c.py', order='value')", "order: 'value' is not one of seeds, arms"),
    ("dict(config='c.py', search=True)", "search: True is neither False nor"),
    ("dict(config='c.py', search={'epoch': 1})", "search: {'epoch': 1} is neither False nor"),
    ("[1]", "must return a dict"),
    ("1 / 0", "ZeroDivisionError"),
])
def test_a_wrong_sweep_file_is_one_line(tmp_path, body, message):
    with pytest.raises(ConfigError) as caught:
        sweep_file.load(_sweep(tmp_path, body))
    assert message in str(caught.value)
    assert "--sweep=" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "seeds"), [
    ("3", (0, 1, 2)), ("7,", (7,)), ("0,5, 7", (0, 5, 7)), ("(4, 4)", (4,))])
def test_seeds_on_the_command_line(text, seeds):
    assert sweep_file.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "", "-1", "three", "1.5", "1,x"])
def test_wrong_seeds(text):
    with pytest.raises(ConfigError, match="--seeds="):
        sweep_file.parse_seeds(text)
