"""A sweep's record: compact, without paths, with the search of its learning rates."""

import json
import pathlib
import shutil

import fake_sweep
import pytest

from alexnet_jax import config, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import recording, report
from experiments.analysis import packed, workdirs
from experiments.claims import summary
from experiments.sweep import plan as plan_lib

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "results"


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


def test_a_recorded_sweep_gives_the_same_report(tmp_path, capsys):
    workdir, kept = _workdir(tmp_path), tmp_path / "results" / "mine"
    recording.main([f"--workdir={workdir}", f"--record={kept}"])
    assert "make claims" in capsys.readouterr().out
    ours, theirs = (summary.summarise(workdirs.read_sweep(folder)) for folder in (kept, workdir))
    assert ours == theirs
    assert (kept / "report.md").read_text() == report.write_report(kept)
    assert "with XLA_FLAGS --xla_gpu_load_autotune_results_from=tuned, JAX_OPTIMIZATION_LEVEL=O1" in ours["protocol"][
        "device"][1]
    assert json.loads((kept / "search.json").read_text()) == json.loads((workdir / "search.json").read_text())
    assert set(packed.Record(kept / "search").runs) == set(plan_lib.read(workdir / "search").runs)
    for run in packed.Record(kept).runs.values():  # still the run that its id names
        assert config.run_id(config.from_json(run.config)) == run.id
    files = [path for path in kept.glob("**/*") if path.is_file()]
    assert not any(path.name == "log.txt" or "checkpoints" in path.parts for path in files)
    assert not any(b"someone" in path.read_bytes() for path in files)


def test_a_record_may_have_the_name_of_the_sweep_file_whose_runs_it_has_and_keeps_it(tmp_path):
    """Without it, runs of the evidence plan that flags started would have another family in their report."""
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(1, 2), epochs=2)
    kept = tmp_path / "paper_like_second_images"
    recording.main([f"--workdir={workdir}", f"--record={kept}", "--name=paper_like_second_images"])
    assert "These comparisons are descriptive" in (kept / "report.md").read_text()
    recording.copy_sweep(workdir, kept)  # brought up to date
    assert json.loads((kept / "plan.json").read_text())["name"] == "paper_like_second_images"
    assert json.loads((workdir / "plan.json").read_text())["name"] == "three"


def test_an_unpacked_record_is_a_workdir_that_resumes(tmp_path):
    workdir, kept = _workdir(tmp_path), tmp_path / "kept"
    recording.copy_sweep(workdir, kept)
    asked, mine = plan_lib.read(workdir), tmp_path / "mine"
    with pytest.raises(WorkdirError, match=r"kept: the record of a sweep; .* --unpack=FOLDER"):
        plan_lib.read(kept)
    recording.main([f"--record={kept}", f"--unpack={mine}"])
    whole, todo = plan_lib.merge(plan_lib.read(mine), asked, mine)
    assert set(whole.runs) == set(todo.runs) == set(asked.runs)
    assert {plan_lib.state_of(mine / run.dir) for run in todo.runs.values()} == {"finished"}
    with pytest.raises(WorkdirError, match="mine: not empty"):
        recording.unpack(kept, mine)


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


def test_arms_without_begun_runs_are_left_out(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), states={
        ("tanh", 0): "not started", ("tanh", 1): "not started", ("no_lrn", 0): "unfinished",
        ("no_lrn", 1): "not started"})
    recording.copy_sweep(workdir, tmp_path / "kept")
    assert [arm.name for arm in workdirs.read_sweep(tmp_path / "kept").arms] == ["baseline", "no_lrn", "nonoverlapping"]
    kept = packed.Record(tmp_path / "kept")
    assert set(kept.runs) == {run for arm in kept.plan["arms"] for run in arm["runs"].values()}
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


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _small(folder):
    """Of a workdir the files that are recorded, by name: trees as they are spelt, tables as their text."""
    found = {}
    for path in sorted(folder.glob("runs/*/*")):
        if path.name in ("run.json", "result.json", "outcomes.json"):
            found[f"{path.parent.name}/{path.name}"] = json.dumps(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            found[f"{path.parent.name}/{path.name}"] = path.read_text()
    return found


STATES = {("no_lrn", 0): "unfinished", ("no_lrn", 1): "diverged", ("nonoverlapping", 0): "failed",
          ("nonoverlapping", 1): "not started", ("tanh", 0): "chance"}


def test_what_is_recorded_comes_back_key_by_key_and_digit_by_digit(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), epochs=3, states=STATES, outcomes=True,
                                     gaps={"no_lrn": 2.0}, base_overrides={"augment.mirror": False}, eval_images=1001)
    odd = fake_sweep.folder_of(workdir, "tanh", 1) / "run.json"
    about = json.loads(odd.read_text())
    # Keys that the form itself uses, another order, none of a key that others have, numbers that look alike.
    odd.write_text(json.dumps({"note": {"=": 1, "-": [2], "+": "\u2028\x85\x1e\r"}, **dict(reversed(about.items())),
                               "seed": 1.0}))
    run_files.write_json(fake_sweep.folder_of(workdir, "tanh", 0) / "run.json",
                       {key: value for key, value in about.items() if key != "versions"} | {"id": "x", "big": 1e22,
                                                                                           "exact": 0.1 + 0.2})
    with (fake_sweep.folder_of(workdir, "no_lrn", 0) / "metrics.csv").open("a") as file:
        file.write("9,99")  # a kill's half of a row
    recording.copy_sweep(workdir, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "plan.json", "runs.jsonl", "metrics.csv", "timing.csv", "outcomes.npz"}
    recording.unpack(tmp_path / "kept", tmp_path / "back")
    expected = _small(workdir)
    name = next(name for name in expected if name.endswith("metrics.csv") and expected[name].endswith("9,99"))
    expected[name] = expected[name].removesuffix("9,99")
    assert _small(tmp_path / "back") == expected
    assert json.loads((tmp_path / "back" / "plan.json").read_text()) == {
        **json.loads((workdir / "plan.json").read_text()), "not_begun": []}
    again = tmp_path / "again"
    recording.copy_sweep(tmp_path / "back", again)
    assert _files(again) == _files(tmp_path / "kept")
    loose, kept = (workdirs.read_sweep(folder) for folder in (workdir, tmp_path / "kept"))
    for run, other in zip(loose.runs.values(), kept.runs.values(), strict=True):
        assert (run.state, run.message, run.about, run.config, run.result, run.rows, run.seconds, run.timed_to_end) == (
            other.state, other.message, other.about, other.config, other.result, other.rows, other.seconds,
            other.timed_to_end)
        for views in ("centre", "five_view", "fit"):
            mine, theirs = run.wrong(views), other.wrong(views)
            assert (mine is None and theirs is None) or (mine == theirs).all()
    assert any(run.wrong("five_view") is not None for run in kept.runs.values())


@pytest.mark.parametrize("name", ["claims_tiny_imagenet", "conv_local"])  # with outcomes, some of their runs
def test_our_own_records_come_back_too(name, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(RESULTS / name, kept, ignore=lambda _, found: [n for n in found if n.startswith(("curves", "diff",
                                                                                                   "report"))])
    recording.unpack(kept, tmp_path / "w")
    recording.copy_sweep(tmp_path / "w", tmp_path / "again")
    assert _files(tmp_path / "again") == _files(kept)
    assert report.render(tmp_path / "w") == report.render(kept)


def test_a_record_of_before_becomes_one_of_now(tmp_path):
    before = fake_sweep.write_sweep(tmp_path / "kept", seeds=(0, 1), epochs=2)  # a folder a run, and no other files
    recording.copy_sweep(fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1, 2), epochs=2), before)
    assert not (before / "runs").exists()
    assert len(workdirs.read_sweep(before).runs) == 12


@pytest.mark.parametrize("change", [
    lambda tree: {**tree, "images": tree["images"] - 9}, lambda tree: {**tree, "centre": {"top1_wrong": "?"}}])
def test_outcomes_that_are_none_are_not_recorded(tmp_path, change):
    workdir = fake_sweep.write_sweep(tmp_path / "w", seeds=(0,), epochs=1, outcomes=True)
    path = fake_sweep.folder_of(workdir, "tanh", 0) / "outcomes.json"
    run_files.write_json(path, change(json.loads(path.read_text())))
    with pytest.raises(WorkdirError, match=r"tanh-.*outcomes\.json: damaged"):
        recording.copy_sweep(workdir, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_workdir_is_not_recorded_into(tmp_path):
    workdir, mine = _workdir(tmp_path / "a"), _workdir(tmp_path / "b")
    with pytest.raises(WorkdirError, match=r"a workdir \(runs/no_lrn-.* is in no record\); choose another folder"):
        recording.copy_sweep(mine, workdir)
    assert list(workdir.glob("runs/*/checkpoints"))


def test_no_run_of_a_record_is_lost(tmp_path):
    kept, fewer = tmp_path / "kept", tmp_path / "fewer"
    recording.copy_sweep(fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1)), kept)
    before = workdirs.read_sweep(kept)
    fake_sweep.write_sweep(fewer, seeds=(0, 1), states={("no_lrn", 0): "not started", ("tanh", 0): "not started",
                                                        ("tanh", 1): "not started"})
    recording.copy_sweep(fewer, kept)  # planned there, and not begun
    assert summary.summarise(workdirs.read_sweep(kept)) == summary.summarise(before)
    fake_sweep.write_sweep(tmp_path / "begun", seeds=(0, 1), states={("no_lrn", 0): "unfinished"})
    recording.copy_sweep(tmp_path / "begun", kept)  # begun there a second time, and not at its end
    assert summary.summarise(workdirs.read_sweep(kept)) == summary.summarise(before)
    with pytest.raises(WorkdirError, match=r"kept: has runs that .*other does not plan"):
        recording.copy_sweep(fake_sweep.write_sweep(tmp_path / "other", seeds=(0,)), kept)


@pytest.mark.parametrize(("name", "change", "message"), [
    ("runs.jsonl", lambda text: text[:-40], r"runs\.jsonl: line 8 is damaged"),
    ("runs.jsonl", lambda text: None, r"runs\.jsonl: missing"),
    ("timing.csv", lambda text: None, r"timing\.csv: missing"),
    ("runs.jsonl", lambda text: text.replace('"dir"', '"dim"', 1), r"runs\.jsonl: line 1 is damaged"),
    ("runs.jsonl", lambda text: text + text.splitlines()[1] + "\n", r"runs\.jsonl: line 9 is damaged \(repeats"),
    ("plan.json", lambda text: text.replace('": "', '": "0', 30), r"plan\.json: lacks or misspells"),
    ("metrics.csv", lambda text: text[:-4].rpartition(",")[0], r"metrics\.csv: a row is damaged"),
    ("timing.csv", lambda text: "", r"timing\.csv: not a record's table"),
    ("outcomes.npz", lambda text: "PK", r"outcomes\.npz: damaged")])
def test_a_damaged_record_is_one_line(tmp_path, name, change, message):
    recording.copy_sweep(fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), epochs=2, outcomes=True), tmp_path / "k")
    path = tmp_path / "k" / name
    content = change("" if name.endswith("npz") else path.read_text())
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(WorkdirError, match=message + r".*restore it from git"):
        _ = [(run.rows, run.wrong("centre")) for run in workdirs.read_sweep(tmp_path / "k").runs.values()]
