"""Reports in the middle of a sweep, and of damaged or wrong folders."""

import json

import fake_sweep
import pytest

from alexnet_jax import run_files
from alexnet_jax.commands import run_main
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import report
from experiments.analysis import workdirs
from experiments.claims import summary
from experiments.figures import curves

STATES = {("no_lrn", 2): "unfinished", ("tanh", 0): "diverged", ("tanh", 1): "failed",
          ("nonoverlapping", 1): "not started", ("nonoverlapping", 2): "truncated", ("baseline", 2): "chance"}


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    workdir = fake_sweep.write_sweep(tmp_path_factory.mktemp("partial"), states=STATES, corrupt=3)
    return workdir, report.write_report(workdir)


def test_partial_sweep_says_what_is_missing(partial):
    _, text = partial
    for part in ("**Incomplete**: 3 of 12 runs have no result", "no_lrn seed 2 (unfinished: epoch 5 of 10)",
                 "nonoverlapping seed 1 (not started)",
                 "nonoverlapping seed 2 (unreadable: result.json is cut short or not JSON)",
                 "**Diverged**: tanh seed 0: the loss was not finite at step 40",
                 "**Failed**: tanh seed 1: DataError: the store is truncated",
                 "**Warning**: baseline seed 2: never left chance", "3, 1 at chance",
                 "3 corrupt images were skipped", "2 of 3", "1 of 3", "one seed has no interval",
                 "(one seed)"):
        assert part in text, part


def test_partial_sweep_counts_only_what_is_finished(partial):
    workdir, _ = partial
    found = {a["name"]: a for a in summary.summarise(workdirs.read_sweep(workdir))["arms"]}
    assert [found[n]["finished"] for n in ("baseline", "no_lrn", "nonoverlapping", "tanh")] == [3, 2, 1, 1]
    assert found["no_lrn"]["difference"]["pairs"] == [0, 1]
    assert found["tanh"]["difference"]["top1"]["low"] is None


def test_runs_at_chance_give_no_verdict(tmp_path):
    """The difference of a run that learns from one that doesn't is not the effect of an ablation."""
    workdir = fake_sweep.write_sweep(tmp_path, epochs=2, states={("no_lrn", 1): "chance"})
    found = {a["name"]: a["verdict"] for a in summary.summarise(workdirs.read_sweep(workdir))["arms"]}
    assert found["no_lrn"]["word"] == "not comparable"
    assert found["nonoverlapping"]["word"] == "unresolved"
    assert "no_lrn: **not comparable**: runs that never left chance" in report.render(workdir)


def test_a_sweep_that_has_just_begun(tmp_path):
    states = {(arm, seed): "not started" for arm in fake_sweep.ARMS for seed in range(3)}
    workdir = fake_sweep.write_sweep(tmp_path, states=states)
    text = report.write_report(workdir)
    assert "12 of 12 runs have no result" in text
    assert not list(workdir.glob("*.png"))
    assert ".png" not in text
    assert "| no_lrn         | 0 of 3 |" in text


def test_one_seed_has_no_interval_and_no_noise(tmp_path):
    text = report.render(fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=2))
    assert text.count("one seed has no interval") == 2
    assert "Seed noise: unknown, as no arm has two seeds" in text
    assert "Holm" not in text


def test_arms_of_several_revisions_are_distinguished(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2)
    assert "Several revisions" not in report.render(workdir)
    path = fake_sweep.folder_of(workdir, "no_lrn", 1) / "run.json"
    about = run_files.read_json(path)
    run_files.write_json(path, {**about, "git": {"revision": "fedcba9876543210", "dirty": True}})
    text = report.render(workdir)
    assert ("Several revisions of the code: 0123456789: baseline, no_lrn, nonoverlapping, tanh; fedcba9876 with "
            "uncommitted changes: no_lrn.") in text


def test_arms_of_several_environments_are_distinguished_and_named_with_the_device(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2)
    plain = report.render(workdir)
    assert "environments" not in plain
    for asked in ({}, {"XLA_FLAGS --xla_cpu_enable_fast_math": "true"}):  # {}: as good as nothing on record
        assert report.render(workdir) == plain
        for seed in (0, 1):
            path = fake_sweep.folder_of(workdir, "no_lrn", seed) / "run.json"
            run_files.write_json(path, {**run_files.read_json(path), "environment": asked})
    text = report.render(workdir)
    asked = "XLA_FLAGS --xla_cpu_enable_fast_math=true"
    assert f"**Several environments**: the defaults: baseline, nonoverlapping, tanh; {asked}: no_lrn. " in text
    assert f"a run, with {asked}; jax" in text


def test_a_report_names_what_a_resume_brought(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2)
    path = fake_sweep.folder_of(workdir, "tanh", 1) / "run.json"
    about = run_files.read_json(path)
    run_files.write_json(path, {**about, "resumed": ["2020-01-01T00:00:00+00:00", {
        "at": "2020-01-02T00:00:00+00:00", "git": {"unknown": "not a git checkout"}, "versions": {"jax": "9.9"},
        "device": {"kind": "Imaginary 9001", "cores": 3}}]})
    text = report.render(workdir)
    assert " or Imaginary 9001, 3 cores a run; jax " in text
    assert " or 9.9; git 0123456789 or unknown (not a git checkout)." in text
    assert "; unknown (not a git checkout): tanh. A difference between arms of two revisions" in text
    run_files.write_json(path, {**about, "resumed": 3, "environment": "x"})  # damaged: told, and no more
    assert "9001" not in report.render(workdir)


def test_the_ten_views_count_where_all_runs_timed_them(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2)
    without = "1.6 min of run time over 8 runs (1.6 core-min), the ten-view evaluations not counted."
    assert without in report.render(workdir)
    folders = [run.folder for run in workdirs.read_sweep(workdir).runs.values()]
    for number, folder in enumerate(folders):
        rows = run_files.Rows(folder / "timing.csv", run_files.TIMING, 10**9)
        rows.append({**rows.rows[-1], "train_seconds": 0.0, "eval_seconds": 3.0, "images_per_second": None,
                     "elapsed_seconds": 15.0})
        rows.close()
        assert ("2.0 min of run time over 8 runs (2.0 core-min)." in report.render(workdir)) == (number == 7)


def test_arms_that_share_their_runs(tmp_path):
    arms = fake_sweep.ARMS | {"also_no_lrn": ("lrn", {"model.lrn.layers": ()}, 1.4, 1.2),
                              "nothing": ("mine", {}, 0.0, 0.0)}
    workdir = fake_sweep.write_sweep(tmp_path, arms=arms, epochs=2, states={("no_lrn", 1): "failed"})
    sweep = workdirs.read_sweep(workdir)
    assert len(sweep.runs) == 12
    found = {a["name"]: a for a in summary.summarise(sweep)["arms"]}
    assert found["no_lrn"]["top1"] == found["also_no_lrn"]["top1"]
    assert found["nothing"]["difference"]["top1"]["mean"] == 0
    text = report.render(workdir)
    assert "nothing: the config resolves to the baseline's" in text
    assert "no_lrn = also_no_lrn seed 1" in text


@pytest.mark.parametrize(("content", "message"), [
    ("{}", "lacks 'id'"), ("[1]", "cut short or not JSON"), ("", "cut short or not JSON"),
    ('{"id": "%s", "status": "done"}', "unknown status 'done'"),
    ('{"id": "%s", "status": "finished", "eval": null}', "no counts"),
    ('{"id": "%s", "status": "finished", "eval": [1]}', "'eval' is damaged"),
    ('{"id": "%s", "status": "finished", "data": "x"}', "'data' is damaged"),
    ('{"id": "%s", "status": "finished", "eval": {"ten_view": {"top1_wrong": 3, "top5_wrong": 1}}}',
     "no whole counts for ten_view"),
    ('{"id": "%s", "status": "finished", "eval": {"centre": {"top1_wrong": 9, "top5_wrong": 1, "total": 3}}}',
     "no whole counts for centre"),
    ('{"id": "0000000000", "status": "failed", "message": "x"}', "belongs to another run"),
])
def test_a_bad_result_file_is_named_and_does_not_stop_the_report(tmp_path, content, message):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=2)
    folder = fake_sweep.folder_of(workdir, "tanh", 0)
    run_id = run_files.read_json(folder / "run.json")["id"]
    (folder / "result.json").write_text(content.replace("%s", run_id))
    text = report.render(workdir)
    assert "tanh seed 0 (unreadable: " in text
    assert message in text


def test_a_failed_run_may_have_nothing_but_its_message(tmp_path):
    """The runner records a worker's error for a run that never got as far as its data."""
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=2, states={("tanh", 0): "not started"})
    folder = fake_sweep.folder_of(workdir, "tanh", 0)
    folder.mkdir(parents=True)
    run_id = next(i for i, r in fake_sweep.plan_of(workdir)["runs"].items() if folder.name in r["dir"])
    run_files.write_json(folder / "result.json", {"id": run_id, "status": "failed",
                                                "message": "/home/me/store/x.bin: cut\nshort (1/2 read).",
                                                "eval": None, "data": None})
    text = report.write_report(workdir, plots=False)
    assert "**Failed**: tanh seed 0: …/x.bin: cut short (1/2 read). It is in no mean." in text
    assert "/home" not in text + (workdir / "report.json").read_text()  # log.txt has the whole path


def test_damaged_rows(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=3, states={("tanh", 1): "unfinished"})
    for name, seed in (("tanh", 0), ("tanh", 1)):
        path = fake_sweep.folder_of(workdir, name, seed) / "metrics.csv"
        path.write_text(path.read_text().replace("0.01", "zero", 1))
    with (fake_sweep.folder_of(workdir, "no_lrn", 0) / "metrics.csv").open("a") as file:
        file.write("4,6")  # cut off by a kill: the row is left out
    text = report.write_report(workdir)
    assert "Without a curve, as metrics.csv is damaged: tanh seed 0" in text
    assert "tanh seed 1 (unreadable: metrics.csv is damaged)" in text


def test_seconds_over_resumes():
    def row(elapsed, train):
        return {"elapsed_seconds": elapsed, "train_seconds": train}

    assert workdirs._seconds([]) == 0
    assert workdirs._seconds([row(10, 8), row(20, 8)]) == 20
    assert workdirs._seconds([row(10, 8), row(20, 8), row(7, 5), row(14, 5)]) == 34
    assert workdirs._seconds([row(10, 10), row(50, 50)]) == 60  # a resume that elapsed time alone doesn't show


def test_the_largest_recorded_sweep_is_the_default(tmp_path):
    for name, year in (("b", 2021), ("a", 2022)):
        workdir = fake_sweep.write_sweep(tmp_path / name, seeds=(0,), epochs=1)
        for path in workdir.glob("runs/*/run.json"):
            path.write_text(path.read_text().replace("2020-", f"{year}-"))
    assert [p.name for p in workdirs.recorded(tmp_path)] == ["b", "a"]
    assert workdirs.choose("", tmp_path, {}).name == "a"  # of two alike the latest
    fake_sweep.write_sweep(tmp_path / "large", seeds=(0, 1), epochs=1)
    assert workdirs.choose("", tmp_path, {}).name == "large"
    results = tmp_path / "experiments" / "results"
    assert workdirs.choose("", results, {"ALEXNET_WORKDIR": "a"}) == tmp_path / "a"
    assert workdirs.choose("b", results, {"ALEXNET_WORKDIR": "a"}) == tmp_path / "b"
    assert workdirs.choose("", results, {"ALEXNET_WORKDIR": str(tmp_path)}) == tmp_path
    with pytest.raises(ConfigError, match="ALEXNET_WORKDIR"):
        workdirs.choose("", tmp_path / "none", {})


def _exit(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: report.main(argv))
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1  # one line
    assert captured.err.startswith("error: ")
    return stop.value.code, captured.err


def test_wrong_commands_end_in_one_line_and_code_2(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    run = next(fake_sweep.write_sweep(tmp_path / "sweep", seeds=(0,), epochs=1).glob("runs/*"))
    for argv, part in (((f"--workdir={tmp_path}/nowhere",), "no such folder"),
                       ((f"--workdir={tmp_path}/empty",), "no plan.json"),
                       ((f"--workdir={run}",), "single run"),
                       ((), "--workdir"),
                       ((f"--workdir={tmp_path}/sweep", "--view=centre"), "--view"),
                       ((f"--workdir={tmp_path}/sweep", "--views=two"), "ten_view")):
        code, message = _exit(capsys, *argv)
        assert code == 2
        assert part in message


@pytest.mark.parametrize(("change", "part"), [
    (lambda plan: plan[:50], "cut short or not JSON"),
    (lambda plan: json.dumps([1]), "cut short or not JSON"),
    (lambda plan: json.dumps(json.loads(plan) | {"schema": 9}), "schema 9"),
    (lambda plan: json.dumps(json.loads(plan) | {"baseline": "base"}), "baseline 'base' is not among"),
    (lambda plan: json.dumps(json.loads(plan) | {"runs": {}}), "lacks or misspells"),
    (lambda plan: json.dumps({k: v for k, v in json.loads(plan).items() if k != "arms"}), "'arms'"),
    (lambda plan: json.dumps(json.loads(plan) | {"arms": 3}), "lacks or misspells"),
])
def test_a_damaged_plan_is_one_line(tmp_path, capsys, change, part):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=1)
    path = workdir / "plan.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(WorkdirError, match=r"plan\.json"):
        report.render(workdir)
    code, message = _exit(capsys, f"--workdir={workdir}")
    assert code == 1
    assert part in message


def test_a_workdir_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=1)

    def refuse(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(run_files, "write_text", refuse)
    code, message = _exit(capsys, f"--workdir={workdir}")
    assert code == 1
    assert "the disk is full" in message


def test_arms_are_held_against_what_they_name_and_views_against_the_same_runs(tmp_path):
    relu = ("activation", {"optim.learning_rate": 0.02}, 2.0, 1.0)
    arms = {"baseline": ("", {}, 0.0, 0.0), "relu": relu,
            "tanh": ("activation", {"model.activation": "tanh"}, 6.0, 3.0), "centre": ("views", {}, 0.0, 0.0)}
    workdir = fake_sweep.write_sweep(tmp_path, arms=arms, pair_sd=0.1, epochs=2)
    plan = fake_sweep.plan_of(workdir)
    plan["arms"][2]["against"], plan["arms"][3]["views"] = "relu", "centre"
    (workdir / "plan.json").write_text(json.dumps(plan))
    found = {a["name"]: a for a in summary.summarise(workdirs.read_sweep(workdir))["arms"]}
    assert found["tanh"]["difference"]["top1"]["mean"] == pytest.approx(4.0, abs=0.4)
    # Simulated centre crops are half a point worse in every run.
    assert found["centre"]["difference"]["top1"]["mean"] == pytest.approx(0.5)
    assert found["centre"]["paper"]["claim"] == "crops"
    text = report.render(workdir)
    assert "| tanh − relu " in text
    assert "| centre (centre crop) " in text
    assert "centre: the config resolves to the baseline's" not in text
    assert summary.summarise(workdirs.read_sweep(workdir), "centre")["arms"][3]["difference"] is None
    assert "centre" not in set(curves.load(workdir)["arm"])
