"""The estimated duration of a sweep's runs: measured on the same kind of device, or unknown."""

import pytest
from small_plan import build

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from experiments.executors import Unasked
from experiments.executors.devices import Device
from experiments.launch import costs, dry_run
from experiments.launch.costs import Left
from experiments.sweep import plan as plan_lib
from experiments.sweep.ablations import Arm

HERE, CARD = Device("AMD EPYC", 1), Device("NVIDIA H200", 0)


def _timing(folder, epochs, seconds, *made_on):
    """A run's times; `made_on`: the devices of its stretches, by default HERE."""
    folder.mkdir(parents=True)
    first, *others = [{"platform": "cpu" if one.cores else "gpu", "kind": one.kind, "cores": one.cores or 16,
                       "count": 1} for one in made_on or (HERE,)]
    run_files.write_json(folder / "run.json", {"device": first, "resumed": [{"at": "", "device": o} for o in others]})
    rows = run_files.Rows(folder / "timing.csv", run_files.TIMING, 0)
    for epoch in range(1, epochs + 1):
        rows.append({**dict.fromkeys(run_files.TIMING, 0), "epoch": epoch, "step": epoch,
                     "train_seconds": seconds})
    rows.close()


def test_costs_are_measured_or_unknown(tmp_path):
    plan = build(seeds=(0, 1), **{"train.epochs": 10})
    baseline, no_lrn = plan.arms[0].runs, plan.arms[1].runs
    unknown = costs.Costs(plan, tmp_path, HERE)
    assert unknown.left(baseline[0]) is None
    assert unknown.left_of([baseline[0]], 1) == Left(0.0, (baseline[0],))
    _timing(tmp_path / plan.runs[baseline[0]].dir, 10, 3.0)
    _timing(tmp_path / plan.runs[no_lrn[0]].dir, 4, 2.0)
    known = costs.Costs(plan, tmp_path, HERE)
    assert known.left(baseline[1]) == 30.0
    assert known.left(no_lrn[1]) == 20.0
    assert known.left_of([no_lrn[0]], 1) == Left(12.0)  # four epochs are done
    assert known.left_of([no_lrn[0], baseline[1]], 1) == Left(42.0)
    assert known.left_of([no_lrn[0], baseline[1]], 2) == Left(30.0)  # the longest run bounds it
    tanh = known.left(plan.arms[2].runs[0])  # of no run of its own: the mean of all
    assert tanh == pytest.approx(10 * 38 / 14)


def test_costs_are_those_of_the_same_kind_of_device(tmp_path):
    """A sweep that was begun on a card and resumed on a CPU is no matter of minutes."""
    plan = build(seeds=(0, 1, 2), **{"train.epochs": 10})
    baseline, no_lrn = plan.arms[0].runs, plan.arms[1].runs
    _timing(tmp_path / plan.runs[baseline[0]].dir, 10, 0.5, CARD)
    _timing(tmp_path / plan.runs[no_lrn[0]].dir, 10, 7.0, CARD, HERE)  # on both: of neither
    here, there = (costs.Costs(plan, tmp_path, device) for device in (HERE, CARD))
    assert here.left(baseline[1]) is None
    assert here.elsewhere == [CARD]
    assert there.left(baseline[1]) == there.left(no_lrn[1]) == 5.0
    assert costs.Costs(plan, tmp_path).left(baseline[1]) is None  # on a cluster: not known before a run is under way
    _timing(tmp_path / plan.runs[baseline[1]].dir, 2, 60.0)
    for known in (here, there):  # what is under way says where the sweep is, whatever was expected
        known.add(baseline[1])
        known.observe(baseline[1])
        assert known.left(baseline[2]) == 600.0
    assert costs.Costs(plan, tmp_path, Device("AMD EPYC", 2)).left(baseline[2]) is None  # more cores a run


def test_runs_that_lack_their_card_are_noted(tmp_path):
    plan = build(seeds=(0,), **{"train.epochs": 10})
    for run, made_on in zip(plan.runs, (CARD, HERE), strict=False):
        _timing(tmp_path / plan.runs[run].dir, 1, 1.0, made_on)
    on_cards, on_a_cpu = (costs.Costs(plan, tmp_path, device) for device in (CARD, HERE))
    first, second, *_ = plan.runs
    for seen in (on_cards, on_a_cpu):
        seen.observe(first)
        assert seen.fallen_back() == ""
        seen.observe(second)
    assert on_cards.fallen_back().startswith("note: runs compute on AMD EPYC, not on NVIDIA H200: ")
    assert on_a_cpu.fallen_back() == ""


def test_costs_are_those_of_as_many_images_and_the_same_layers(tmp_path):
    arms = [Arm("few", {"data.train_split": "train[:3000]"}), Arm("drop", {"model.dropout": 0.0}),
            Arm("no_conv4", {"model.conv4.features": 0})]
    plan = plan_lib.build(config_lib.resolve(cli.load_config("configs/shapes.py")), "", "", arms, (0,))
    runs = {arm.name: arm.runs[0] for arm in plan.arms}
    _timing(tmp_path / plan.runs[runs["baseline"]].dir, 2, 60.0)
    known = costs.Costs(plan, tmp_path, HERE)
    epochs = known.epochs(runs["drop"])
    assert known.left_of([runs[name] for name in ("few", "drop", "no_conv4")], 1) == Left(
        60.0 * epochs, (runs["few"], runs["no_conv4"]))
    first, second = dry_run.cost_in_words(known, [*runs.values()][1:], Unasked(1, device=HERE))
    assert first.startswith("cost: about ")
    assert "for 1 of them (on Ray, 1 at a time), by the times of existing runs on AMD EPYC, 1 core a run" in first
    assert "cost: unknown for 2 runs (few, no_conv4) until a run like them has its first evaluation on AMD EPYC" in (
        second)
    [only, others] = dry_run.cost_in_words(costs.Costs(plan, tmp_path, CARD), [runs["few"]], Unasked(1, device=CARD))
    assert only.startswith("cost: unknown until a run has its first evaluation on NVIDIA H200 (on Ray")
    assert others == "  existing runs were timed on other devices: AMD EPYC, 1 core a run"
