"""The inputs of the table of claims: recorded sweeps and claim files, complete, damaged or of another kind."""

import fake_sweep
import pytest
from fake_sweep import arms_of

from alexnet_jax import cli, config, run_files
from alexnet_jax.errors import WorkdirError
from experiments.claims import __main__ as command
from experiments.claims import table
from experiments.claims.rows import rows


def test_damaged_curves_times_and_protocols_are_troubles(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(bias_init__zero_bias=1.0), epochs=2)
    assert rows(tmp_path)[1] == []
    for seed, (name, old, new) in enumerate((("metrics.csv", "0.01", "zero"), ("timing.csv", "5.0", "five"),
                                             ("run.json", '"device": {', '"device": "cpu", "other": {'))):
        path = fake_sweep.folder_of(workdir, "baseline", seed) / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
    troubles = rows(tmp_path)[1]
    assert [trouble.partition(": ")[2] for trouble in troubles] == [
        "metrics.csv is damaged", "timing.csv is damaged", "run.json: 'device' is damaged"]


def test_commands_of_recorded_sweeps_name_every_change(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(lrn__no_lrn=1.4), seeds=(0, 1), epochs=7)
    plan = fake_sweep.plan_of(workdir)
    base = config.resolve(config.override(cli.load_config("configs/cifar10.py"), {"train.epochs": 7}))
    plan["name"], plan["config"] = "cifar10_three", "configs/cifar10.py"
    for run in plan["runs"].values():
        run["config"] = config.to_json(config.override(base, {"seed": run["seed"]}))
    run_files.write_json(workdir / "plan.json", plan)
    row = next(row for row in rows(tmp_path)[0] if row.id == "lrn")
    assert row.command == ("python -m experiments.run --sweep=configs/sweeps/cifar10_three.py "
                           "--config.train.epochs=7 --seeds=2 --workdir=runs/cifar10_three")
    plan["name"] = "mine"
    run_files.write_json(workdir / "plan.json", plan)
    row = next(row for row in rows(tmp_path)[0] if row.id == "lrn")
    assert row.command == ("python -m experiments.run --config=configs/cifar10.py --ablations=lrn.no_lrn "
                           "--config.train.epochs=7 --seeds=2 --workdir=runs/mine")


CLAIM_FILE = {
    "schema": 1, "claim": "relu",
    "measured": {"text": "4.2× [3.1, 5.7]", "value": 4.2, "low": 3.1, "high": 5.7, "unit": "ratio", "n": 5},
    "verdict": {"word": "reproduced", "why": "the size differs from the paper's"},
    "protocol": {"dataset": "cifar10", "train_split": "train[:50000]", "eval_split": "train[:50000]",
                 "resolution": "32 px", "seeds": [0, 1, 2, 3, 4], "epochs": 60, "device": "Imaginary 9000",
                 "command": "python -m experiments.figure1 --workdir=runs/figure1"}, "cost_core_hours": 3.5}


def test_claim_files_are_rows_as_they_stand(tmp_path):
    (tmp_path / "figure1").mkdir()
    run_files.write_json(tmp_path / "figure1" / "figure1.json", CLAIM_FILE)
    found = [row for row in rows(tmp_path)[0] if row.id == "relu"]
    assert len(found) == 1
    (row,) = found
    assert (row.measured, row.value, row.unit, row.verdict) == ("4.2× [3.1, 5.7]", 4.2, "ratio", "reproduced")
    assert (row.seeds, row.cost_core_hours, row.source) == ("0, 1, 2, 3, 4", 3.5, "figure1")
    assert "4.2× [3.1, 5.7]" in table.markdown(found)


def test_of_several_claim_files_the_longest_training_comes_first(tmp_path):
    for name, epochs in (("averages", 5), ("averages_again", 90)):
        tree = CLAIM_FILE | {"claim": "2012-5", "measured": CLAIM_FILE["measured"] | {"unit": "points"}}
        (tmp_path / name).mkdir()
        run_files.write_json(tmp_path / name / "ensemble.json", tree | {
            "protocol": CLAIM_FILE["protocol"] | {"epochs": epochs}})
    found = [(row.source, row.regime) for row in rows(tmp_path)[0] if row.id == "2012-5" and row.measured]
    assert found == [("averages_again", "90 epochs on train[:50000]"), ("averages", "5 epochs on train[:50000]")]


@pytest.mark.parametrize(("tool", "options", "spec"), [
    ("kernels", "", "views"), ("kernels", " --arm=exchange_everywhere", "columns.exchange_everywhere"),
    ("ensemble", " --arm=baseline", "views")])
def test_where_checkpoints_are_needed_the_sweep_that_makes_them_comes_first(tmp_path, tool, options, spec):
    claim = {"kernels": "kernels", "ensemble": "2012-5"}[tool]
    text = f"python -m experiments.{tool} --workdir=runs/claims_cifar10{options}"
    if spec == "columns.exchange_everywhere":
        claim = "retrieval"
    (tmp_path / "kept").mkdir()
    run_files.write_json(tmp_path / "kept" / f"{tool}.json", {
        **CLAIM_FILE, "claim": claim, "protocol": {**CLAIM_FILE["protocol"], "command": text}})
    row = next(row for row in rows(tmp_path)[0] if row.id == claim and row.measured)
    assert row.command == (f"python -m experiments.run --sweep=configs/sweeps/claims_cifar10.py --ablations={spec} "
                           f"--workdir=runs/claims_cifar10 && {text}")


def test_records_that_cannot_be_read_are_named_and_stop_nothing(tmp_path):
    for name, text in (("cut", '{"schema": 1, "na'), ("fine", "")):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "plan.json").write_text(text)
    run_files.write_json(tmp_path / "fine" / "new.json", {**CLAIM_FILE, "schema": 2})
    run_files.write_json(tmp_path / "fine" / "other.json", {**CLAIM_FILE, "claim": "unheard of"})
    run_files.write_json(tmp_path / "fine" / "report.json", {"schema": 1})  # no claim file
    found, troubles = rows(tmp_path)
    assert not any(row.id == "relu" and row.measured for row in found)
    assert len(troubles) == 3
    assert "cut/plan.json: cut short or not JSON" in troubles[0]
    (tmp_path / "fine" / "third.json").write_text("{")
    wrong = ({"verdict": {"word": "great", "why": ""}}, {"claim": ["relu"]}, {"cost_core_hours": "much"},
             {"measured": {**CLAIM_FILE["measured"], "n": "five"}},
             {"verdict": {"word": "unresolved", "contains_paper": 1}})
    for number, change in enumerate(wrong):
        run_files.write_json(tmp_path / "fine" / f"wrong{number}.json", {**CLAIM_FILE, **change})
    assert len(rows(tmp_path)[1]) == 4 + len(wrong)
    assert "Records that could not be read" in table.markdown(found, troubles)


def test_a_damaged_record_is_an_error_and_nothing_is_written(tmp_path, capsys):
    workdir = fake_sweep.write_sweep(tmp_path / "results" / "mine", seeds=(0, 1), states={("no_lrn", 1): "truncated"})
    assert workdir.exists()
    with pytest.raises(WorkdirError, match=r"mine/no_lrn-.*: result\.json is cut short.*: nothing is written") as error:
        command.main([f"--results={tmp_path / 'results'}", "--write", f"--out={tmp_path / 'out'}"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert "Records that could not be read" in capsys.readouterr().out
