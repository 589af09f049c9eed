"""The declared claims: sources, protocols, commands, arms, and which claim an arm is compared with."""

import pathlib
import shlex
import types

import pytest

from alexnet_jax import cli, config, run_files
from experiments.claims import __main__ as command
from experiments.claims import commands, paper
from experiments.claims.record import of_arm
from experiments.claims.regimes import AVERAGES, BY_IMAGES, FIRST, ITERATIONS, LOCAL, PAPER_LIKE_10, SECOND_IMAGES
from experiments.claims.registry import CLAIMS
from experiments.claims.rows import rows
from experiments.sweep import ablations, plan
from experiments.sweep import sweep_file as sweep_lib

ROOT = pathlib.Path(command.__file__).resolve().parents[2]
BASE = config.resolve(cli.load_config("configs/shapes.py"))  # of the same shape as fake_sweep's


def test_every_claim_and_every_run_of_the_logs_has_a_row(tmp_path):
    found, _ = rows(tmp_path / "nothing")
    ids = {row.id for row in found}
    logged = {"150", "120", "131", "135", "132", "127", "128", "166", "167", "169", "170-quant", "177",
              "145 continued", "137"}
    assert {f"log-{run}" for run in logged} == {i for i in ids if CLAIMS[i].kind == "log"}
    assert ids == set(CLAIMS)
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


def _recorded(seed, split, images, seconds, platform="cpu", id_=""):
    c = config.resolve(config.override(cli.load_config("configs/paper_like_cifar10.py"), {
        "data.train_split": split, "train.epochs": 10, "seed": seed}))
    return types.SimpleNamespace(
        id=id_ or f"{split} {seed}", seed=seed, state="finished", config=config.to_json(c), seconds=seconds,
        result={"data": {"train_images": images}}, about={"device": {"platform": platform, "cores": 1}})


def test_what_of_the_plan_is_left_is_named_with_its_cost():
    assert commands.left(SECOND_IMAGES, {}).endswith("(25 runs, 2,250 epochs, not timed here)")
    # 0.1 and 0.3 s an epoch and a thousand images make 0.2; five arms of 90 epochs on 12,000 images, 1,080 s a seed.
    runs = [_recorded(1, "train[:12000]", 12_000, 12.0), _recorded(2, "train[:12000]", 12_000, 36.0),
            _recorded(3, "train[:12000]", 12_000, 1e6, "gpu")]
    sweeps = {"other": types.SimpleNamespace(runs=dict(enumerate(runs)))}
    assert commands.left(SECOND_IMAGES, sweeps).endswith("(25 runs, 2,250 epochs, about 1.5 core-hours)")
    # With dropout and without, on 3, 6, 12, 24 and 40 thousand images: 15,300 s.
    assert commands.left(BY_IMAGES, sweeps).endswith("(50 runs, 4,500 epochs, about 4.2 core-hours)")
    # Run by run: seeds 1, 2 and 4, and of seed 3 the baseline alone.
    asked = sweep_lib.load(str(ROOT / SECOND_IMAGES.sweep))
    base = config.resolve(config.override(cli.load_config(asked.config), asked.overrides))
    planned = plan.build(base, asked.config, asked.name, ablations.arms_of(asked.ablations, base), asked.seeds)
    done = {seed: [_recorded(seed, "train[12000:24000]", 12_000, 24.0, id_=arm.runs[seed]) for arm in planned.arms]
            for seed in asked.seeds}
    here = [*done[1], *done[2], *done[4], done[3][0]]
    sweeps["paper_like_second_images"] = types.SimpleNamespace(runs=dict(enumerate(here)))
    assert commands.left(SECOND_IMAGES, sweeps).endswith("(9 runs, 810 epochs, about 0.5 core-hours)")
    here += [*done[3][1:], *done[5]]
    sweeps["paper_like_second_images"] = types.SimpleNamespace(runs=dict(enumerate(here)))
    assert commands.left(SECOND_IMAGES, sweeps) == ""
    assert "(20 runs, at most 8,000 epochs, about 5.3 core-hours)" in commands.left(ITERATIONS, sweeps)
    assert "(5 runs, 450 epochs, about 0.3 core-hours)" in commands.left(AVERAGES, sweeps)
    runs[0].seconds *= 100  # (1,200 + 36) s for 240,000 images: 137.3 hours for 96 million
    assert "about 140 core-hours)" in commands.left(ITERATIONS, {"other": sweeps["other"]})


def test_a_row_claims_no_more_than_its_measure_is_about(tmp_path):
    """Dropout's overfitting is one half of the claim; nobody reads 'reproduced' as the other half's word."""
    halves = {row.part: (row.claim, row.paper) for row in rows(tmp_path / "nothing")[0] if row.id == "dropout"}
    assert halves == {
        "without − with": ("without dropout substantial overfitting", "qualitative"),
        "iterations, with ÷ without": ("with dropout about twice the iterations to converge", "2× the iterations")}


@pytest.mark.parametrize(("platform", "quick", "told"), [
    ("gpu", False, True), ("cpu", False, False), ("gpu", True, False)])
def test_a_whole_training_is_estimated_at_an_accelerator_s_recorded_speed(tmp_path, monkeypatch, platform, quick, told):
    released = {"network": "released", "precision": "bfloat16", "turns": {"ours": {"median": 0.01}}}
    recorded = tmp_path / "benchmarks" / "results"
    recorded.mkdir(parents=True)
    steps = {title: released | {"batch": batch} for title, batch in {"one": 128, "other": 1024}.items()} | {"rates": {}}
    run_files.write_json(recorded / "card.json", {
        "part": "fast", "quick": quick, "device": {"platform": platform, "kind": "a card"}, "steps": steps})
    monkeypatch.setattr(commands, "_RESULTS", recorded)
    monkeypatch.setattr(commands, "_TIMED", recorded / "none.json")
    estimate = next(row for row in rows(tmp_path / "nothing")[0] if row.id == "time").estimate
    # 910,819 steps of 10 ms are 2.53 hours. The step of 1,024 images is another recipe's.
    assert estimate.endswith("two GTX 580" + told * (
        "; about 2.5 hours of training steps on one a card in bfloat16, images not counted, at the speed of "
        "benchmarks/results/card.json"))


def test_the_local_sweep_has_the_arms_of_the_claim():
    sweep = sweep_lib.load(str(ROOT / LOCAL.sweep))
    arms = {arm.name: arm for arm in [*ablations.arms_of(sweep.ablations, cli.load_config(sweep.config)), *sweep.arms]}
    asked = {what.name for what in CLAIMS["lrn-cifar"].measures}
    assert asked == {"no_lrn", "conv_local_13"} <= set(arms)
    # cuda-convnet's two files differ in local3's maps and fc's decay besides the norms.
    changed = {name for name in arms["conv_local_13"].overrides if not name.startswith("model.lrn.")}
    assert changed == {"model.conv3.features", "optim.layer_decay.fc8"}


def test_every_claim_has_its_source_and_protocol():
    of_paper = [claim for claim in CLAIMS.values() if claim.kind != "log"]
    assert len(of_paper) == 23
    for claim in of_paper:
        assert claim.kind in ("difference", "level", "ratio", "count", "qualitative")
        assert claim.where
        assert claim.protocol
        assert claim.paper.source == paper.PAPER
        assert claim.log is None or "released source" in claim.log.source
        if claim.kind == "difference" and claim.log is not None and claim.log.top1 is not None:
            assert claim.log.top1 == pytest.approx(claim.paper.top1, abs=0.06)  # the paper rounds its logs


@pytest.mark.parametrize(("ablation", "arm", "top1", "top5", "log1"), [
    ("lrn", "no_lrn", 1.4, 1.2, 1.370),
    ("lrn", "lrn-none", 1.4, 1.2, 1.370),
    ("", "no_lrn", 1.4, 1.2, 1.370),
    ("pooling", "nonoverlapping", 0.4, 0.3, 0.394),
    ("pooling", "non-overlapping", 0.4, 0.3, 0.394),
    ("columns", "half_width", 1.7, 1.2, 1.695),
    ("pca", "no_pca", 1.0, None, None),
    ("depth", "no_conv4", 2.0, None, None),
])
def test_effect_of_an_arm(ablation, arm, top1, top5, log1):
    effect = of_arm(CLAIMS, ablation, arm)
    assert effect.claimed.whose == "the paper's"
    assert effect.claimed.size == effect.paper.top1
    assert (effect.paper.top1, effect.paper.top5) == (top1, top5)
    assert (effect.log and effect.log.top1) == (None if log1 is None else pytest.approx(log1))


def test_effects_without_a_number_or_below_the_logs_noise():
    tanh = of_arm(CLAIMS, "activation", "tanh")
    assert tanh.claimed is None
    assert tanh.claim.protocol.startswith("CIFAR-10")
    second = of_arm(CLAIMS, "lrn", "lrn_first")  # run 167: −0.0075 points, nothing
    assert second.log is not None
    assert second.claimed.sign == 0
    assert of_arm(CLAIMS, "columns", "no_exchange").claimed.size == pytest.approx(1.164)
    assert of_arm(CLAIMS, "lrn", "somewhere_else") is None
    assert of_arm(CLAIMS, "mine:width", "no_lrn") is None
    for claim in CLAIMS.values():  # a size of the logs that is held against something is beyond their own noise
        if claim.kind == "log" and any(what.sign is None for what in claim.measures):
            assert abs(claim.log.top1) > 3 * paper.LOG_NOISE[0]


def test_size_is_counted():
    row = next(row for row in rows(pathlib.Path("nowhere"))[0] if row.id == "size")
    assert row.measured == "60,965,224 parameters, 659,272 neurons"
    assert (row.verdict, row.value) == ("reproduced", 60_965_224)


def test_every_measure_is_of_an_arm_of_the_catalogue_and_has_something_to_be_held_against():
    for claim in CLAIMS.values():
        assert claim.measures or claim.why or claim.counted
        for what in claim.measures:
            # Those of cuda-convnet's networks: test_the_local_sweep_has_the_arms_of_the_claim.
            assert what.local or any(arm.name == what.name for arm in ablations.arms_of([what.arm], BASE))
            assert claim.claimed(what)
            assert what.regimes
    members = {(what.name, what.quantity) for claim in CLAIMS.values() for what in claim.measures
               if any(regime.family is FIRST for regime in what.regimes)}
    assert set(FIRST.tests) == members - {("centre", "error")}  # ten views and one are of the same runs: descriptive
    assert PAPER_LIKE_10.family is FIRST
