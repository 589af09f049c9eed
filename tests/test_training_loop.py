"""Whole runs of a tiny network on tiny data: their output, the plateau rule, a machine with few libraries."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import textwrap
import threading
import traceback

import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import COUNTS, STEPS, TINY, assert_same_run, at, go, interrupt, steps_of

from alexnet_jax import config, run_files
from alexnet_jax.data.readers import shapes
from alexnet_jax.errors import Interrupted
from alexnet_jax.training import loop as train_lib
from alexnet_jax.training import resume

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished


# What a run writes.


def test_the_records_are_as_promised(tiny, finished):
    run, result = (run_files.read_json(finished / f"{name}.json") for name in ("run", "result"))
    assert set(run) == {"schema", "name", "id", "seed", "config", "overrides", "command", "git", "versions", "device",
                        "environment", "started", "resumed", "images", "classes"}
    assert set(run["device"]) == {"platform", "kind", "count", "cores", "mesh", "products"}
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
    metrics, timing = run_files.read_rows(finished / "metrics.csv"), run_files.read_rows(finished / "timing.csv")
    assert tuple(metrics[0]) == run_files.METRICS
    assert tuple(timing[0]) == run_files.TIMING
    assert [(row["epoch"], row["step"]) for row in metrics] == [(1, 4), (2, 8)]
    assert [(row["epoch"], row["step"]) for row in timing] == [(1, 4), (2, 8), (2, 8)]
    assert all(row["tune_loss"] is None and row["tune_top1_error"] is None for row in metrics)
    assert result["train"] == {"loss": metrics[-1]["train_loss"], "top1_error": metrics[-1]["train_top1_error"]}
    assert [row.pop("images_per_second") is None for row in timing] == [False, False, True]
    assert all(value >= 0 for row in timing for value in row.values())
    ten = timing[-1]
    assert ten["eval_seconds"] > 0
    assert ten["train_seconds"] == 0
    assert tuple(run_files.read_json(finished / "progress.json")) == run_files.PROGRESS
    assert "finished: error centre crop" in (finished / "log.txt").read_text()
    assert steps_of(finished) == [4, 8]
    names = {p.name for p in finished.iterdir() if not p.name.startswith((".", "events.out.tfevents."))}
    assert names == {"run.json", "input.npz", "metrics.csv", "timing.csv", "outcomes.json", "result.json",
                     "progress.json", "log.txt", "checkpoints"}


def test_every_image_counts_once_though_the_last_batch_is_filled_up(finished):
    result = run_files.read_json(finished / "result.json")
    last = run_files.read_rows(finished / "metrics.csv")[-1]
    for views in ("centre", "ten_view"):
        counts = result["eval"][views]
        assert {type(counts[k]) for k in ("top1_wrong", "top5_wrong", "total")} == {int}
        assert counts["total"] == 30
        assert 0 <= counts["top5_wrong"] <= counts["top1_wrong"] <= 30
    centre = result["eval"]["centre"]
    assert run_files.error_rates(centre) == (last["eval_top1_error"], last["eval_top5_error"])
    assert centre["loss"] == last["eval_loss"]


def test_saving_waits_for_no_training(tiny, store, tmp_path, monkeypatch):
    """timing.csv and the images per second would count the steps in flight as time for checkpoints."""
    real, ready = resume.Saves.save, []

    def save(self, state, sums, standing):
        ready.append(all(leaf.is_ready() for leaf in jax.tree.leaves(sums)))
        real(self, state, sums, standing)

    monkeypatch.setattr(resume.Saves, "save", save)
    go(tiny(checkpoint__every_seconds=0.0), tmp_path / "run")
    assert len(ready) >= STEPS
    assert all(ready)


def test_a_finished_run_is_not_run_again(tiny, finished, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    monkeypatch.setattr(train_lib, "Run", pytest.fail)
    assert go(tiny(), finished) == run_files.read_json(finished / "result.json")
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
    for row in run_files.read_rows(finished / "metrics.csv"):
        for tag, column in (("learning_rate", "learning_rate"), ("train/loss", "train_loss"),
                            ("train/top1_error", "train_top1_error"), ("eval/loss", "eval_loss"),
                            ("eval/top1_error", "eval_top1_error"), ("eval/top5_error", "eval_top5_error")):
            assert scalars[tag][row["step"]] == pytest.approx(row[column], rel=1e-6)
    assert set(scalars["images_per_second"]) == {4, 8}
    assert not any(tag.startswith("tune") for tag in scalars)


def test_tensorboard_s_writer_does_not_import_pytorch(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "torch.py").write_text("raise SystemExit('PyTorch was imported')")
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(tmp_path)!r})
from alexnet_jax.training import events
events.Events(pathlib.Path({str(tmp_path)!r}), 0).close()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.glob("events.out.tfevents.*"))


def _go_in_parts(c, folder, steps, monkeypatch):
    """The run, interrupted at each of `steps` and resumed."""
    for step in steps:
        with monkeypatch.context() as patch:
            at(patch, step, interrupt)
            with pytest.raises(Interrupted):
                go(c, folder)
    go(c, folder)


# The plateau rule.


def test_the_rate_falls_with_the_tuning_error_and_so_it_does_after_a_resume(tiny, tmp_path, monkeypatch):
    # No error improves by 1, so the rate falls after every second evaluation.
    c = tiny(optim__schedule="plateau", data__tune_split="train[64:]", optim__plateau__patience=1,
             optim__plateau__min_delta=1.0, optim__plateau__times=2, train__epochs=6)
    go(c, tmp_path / "whole")
    rows = run_files.read_rows(tmp_path / "whole" / "metrics.csv")
    rate = c.optim.learning_rate
    assert [row["learning_rate"] for row in rows] == pytest.approx(
        [rate, rate, rate / 10, rate / 10, rate / 100, rate / 100])
    assert all(0 <= row["tune_top1_error"] <= 1 and row["tune_loss"] > 0 for row in rows)
    assert all((row["tune_top1_error"] * 16).is_integer() for row in rows)
    assert (tmp_path / "whole" / "log.txt").read_text().count("the learning rate falls") == 2
    # `best` infinite or not, waited 0 or 1, one fall and two
    _go_in_parts(c, tmp_path / "parts", (4, 8, 13, 19), monkeypatch)
    assert_same_run(c, tmp_path / "parts", tmp_path / "whole")


def test_a_run_ends_when_the_error_no_longer_improves_after_the_last_fall(tiny, tmp_path, monkeypatch):
    # The rate falls after epochs 2 and 4, of which the first evaluation of each rate counts as an improvement.
    c = tiny(optim__schedule="plateau", data__tune_split="train[64:]", optim__plateau__patience=1,
             optim__plateau__min_delta=1.0, optim__plateau__times=1, optim__plateau__stop=True, train__epochs=9)
    result = go(c, tmp_path / "whole")
    assert (result["status"], result["epochs"]) == ("finished", 4)
    assert result["stopped"].startswith("after epoch 4 of 9: the tuning error had stopped improving after the rate")
    rows, rate = run_files.read_rows(tmp_path / "whole" / "metrics.csv"), c.optim.learning_rate
    assert [row["learning_rate"] for row in rows] == pytest.approx([rate, rate, rate / 10, rate / 10])
    _go_in_parts(c, tmp_path / "parts", (4, 9), monkeypatch)
    assert_same_run(c, tmp_path / "parts", tmp_path / "whole")


# Validation images folded in.


def test_images_are_folded_in_and_so_they_are_after_a_resume(tiny, tmp_path, monkeypatch):
    # Two epochs of 3 steps on 48 images, then two of 4 on 64.
    c = tiny(data__train_split="train[:48]", data__tune_split="train[48:64]", data__fold_split="train[:64]",
             data__fold_at=2.0, train__epochs=4)
    go(c, tmp_path / "whole")
    rows = run_files.read_rows(tmp_path / "whole" / "metrics.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 10), (4, 14)]
    assert [row["tune_top1_error"] is None for row in rows] == [False, False, True, True], "then they are learnt from"
    _go_in_parts(c, tmp_path / "parts", (2, 6, 7, 10), monkeypatch)
    assert_same_run(c, tmp_path / "parts", tmp_path / "whole")


def test_images_that_are_both_learnt_from_and_reported_on_are_noted(tiny, tmp_path):
    go(tiny(data__eval_split="train[:32]", train__epochs=1), tmp_path)
    said = "note: 32 of the images that the error is reported on were learnt from too"
    assert said in (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert run_files.read_json(tmp_path / "result.json")["data"]["seen"] == 32


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
        from alexnet_jax.data.readers import shapes
        from alexnet_jax.training.loop import train
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


def test_the_error_on_images_that_were_learnt_from(tiny, tmp_path, finished):
    """`data.fit_split` only adds to what is reported, and counts as any evaluation on the same images does."""
    c = tiny(data__fit_split="train[:64]")
    result = train_lib.train(c, tmp_path / "one", show=False)
    assert result["eval"]["fit"]["total"] == 64
    before = run_files.read_json(finished / "result.json")
    assert {k: result["eval"][k] for k in ("centre", "ten_view")} == before["eval"]
    twin = train_lib.train(tiny(data__eval_split="train[:64]"), tmp_path / "twin", show=False)
    assert result["eval"]["fit"] == twin["eval"]["centre"]


# Transfers between host and devices.


def test_no_step_may_move_a_number_by_the_way(tiny, tmp_path, monkeypatch):
    real = train_lib.Run._step

    def careless(self, call):
        jax.jit(lambda x: x + 1)(np.float32(self.standing.step))  # NumPy's numbers go to the device unasked
        return real(self, call)

    monkeypatch.setattr(train_lib.Run, "_step", careless)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        go(tiny(), tmp_path)


@pytest.mark.parametrize("fields", [{}, {"data__placement": "device", "train__steps_per_call": 3}])
def test_what_the_loop_reads_back_it_fetches(tiny, tmp_path, monkeypatch, fields):
    """As on an accelerator, where the guard watches this way too: on a CPU an array is in the host's memory already."""
    array, fetching, read = type(jax.device_put(0.0)), [], []
    real_value, real_get, real_save = array._value, jax.device_get, resume.Saves.save

    def value(self):
        if threading.current_thread() is threading.main_thread() and not fetching:
            read.append("".join(traceback.format_stack(limit=6)))
        return real_value.fget(self)

    def explicitly(function):
        def called(*arguments):
            fetching.append(1)
            try:
                return function(*arguments)
            finally:
                fetching.pop()

        return called

    real_loop = train_lib.Run._loop

    def watched(self):
        with monkeypatch.context() as patch:
            patch.setattr(array, "_value", property(value))
            patch.setattr(jax, "device_get", explicitly(real_get))
            patch.setattr(resume.Saves, "save", explicitly(real_save))  # Orbax, by leave
            return real_loop(self)

    monkeypatch.setattr(train_lib.Run, "_loop", watched)
    assert go(tiny(**fields), tmp_path)["status"] == "finished"
    assert not read, read[0]
