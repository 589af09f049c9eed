"""Thousands of runs: which files are read, and the memory used. `scale.py` measures the time."""

import shutil
import tracemalloc

import pytest
import scale

from experiments import report, status
from experiments.analysis import workdirs
from experiments.executors import Unasked
from experiments.executors.devices import Device
from experiments.launch import costs, schedule
from experiments.sweep import plan

RUNS = 200  # a hundred arms
MOST = 500e6 / 10_000  # bytes a run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep, not to be changed."""
    workdir = tmp_path_factory.mktemp("scale") / "w"
    scale.write(workdir, RUNS)
    return workdir


def _use(workdir, runs):
    scale.take_up(workdir, runs)
    text = report.write_report(workdir, plots=False)
    status.main([f"--workdir={workdir}"])
    return text


def test_a_sweep_is_taken_up_and_reported_without_its_curves_in_little_memory(whole, tmp_path, capsys):
    scale.write(tmp_path / "smaller", RUNS // 2)
    _use(tmp_path / "smaller", RUNS // 2)  # imports and caches are not the runs'
    workdir = shutil.copytree(whole, tmp_path / "scale")
    for path in workdir.glob("runs/*/metrics.csv"):
        path.unlink()
        path.mkdir()  # whoever opens it fails
    tracemalloc.start()
    try:
        text = _use(workdir, RUNS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST * RUNS
    assert f"scale: {RUNS} runs: {RUNS} finished" in capsys.readouterr().out
    cells = f"|     {RUNS // scale.ARMS} |"
    assert sum(line.startswith("| dropout_") and cells in line for line in text.splitlines()) == scale.ARMS - 1
    assert plan.read(workdir) == scale.planned(RUNS)


def test_notes_name_the_first_of_many(whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / "w")
    for folder in sorted((workdir / "runs").iterdir())[:-3]:
        shutil.rmtree(folder)
    text = report.render(workdir)
    assert f"**Incomplete**: {RUNS - 3} of {RUNS} runs have no result: " in text
    assert f"; and {RUNS - 3 - 30} more." in text
    whole = plan.read(workdir)
    state = schedule.Schedule(whole, workdir, whole.order(), Unasked(1), None).state
    assert (len(state.finished), len(state.waiting)) == (3, RUNS - 3)
    on = Device("Imaginary 9000", 1)
    assert costs.Costs(whole, workdir, on).left_of(whole.order()[:1], 1).unknown == ()


def test_parts_of_configs_are_once_in_memory_and_rows_are_not_kept(whole):
    runs = list(plan.read(whole).runs.values())
    assert all(run.config["data"] is runs[0].config["data"] for run in runs)
    found = list(workdirs.read_sweep(whole).runs.values())
    assert found[0].config["data"] is found[-1].config["data"]
    assert found[0].rows == found[0].rows
    assert found[0].rows is not found[0].rows
