"""The report of a whole sweep: its numbers, its words, its files."""

import csv
import json
import pathlib
import subprocess
import sys

import fake_sweep
import pytest
import scipy.stats

from alexnet_jax import cli, config, run_files
from alexnet_jax.errors import ConfigError
from experiments import recording, report
from experiments.analysis import protocol, statistics, workdirs
from experiments.analysis.text import interval
from experiments.claims import summary

ROOT = pathlib.Path(report.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished sweep of four arms and five seeds, with its report."""
    workdir = fake_sweep.write_sweep(tmp_path_factory.mktemp("sweep") / "three", seeds=range(5))
    text = report.write_report(workdir)
    return workdir, text, json.loads((workdir / "report.json").read_text())


def arm(summary, name):
    return next(a for a in summary["arms"] if a["name"] == name)


def test_files(whole):
    workdir, text, _ = whole
    assert (workdir / "report.md").read_text() == text
    for name in ("curves", "differences"):
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (workdir / f"{name}.svg").read_text()
        assert f"({name}.png)" in text
    assert not list(workdir.glob(".*"))  # no half-written file left


def test_numbers_are_those_of_the_result_files(whole):
    workdir, _, found = whole
    errors = {}
    for name in ("baseline", "no_lrn"):
        results = {seed: run_files.read_json(fake_sweep.folder_of(workdir, name, seed) / "result.json")
                   for seed in range(5)}
        errors[name] = {seed: r["eval"]["ten_view"]["top1_wrong"] / 100 for seed, r in results.items()}
    for name, by in errors.items():
        mean = statistics.estimate(list(by.values()))
        assert arm(found, name)["top1"]["mean"] == pytest.approx(mean.mean)
        assert arm(found, name)["top1"]["low"] == pytest.approx(mean.low)
    paired = statistics.paired_difference(errors["no_lrn"], errors["baseline"])
    measured = arm(found, "no_lrn")["difference"]["top1"]
    assert measured["mean"] == pytest.approx(paired.mean)
    assert (measured["low"], measured["high"]) == (pytest.approx(paired.low), pytest.approx(paired.high))
    assert measured["low"] < 1.4 < measured["high"]


def test_table_puts_the_paper_beside_each_arm(whole):
    _, text, found = whole
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert list(rows) == ["Arm", "--------------", "baseline", "no_lrn", "nonoverlapping", "tanh"]
    assert len({len(row) for row in rows.values()}) == 1  # aligned for a terminal
    for part in ("+1.4/+1.2", "+1.370/+1.152", "reproduced"):
        assert part in rows["no_lrn"]
    assert "+0.4/+0.3" in rows["nonoverlapping"]
    assert "not comparable" in rows["tanh"]
    assert "Verdict at this scale" in rows["Arm"]
    assert arm(found, "no_lrn")["verdict"]["word"] == "reproduced"
    assert arm(found, "tanh")["verdict"] is None
    assert arm(found, "baseline")["difference"] is None


def test_protocol_and_sources_stand_below(whole):
    _, text, _ = whole
    for part in ("shapes 1.0.0", "`train` (20,000 images)", "`test` (10,000 images)", "ten views",
                 "stored at 32×32 pixels, crops of 24×24", "conv 32-48-64-64-48, fc 512-512",
                 "meet before conv3, fc6, fc7", "10 epochs", "batches of 128", "seeds 0 to 4",
                 "`configs/shapes.py:released`", "Imaginary 9000, 1 core a run", "jax 0.10.2",
                 "git 0123456789",
                 "20.0 min of run time over 20 runs (20.0 core-min)", "Small scale", "§3.3",
                 "run 148 against 145", "ILSVRC-2012 validation, ten views", "CIFAR-10, four-layer network",
                 "six times slower to 25% training error"):
        assert part in text, part


def test_notes_tell_noises_correction_and_speed(whole):
    _, text, found = whole
    assert found["noise"]["evaluation"] == pytest.approx(
        100 * statistics.binomial_standard_error(found["noise"]["mean_error"] / 100, 10_000))
    assert found["noise"]["between_seeds"] == pytest.approx(0.5, abs=0.35)
    assert "binomial standard error" in text
    p = [arm(found, name)["difference"] for name in ("no_lrn", "nonoverlapping", "tanh")]
    assert [d["p_holm"] for d in p] == statistics.holm([d["top1"]["p_value"] for d in p])
    assert "Holm-adjusted p values over 3 comparisons" in text
    assert "first fell to 25%: baseline at epoch" in text


def test_csv_has_a_row_an_arm_with_its_protocol(whole):
    workdir, _, found = whole
    with (workdir / "report.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["baseline", "no_lrn", "nonoverlapping", "tanh"]
    row = rows["no_lrn"]
    assert float(row["top1_difference_mean"]) == arm(found, "no_lrn")["difference"]["top1"]["mean"]
    claimed = {"paper_top1": "1.4", "paper_top5": "1.2", "log_top1": "1.37", "pairs": "5"}
    assert {key: row[key] for key in claimed} == claimed
    around = {"dataset": "shapes", "views": "ten views", "epochs": "10", "eval_images": "10000"}
    assert {key: row[key] for key in around} == around
    assert rows["baseline"]["top1_difference_mean"] == ""
    assert rows["tanh"]["verdict"] == ""


def test_the_same_workdir_gives_the_same_bytes(whole):
    workdir, _, _ = whole
    names = ("report.md", "report.csv", "report.json", "curves.png", "curves.svg", "differences.png",
             "differences.svg")
    before = {name: (workdir / name).read_bytes() for name in names}
    report.write_report(workdir)
    assert {name: (workdir / name).read_bytes() for name in names} == before


def test_no_machine_path_in_any_file(whole, tmp_path):
    workdir, _, _ = whole
    for name in ("report.md", "report.csv", "report.json", "curves.svg", "differences.svg"):
        assert str(workdir.parent) not in (workdir / name).read_text()
    other = fake_sweep.write_sweep(tmp_path, name="image_folder:/home/someone/pictures", seeds=(0,), epochs=2)
    plan = fake_sweep.plan_of(other)
    plan["config"] = "/home/someone/mine.py:paper"
    (other / "plan.json").write_text(json.dumps(plan))
    text = report.write_report(other, plots=False)
    assert "image_folder:pictures" in text
    assert "`mine.py:paper`" in text
    assert "someone" not in text + (other / "report.csv").read_text() + (other / "report.json").read_text()


def test_views(whole):
    workdir, _, found = whole
    centre = arm(summary.summarise(workdirs.read_sweep(workdir), "centre"), "baseline")
    assert centre["top1"]["mean"] == pytest.approx(arm(found, "baseline")["top1"]["mean"] + 0.5)
    assert "centre crop; stored" in report.render(workdir, "centre")


def test_without_ten_views_the_centre_crop_is_used_and_reported(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=2)
    path = fake_sweep.folder_of(workdir, "tanh", 0) / "result.json"
    result = json.loads(path.read_text())
    del result["eval"]["ten_view"]
    path.write_text(json.dumps(result))
    assert "(10,000 images), centre crop" in report.render(workdir)
    assert "| 0 of 1 |" in report.render(workdir, "ten_view")


def test_imagenet_itself_is_not_called_small(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2, name="tfds:imagenet2012",
                                     train_images=1_281_167, eval_images=50_000)
    text = report.render(workdir)
    assert "Small scale" not in text
    assert "at this scale" not in text
    assert not protocol.is_imagenet({"dataset": ["image_folder:tiny-imagenet-100"], "train_images": [40_000]})


def test_networks_and_schedules_of_every_config_are_described():
    local = config.to_json(config.resolve(cli.load_config("configs/conv_local.py:11")))
    assert protocol._network(local) == "conv 64-64-64 unshared-32 unshared, fc none, one column"
    assert protocol._folded(local) == ", from epoch 351 on on `train[:40000]`"
    small = config.to_json(config.resolve(cli.load_config("configs/cifar10.py")))
    assert protocol._network(small) == "conv 32-48-64-64-48, fc 512-512, 2 columns that meet before conv3, fc6, fc7"
    assert protocol._folded(small) is None


def test_runs_that_differ_in_protocol_are_all_listed(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0), "longer": ("mine", {"train.epochs": 4}, -1.0, -0.5)}
    text = report.render(fake_sweep.write_sweep(tmp_path, arms=arms, epochs=2))
    assert "2 or 4 epochs" in text
    assert "longer: neither the paper nor its author's logs have this arm" in text


def test_verdicts_lost_to_the_correction_are_starred(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0), "no_lrn": ("lrn", {"model.lrn.layers": ()}, 1.4, 1.2)}
    arms |= {f"other{i}": ("mine", {"model.dropout": 0.1 * i}, 0.0, 0.0) for i in range(4)}
    workdir = fake_sweep.write_sweep(tmp_path, arms=arms, seeds=range(3), pair_sd=0.05, epochs=2)
    found = summary.summarise(workdirs.read_sweep(workdir))
    change = arm(found, "no_lrn")
    change["difference"]["p_holm"] = 0.06
    text = report.markdown(found)
    assert "reproduced*" in text
    assert "no longer so after Holm's correction" in text


def test_command(whole):
    workdir, text, _ = whole
    command = [sys.executable, "-m", "experiments.report", f"--workdir={workdir}", "--views=ten_view"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_a_record_s_report_is_only_printed(whole, tmp_path, capsys):
    workdir, _, _ = whole
    record, out = tmp_path / "record", tmp_path / "new" / "out"
    recording.copy_sweep(workdir, record)
    before = {path: path.read_bytes() for path in record.rglob("*")}
    report.main([f"--workdir={record}"])
    printed, note = capsys.readouterr()
    assert "reproduced" in printed
    assert note == (f"note: {record}: a record, which a look at it leaves as it is, so the report is only printed; "
                    "--out=FOLDER gets its files\n")
    assert {path: path.read_bytes() for path in record.rglob("*")} == before
    report.main([f"--workdir={record}", f"--out={out}"])
    assert capsys.readouterr().out == (out / "report.md").read_text()
    assert {path.name for path in out.iterdir()} >= {"report.json", "report.csv", "curves.png", "differences.svg"}
    assert {path: path.read_bytes() for path in record.rglob("*")} == before


def test_reading_results_needs_no_jax(whole):
    workdir, _, _ = whole
    code = ("import sys, pathlib; from experiments import report; from experiments.figures import curves; "
            f"report.write_report(pathlib.Path({str(workdir)!r}), plots=False); "
            "heavy = {'jax', 'flax', 'matplotlib.pyplot'} & set(sys.modules); assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--workdirr=x"], r"^--workdirr: no such option \(did you mean --workdir\?\)$"),
    (["--workdir=x", "--nope"], "^--nope: no such option$"), ([], "^--workdir=FOLDER is needed: ")])
def test_a_misspelt_option_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        report.main(arguments)


def test_what_makes_an_error_misleading_is_noted_under_the_table(tmp_path):
    """Images that were learnt from too in every run; classes without training images in one."""
    fake_sweep.write_sweep(tmp_path, seeds=(0, 1))
    results = sorted(tmp_path.glob("runs/*/result.json"))
    for number, path in enumerate(results):
        result = json.loads(path.read_text(encoding="utf-8"))
        result["data"]["seen"] = 3
        if not number:
            result["data"]["classes"] = {"not_learnt": 200, "not_learnt_images": 200}
        path.write_text(json.dumps(result), encoding="utf-8")
    notes = summary.summarise(workdirs.read_sweep(tmp_path))["notes"]
    assert "**Warning**: 3 of the images that the error is reported on were learnt from too (the same pixels)." in notes
    [one] = [note for note in notes if "have no training image" in note]
    assert one.startswith("**Warning**: 200 classes that the error is reported on have no training image (200 images")
    assert "seed" in one
    # A run that hasn't finished says it too.
    run = results[0].parent / "run.json"
    about = json.loads(run.read_text(encoding="utf-8"))
    run.write_text(json.dumps(about | {"about_data": {"classes": {"not_reported": 1, "not_reported_keys": ["elk"]}}}),
                   encoding="utf-8")
    results[0].unlink()
    notes = summary.summarise(workdirs.read_sweep(tmp_path))["notes"]
    assert any("1 class that training has (elk) is not among the images" in note for note in notes)


def test_sets_of_seeds_are_disjoint_and_each_has_its_own_interval(whole, tmp_path, capsys):
    workdir, _, _ = whole
    before = sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*"))
    report.main([f"--workdir={workdir}", "--sets=2"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*")) == before  # it only prints

    wrong = {name: [run_files.read_json(fake_sweep.folder_of(workdir, name, seed) / "result.json")
                    ["eval"]["ten_view"]["top1_wrong"] / 100 for seed in range(4)] for name in ("baseline", "no_lrn")}
    each = [mine - theirs for mine, theirs in zip(wrong["no_lrn"], wrong["baseline"], strict=True)]
    at = next(i for i, line in enumerate(lines) if line.startswith("no_lrn: "))
    sets = [scipy.stats.t.interval(0.95, 1, each[i] / 2 + each[i + 1] / 2, abs(each[i] - each[i + 1]) / 2)
            for i in (0, 2)]
    assert lines[at].endswith(f"in {sum(not low <= 0 <= high for low, high in sets)} of 2:")
    for line, seeds, (low, high) in zip(lines[at + 1:], ("0, 1", "2, 3"), sets, strict=False):
        assert line == f"  seeds {seeds}: {interval(statistics.Estimate(2, (low + high) / 2, 0, low, high))}"

    for size in (1, 3, 9):
        with pytest.raises(ConfigError, match=f"--sets={size}: two sets of two seeds or more"):
            list(report.sets_of_seeds(workdirs.read_sweep(workdir), size))
