"""Two real processes on this machine, over gloo: they train like one, and if one is lost the other reports it."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import fake_sweep
import ports
import pytest
from fake_driver import LONG
from tiny_run import TINY

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError
from alexnet_jax.parallel.distributed import Place

ROOT = pathlib.Path(__file__).resolve().parents[1]
EPOCHS = 12  # of four steps; each ends with a checkpoint, which takes longer
FIELDS = {**TINY, "train.precision": "float64", "data.eval_split": "test[:30]", "augment.chunk": 8,
          "checkpoint.every_seconds": 0.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


MAIN = "tests/programs/tiny_main.py"


def _start(store, workdir, epochs, mesh=(1, 1), place=(), program=MAIN, **more):
    fields = FIELDS | {name.replace("__", "."): value for name, value in more.items()}
    fields |= {"train.epochs": epochs, "mesh.data": mesh[0], "mesh.column": mesh[1], "data.store": store}
    # As few threads as can be: two processes of a busy machine have to keep up with each other.
    env = dict(os.environ, JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1", JAX_NUM_CPU_DEVICES="1", PYTHONUNBUFFERED="1",
               PYTHONPATH=str(ROOT))
    command = [sys.executable, *program.split(), "--config=configs/shapes.py", f"--workdir={workdir}",
               *(f"--config.{name}={value}" for name, value in fields.items()), *place]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _pair(store, workdir, epochs, mesh, **more):
    """Two processes of a run. more: fields, with __ for points, `folder` or `program`; a tuple has one for each."""
    port = ports.free()
    apart = [{name: value[i] if isinstance(value, tuple) else value for name, value in more.items()} for i in (0, 1)]
    return [_start(store, own.pop("folder", workdir), epochs, mesh,
                   (f"--coordinator=localhost:{port}", "--processes=2", f"--process={i}"), **own)
            for i, own in enumerate(apart)]


def _end(process, code=0):
    out, _ = process.communicate(timeout=LONG)
    assert process.returncode == code, out[-3000:]
    return out


@pytest.fixture(scope="module")
def alone_run(store, tmp_path_factory):
    """The folder of an undisturbed run in one process on one device."""
    folder = tmp_path_factory.mktemp("alone")
    _end(_start(store, folder, EPOCHS))
    return folder


@pytest.fixture(scope="module")
def alone(alone_run):
    """Its rows."""
    rows = run_files.read_rows(alone_run / "metrics.csv")
    assert len(rows) == EPOCHS
    assert len({row["train_loss"] for row in rows}) == EPOCHS, "steps that change nothing prove nothing"
    return rows


def _assert_alike(rows, expected):
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert (row["step"], row["eval_top1_error"]) == (other["step"], other["eval_top1_error"])
        assert row["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-9)
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-9)


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_the_run_resumes_in_one(store, alone, tmp_path):
    metrics = tmp_path / "run" / "metrics.csv"
    first, second = _pair(store, tmp_path / "run", EPOCHS, (2, 1), program=(MAIN, f"{MAIN} --dies"))
    _end(second, -signal.SIGKILL)
    out = _end(first, 75)
    assert out.strip().splitlines()[-1].startswith("error: another process of this run has ended or cannot be reached")
    assert "Traceback" not in out
    rows = run_files.read_rows(metrics)
    assert 2 <= len(rows) < EPOCHS
    _assert_alike(rows, alone[:len(rows)])
    # Two devices in two processes → one device in one.
    out = _end(_start(store, tmp_path / "run", EPOCHS))
    assert re.search(r"resuming at step \d+ of 48", out)
    _assert_alike(run_files.read_rows(metrics), alone)
    result = run_files.read_json(tmp_path / "run" / "result.json")
    assert result["status"] == "finished"
    for views in ("centre", "ten_view"):
        assert fake_sweep.read_outcomes(tmp_path / "run", views, result["eval"][views]) is not None


@pytest.mark.slow
def test_each_process_a_column(store, alone, tmp_path):
    run = tmp_path / "run"
    first, second = _pair(store, run, 2, (1, 2))
    out = _end(first), _end(second)
    assert "finished: error" in out[0]
    assert "epoch" not in out[1], "process 0 speaks for all"
    _assert_alike(run_files.read_rows(run / "metrics.csv"), alone[:2])
    assert run_files.read_json(run / "run.json")["device"]["mesh"] == {"data": 1, "column": 2}
    # A finished run is not run again, by however many.
    out = [_end(process) for process in _pair(store, run, 2, (1, 2))]
    assert f"{run}: nothing left to do; finished: error" in out[0]
    assert not re.search(r"epoch \d|nothing left", out[1])
    assert not re.search(r"epoch \d", out[0])
    # Nothing is left to train: only process 0 has the rows.
    result = (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    for process in _pair(store, run, 2, (1, 2)):
        _end(process)
    assert (run / "result.json").read_bytes() == result
    # A checkpoint that only one of them cannot read: both take the one before, and the first sets it aside.
    (run / "result.json").unlink()
    max((run / "checkpoints" / "8").rglob("ocdbt.process_1/d/*"), key=lambda path: path.stat().st_size).unlink()
    out = [_end(process) for process in _pair(store, run, 2, (1, 2))]
    assert f"checkpoint {run / 'checkpoints' / '8'} cannot be read (" in out[0]
    assert "resuming at step" in out[0]
    assert [path.name for path in run.glob("unreadable-*")] == ["unreadable-checkpoint-8"]
    _assert_alike(run_files.read_rows(run / "metrics.csv"), alone[:2])


@pytest.mark.slow
def test_processes_that_do_not_fit_together_say_so_before_anything_is_compiled(store, tmp_path):
    for given, words in (
            ({"optim__learning_rate": (0.003, 0.002)}, ("config.optim.learning_rate = 0.003 in process 0, 0.002 here",
                                                        "another process has a different config")),
            ({"folder": (tmp_path / "a", tmp_path / "b")}, ("not the one that process 0 writes to",
                                                             "not seen by all processes"))):
        out = [_end(process, 2) for process in _pair(store, tmp_path / "run", 1, (2, 1), **given)]
        for line, expected in zip(out, words[::-1], strict=True):
            assert line.strip().splitlines()[-1].startswith("error: ")
            assert expected in line
            assert "Traceback" not in line
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_what_ends_the_first_process_ends_both(store, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "progress.json").mkdir()  # stands for any file that the system refuses to write
    first, second = _pair(store, tmp_path / "run", 1, (2, 1))
    assert re.search(r"^error: .*progress.json", _end(first, 1), re.MULTILINE)
    assert "another process of this run has ended" in _end(second, 75)


def _silent(tmp_path, way):
    port = ports.free()
    return [subprocess.Popen(
        [sys.executable, ROOT / "tests/programs/silent_process.py", str(port), str(i), way, tmp_path / "file"],
        env=dict(os.environ, JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT) for i in (0, 1)]


@pytest.mark.slow
def test_processes_that_leave_for_one_reason_wait_for_each_other(tmp_path):
    for process in _silent(tmp_path, "both leave, the second late"):
        assert "another process" not in _end(process, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "which", "code"), [
    ("the second stops", 0, 75), ("the first is gone", 1, 75), ("the second aborts, the first is leaving", 0, 4)])
def test_a_process_that_jax_aborts_says_that_another_is_lost(tmp_path, way, which, code):
    pair = _silent(tmp_path, way)
    out = _end(pair[which], code)
    pair[1 - which].kill()
    other, _ = pair[1 - which].communicate()
    said = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(said) == (code == 75), out
    assert all(line.startswith("error: another process of this run has ended or cannot be reached") for line in said)
    if "aborts" in way:  # by a fault of its own
        assert pair[1].returncode == -signal.SIGABRT
        assert "silent_process.py" in other, "where it was"


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(2, 1), (1, 2)])
def test_images_on_the_devices_of_both(store, alone, tmp_path, mesh):
    for process in _pair(store, tmp_path / "run", 3, mesh, data__placement="device", train__steps_per_call=3):
        _end(process)
    assert "images on the device" in (tmp_path / "run" / "log.txt").read_text()
    _assert_alike(run_files.read_rows(tmp_path / "run" / "metrics.csv"), alone[:3])


@pytest.mark.slow
def test_two_processes_begin_from_a_run_s_weights(store, alone, alone_run, tmp_path):
    given = {"init__weights": alone_run, "optim__learning_rate": 0.001}
    _end(_start(store, tmp_path / "one", 1, **given))
    for process in _pair(store, tmp_path / "two", 1, (1, 2), **given):
        _end(process)
    assert f"training begins from the weights of {alone_run}: conv1, conv2, fc6, fc8" in (
        tmp_path / "two" / "log.txt").read_text()
    rows = [run_files.read_rows(tmp_path / name / "metrics.csv") for name in ("one", "two")]
    _assert_alike(*rows)
    assert rows[0][0]["train_loss"] < alone[0]["train_loss"]


@pytest.mark.parametrize(("place", "message"), [
    (Place(coordinator="localhost:1"), "--processes: needed too"),
    (Place(processes=2), "--coordinator: needed too"),
    (Place("localhost", 2, 0), "--coordinator: 'localhost' is not HOST:PORT"),
    (Place("localhost:1", 2, 2), "--process: 2 is not one of 0 … 1"),
    (Place("localhost:1", 0, 0), "--processes: 0 is below 1"),
])
def test_flags_that_do_not_fit(place, message):
    with pytest.raises(ConfigError) as error:
        place.check()
    assert str(error.value).startswith(message)


def test_the_default_is_one_process():
    Place().check()
