"""The sweeps of docs/evidence-plan.md make exactly the recorded or planned runs: frozen by their ids."""

import hashlib
import pathlib

import pytest

from alexnet_jax import cli, config
from experiments.analysis import workdirs
from experiments.sweep import ablations, plan, sweep_file

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "results"

# SHA-256 over the sorted ids. The first four are the plans of the 305 recorded runs, which were made with flags alone.
FROZEN = {
    "paper_like_30_seeds": (150, "4b7c7416bf8e3494"),
    "paper_like_10_seeds": (110, "3dba328a6a81be2f"),
    "early_learning": (60, "e9fc05f4d02860db"),
    "conv_local_quarter": (9, "5e1c8298e6d9e50e"),
    "paper_like_second_images": (25, "8dfe84672074cf03"),
    "dropout_by_images": (50, "3ce7602de1994c2c"),
    "dropout_iterations": (20, "646a81009069e542"),
    "tiny_imagenet_paper_like": (60, "29594d06f3a4f195"),
    "conv_local_whole": (9, "e246711cfc9c98e3"),
    "paper_like_averages": (5, "6e51fd0114f20fe8"),
}


# Seeds of A2 that are not recorded: the records say so themselves, and no verdict is given before they are there.
MISSING = {"no_augmentation": {10}, "no_crops": {10}, "no_mirrors": {10}, "no_decay": {10}, "lrn_first": {10},
           "one_column": {10}, "no_exchange": {9, 10}, "no_conv3": {9, 10}, "no_conv4": {9, 10}, "no_conv5": {9, 10}}


def planned(name):
    asked = sweep_file.load(f"configs/sweeps/{name}.py")
    base = config.resolve(config.override(cli.load_config(asked.config), asked.overrides))
    return plan.build(base, asked.config, asked.name, [*ablations.arms_of(asked.ablations, base), *asked.arms],
                      asked.seeds)


@pytest.mark.parametrize("name", FROZEN)
def test_the_runs_are_those_of_the_plan(name):
    runs = sorted(planned(name).runs)
    assert (len(runs), hashlib.sha256(" ".join(runs).encode()).hexdigest()[:16]) == FROZEN[name]


def test_both_parts_of_regime_a_share_their_baseline():
    thirty, ten = planned("paper_like_30_seeds"), planned("paper_like_10_seeds")
    assert len(set(thirty.runs) | set(ten.runs)) == 250
    assert set(ten.arms[0].runs.values()) < set(thirty.arms[0].runs.values())


def test_regime_b_is_the_plans_and_goes_seed_by_seed():
    made = planned("tiny_imagenet_paper_like")
    for run in made.runs.values():
        data, train = run.config["data"], run.config["train"]
        assert (data["fit_split"], data["eval_split"]) == ("train[:5000]", "val")
        assert (train["epochs"], train["eval_every"], train["batch_size"]) == (90, 10, 128)
    assert [made.runs[run].seed for run in made.order()] == [seed for seed in range(1, 6) for _ in made.arms]
    assert len(made.arms) == 12


def test_dropout_by_images_compares_equal_numbers_of_images_and_needs_a_prefix():
    arms = {arm.name: arm for arm in planned("dropout_by_images").arms}
    for count in (3000, 6000, 24000, 40000):
        assert arms[f"images_{count}_no_dropout"].against == f"images_{count}"
        assert arms[f"images_{count}"].overrides["data.fit_split"] == f"train[:{min(count, 10000)}]"
    generator = ablations.CATALOGUE["dropout_by_images"]
    assert list(generator(cli.load_config("configs/shapes.py"))) == []


@pytest.mark.parametrize(("name", "missing"), [
    ("paper_like_30_seeds", {}), ("early_learning", {}), ("conv_local_quarter", {}), ("paper_like_10_seeds", MISSING)])
def test_the_records_are_of_the_runs_of_the_plan(name, missing):
    record, plan_ = workdirs.read_sweep(RESULTS / name), planned(name)
    assert {arm.name: {seed: run.id for seed, run in arm.runs.items()} for arm in record.arms} == {
        arm.name: dict(arm.runs) for arm in plan_.arms}
    assert {arm.name: seeds for arm in record.arms
            if (seeds := {seed for seed, run in arm.runs.items() if run.state != "finished"})} == missing
    done = [run for run in record.runs.values() if run.state == "finished"]
    assert {run.about["device"]["kind"] for run in done} == {"NVIDIA H200"}
    assert {(run.about["git"]["revision"][:7], run.about["git"]["dirty"]) for run in done} == {("0019b60", False)}
    for run in done:  # what became of each image gives the counts
        assert run.rows[-1]["epoch"] == run.config["train"]["epochs"]
        assert all(run.wrong(views, key) is not None for views in ("centre", "ten_view") for key in ("top1", "top5"))


def test_a_pair_of_the_plan_is_of_one_kind_of_device_one_revision_and_the_plans_runs():
    """Whatever is recorded of it, complete or not."""
    records = [path for path in sorted(RESULTS.iterdir()) if path.name in FROZEN]
    assert len(records) >= 4
    for path in records:
        record, runs = workdirs.read_sweep(path), planned(path.name).runs
        assert set(record.runs) <= set(runs), path
        for arm in record.arms:
            against = record.reference(arm).runs
            for seed, run in arm.runs.items():
                # Part C's pairs are with and without dropout on the same images, not on 3,000 and on 12,000.
                if run.state == against[seed].state == "finished" and (
                        run.config["data"]["train_split"] == against[seed].config["data"]["train_split"]):
                    kinds, revisions = zip(*((one.about["device"]["kind"], (
                        one.about["git"]["revision"], one.about["git"]["dirty"])) for one in (run, against[seed])),
                        strict=True)
                    assert len(set(kinds)) == 1, (path, arm.name, seed)
                    assert len(set(revisions)) == 1, (path, arm.name, seed)


def test_pairs_on_a_cpu_have_baselines_of_the_same_cpu():
    for path in sorted(RESULTS.glob("paper_like_cpu_*")):
        record = workdirs.read_sweep(path)
        assert len({run.about["device"]["kind"] for run in record.runs.values() if run.about}) == 1
        baselines = record.arm(record.baseline).runs
        for arm in record.arms[1:]:
            pairs = [seed for seed, run in arm.runs.items() if run.state == "finished"]
            assert set(pairs) <= MISSING[arm.name]
            assert all(baselines[seed].state == "finished" for seed in pairs)
