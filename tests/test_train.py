"""Whole runs of a tiny network on tiny data: records, interruptions, resuming, checkpoints, bad ends."""

import errno
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import textwrap

import filelock
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alexnet_jax import checkpoint, config, data, evaluate, program, records
from alexnet_jax import train as train_lib
from alexnet_jax import workdir as workdir_lib
from alexnet_jax.data import augment, shapes
from alexnet_jax.errors import CheckpointError, ConfigError, Interrupted, WorkdirError
from alexnet_jax.mesh import make_mesh

ROOT = pathlib.Path(__file__).resolve().parents[1]
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


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, store):
    """A small dataset, and programs that are compiled once for all tests: they depend on no rate and no length."""
    monkeypatch.setattr(shapes, "COUNTS", COUNTS)

    def build(config_, classes, mesh):
        tree = config.flatten(config_)
        parts = {k: v for k, v in tree.items() if k.startswith(("model.", "augment.", "mesh.")) or k in (
            "data.size", "data.crop", "optim.momentum", "optim.weight_decay", "optim.decay_biases",
            "train.batch_size", "train.precision")}
        key = json.dumps([parts, classes])
        if key not in _PROGRAMS:
            _PROGRAMS[key] = program.Program(config_, classes, mesh)
        return _PROGRAMS[key]

    monkeypatch.setattr(train_lib, "Program", build)


@pytest.fixture
def tiny(store):
    def make(**fields):
        named = {k.replace("__", "."): v for k, v in fields.items()}
        return config.resolve(config.override(config.default(), TINY | {"data.store": str(store)} | named))

    return make


def go(c, folder, **options):
    return train_lib.train(c, folder, show=False, **options)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """The folder of an uninterrupted run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _tiny.__wrapped__(patch, store)
        go(config.resolve(config.override(config.default(), TINY | {"data.store": str(store)})), folder,
           name="baseline", overrides={"train.epochs": 2})
    return folder


def arrays(c, folder):
    """The newest checkpoint's arrays as NumPy's, by path."""
    built = train_lib.Program(c, 10, make_mesh(c))
    state = train_lib._with_shardings(jax.eval_shape(built.init, np.uint32(0)), built.state_shardings)
    sums = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), built.zero_sums())
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", 2)
    found = checkpoints.restore({"state": state._asdict(), "sums": sums._asdict()}, pytest.fail)
    checkpoints.close()
    assert found is not None
    leaves = jax.tree_util.tree_flatten_with_path(found[0])[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_run(c, folder, other):
    for name in ("metrics.csv", "result.json"):
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
    real = getattr(train_lib._Run, name)

    def method(self, *arguments):
        if self.step == step and not after:
            action()
        result = real(self, *arguments)
        if self.step == step and after:
            self.checkpoints.wait()
            action()
        return result

    monkeypatch.setattr(train_lib._Run, name, method)


def kill():
    raise Killed


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


# What a run writes.


def test_the_records_are_as_promised(tiny, finished):
    run, result = (records.read_json(finished / f"{name}.json") for name in ("run", "result"))
    assert set(run) == {"schema", "name", "id", "seed", "config", "overrides", "command", "git", "versions", "device",
                        "started", "resumed"}
    assert set(run["device"]) == {"platform", "kind", "count", "cores", "mesh"}
    assert (run["name"], run["overrides"], run["resumed"]) == ("baseline", {"train.epochs": 2}, [])
    assert run["id"] == result["id"] == config.run_id(tiny())
    assert config.flatten(config.from_json(run["config"])) == config.flatten(tiny())
    assert set(result) == {"schema", "name", "id", "seed", "status", "message", "epochs", "steps", "train", "data",
                           "eval"}
    assert (result["status"], result["epochs"], result["steps"]) == ("finished", 2, STEPS)
    assert result["data"] == {"name": "shapes", "version": shapes.version(), "size": 16, "crop": 12,
                              "train_split": "train[:64]", "train_images": 64, "eval_split": "test",
                              "eval_images": 30, "corrupt": 0}
    text = (finished / "result.json").read_text()
    assert str(finished.parent) not in text
    metrics, timing = records.read_rows(finished / "metrics.csv"), records.read_rows(finished / "timing.csv")
    assert tuple(metrics[0]) == records.METRICS
    assert tuple(timing[0]) == records.TIMING
    assert [(row["epoch"], row["step"]) for row in metrics] == [(1, 4), (2, 8)]
    assert [(row["epoch"], row["step"]) for row in timing] == [(1, 4), (2, 8)]
    assert all(row["tune_loss"] is None and row["tune_top1_error"] is None for row in metrics)
    assert result["train"] == {"loss": metrics[-1]["train_loss"], "top1_error": metrics[-1]["train_top1_error"]}
    assert all(value >= 0 for row in timing for value in row.values())
    assert tuple(records.read_json(finished / "progress.json")) == records.PROGRESS
    assert "finished: error centre crop" in (finished / "log.txt").read_text()
    assert steps_of(finished) == [4, 8]
    names = {p.name for p in finished.iterdir() if not p.name.startswith((".", "events.out.tfevents."))}
    assert names == {"run.json", "metrics.csv", "timing.csv", "result.json", "progress.json", "log.txt",
                     "checkpoints"}


def test_every_image_counts_once_though_the_last_batch_is_filled_up(finished):
    result = records.read_json(finished / "result.json")
    last = records.read_rows(finished / "metrics.csv")[-1]
    for views in evaluate.VIEWS:
        counts = result["eval"][views]
        assert {type(counts[k]) for k in ("top1_wrong", "top5_wrong", "total")} == {int}
        assert counts["total"] == 30
        assert 0 <= counts["top5_wrong"] <= counts["top1_wrong"] <= 30
    centre = result["eval"]["centre"]
    assert records.error_rates(centre) == (last["eval_top1_error"], last["eval_top5_error"])
    assert centre["loss"] == last["eval_loss"]


def test_a_finished_run_is_not_run_again(tiny, finished, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    monkeypatch.setattr(train_lib, "_Run", pytest.fail)
    assert go(tiny(), finished) == records.read_json(finished / "result.json")
    assert before == {p: p.stat().st_mtime_ns for p in before}


def _scalars(folder):
    """{tag: {step: value}} of all event files."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = event_pb2.Event.FromString(content[place + 12:place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_has_the_rows(finished):
    scalars = _scalars(finished)
    for row in records.read_rows(finished / "metrics.csv"):
        for tag, column in (("learning_rate", "learning_rate"), ("train/loss", "train_loss"),
                            ("train/top1_error", "train_top1_error"), ("eval/loss", "eval_loss"),
                            ("eval/top1_error", "eval_top1_error"), ("eval/top5_error", "eval_top5_error")):
            assert scalars[tag][row["step"]] == pytest.approx(row[column], rel=1e-6)
    assert set(scalars["images_per_second"]) == {4, 8}
    assert not any(tag.startswith("tune") for tag in scalars)


# Interruptions.


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_run_stopped_by_a_signal_goes_on(tiny, tmp_path, finished, monkeypatch, step):
    with monkeypatch.context() as patch:
        at(patch, step, interrupt)
        with pytest.raises(Interrupted, match=rf"stopped at step {step + 1} of 8; the same command goes on") as error:
            go(tiny(), tmp_path, name="baseline")
    assert error.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert steps_of(tmp_path)[-1] == step + 1
    assert not (tmp_path / "result.json").exists()
    assert records.read_json(tmp_path / "progress.json")["state"] == "stopped"
    go(tiny(), tmp_path, name="baseline")
    assert f"resuming at step {step + 1} of 8" in (tmp_path / "log.txt").read_text()
    assert len(records.read_json(tmp_path / "run.json")["resumed"]) == 1
    assert_same_run(tiny(), tmp_path, finished)


def test_a_signal_during_an_evaluation(tiny, tmp_path, finished, monkeypatch):
    for step, views in ((4, "centre"), (8, "ten_view")):
        real = evaluate.evaluate

        def interrupted(*arguments, step=step, views=views, real=real):
            if arguments[4] == views:
                interrupt()
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(evaluate, "evaluate", interrupted)
            with pytest.raises(Interrupted, match=f"stopped at step {step} "):
                go(tiny(), tmp_path, name="baseline")
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)


def test_a_signal_before_the_first_step(tiny, tmp_path, finished, monkeypatch):
    with monkeypatch.context() as patch:
        real = data.open_split

        def interrupted(*arguments, **options):
            interrupt()
            return real(*arguments, **options)

        patch.setattr(data, "open_split", interrupted)
        with pytest.raises(Interrupted, match="stopped before the first step"):
            go(tiny(), tmp_path, name="baseline")
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)


def _only_look(self):
    """In place of a run: the steps of the rows that it would go on from."""
    for part in (self.metrics, self.timing, self.events, self.checkpoints):
        part.close()
    return [row["step"] for row in self.metrics.rows]


@pytest.mark.parametrize(("step", "where", "after", "resumes_at"), [
    (4, "_save", False, None),  # the row is there, its checkpoint isn't, nor any other
    (8, "_save", False, 4),
    (4, "_save", True, 4),
    (8, "_save", True, 8),
    (7, "_step", False, 4),
])
def test_a_killed_run_goes_on_from_its_checkpoint(tiny, tmp_path, finished, monkeypatch, step, where, after,
                                                  resumes_at):
    with monkeypatch.context() as patch:
        at(patch, step, kill, where, after)
        with pytest.raises(Killed):
            go(tiny(), tmp_path, name="baseline")
    assert records.read_rows(tmp_path / "metrics.csv")[-1]["step"] == step // 4 * 4
    assert (steps_of(tmp_path) or [None])[-1] == resumes_at
    with monkeypatch.context() as patch:
        # The rows beyond the checkpoint go at once, not only when they are computed again.
        patch.setattr(train_lib._Run, "run", _only_look)
        assert go(tiny(), tmp_path) == [s for s in (4, 8) if s <= (resumes_at or 0)]
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)
    assert [row["step"] for row in records.read_rows(tmp_path / "timing.csv")] == (
        [8] if (step, where, after) == (4, "_save", True) else
        [4] if (step, where, after) == (8, "_save", True) else [4, 8])


def test_checkpoints_within_an_epoch_keep_the_running_means(tiny, tmp_path, finished, monkeypatch):
    often = tiny(checkpoint__every_seconds=0.0)
    with monkeypatch.context() as patch:
        at(patch, 7, kill)
        with pytest.raises(Killed):
            go(often, tmp_path, name="baseline")
    assert steps_of(tmp_path) in ([6, 7], [5, 6, 7])
    go(often, tmp_path, name="baseline")
    assert "resuming at step 7 of 8" in (tmp_path / "log.txt").read_text()
    assert_same_run(often, tmp_path, finished)


def test_half_a_row_is_dropped(tiny, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("3,12,0.0")
    go(tiny(), tmp_path / "run", name="baseline")
    assert_same_run(tiny(), tmp_path / "run", finished)


# Damage.


def _truncate(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of the finished run as it is before its result."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return tmp_path / "run"


@pytest.mark.parametrize("part", ["", "arrays", "host"])
def test_a_truncated_checkpoint_is_passed_over(tiny, unfinished, finished, part):
    _truncate(unfinished / "checkpoints" / "8" / part)
    go(tiny(), unfinished, name="baseline")
    log = (unfinished / "log.txt").read_text()
    assert "8 cannot be read (" in log
    assert "it is set aside" in log
    assert "resuming at step 4 of 8" in log
    assert (unfinished / "unreadable-checkpoint-8").is_dir()
    assert_same_run(tiny(), unfinished, finished)


def test_no_checkpoint_can_be_read(tiny, unfinished, finished):
    for step in (4, 8):
        _truncate(unfinished / "checkpoints" / str(step))
    with pytest.raises(CheckpointError, match="none of its checkpoints can be read; run the same command") as error:
        go(tiny(), unfinished)
    assert "\n" not in str(error.value)
    go(tiny(), unfinished, name="baseline")
    assert_same_run(tiny(), unfinished, finished)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("two\nlines")])
def test_a_checkpoint_that_cannot_be_written(tiny, tmp_path, finished, monkeypatch, error):
    real = ocp.CheckpointManager.save

    def save(self, step, *arguments, **options):
        if step == 8:
            raise error
        return real(self, step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", save)
        with pytest.raises(CheckpointError) as raised:
            go(tiny(), tmp_path, name="baseline")
    full = "the disk is full; the last complete checkpoint is kept: free some space and run the same command again"
    assert str(raised.value).endswith(full if isinstance(error, OSError) else "could not be written: two lines")
    assert steps_of(tmp_path) == [4]
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)


def test_nothing_is_saved_twice(tiny, unfinished, finished, monkeypatch):
    # Writing a checkpoint once more would leave one fewer for a moment.
    real, saves = train_lib._Run._evaluate, []

    def interrupted(self, split, views, progress):
        if views == "ten_view":
            monkeypatch.setattr(self.checkpoints, "save", lambda *_: saves.append(1))
            interrupt()
        return real(self, split, views, progress)

    with monkeypatch.context() as patch:
        patch.setattr(train_lib._Run, "_evaluate", interrupted)
        with pytest.raises(Interrupted):
            go(tiny(checkpoint__keep=2), unfinished)
    assert not saves
    go(tiny(), unfinished, name="baseline")
    assert_same_run(tiny(), unfinished, finished)


def test_a_workdir_of_another_config(tiny, finished):
    before = (finished / "run.json").read_bytes()
    with pytest.raises(WorkdirError, match=r"belongs to another config \(optim\.learning_rate = 0\.003 there, 0\.02 "
                       r"here\); choose another --workdir"):
        go(tiny(optim__learning_rate=0.02), finished)
    assert (finished / "run.json").read_bytes() == before
    # What cannot change the result makes no other run of it.
    assert go(tiny(checkpoint__keep=2, mesh__data="auto"), finished)["status"] == "finished"


@pytest.mark.parametrize("content", ["", "{", '{"id": "0123456789"}', "[]", "null"])
def test_a_damaged_run_json(tiny, unfinished, content):
    (unfinished / "run.json").write_text(content)
    with pytest.raises(WorkdirError, match=r"run\.json: damaged; restore it or choose another --workdir"):
        go(tiny(), unfinished)
    assert (unfinished / "run.json").read_text() == content


def test_a_folder_of_something_else(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(WorkdirError, match=r"holds other files \(thesis\.tex\); choose an empty or new --workdir"):
        go(tiny(), tmp_path)
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {"thesis.tex"}


def test_two_processes_do_not_train_one_run(tiny, tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(
            workdir_lib.WorkdirInUse, match="in use by another process") as error:
        go(tiny(), tmp_path)
    assert error.value.exit_code == 75


@pytest.mark.parametrize(("fields", "message"), [
    ({"model__classes": 3}, r"config\.model\.classes: 3 outputs for the 10 classes of shapes"),
    ({"train__batch_size": 65}, r"config\.train\.batch_size: 65 is more than the 64 images of 'train\[:64\]'"),
    ({"data__train_split": "train[:81]"}, r"train\[:81\]"),
    ({"mesh__data": "2"}, r"config\.mesh"),
])
def test_what_the_data_or_the_devices_do_not_allow(tiny, tmp_path, fields, message):
    if "mesh__data" in fields and len(jax.devices()) > 1:
        pytest.skip("there are two devices here")
    with pytest.raises(ConfigError, match=message) as error:
        go(tiny(**fields), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run.json").exists()


# Runs that come to nothing.


def test_a_loss_that_is_not_finite(tiny, tmp_path):
    result = go(tiny(optim__learning_rate=1e9), tmp_path)
    assert (result["status"], result["eval"]) == ("diverged", None)
    assert result["message"].startswith("the loss was not finite at step ")
    assert "try a smaller config.optim.learning_rate (it is 1e+09)" in result["message"]
    assert records.read_json(tmp_path / "result.json") == result
    assert "given up: the loss was not finite" in (tmp_path / "log.txt").read_text()
    assert go(tiny(optim__learning_rate=1e9), tmp_path) == result


def test_a_last_update_that_is_one_too_many(tiny, tmp_path, monkeypatch):
    def poisoned(*_):
        return {"top1_wrong": 30, "top5_wrong": 30, "total": 30, "loss": float("nan")}

    monkeypatch.setattr(evaluate, "evaluate", poisoned)
    assert go(tiny(), tmp_path)["status"] == "diverged"


def test_a_run_that_never_leaves_chance(tiny, tmp_path):
    result = go(tiny(optim__learning_rate=0.0), tmp_path)
    assert result["status"] == "finished"
    assert result["message"].startswith("never left chance: its best error is ")
    assert "naming one class always gives 90.0%" in result["message"]
    assert f"WARNING: {result['message']}" in (tmp_path / "log.txt").read_text()


# The plateau rule.


def test_the_rate_falls_with_the_tuning_error_and_so_it_does_after_a_resume(tiny, tmp_path, monkeypatch):
    # No error improves by 1, so the rate falls after every second evaluation.
    c = tiny(optim__schedule="plateau", data__tune_split="train[64:]", optim__plateau__patience=1,
             optim__plateau__min_delta=1.0, optim__plateau__times=2, train__epochs=6)
    go(c, tmp_path / "whole")
    rows = records.read_rows(tmp_path / "whole" / "metrics.csv")
    rate = c.optim.learning_rate
    assert [row["learning_rate"] for row in rows] == pytest.approx(
        [rate, rate, rate / 10, rate / 10, rate / 100, rate / 100])
    assert all(0 <= row["tune_top1_error"] <= 1 and row["tune_loss"] > 0 for row in rows)
    assert all((row["tune_top1_error"] * 16).is_integer() for row in rows)
    assert (tmp_path / "whole" / "log.txt").read_text().count("the learning rate falls") == 2
    for step in (4, 8, 13, 19):  # `best` infinite or not, waited 0 or 1, one fall and two
        with monkeypatch.context() as patch:
            at(patch, step, interrupt)
            with pytest.raises(Interrupted):
                go(c, tmp_path / "parts")
    go(c, tmp_path / "parts")
    assert_same_run(c, tmp_path / "parts", tmp_path / "whole")


# Evaluation.


def test_ten_views_are_averages_of_probabilities(tiny, finished):
    c = tiny()
    built = train_lib.Program(c, 10, make_mesh(c))
    params = built.init(np.uint32(3)).params
    params = jax.tree.map(lambda leaf: leaf * 20, params)  # so that the views disagree
    train, test = (data.open_split(c.data, name) for name in ("train[:64]", "test"))
    consts = augment.constants(c, train.statistics())
    counts = evaluate.evaluate(built, params, consts, test, "ten_view")

    images = np.concatenate([test.images, np.zeros((2, 16, 16, 3), np.uint8)])
    views = [np.concatenate([np.asarray(built.view_log_probs(params, images[i:i + 16], view, consts))
                             for i in (0, 16)])[:30] for view in augment.ten_views(c)]
    assert len(views) == 10
    mean = np.exp(np.asarray(views, np.float64)).mean(axis=0)
    own = mean[np.arange(30), test.labels]
    rank = (mean > own[:, None]).sum(axis=1)
    assert counts["top1_wrong"] == (rank >= 1).sum()
    assert counts["top5_wrong"] == (rank >= 5).sum()
    assert counts["total"] == 30
    assert counts["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    centre = evaluate.evaluate(built, params, consts, test, "centre")
    assert centre["loss"] != counts["loss"]


def test_an_evaluation_can_be_stopped(tiny, finished):
    c = tiny()
    built = train_lib.Program(c, 10, make_mesh(c))
    train = data.open_split(c.data, "train[:64]")
    with pytest.raises(Killed):
        evaluate.evaluate(built, built.init(np.uint32(0)).params, augment.constants(c, train.statistics()), train,
                          check=kill)


def test_ties_nan_and_padding_are_counted_by_rule():
    nan, inf = float("nan"), float("inf")
    rows = [
        ([-1, -2, -3, -4, -5, -6], 0, 1, (0, 0)),  # right
        ([-1, -2, -3, -4, -5, -6], 4, 1, (1, 0)),  # fifth
        ([-1, -2, -3, -4, -5, -6], 5, 1, (1, 1)),  # sixth
        ([-1, -1, -1, -1, -1, -1], 0, 1, (0, 0)),  # of equals the lower class is named first
        ([-1, -1, -1, -1, -1, -1], 4, 1, (1, 0)),
        ([-1, -1, -1, -1, -1, -1], 5, 1, (1, 1)),
        ([nan, nan, nan, nan, nan, nan], 0, 1, (1, 1)),
        ([-inf, -1, -1, -1, -1, -1], 0, 1, (1, 1)),
        ([-6, -5, -4, -3, -2, -1], 0, 0, (0, 0)),  # padding
        ([nan, nan, nan, nan, nan, nan], 0, 0, (0, 0)),
    ]
    for scores, label, weight, expected in rows:
        counts = program.count(np.asarray([scores], np.float32), np.asarray([label]), np.asarray([weight]))
        assert (int(counts.top1_wrong), int(counts.top5_wrong)) == expected, (scores, label)
        assert int(counts.total) == weight
        assert weight or float(counts.loss) == 0
    together = program.count(*(np.asarray([row[i] for row in rows], kind)
                               for i, kind in ((0, np.float32), (1, np.int32), (2, np.float32))))
    assert [int(together.top1_wrong), int(together.top5_wrong), int(together.total)] == [6, 4, 8]


# A machine with little on it.


def test_training_from_a_store_needs_few_libraries(finished, store, tmp_path):
    (tmp_path / "lean.py").write_text(textwrap.dedent("""\
        import json, pathlib, sys
        BLOCKED = {"tensorflow_datasets", "PIL", "tensorboardX", "filelock", "pandas", "matplotlib", "array_record"}

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in BLOCKED:
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocker())
        fields, counts, workdir = json.loads(sys.argv[1])
        from alexnet_jax import config
        from alexnet_jax.data import shapes
        from alexnet_jax.train import train
        shapes.COUNTS = counts
        train(config.resolve(config.override(config.default(), fields)), pathlib.Path(workdir), name="baseline")
        assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
        """))
    fields = TINY | {"data.store": str(store)}
    done = subprocess.run(
        [sys.executable, "lean.py", json.dumps([fields, COUNTS, str(tmp_path / "run")])], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()
    assert (tmp_path / "run" / "result.json").read_bytes() == (finished / "result.json").read_bytes()
    assert not list((tmp_path / "run").glob("events.out.tfevents.*"))
