"""Interrupted runs of a tiny network resume to the same end; damaged and unwritable checkpoints."""

import contextlib
import copy
import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import emulated
import jax
import orbax.checkpoint as ocp
import pytest
import tiny_run
from orbax.checkpoint._src.serialization import serialization
from tiny_run import STEPS, Killed, assert_same_run, at, go, interrupt, kill, steps_of

from alexnet_jax import config as config_lib
from alexnet_jax import numerics, run_files
from alexnet_jax.data import opening
from alexnet_jax.errors import CheckpointError, Interrupted, WorkdirError
from alexnet_jax.training import evaluate, resume
from alexnet_jax.training import loop as train_lib
from alexnet_jax.training import workdir as workdir_lib

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
unfinished = tiny_run.unfinished


# Interruptions.


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_run_stopped_by_a_signal_goes_on(tiny, tmp_path, finished, monkeypatch, step):
    with monkeypatch.context() as patch:
        at(patch, step, interrupt)
        with pytest.raises(Interrupted, match=rf"stopped at step {step + 1} of 8; the same command resumes") as error:
            go(tiny(), tmp_path, name="baseline")
    assert error.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert steps_of(tmp_path)[-1] == step + 1
    assert not (tmp_path / "result.json").exists()
    assert run_files.read_json(tmp_path / "progress.json")["state"] == "stopped"
    go(tiny(), tmp_path, name="baseline")
    assert f"resuming at step {step + 1} of 8" in (tmp_path / "log.txt").read_text()
    assert len(run_files.read_json(tmp_path / "run.json")["resumed"]) == 1
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
        real = opening.open_split

        def interrupted(*arguments, **options):
            interrupt()
            return real(*arguments, **options)

        patch.setattr(opening, "open_split", interrupted)
        with pytest.raises(Interrupted, match="stopped before the first step"):
            go(tiny(), tmp_path, name="baseline")
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)


def _only_look(self):
    """In place of a run: the steps of the rows that it would be resumed from."""
    self.recorder.close()
    self.saves.close()
    return [row["step"] for row in self.recorder.metrics.rows]


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
    assert run_files.read_rows(tmp_path / "metrics.csv")[-1]["step"] == step // 4 * 4
    assert (steps_of(tmp_path) or [None])[-1] == resumes_at
    with monkeypatch.context() as patch:
        # The rows beyond the checkpoint go at once, not only when they are computed again.
        patch.setattr(train_lib.Run, "run", _only_look)
        assert go(tiny(), tmp_path) == [s for s in (4, 8) if s <= (resumes_at or 0)]
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)
    assert [row["step"] for row in run_files.read_rows(tmp_path / "timing.csv")] == (
        [8, 8] if (step, where, after) == (4, "_save", True) else
        [4, 8] if (step, where, after) == (8, "_save", True) else [4, 8, 8]), "the last is the ten views'"


def test_a_checkpoint_from_before_outcomes_were_kept(tiny, tmp_path, finished, monkeypatch):
    with monkeypatch.context() as patch:
        at(patch, 8, kill, "_save", True)
        with pytest.raises(Killed):
            go(tiny(), tmp_path, name="baseline")
    real = resume.Standing.from_json
    monkeypatch.setattr(resume.Standing, "from_json", lambda host: real(
        {key: value for key, value in host.items() if key != "outcomes"}))
    go(tiny(), tmp_path, name="baseline")
    assert_same_run(tiny(), tmp_path, finished)


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


@pytest.mark.parametrize(("field", "what", "now"), [
    ("train_split", "images", "has 64 now"), ("eval_split", "classes", "has 10 now")])
def test_a_run_goes_on_with_as_many_images_and_classes_as_it_began_with(tiny, unfinished, field, what, now):
    about = run_files.read_json(unfinished / "run.json")
    version = about["images"]["train_split"]["version"]
    assert about["images"] == {"train_split": {"version": version, "images": 64, "classes": 10},
                               "eval_split": {"version": version, "images": 30, "classes": 10}}
    about["images"][field][what] = 1280
    run_files.write_json(unfinished / "run.json", about)
    with pytest.raises(WorkdirError, match=rf"config.data.{field} had 1,280 {what} when this run began and {now}"):
        go(tiny(), unfinished)
    assert steps_of(unfinished) == [4, 8]


def test_images_of_another_version_are_noted(tiny, unfinished, finished):
    about = run_files.read_json(unfinished / "run.json")
    own, about["images"]["train_split"]["version"] = about["images"]["train_split"]["version"], "0.9.0"
    run_files.write_json(unfinished / "run.json", about)
    go(tiny(), unfinished, name="baseline")
    log = (unfinished / "log.txt").read_text()
    assert f"note: config.data.train_split was version 0.9.0 when this run began and is {own} now" in log
    assert_same_run(tiny(), unfinished, finished)


def test_what_is_set_aside_leaves_what_was_before(tiny, unfinished):
    for _ in range(2):
        _truncate(unfinished / "checkpoints" / "8")
        go(tiny(), unfinished)
        (unfinished / "result.json").unlink()
    assert {path.name for path in unfinished.glob("unreadable-*")} == {
        "unreadable-checkpoint-8", "unreadable-checkpoint-8-2"}


def _truncate(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["", "arrays", "host"])
def test_a_truncated_checkpoint_is_passed_over(tiny, unfinished, finished, part):
    _truncate(unfinished / "checkpoints" / "8" / part)
    go(tiny(), unfinished, name="baseline")
    log = (unfinished / "log.txt").read_text()
    assert "8 cannot be read (" in log
    assert "checkpoint 8 is set aside: " in log
    assert "resuming at step 4 of 8" in log
    assert (unfinished / "unreadable-checkpoint-8").is_dir()
    assert_same_run(tiny(), unfinished, finished)


@pytest.mark.parametrize(("step", "name", "said", "resumed"), [
    (8, "999", "999 cannot be read (it is of step 8: its folder was renamed)", 4),
    (4, "999", "999 cannot be read (it is of step 4: its folder was renamed)", 8),
    (8, "6", "6 cannot be read (it is of step 8: its folder was renamed)", 4), (4, "4 copy", "", 8)])
def test_a_renamed_checkpoint_is_passed_over(tiny, unfinished, finished, step, name, said, resumed):
    (unfinished / "checkpoints" / str(step)).rename(unfinished / "checkpoints" / name)
    go(tiny(), unfinished, name="baseline")
    log = (unfinished / "log.txt").read_text()
    assert said in log
    assert f"resuming at step {resumed} of 8" in log
    assert (unfinished / f"unreadable-checkpoint-{name}").is_dir() == bool(said)
    assert_same_run(tiny(), unfinished, finished)


@pytest.mark.parametrize("step", [8, 6])  # with an evaluation and between two
def test_another_run_s_checkpoint_is_passed_over(tiny, unfinished, finished, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch, contextlib.suppress(Interrupted):
        at(patch, 5, interrupt if step == 6 else lambda: None)
        go(tiny(seed=1), tmp_path / "other")
    shutil.rmtree(unfinished / "checkpoints" / "8")
    shutil.copytree(tmp_path / "other" / "checkpoints" / str(step), unfinished / "checkpoints" / str(step))
    go(tiny(), unfinished, name="baseline")
    log = (unfinished / "log.txt").read_text()
    assert "another run's checkpoint)" in log
    assert "resuming at step 4 of 8" in log
    assert_same_run(tiny(), unfinished, finished)


def test_a_run_of_an_older_spelling_is_resumed_under_its_id(tiny, tmp_path):
    plain = tiny(model__pool__layers=(1, 2))
    with tmp_path.joinpath("run.json").open("w") as file:  # as a version wrote it that kept what was written
        tree = config_lib.to_json(plain)
        tree["model"]["pool"]["layers"] = [2, 1]
        json.dump({"id": "0123456789", "config": tree, "started": run_files.now(),
                   "environment": numerics.asked("cpu")}, file)
    result = go(plain, tmp_path)
    assert result["id"] == run_files.read_json(tmp_path / "run.json")["id"] == "0123456789"
    assert len(run_files.read_json(tmp_path / "run.json")["resumed"]) == 1
    with pytest.raises(WorkdirError, match="belongs to another config"):
        go(tiny(model__pool__layers=(1,)), tmp_path)


@pytest.mark.parametrize("error", [
    OSError(errno.EIO, "Input/output error"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ValueError("PERMISSION_DENIED: reading"), MemoryError()])
@pytest.mark.parametrize("where", [(ocp.CheckpointManager, "restore"), (serialization, "_read_shard")])
def test_a_checkpoint_that_is_whole_and_cannot_be_read_now_stays(tiny, unfinished, finished, monkeypatch, error, where):
    def fail(*_, **__):
        raise copy.copy(error)  # the parameter would keep the frames that it passed through

    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        with pytest.raises(CheckpointError, match="8: could not be read just now "):
            go(tiny(), unfinished)
    assert steps_of(unfinished) == [4, 8]
    go(tiny(), unfinished, name="baseline")
    assert_same_run(tiny(), unfinished, finished)


def test_a_damaged_checkpoint_in_a_folder_of_any_name(tiny, unfinished, finished):
    odd = unfinished.rename(unfinished.with_name("Out of memory, UNAVAILABLE"))
    _truncate(odd / "checkpoints" / "8")
    go(tiny(), odd, name="baseline")
    assert "resuming at step 4 of 8" in (odd / "log.txt").read_text()
    assert_same_run(tiny(), odd, finished)


def test_a_checkpoint_all_of_whose_arrays_are_cut_is_one_line(unfinished, store):
    """One reading fails first, and of the others nothing is printed: neither at once nor when they are forgotten."""
    cut = [path for path in (unfinished / "checkpoints" / "8").rglob("d/*") if path.is_file()]
    assert len(cut) > 1
    for path in cut:
        os.truncate(path, path.stat().st_size - 1)
    done = subprocess.run([sys.executable, emulated.PROGRAMS / "cut_checkpoint.py", store, unfinished],
                          capture_output=True, text=True, check=False, env=os.environ | {
                              "JAX_PLATFORMS": "cpu",
                              "PYTHONPATH": os.pathsep.join([str(emulated.ROOT), str(emulated.ROOT / "tests")])})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert "the weights are those of step 4; newer ones can't be read (8: " in lines[0]
    assert "8 cannot be read (" in lines[2]
    assert "checkpoint 8 is set aside: " in lines[3]
    assert lines[1] == lines[4] == "step 4"


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


def test_a_disk_that_is_full_from_the_start(tiny, tmp_path, monkeypatch):
    def save(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    with pytest.raises(CheckpointError, match="the disk is full; no checkpoint is complete: free some space and run"):
        go(tiny(), tmp_path)


def test_nothing_is_saved_twice(tiny, unfinished, finished, monkeypatch):
    # Writing a checkpoint once more would leave one fewer for a moment.
    real, saves = train_lib.Run._evaluate, []

    def interrupted(self, split, views):
        if views == "ten_view":
            monkeypatch.setattr(self.saves, "save", lambda *_: saves.append(1))
            interrupt()
        return real(self, split, views)

    with monkeypatch.context() as patch:
        patch.setattr(train_lib.Run, "_evaluate", interrupted)
        with pytest.raises(Interrupted):
            go(tiny(checkpoint__keep=2), unfinished)
    assert not saves
    go(tiny(), unfinished, name="baseline")
    assert_same_run(tiny(), unfinished, finished)


# Ending early.


def test_a_run_stops_at_the_error_it_was_to_reach_and_says_so(tiny, finished, tmp_path):
    error = run_files.read_rows(finished / "metrics.csv")[0]["eval_top1_error"]
    c = tiny(train__stop_at_error=error)
    result = go(c, tmp_path / "run")
    assert (result["status"], result["epochs"], result["steps"]) == ("finished", 1, STEPS // 2)
    assert result["stopped"].startswith("after epoch 1 of 2: the evaluation error had reached")
    assert run_files.error_rates(result["eval"]["centre"])[0] <= error
    assert [row["epoch"] for row in run_files.read_rows(tmp_path / "run" / "metrics.csv")] == [1]
    assert "finished after epoch 1 of 2" in (tmp_path / "run" / "log.txt").read_text()
    assert go(c, tmp_path / "run") == result


def test_an_error_that_is_not_reached_changes_nothing(tiny, finished, tmp_path):
    go(tiny(train__stop_at_error=1e-6), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()
    assert "stopped" not in run_files.read_json(tmp_path / "run" / "result.json")


def test_interrupted_in_its_last_evaluation_it_trains_no_further(tiny, finished, tmp_path, monkeypatch):
    c = tiny(train__stop_at_error=run_files.read_rows(finished / "metrics.csv")[0]["eval_top1_error"])
    with monkeypatch.context() as patch:
        at(patch, STEPS // 2, interrupt, name="_save", after=True)
        with pytest.raises(Interrupted):
            go(c, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    go(c, tmp_path / "run")
    go(c, tmp_path / "whole")
    assert_same_run(c, tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("classes", [
    ["disc"], {"keys": ["a"]}, {"keys": ["a", "b"], "names": ["a"]}, {"keys": "ab", "names": "ab"},
    {"keys": ["a", 2], "names": ["a", "b"]}])
def test_altered_classes_are_refused_in_one_line(classes, tmp_path):
    with pytest.raises(WorkdirError, match=r"run\.json: its classes have been altered .*; put the file back"):
        workdir_lib.recorded_classes({"classes": classes}, tmp_path)
    assert workdir_lib.recorded_classes({}, tmp_path) is None
