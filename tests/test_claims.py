"""The table of claims: from simulated sweeps with known effects and claim files to rows, verdicts and commands."""

import csv
import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

import fake_sweep
import pytest
from fake_sweep import arms_of

from alexnet_jax import cli, config, run_files
from alexnet_jax.errors import ConfigError
from experiments import paper
from experiments.analysis import comparisons, image_noise, statistics, workdirs
from experiments.claims import __main__ as command
from experiments.claims import commands, measures, table
from experiments.claims.rows import rows
from experiments.sweep import ablations
from experiments.sweep import sweep_file as sweep_lib

ROOT = pathlib.Path(command.__file__).resolve().parents[2]
BASE = config.resolve(cli.load_config("configs/shapes.py"))  # of the same shape as fake_sweep's


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


def test_every_claim_and_every_run_of_the_logs_has_a_row(tmp_path):
    found, _ = rows(tmp_path / "nothing")
    ids = {row.id for row in found}
    assert set(paper.CLAIMS) <= ids
    logged = {"150", "120", "131", "135", "132", "127", "128", "166", "167", "169", "170-quant", "177",
              "145 continued", "137"}
    assert {f"log-{run}" for run in logged} == ids - set(paper.CLAIMS)
    for row in found:
        assert bool(row.measured) == (row.id == "size"), row.id
        assert row.measured or row.why.startswith("no measurement"), row.id
        assert row.paper or row.log, row.id


def test_commands_of_what_is_not_measured_are_commands(tmp_path):
    checked = set()
    for row in rows(tmp_path / "nothing")[0]:
        words = shlex.split(row.command)
        flags = dict(w[2:].split("=", 1) for w in words if w.startswith("--") and "=" in w)
        if "sweep" in flags:
            sweep = sweep_lib.load(str(ROOT / flags["sweep"]))
            flags["config"] = sweep.config
            assert "epochs" in row.estimate
        if "config" in flags:
            changes = {k.removeprefix("config."): v for k, v in flags.items() if k.startswith("config.")}
            base = cli.load_config(str(ROOT / flags["config"]))
            for name in changes:
                config.check_name(name)
            if "ablations" in flags:
                assert ablations.arms_of([flags["ablations"]], config.resolve(base))
            checked.add(row.id)
    assert {"lrn", "lrn-cifar", "columns", "depth", "2012", "log-150", "log-177"} <= checked


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
    assert {r.comparisons for r in tests} == {len(tests)}
    assert row.revision == "0123456789"
    assert not any(r.starred for r in tests)
    # A claim of no difference is tested as one: with such a p value, and no star where it is reproduced.
    (none,) = recorded[1]["log-167"]
    assert none.p_value < 0.01
    assert "half of what both norms are worth in the log" in none.why


def test_a_verdict_that_the_noise_of_the_images_takes_says_so(recorded, monkeypatch):
    sweep = workdirs.read_sweep(recorded[0] / "true")
    said = "; with the noise of the images unresolved"
    lrn, none = (next(m for m in measures.MEASURES if m.id == name and not m.local) for name in ("lrn", "log-167"))
    assert not any(measures.measure(sweep, what).verdict.why.endswith(said) for what in (lrn, none))
    for low, high in ((-9.0, 9.0), (-9.0, 0.1)):  # zero within, and beyond the margin of a claim of no difference
        monkeypatch.setattr(image_noise, "between", lambda *_, ends=(low, high): statistics.OverImages(1, 1.0, *ends))
        for what in (lrn, none):
            found = measures.measure(sweep, what).verdict
            assert found.word == "reproduced"
            assert found.why.endswith(said)


def test_less_overfitting_is_told_beside_the_error(recorded):
    row = next(r for r in recorded[1]["dropout"] if r.part == "without − with")
    assert "; the error +1.0" in row.measured or "; the error +0.9" in row.measured
    assert "error" not in recorded[1]["lrn"][0].measured


def test_the_early_error_and_the_running_training_error(tmp_path):
    fake_sweep.write_sweep(tmp_path / "w", arms=arms_of(decay__no_decay=2.0, bias_init__zero_bias=6.0), pair_sd=0.05,
                           epochs=4)
    found = {row.id: row for row in rows(tmp_path)[0]}
    assert found["bias-init"].quantity == "error after one epoch"
    assert found["bias-init"].n == 3
    # Runs without data.fit_split have no clean error on what was learnt from.
    assert found["decay"].quantity == "running training error"


def test_what_overfitting_needs_is_said_where_the_runs_lack_it(tmp_path):
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
    said = {a["name"]: a["paper"] for a in comparisons.summarise(workdirs.read_sweep(workdir))["arms"]}
    assert said["no_lrn"]["paper"]["top1"] == said["conv_local_13"]["paper"]["top1"] == 2.0


def test_the_local_sweep_has_the_arms_of_the_claim():
    sweep = sweep_lib.load(str(ROOT / commands.LOCAL))
    arms = {arm.name: arm for arm in [*ablations.arms_of(sweep.ablations, cli.load_config(sweep.config)), *sweep.arms]}
    asked = {what.arm for what in measures.MEASURES if what.local}
    assert asked == {"no_lrn", "conv_local_13"} <= set(arms)
    # cuda-convnet's two files differ in local3's maps and fc's decay besides the norms.
    changed = {name for name in arms["conv_local_13"].overrides if not name.startswith("model.lrn.")}
    assert changed == {"model.conv3.features", "optim.layer_decay.fc8"}


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


def test_one_row_for_each_sweep_that_has_the_arm_most_seeds_first(tmp_path):
    fake_sweep.write_sweep(tmp_path / "a_few", arms=arms_of(lrn__no_lrn=1.4), seeds=range(2), epochs=2)
    fake_sweep.write_sweep(tmp_path / "b_many", arms=arms_of(lrn__no_lrn=1.4), seeds=range(4), epochs=2,
                           name="tfds:imagenet2012", train_images=1_281_167)
    found = [row for row in rows(tmp_path)[0] if row.id == "lrn"]
    assert [(row.source, row.n, row.at_scale) for row in found] == [("b_many", 4, False), ("a_few", 2, True)]
    text = table.markdown(found)
    assert "unresolved" in text or "reproduced here" in text


def test_a_verdict_that_does_not_survive_the_correction_is_starred(recorded):
    (row,) = recorded[1]["lrn"]
    row = type(row)(**{**vars(row), "p_holm": 0.06})
    assert row.starred
    assert "reproduced* here" in table.markdown([row])


def test_size_is_counted():
    row = next(row for row in rows(pathlib.Path("nowhere"))[0] if row.id == "size")
    assert row.measured == "60,965,224 parameters, 659,272 neurons"
    assert (row.verdict, row.value) == ("reproduced", 60_965_224)


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


def test_the_recorded_table_is_that_of_the_recorded_results():
    done = subprocess.run([sys.executable, "-m", "experiments.claims"], capture_output=True, text=True, check=False,
                          cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "experiments" / "CLAIMS.md").read_text(), "run `make claims`"


def test_the_readme_has_what_is_measured_and_of_several_results_the_one_with_most_seeds():
    found, _ = rows(ROOT / "experiments" / "results")
    readme = (ROOT / "README.md").read_text()
    assert table.fill(readme, found) == readme, "run `make claims`"
    brief = table.brief(found)
    assert brief in readme
    one = next(row for row in found if row.n and row.verdict == "reproduced")
    fewer = dataclasses.replace(one, n=one.n - 1, measured="of fewer")
    assert "of fewer" not in table.brief([fewer, one, fewer])
    assert table.brief([fewer, one, fewer]) == table.brief([one])
    beside = dataclasses.replace(one, part="in kind", verdict="not comparable")
    assert table.brief([beside, one]) == table.brief([one])
    assert "not comparable" in table.brief([beside])


def test_every_measure_is_of_an_arm_of_the_catalogue_and_of_a_known_claim():
    for what in measures.MEASURES:
        # Those of cuda-convnet's networks: test_the_local_sweep_has_the_arms_of_the_claim.
        assert what.local or any(arm.name == what.arm for arm in ablations.arms_of([what.spec], BASE))
        assert what.id in paper.CLAIMS or what.id.removeprefix("log-") in paper.LOG_RUNS
        assert bool(what.sign) + bool(what.margin) + bool(what.ratio) + (measures.claimed_of(what)[0] is not None) >= 1
