"""A sweep's records as they are kept: small, without paths, with the search of its learning rates."""

import json

import fake_sweep
import pytest

from alexnet_jax import config, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import recording, report
from experiments.analysis import comparisons, workdirs
from experiments.sweep import plan as plan_lib


def _workdir(tmp_path):
    """A sweep with a checkpoint, a log and a search."""
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), epochs=2,
                                     base_overrides={"data.dir": "/home/someone/data"})
    folder = fake_sweep.folder_of(workdir, "no_lrn", 1)
    (folder / "checkpoints").mkdir()
    (folder / "log.txt").write_text("/home/someone/secret")
    about = run_files.read_json(folder / "run.json")
    run_files.write_json(folder / "run.json", {**about, "environment": {
        "XLA_FLAGS --xla_gpu_load_autotune_results_from": "/home/someone/tuned", "JAX_OPTIMIZATION_LEVEL": "O1"}})
    fake_sweep.write_sweep(workdir / "search", seeds=(0,), epochs=1)
    run_files.write_json(workdir / "search.json", {"schema": 1, "arms": {"tanh": {
        "field": "optim.learning_rate", "value": 0.01, "factor": 1.0, "at_edge": False, "candidates": [
            {"factor": 1.0, "value": 0.01, "errors": {"0": 0.5}, "error": 0.5}]}}, "protocol": {
        "train_split": "train[:90%]", "eval_split": "train[90%:]", "epochs": 1, "seeds": [0]}})
    return workdir


def test_a_recorded_sweep_says_what_the_sweep_said(tmp_path, capsys):
    workdir, kept = _workdir(tmp_path), tmp_path / "results" / "mine"
    recording.main([f"--workdir={workdir}", f"--record={kept}"])
    assert "make claims" in capsys.readouterr().out
    ours, theirs = (comparisons.summarise(workdirs.read_sweep(folder)) for folder in (kept, workdir))
    assert ours == theirs
    assert (kept / "report.md").read_text() == report.write_report(kept)
    assert "with XLA_FLAGS --xla_gpu_load_autotune_results_from=tuned, JAX_OPTIMIZATION_LEVEL=O1" in ours["protocol"][
        "device"][1]
    assert json.loads((kept / "search.json").read_text()) == json.loads((workdir / "search.json").read_text())
    assert set(plan_lib.read(kept / "search").runs) == set(plan_lib.read(workdir / "search").runs)
    for run in plan_lib.read(kept).runs.values():  # still the run that its id names
        assert config.run_id(config.from_json(run.config)) == run.id
    files = [path for path in kept.glob("**/*") if path.is_file()]
    assert not any(path.name == "log.txt" or "checkpoints" in path.parts for path in files)
    assert not any(b"someone" in path.read_bytes() for path in files)


def test_a_copy_of_records_is_a_workdir_that_goes_on(tmp_path):
    workdir, kept = _workdir(tmp_path), tmp_path / "kept"
    recording.copy_sweep(workdir, kept)
    asked = plan_lib.read(workdir)
    whole, todo = plan_lib.merge(plan_lib.read(kept), asked, kept)
    assert set(whole.runs) == set(todo.runs) == set(asked.runs)
    assert {plan_lib.state_of(kept / run.dir) for run in todo.runs.values()} == {"finished"}


def test_what_is_no_sweep_or_no_other_folder_is_one_line(tmp_path):
    with pytest.raises(WorkdirError, match=r"no plan\.json"):
        recording.main([f"--workdir={tmp_path / 'absent'}", f"--record={tmp_path / 'r'}"])
    workdir = _workdir(tmp_path)
    with pytest.raises(ConfigError, match=r"the workdir itself"):
        recording.main([f"--workdir={workdir}", f"--record={workdir}"])


def test_records_of_another_sweep_and_good_ones_are_not_written_over(tmp_path):
    kept, mine = tmp_path / "kept", fake_sweep.write_sweep(tmp_path / "mine", seeds=(0, 1))
    recording.copy_sweep(mine, kept)
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    other = fake_sweep.write_sweep(tmp_path / "other", seeds=(0, 1), epochs=3)
    with pytest.raises(WorkdirError, match="kept: holds the records of another sweep, three; choose another folder"):
        recording.copy_sweep(other, kept)
    (fake_sweep.folder_of(mine, "no_lrn", 1) / "result.json").write_text('{"id": ')
    with pytest.raises(WorkdirError, match=r"no_lrn-.*: result\.json is cut short"):
        recording.copy_sweep(mine, kept)
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before


def test_arms_that_nobody_has_begun_are_left_out(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), states={
        ("tanh", 0): "not started", ("tanh", 1): "not started", ("no_lrn", 0): "unfinished",
        ("no_lrn", 1): "not started"})
    recording.copy_sweep(workdir, tmp_path / "kept")
    assert [arm.name for arm in workdirs.read_sweep(tmp_path / "kept").arms] == ["baseline", "no_lrn", "nonoverlapping"]
    plan = plan_lib.read(tmp_path / "kept")
    assert set(plan.runs) == {run for arm in plan.arms for run in arm.runs.values()}
    assert len(plan_lib.read(workdir).arms) == 4
    assert "- Planned, and no run of it begun: tanh." in report.render(tmp_path / "kept")
    assert "no run of it begun" not in report.render(workdir)
    # Recorded again from a workdir that knows nothing of tanh, as one that was copied from the record.
    fewer = fake_sweep.plan_of(workdir)
    fewer["arms"] = [arm for arm in fewer["arms"] if arm["name"] != "tanh"]
    ids = {run for arm in fewer["arms"] for run in arm["runs"].values()}
    fewer["runs"] = {i: run for i, run in fewer["runs"].items() if i in ids}
    run_files.write_json(workdir / "plan.json", fewer)
    recording.copy_sweep(workdir, tmp_path / "kept")
    assert workdirs.read_sweep(tmp_path / "kept").not_begun == ("tanh",)


@pytest.mark.parametrize(("given", "kept"), [
    ("--workdir=/somewhere/on/this/machine/one", "--workdir=runs/one"), ("--workdir=runs/one", "--workdir=runs/one"),
    ("--sweep=/somewhere/mine.py", "--sweep=mine.py"), ("/somewhere/one", "one"), ("--jobs=2", "--jobs=2")])
def test_a_recorded_command_names_no_machines_folder(given, kept):
    assert recording.without_path(given) == kept
