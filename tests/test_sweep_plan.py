"""Plans: which runs a sweep consists of, and how later commands add to them."""

import json

import pytest
from small_plan import NO_LRN, TANH, base_config, begin, build

from alexnet_jax import config as config_lib
from alexnet_jax import files, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments.sweep import plan as plan_lib
from experiments.sweep.ablations import Arm


def test_the_file_is_as_written_down(tmp_path):
    base = base_config()
    plan_lib.write(build(base=base), tmp_path)
    tree = json.loads((tmp_path / "plan.json").read_text())
    assert {k: tree[k] for k in ("schema", "name", "config", "baseline", "seeds")} == {
        "schema": 1, "name": "three", "config": "configs/shapes.py", "baseline": "baseline", "seeds": [0, 1]}
    ids = {seed: config_lib.run_id(config_lib.override(base, {"model.lrn.layers": (), "seed": seed}))
           for seed in (0, 1)}
    assert tree["arms"][0] == {"name": "baseline", "ablation": "", "overrides": {},
                               "runs": {str(s): config_lib.run_id(config_lib.override(base, {"seed": s}))
                                        for s in (0, 1)}}
    assert tree["arms"][1] == {"name": "no_lrn", "ablation": "lrn", "overrides": {"model.lrn.layers": []},
                               "runs": {"0": ids[0], "1": ids[1]}}
    run = tree["runs"][ids[1]]
    assert (run["dir"], run["seed"]) == (f"runs/no_lrn-{ids[1]}", 1)
    # What a worker reads back is the run that the id names.
    assert config_lib.run_id(config_lib.from_json(run["config"])) == ids[1]


def test_it_reads_what_it_wrote(tmp_path):
    plan = build()
    plan_lib.write(plan, tmp_path)
    read = plan_lib.read(tmp_path)
    assert read.order() == plan.order()
    assert read.to_json() == json.loads(json.dumps(plan.to_json()))
    assert plan_lib.read(tmp_path / "elsewhere") is None


def test_runs_go_seed_by_seed():
    plan = build()
    assert [plan.label(run) for run in plan.order()] == [
        "baseline seed 0", "no_lrn seed 0", "tanh seed 0", "baseline seed 1", "no_lrn seed 1", "tanh seed 1"]


def test_runs_may_go_arm_by_arm():
    plan = build()
    assert [plan.label(run) for run in plan.order("arms")] == [
        "baseline seed 0", "baseline seed 1", "no_lrn seed 0", "no_lrn seed 1", "tanh seed 0", "tanh seed 1"]


def test_what_an_arm_is_compared_with_and_its_views_are_kept(tmp_path):
    arms = [Arm("relu", {}), Arm("tanh", TANH.overrides, against="relu"), Arm("centre", {}, views="centre")]
    plan_lib.write(build(arms), tmp_path)
    tree = json.loads((tmp_path / "plan.json").read_text())
    assert [(a.get("against"), a.get("views")) for a in tree["arms"]] == [
        (None, None), (None, None), ("relu", None), (None, "centre")]
    assert [(a.against, a.views) for a in plan_lib.read(tmp_path).arms] == [
        ("", ""), ("", ""), ("relu", ""), ("", "centre")]
    assert len(build(arms).runs) == 4  # an evaluation is no run


def test_identical_runs_are_one_run():
    plan = build([NO_LRN, Arm("relu", {"model.activation": "relu"}),
                   Arm("norm_free", {"model.lrn.layers": []})])
    assert len(plan.order()) == len(plan.runs) == 4
    assert plan.aliases() == {"relu": "baseline", "norm_free": "no_lrn"}
    assert plan.arm_of(plan.arms[3].runs[0]).name == "no_lrn"
    assert {run.dir.split("/")[1].split("-")[0] for run in plan.runs.values()} == {"baseline", "no_lrn"}


@pytest.mark.parametrize(("overrides", "message"), [
    ({"model.lrm.layers": ()}, "arm a: config.model.lrm.layers: no such field; did you mean"),
    ({"model.lrn": ()}, "arm a: config.model.lrn is a group of fields"),
    ({"model.dropout": "half"}, "arm a: config.model.dropout: 'half' is not a number"),
    ({"model.conv2.features": 49}, "arm a: config.model.conv2.features: 49 do not divide"),
    ({"model.pool.window": 13}, "arm a: config.model.pool: a window of 13"),
    ({"data.crop": 64}, "arm a: config.data.crop: 64 is larger"),
    ({"seed": 3}, "arm a: config.seed: every arm gets the sweep's seeds"),
])
def test_every_arm_is_checked_before_anything_starts(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build([NO_LRN, Arm("a", overrides)])


def test_more_seeds_and_arms_are_merged(tmp_path):
    old = build([NO_LRN], (0, 1))
    begin(old, tmp_path)
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), build([TANH], (0, 1, 2)), tmp_path)
    assert whole.seeds == (0, 1, 2)
    assert [(arm.name, sorted(arm.runs)) for arm in whole.arms] == [
        ("baseline", [0, 1, 2]), ("no_lrn", [0, 1]), ("tanh", [0, 1, 2])]
    assert len(whole.runs) == 8
    assert len(asked.runs) == 6  # what this command runs: no_lrn is for the command that asked for it
    # No order of commands changes a run's folder.
    assert all(whole.runs[run.id].dir == run.dir for run in [*old.runs.values(), *asked.runs.values()])


def test_a_run_keeps_its_folder_when_another_arm_comes_to_share_it(tmp_path):
    old = build([Arm("norm_free", {"model.lrn.layers": ()})])
    begin(old, tmp_path)
    _, asked = plan_lib.merge(plan_lib.read(tmp_path), build([NO_LRN]), tmp_path)
    assert asked.runs[asked.arms[1].runs[0]].dir.startswith("runs/norm_free-")


def test_runs_are_found_again_when_the_plan_is_lost(tmp_path):
    old = build([Arm("norm_free", {"model.lrn.layers": ()})])
    for run in old.runs.values():
        (tmp_path / run.dir).mkdir(parents=True)
    _, asked = plan_lib.merge(None, build([NO_LRN]), tmp_path)
    assert {run.dir for run in asked.runs.values()} == {run.dir for run in old.runs.values()}


def _in_an_older_spelling(plan, workdir, begun=True):
    """The plan as a version left it that kept a config's sets in the order in which they were written."""
    tree, ids = plan.to_json(), {}
    for id_, run in tree["runs"].items():
        config = json.loads(json.dumps(run["config"]))
        config["model"]["exchange"] = config["model"]["exchange"][::-1]
        config["model"]["pool"]["layers"] = config["model"]["pool"]["layers"][::-1]
        ids[id_] = config_lib.run_id(config_lib.override(config_lib.default(), config_lib.flatten(config)))
        assert ids[id_] != id_
        run["config"], run["dir"] = config, run["dir"].replace(id_, ids[id_])
        if begun:
            (workdir / run["dir"]).mkdir(parents=True)
            run_files.write_json(workdir / run["dir"] / "run.json", {"id": ids[id_], "config": config})
    tree["runs"] = {ids[id_]: run for id_, run in tree["runs"].items()}
    for arm in tree["arms"]:
        arm["runs"] = {seed: ids[id_] for seed, id_ in arm["runs"].items()}
    run_files.write_json(workdir / "plan.json", tree)
    return ids


@pytest.mark.parametrize("lost", [False, True])
def test_runs_of_an_older_spelling_are_found_and_keep_id_and_folder(tmp_path, lost):
    ids = _in_an_older_spelling(build(), tmp_path)
    if lost:
        (tmp_path / "plan.json").unlink()
    for _ in range(2):  # also by the command after the next
        whole, asked = plan_lib.merge(plan_lib.read(tmp_path), build(), tmp_path)
        plan_lib.write(whole, tmp_path)
        assert set(asked.runs) == set(whole.runs) == set(ids.values())
        assert all(run.dir.endswith(f"-{id_}") for id_, run in asked.runs.items())
        assert [arm.runs for arm in asked.arms] == [
            {seed: ids[id_] for seed, id_ in arm.runs.items()} for arm in build().arms]
        assert all(plan_lib.state_of(tmp_path / run.dir) == "partial" for run in asked.runs.values())
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), build(seeds=(0, 1, 2)), tmp_path)  # more seeds: ids of now
    assert [set(arm.runs) for arm in asked.arms] == [{0, 1, 2}] * 3
    assert set(ids.values()) < set(asked.runs) == set(whole.runs)


def test_planned_runs_of_an_older_spelling_that_never_began_make_way(tmp_path):
    old = build()
    _in_an_older_spelling(old, tmp_path, begun=False)
    (tmp_path / "runs" / "anything-0123456789").mkdir(parents=True)  # something was begun
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), old, tmp_path)
    assert set(whole.runs) == set(asked.runs) == set(old.runs)
    assert set(whole.order()) == set(old.runs)


def test_an_arm_s_overrides_in_another_order_are_the_same_arm(tmp_path):
    arm = Arm("pooled", {"model.pool.layers": (1, 2)})
    plan_lib.write(build([arm]), tmp_path)
    tree = json.loads((tmp_path / "plan.json").read_text())
    tree["arms"][1]["overrides"]["model.pool.layers"] = [2, 1]
    run_files.write_json(tmp_path / "plan.json", tree)
    (tmp_path / "runs" / "pooled").mkdir(parents=True)
    plan_lib.merge(plan_lib.read(tmp_path), build([arm]), tmp_path)
    with pytest.raises(WorkdirError, match="its arm pooled has other overrides"):
        plan_lib.merge(plan_lib.read(tmp_path), build([Arm("pooled", {"model.pool.layers": (1,)})]), tmp_path)


def test_another_base_is_refused(tmp_path):
    begin(build(), tmp_path)
    new = build(**{"train.epochs": 3, "model.dropout": 0.1, "model.lrn.k": 1.0, "optim.momentum": 0.8})
    with pytest.raises(WorkdirError) as caught:
        plan_lib.merge(plan_lib.read(tmp_path), new, tmp_path)
    message = str(caught.value)
    assert "config.model.dropout: 0.5 there, 0.1 here" in message
    assert "and 1 more" in message
    assert "choose another --workdir" in message
    assert "\n" not in message


def test_a_plan_without_started_runs_can_be_replaced(tmp_path):
    plan_lib.write(build(), tmp_path)
    whole, _ = plan_lib.merge(plan_lib.read(tmp_path), build(**{"train.epochs": 3}), tmp_path)
    assert {run.config["train"]["epochs"] for run in whole.runs.values()} == {3}


def test_what_cannot_change_a_result_may_change(tmp_path):
    begin(build(), tmp_path)
    new = build([NO_LRN], (0,), **{"data.dir": "elsewhere"})
    whole, _ = plan_lib.merge(plan_lib.read(tmp_path), new, tmp_path)
    assert len(whole.runs) == 6
    assert whole.runs[whole.arms[0].runs[0]].config["data"]["dir"] == "elsewhere"  # the newest counts


def test_an_arms_name_means_one_thing_in_a_workdir(tmp_path):
    begin(build(), tmp_path)
    with pytest.raises(WorkdirError, match="its arm tanh has other overrides"):
        plan_lib.merge(plan_lib.read(tmp_path), build([Arm("tanh", {"model.dropout": 0.0})]), tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}',
                                  '{"schema": 1, "arms": 3}'])
def test_a_damaged_plan_is_one_line(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(WorkdirError, match=r"plan\.json: ") as caught:
        plan_lib.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_states(tmp_path):
    assert plan_lib.state_of(tmp_path) == "waiting"
    (tmp_path / "run.json").write_text("{}")
    assert plan_lib.state_of(tmp_path) == "partial"
    (tmp_path / "result.json").write_text('{"status": "fin')
    assert plan_lib.state_of(tmp_path) == "partial"
    run_files.write_json(tmp_path / "result.json", {"status": "diverged"})
    assert plan_lib.state_of(tmp_path) == "diverged"
    assert not plan_lib.in_use(tmp_path)
    with files.lock(tmp_path / ".lock"):
        assert plan_lib.in_use(tmp_path)
    assert not plan_lib.in_use(tmp_path)


def test_thousands_of_runs_are_planned(tmp_path):
    plan = build(seeds=tuple(range(700)))
    plan_lib.merge(None, plan, tmp_path)
    assert len(plan.order()) == 2100
