"""The table of claims: from simulated sweeps with known effects to rows, verdicts and files."""

import csv
import json
import pathlib

import fake_sweep
import pytest
from fake_sweep import arms_of

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError
from experiments import report
from experiments.analysis import image_noise, statistics, workdirs
from experiments.claims import __main__ as command
from experiments.claims import judging, paper, summary, table
from experiments.claims.record import Claim, Measure, Regime, of_arm
from experiments.claims.regimes import FIRST
from experiments.claims.registry import CLAIMS
from experiments.claims.rows import rows

ROOT = pathlib.Path(command.__file__).resolve().parents[2]
# The paper's effects, all true here.
TRUE = arms_of(lrn__no_lrn=1.4, lrn__lrn_first=0.0, lrn__lrn_before_relu=0.6, pooling__nonoverlapping=0.4,
             columns__one_column=1.7, columns__no_exchange=1.16, columns__exchange_conv4=0.5, dropout__no_dropout=1.0,
             pca__no_pca=1.2, augmentation__no_augmentation=5.0, depth__no_conv3=2.0, depth__no_conv4=2.0,
             depth__no_conv5=2.0, bias_init__zero_bias=1.0, decay__no_decay=3.0)
GAPS = {"no_dropout": 9.0, "no_augmentation": 12.0, "nonoverlapping": 2.0}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder of results: a sweep in which the paper is right, ten seeds, with little noise; its rows by id."""
    results = tmp_path_factory.mktemp("results")
    fake_sweep.write_sweep(results / "true", arms=TRUE, seeds=range(10), gaps=GAPS, pair_sd=0.1, epochs=4,
                           outcomes=True)
    found, troubles = rows(results)
    assert troubles == []
    by = {}
    for row in found:
        by.setdefault(row.id, []).append(row)
    return results, by


@pytest.mark.parametrize(("claim", "part", "effect", "verdict"), [
    ("lrn", "", -1.4, "reproduced"), ("columns", "", -1.7, "reproduced"), ("overlap", "", -0.4, "reproduced"),
    ("pca", "", -1.2, "reproduced"), ("depth", "without conv4", 2.0, "reproduced"),
    ("overlap-fit", "2/2 − 3/2", 1.0, "reproduced"), ("crop-flip", "without − with", 11.0, "reproduced"),
    ("dropout", "without − with", 8.0, "reproduced"), ("decay", "without − with", 3.0, "reproduced"),
    ("log-150", "", 1.16, "reproduced"), ("log-166", "", 0.6, "reproduced"), ("log-132", "", 0.5, "reproduced"),
    ("log-167", "", 0.0, "reproduced")])
def test_known_effects_are_found_with_the_claims_sign(recorded, claim, part, effect, verdict):
    row = next(r for r in recorded[1][claim] if r.part == part)
    assert (row.verdict, row.n, row.unit) == (verdict, 10, "points")
    tolerance = 0.35 if claim in ("overlap-fit", "crop-flip", "dropout", "decay") else 0.2
    assert row.value == pytest.approx(effect, abs=tolerance)
    assert row.low < row.value < row.high
    assert row.at_scale
    assert row.source == "true"


def test_the_views_of_the_same_runs_are_paired(recorded):
    (row,) = recorded[1]["crops"]
    # Simulated centre crops are exactly half a point worse in each run: a difference, and no measure of its noise.
    assert (row.value, row.n, row.low) == (pytest.approx(-0.5), 10, None)
    assert row.why == "the same difference at every seed: no measure of the noise"


def test_a_row_carries_its_protocol_cost_and_noises(recorded):
    (row,) = recorded[1]["lrn"]
    assert (row.dataset, row.resolution, row.seeds, row.epochs) == (
        "shapes", "24 of 32", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9", "4")
    assert row.device == "Imaginary 9000, 1 core a run"
    assert row.cost_core_hours == pytest.approx(20 * 4 * 6.0 / 3600)  # twenty runs of four epochs of six seconds
    assert row.seed_sd == pytest.approx(0.1 * 2**0.5, rel=0.6)
    assert row.evaluation_se == pytest.approx(100 * (0.2 * 0.8 / 10_000) ** 0.5, rel=0.1)
    # Which images are wrong differs by each run's own noise and hardly by arm: other images would add less than one
    # run's binomial noise.
    assert 0 < row.image_se < row.evaluation_se / 2
    assert row.low_images < row.low < row.high < row.high_images
    assert row.value_top5 == pytest.approx(-0.7, abs=0.2)
    assert row.p_holm >= row.p_value
    tests = [r for group in recorded[1].values() for r in group if r.p_holm is not None]
    errors = [r for r in tests if r.quantity == "top-1 error" and r.id != "lrn-cifar"]
    assert {(r.comparisons, r.family) for r in errors} == {(len(TRUE) - 1, "all arms of three, top-1 error")}
    assert row.revision == "0123456789"
    assert not any(r.starred for r in errors)
    (none,) = recorded[1]["log-167"]
    assert (none.verdict, none.inside, none.margin, none.by_sign) == ("reproduced", True, 0.5, False)


def test_a_verdict_that_the_noise_of_the_images_takes_says_so(recorded, monkeypatch):
    sweeps = {"true": workdirs.read_sweep(recorded[0] / "true")}
    regime = Regime("mine", ("true",), "")

    def why(claim):
        found = judging.judged(CLAIMS[claim], CLAIMS[claim].measures[0], regime, sweeps).verdict
        assert found.word == "reproduced"
        return found.why

    assert not any("noise of the images" in why(claim) for claim in ("lrn", "log-167"))
    monkeypatch.setattr(image_noise, "between", lambda *_: statistics.OverImages(1, 1.0, -9.0, 9.0))
    for claim in ("lrn", "log-167"):
        assert why(claim).endswith("; with the noise of the images unresolved")


def test_less_overfitting_is_reported_beside_the_error(recorded):
    row = next(r for r in recorded[1]["dropout"] if r.part == "without − with")
    assert "; the error +1.0" in row.measured or "; the error +0.9" in row.measured
    assert "error" not in recorded[1]["lrn"][0].measured


def test_the_early_error_and_the_running_training_error(tmp_path):
    fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(decay__no_decay=2.0, bias_init__zero_bias=6.0), pair_sd=0.05,
                           epochs=4)
    found = {row.id: row for row in rows(tmp_path)[0]}
    assert found["bias-init"].quantity == "error after one epoch"  # the last row, beside the claim's own quantity
    assert found["bias-init"].n == 3
    # Runs without data.fit_split have no clean error on what was learnt from.
    assert found["decay"].quantity == "running training error"


def test_the_report_says_what_overfitting_needs_if_the_runs_lack_it(tmp_path):
    fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(pooling__nonoverlapping=0.4), epochs=2)
    row = next(row for row in rows(tmp_path)[0] if row.id == "overlap-fit")
    assert not row.measured
    assert "the recorded runs have no error on images learnt from (data.fit_split)" in row.why


def test_effects_with_the_other_sign_are_contradicted_and_small_ones_unresolved(tmp_path):
    arms = arms_of(lrn__no_lrn=-1.4, pooling__nonoverlapping=0.4, dropout__no_dropout=1.0, lrn__lrn_first=2.0)
    fake_sweep.write_sweep(tmp_path / "w", arms=arms, gaps={"no_dropout": -9.0}, pair_sd=0.1, epochs=2,
                           states={("nonoverlapping", 2): "unfinished"})
    found = {(row.id, row.part): row for row in rows(tmp_path)[0]}
    assert found["lrn", ""].verdict == "contradicted"
    assert found["dropout", "without − with"].verdict == "contradicted"
    overlap = found["overlap", ""]
    assert (overlap.verdict, overlap.n) == ("unresolved", 2)
    assert f"about {overlap.seeds_needed} seeds would resolve the paper's effect" in overlap.why
    assert found["log-167", ""].verdict == "contradicted"


def test_runs_at_chance_give_no_verdict(tmp_path):
    fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(lrn__no_lrn=1.4), epochs=2, states={("no_lrn", 1): "chance"})
    row = next(row for row in rows(tmp_path)[0] if row.id == "lrn")
    assert (row.verdict, row.why) == ("not comparable", "runs that never left chance")


def test_tanh_counts_where_each_has_a_rate_of_its_own(tmp_path):
    arms = {**arms_of(), "tanh": ("activation", {"model.activation": "tanh"}, 6.0, 3.0)}
    workdir = fake_sweep.write_sweep(tmp_path / "w", arms=arms, epochs=2)

    def row():
        return next(row for row in rows(tmp_path)[0] if row.id == "relu" and row.measured)

    assert row().verdict == "not comparable"
    run_files.write_json(workdir / "search.json", {"schema": 1, "protocol": {}, "arms": {"tanh": {}, "relu": {}}})
    assert (row().verdict, row().part) == ("reproduced", "in kind: tanh (biases of 0) − ReLU after the same epochs")
    assert any(r.id == "relu" and not r.measured for r in rows(tmp_path)[0])  # the ratio is another matter


def test_the_local_networks_norm_is_a_claim_of_its_own(tmp_path):
    arms = {**arms_of(lrn__no_lrn=1.4), "conv_local_13": ("", {"model.conv3.features": 32}, 2.0, 1.0)}
    workdir = fake_sweep.write_sweep(tmp_path / "local", arms=arms, epochs=2, pair_sd=0.05,
                                     base_overrides={"model.conv3.unshared": True})
    found = rows(tmp_path)[0]
    alone, released = (row for row in found if row.id == "lrn-cifar")
    assert alone.value == pytest.approx(-1.4, abs=0.3)
    assert "norms" in alone.part
    assert released.value == pytest.approx(-2.0, abs=0.3)
    assert "as released" in released.part
    assert "the paper's" in released.why
    assert "contains" in released.why
    assert not next(row for row in found if row.id == "lrn").measured
    # Against the two points of these networks, not against what the norm was worth on ImageNet.
    said = {a["name"]: a["paper"] for a in summary.summarise(workdirs.read_sweep(workdir))["arms"]}
    assert said["no_lrn"]["paper"]["top1"] == said["conv_local_13"]["paper"]["top1"] == 2.0


RULE = {"optim.schedule": "plateau", "data.tune_split": "train[900:]", "optim.plateau.stop": True}


def _converged(workdir, epochs):
    """A sweep of runs that were to end by the plateau rule, and did after epochs[arm][seed]; 20 at most."""
    fake_sweep.write_sweep(workdir, arms=arms_of(dropout__no_dropout=0.5), seeds=range(3), epochs=20, pair_sd=0.1,
                           gaps={"no_dropout": 9.0}, base_overrides=RULE)
    for arm, by_seed in epochs.items():
        for seed, count in enumerate(by_seed):
            path = fake_sweep.folder_of(workdir, arm, seed) / "result.json"
            run_files.write_json(path, {**run_files.read_json(path), "epochs": count})
    return {row.part: row for row in rows(workdir.parent)[0] if row.id == "dropout"}


def test_how_many_times_the_iterations_dropout_takes(tmp_path):
    found = _converged(tmp_path / "w", {"baseline": (16, 18, 17), "no_dropout": (8, 9, 8)})
    row = found["iterations, with ÷ without"]
    ratio = (16 / 8 * 18 / 9 * 17 / 8) ** (1 / 3)
    assert (row.value, row.unit, row.n) == (pytest.approx(ratio), "ratio", 3)
    assert row.low < ratio < row.high
    assert row.measured == (f"{row.value:.1f}× [{row.low:.1f}, {row.high:.1f}]; baseline 17.0 epochs; "
                            "no_dropout 8.3 epochs")
    assert (row.verdict, row.contains_paper, row.epochs) == ("reproduced", True, "up to 20")
    assert row.seed_sd is row.evaluation_se is None
    # The overfitting of such runs is told apart from that after a few epochs.
    assert found["without − with, trained until the error stops improving"].verdict == "reproduced"


def test_runs_that_their_last_epoch_ended_give_a_lower_bound(tmp_path):
    row = _converged(tmp_path / "w", {"baseline": (20, 20, 20), "no_dropout": (8, 9, 8)})["iterations, with ÷ without"]
    assert row.measured.startswith("at least 2.4× (95% interval from ")
    assert row.high is None
    assert "3 of 3 not within 20" in row.measured


def test_iterations_need_runs_that_end_by_themselves(recorded):
    assert not next(row for row in recorded[1]["dropout"] if "iterations" in row.part).measured


def test_the_norm_that_goes_with_the_response_norm_is_named(tmp_path):
    fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(lrn__no_lrn=1.4), epochs=2,
                           base_overrides={"model.same_map.layers": (2,)})
    row = next(row for row in rows(tmp_path)[0] if row.id == "lrn")
    assert row.part == "the same-map norm after conv2's goes with it, as in run 148"


def test_a_row_for_each_record_and_the_claims_own_regime_first_whatever_its_seeds(tmp_path):
    fake_sweep.write_sweep(tmp_path / "another", arms=arms_of(lrn__no_lrn=1.4), seeds=range(4), epochs=2,
                           name="tfds:imagenet2012", train_images=1_281_167)
    fake_sweep.write_sweep(tmp_path / "claims_cifar10", arms=arms_of(lrn__no_lrn=1.4), seeds=range(2), epochs=2)
    found = [row for row in rows(tmp_path)[0] if row.id == "lrn"]
    assert [(row.source, row.n, row.at_scale, row.regime) for row in found] == [
        ("claims_cifar10", 2, True, "5 epochs on 40,000 images"), ("another", 4, False, "another")]
    assert "another" in table.markdown(found)


def test_a_new_claim_is_one_record(tmp_path):
    """A claim about dropout's error on top of those there are, measured in two regimes of which one lacks seeds."""
    fake_sweep.write_sweep(tmp_path / "short", arms=arms_of(dropout__no_dropout=1.0), seeds=range(3), epochs=2,
                           pair_sd=0.05)
    fake_sweep.write_sweep(tmp_path / "long", arms=arms_of(dropout__no_dropout=-1.0), seeds=range(3), epochs=4,
                           pair_sd=0.05)
    short = Regime("a short schedule", ("short",), "configs/sweeps/three.py")
    long = Regime("a long one", ("long",), "configs/sweeps/three.py", seeds=9)
    mine = Claim("mine", "dropout lowers the error", "§9", "difference", "nowhere", paper.Value("+1", "§9", "me", 1.0),
                 measures=(Measure("dropout.no_dropout", (long, short), margin=0.3),))
    found, _ = rows(tmp_path, {**CLAIMS, "mine": mine})
    here = [row for row in found if row.id == "mine"]
    assert [(row.regime, row.verdict, row.n, row.margin) for row in here] == [
        ("a long one", "preliminary", 3, 0.3), ("a short schedule", "reproduced", 3, 0.3)]
    assert here[0].why == "3 of 9 seeds"
    assert here[1].contains_paper
    text = table.markdown(found)
    assert text.count("**mine** dropout lowers the error (§9)") == 2
    assert "preliminary: 3 of 9 seeds" in text
    assert not any(row.id == "mine" for row in rows(tmp_path)[0])


def test_a_family_of_a_plan_spans_its_sweeps_and_another_machines_pairs_are_distinguished(tmp_path):
    many = arms_of(lrn__no_lrn=0.1)
    fake_sweep.write_sweep(tmp_path / "paper_like_30_seeds", arms=many, seeds=range(1, 31), epochs=2)
    few = arms_of(columns__one_column=1.7)
    missing = {("one_column", 10): "not started"}
    fake_sweep.write_sweep(tmp_path / "paper_like_10_seeds", arms=few, seeds=range(1, 11), epochs=2, states=missing)

    def found():
        return {row.id: row for row in rows(tmp_path)[0] if row.id in ("lrn", "columns")}

    before = found()
    assert (before["columns"].verdict, before["columns"].why) == ("preliminary", "9 of 10 seeds")
    assert {(row.comparisons, row.family) for row in before.values()} == {(15, FIRST.name)}
    p = sorted(row.p_value for row in before.values())
    assert sorted(row.p_holm for row in before.values()) == pytest.approx([15 * p[0], min(1, 14 * p[1])])
    fake_sweep.write_sweep(tmp_path / "paper_like_cpu", arms=few, seeds=(9, 10), epochs=2, error=30.0)
    after = found()["columns"]
    assert (after.n, after.verdict) == (10, "reproduced")
    assert after.remark == f"without seed 10 of paper_like_cpu: {before['columns'].measured.partition(';')[0]}, 9 seeds"
    assert after.source == "paper_like_10_seeds and paper_like_cpu"
    # Seed 10's pair is of that record alone, ten points worse in both arms; seed 9's stays with the first.
    both = [workdirs.read_sweep(tmp_path / name) for name in ("paper_like_10_seeds", "paper_like_cpu")]
    each = [by["one_column"].runs[seed].counts("ten_view")["top1_wrong"]
            - by["baseline"].runs[seed].counts("ten_view")["top1_wrong"]
            for seed in range(1, 11) for by in [{arm.name: arm for arm in both[seed == 10].arms}]]
    assert after.value == pytest.approx(-sum(each) / 1000)


def test_reports_and_claims_agree_on_the_same_runs(tmp_path):
    """Words, facts, intervals and Holm's p of every arm that both judge: of a sweep, and of a family over two."""
    arms = arms_of(lrn__no_lrn=0.5, lrn__lrn_first=0.4, pooling__nonoverlapping=0.4, columns__one_column=1.7,
                   pca__no_pca=0.2, columns__exchange_conv4=0.3, depth__no_conv3=-0.2)
    for name, seeds in (("claims_cifar10", range(5)), ("paper_like_30_seeds", range(1, 31))):
        fake_sweep.write_sweep(tmp_path / name, arms=arms, seeds=seeds, epochs=2)
        run_files.write_json(tmp_path / name / "plan.json", {**fake_sweep.plan_of(tmp_path / name), "name": name})
    found = rows(tmp_path)[0]
    for name in ("claims_cifar10", "paper_like_30_seeds"):
        told = json.loads(report.write_report(tmp_path / name, plots=False)
                           and (tmp_path / name / "report.json").read_text())
        compared = set()
        for arm in told["arms"]:
            said = of_arm(CLAIMS, arm["ablation"], arm["name"])
            if arm["verdict"] is None:
                continue
            row = next((r for r in found if r.source == name and r.id == said.claim.id and r.quantity == "top-1 error"),
                       None)
            if row is None:  # the claim isn't measured in that regime
                continue
            sign = -1 if said.measure.turned else 1
            top1, verdict = arm["difference"]["top1"], arm["verdict"]
            assert (row.value, row.p_value, row.p_holm) == (
                sign * top1["mean"], top1["p_value"], arm["difference"]["p_holm"])
            assert sorted((row.low, row.high)) == sorted((sign * top1["low"], sign * top1["high"]))
            assert (row.verdict, row.inside, row.contains_paper, row.sign) == (
                verdict["word"], verdict["inside"], verdict["contains_paper"], sign * verdict["sign"])
            assert (row.comparisons, row.family) == (told["family"]["tests"], told["family"]["name"])
            compared.add(arm["name"])
        assert compared == set(arms) - {"baseline"} - ({"exchange_conv4"} if "paper" in name else set())


def test_where_the_centre_crop_would_give_another_word_the_row_says_so(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(lrn__no_lrn=1.4), seeds=range(4), epochs=2,
                                     pair_sd=0.1)
    for seed in range(4):
        path = fake_sweep.folder_of(workdir, "no_lrn", seed) / "result.json"
        tree = run_files.read_json(path)
        tree["eval"]["centre"]["top1_wrong"] -= 280
        run_files.write_json(path, tree)
    row = next(row for row in rows(tmp_path)[0] if row.id == "lrn")
    assert (row.verdict, row.remark) == ("reproduced", "by the centre crop contradicted")
    assert (row.error, row.low_error, row.high_error) == (row.value, row.low, row.high)
    assert row.error_centre == pytest.approx(row.error + 2.8)
    assert "by the centre crop +1.4" in row.measured


def test_a_verdict_that_does_not_survive_the_correction_is_starred(recorded):
    (row,) = recorded[1]["lrn"]
    row = type(row)(**{**vars(row), "p_holm": 0.06})
    assert row.starred
    assert f"reproduced* here ({len(TRUE) - 1} tests)" in table.markdown([row])


def test_the_command_writes_the_same_bytes_and_no_machine_path(recorded, tmp_path, capsys):
    results, _ = recorded
    command.main([f"--results={results}", "--write", f"--out={tmp_path}"])
    text = capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"CLAIMS.md", "CLAIMS.csv", "CLAIMS.json"}
    assert before["CLAIMS.md"].decode() == text
    command.main([f"--results={results}", "--write", f"--out={tmp_path}"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for content in before.values():
        assert str(results) not in content.decode()
        assert str(ROOT) not in content.decode()
    tree = json.loads(before["CLAIMS.json"])
    with (tmp_path / "CLAIMS.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(tree["rows"])
    assert float(next(line for line in lines if line["id"] == "lrn")["value"]) == next(
        row for row in tree["rows"] if row["id"] == "lrn")["value"]


def test_a_wrong_folder_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no such folder; recorded results are in"):
        command.main([f"--results={tmp_path / 'absent'}"])
