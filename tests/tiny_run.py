"""What the tests of whole runs share: a tiny network on tiny data, a finished run of it, and ways to stop one.

A test file gives the fixtures names of its own (`finished = tiny_run.finished`), so that each file has a store
of its own; the compiled programs are shared by all.
"""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from alexnet_jax import config
from alexnet_jax.data.readers import shapes
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import checkpoint, program, resume
from alexnet_jax.training import loop as train_lib

COUNTS = {"train": 80, "test": 30}  # 64 to train on: 4 steps an epoch; 30 fill one batch and 14 of another
TINY = {
    "model.conv1.features": 4, "model.conv1.kernel": 3, "model.conv1.stride": 1, "model.conv1.padding": 1,
    "model.conv1.init_std": 0.05, "model.conv2.features": 4, "model.conv2.kernel": 3, "model.conv2.padding": 1,
    "model.conv3.features": 0, "model.conv4.features": 0, "model.conv5.features": 0, "model.fc6.features": 8,
    "model.fc7.features": 0, "model.lrn.layers": (1,), "model.pool.layers": (1, 2),
    "data.size": 16, "data.crop": 12, "data.train_split": "train[:64]", "optim.schedule": "constant",
    "optim.learning_rate": 0.003, "train.batch_size": 16, "train.epochs": 2, "checkpoint.every_seconds": 1e6,
    "mesh.data": "1", "mesh.column": "1"}
STEPS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


_PROGRAMS: dict[str, program.Program] = {}


def shared_program(config_, classes, mesh):
    """A program that is compiled once for all tests: it depends on no rate and no length."""
    tree = config.flatten(config_)
    groups = ("model.", "augment.", "mesh.", "optim.layer_decay.")
    parts = {k: v for k, v in tree.items() if k.startswith(groups) or k in (
        "data.size", "data.crop", "optim.momentum", "optim.weight_decay", "optim.decay_biases", "optim.freeze",
        "train.batch_size", "train.precision")}
    key = json.dumps([parts, classes])
    if key not in _PROGRAMS:
        _PROGRAMS[key] = program.Program(config_, classes, mesh)
    return _PROGRAMS[key]


def _patch(monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", COUNTS)
    monkeypatch.setattr(train_lib, "Program", shared_program)


@pytest.fixture(autouse=True)
def use_tiny(monkeypatch):
    """A small dataset and the shared programs, for every test of the file."""
    _patch(monkeypatch)


def _config(store, **fields):
    named = {k.replace("__", "."): v for k, v in fields.items()}
    return config.resolve(config.override(config.default(), TINY | {"data.store": str(store)} | named))


@pytest.fixture
def tiny(store):
    return lambda **fields: _config(store, **fields)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """The folder of an uninterrupted run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch)
        go(_config(store), folder, name="baseline", overrides={"train.epochs": 2})
    return folder


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of the finished run as it is before its result."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return tmp_path / "run"


def go(c, folder, **options):
    return train_lib.train(c, folder, show=False, **options)


def arrays(c, folder):
    """The newest checkpoint's arrays as NumPy's, by path."""
    built = train_lib.Program(c, 10, make_mesh(c))
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", 2)
    found = checkpoints.restore(resume.like(built), pytest.fail)
    checkpoints.close()
    assert found is not None
    leaves = jax.tree_util.tree_flatten_with_path(found[0])[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_run(c, folder, other):
    for name in ("metrics.csv", "outcomes.json", "result.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    mine, theirs = arrays(c, folder), arrays(c, other)
    assert mine.keys() == theirs.keys()
    for path, array in mine.items():
        np.testing.assert_array_equal(array, theirs[path], err_msg=path)


def steps_of(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal())


class Killed(Exception):
    """Stands for a SIGKILL: nothing in the run expects it, so nothing more is saved."""


def at(monkeypatch, step, action, name="_step", after=False):
    """Calls `action` where the run is about to leave `step` (or has saved it)."""
    real = getattr(train_lib.Run, name)

    def method(self, *arguments):
        if self.standing.step == step and not after:
            action()
        result = real(self, *arguments)
        if self.standing.step == step and after:
            self.saves.wait()
            action()
        return result

    monkeypatch.setattr(train_lib.Run, name, method)


def kill():
    raise Killed


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)
