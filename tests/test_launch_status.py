"""The output of status for a single run's folder."""

import fake_sweep
import pytest

from alexnet_jax import config, files, run_files
from alexnet_jax.errors import ConfigError
from experiments import status
from experiments.executors import Unasked, devices
from experiments.launch import costs, display, dry_run
from experiments.sweep import plan as plan_lib


def _said(folder, capsys):
    status.main([f"--workdir={folder}"])
    return capsys.readouterr().out


@pytest.mark.parametrize(("state", "words"), [
    ("finished", "no_lrn: finished: error 20.0% (ten views)"),
    ("diverged", "no_lrn: diverged: the loss was not finite at step 40"),
    ("failed", "failed: no_lrn: DataError: the store is truncated"),
    ("unfinished", "no_lrn: partial at epoch 1.5 of 4; the command that began it resumes it")])
def test_a_single_run_has_a_state(tmp_path, capsys, state, words):
    c = config.override(fake_sweep.base_config(4), {"model.lrn.layers": ()})
    fake_sweep.write_run(tmp_path / "one", c, name="no_lrn", state=state)
    progress = {"state": "training", "epoch": 1.5, "epochs": 4, "images_per_second": 70.0, "seconds_left": 5}
    run_files.write_json(tmp_path / "one" / "progress.json", progress)
    before = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert _said(tmp_path / "one", capsys).startswith(words)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == before


def test_a_single_run_under_way_is_shown(tmp_path, capsys):
    fake_sweep.write_run(tmp_path / "one", fake_sweep.base_config(4), name="", state="unfinished")
    run_files.write_json(tmp_path / "one" / "progress.json", {
        "state": "training", "epoch": 1.5, "epochs": 4, "images_per_second": 70.0, "seconds_left": 5})
    with files.lock(tmp_path / "one" / ".lock"):
        shown = _said(tmp_path / "one", capsys)
    assert "one: running" in shown
    assert "1.5/4" in shown
    (tmp_path / "two").mkdir()
    with files.lock(tmp_path / "two" / ".lock"):  # before its first line is written
        assert "two: running" in _said(tmp_path / "two", capsys)


def test_a_folder_of_neither_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"no plan\.json or run\.json in it"):
        _said(tmp_path, capsys)


def test_a_sweep_begun_on_a_card_and_continued_on_a_cpu_is_estimated_by_the_cpu_alone(tmp_path, capsys):
    """By all three: the sweep itself, its dry run and status."""
    fake_sweep.write_sweep(tmp_path, seeds=(0, 1, 2, 3), arms={"baseline": fake_sweep.ARMS["baseline"]},
                           states={("baseline", seed): "unfinished" for seed in (1, 2, 3)})
    plan = plan_lib.read(tmp_path)
    done, running, *waiting = (tmp_path / plan.runs[run].dir for run in plan.order())
    card = {"platform": "gpu", "kind": "NVIDIA H200", "count": 1, "cores": 16}
    cpu = {"platform": "cpu", "kind": "AMD EPYC", "count": 1, "cores": 1}
    for folder in (done, running, *waiting):
        about = run_files.read_json(folder / "run.json")
        device = cpu if folder == running else card
        run_files.write_json(folder / "run.json", {**about, "resumed": [], "device": device})
    (running / "timing.csv").unlink()  # it has had no evaluation yet
    progress = {"state": "training", "epoch": 5.0, "epochs": 10, "step": 50, "steps": 100, "seconds_left": 3600}
    run_files.write_json(running / "progress.json", progress)
    here = devices.Device("AMD EPYC", 1)
    known = costs.Costs(plan, tmp_path, here)
    order = plan.order()
    assert (known.left(order[2]), [str(other) for other in known.elsewhere]) == (None, ["NVIDIA H200"])
    # The sweep's own line and status go by what is under way on the CPU: two hours each for those that wait.
    left = display.time_left(known, order[2:], {order[1]: progress}, slots=1)
    assert left == costs.Left(3600.0 + 2 * 7200.0)
    with files.lock(running / ".lock"):
        assert "about 5 h 00 min left" in _said(tmp_path, capsys)
    first, others = dry_run.cost_in_words(known, order[2:], Unasked(1, device=here))
    assert first.startswith("cost: unknown until a run has its first evaluation on AMD EPYC, 1 core a run")
    assert others == "  existing runs were timed on other devices: NVIDIA H200"
