"""Plans: which runs a sweep consists of, how a later command adds to them, what a sweep file may say."""

import json

import pytest

from alexnet_jax import cli, files, run_files, signals
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError, WorkdirError
from configs import networks
from experiments import executors
from experiments.executors import Unasked
from experiments.executors.devices import Device
from experiments.launch import costs, dry_run, schedule
from experiments.launch.costs import Left
from experiments.sweep import plan as plan_lib
from experiments.sweep import sweep_file
from experiments.sweep.ablations import Arm

NO_LRN = Arm("no_lrn", {"model.lrn.layers": ()}, "lrn")
TANH = Arm("tanh", {"model.activation": "tanh"}, "activation")


def _base(**overrides):
    config = config_lib.default()
    with config.unlocked():
        config.optim.schedule = "constant"
        networks.alexnet32(config)
    return config_lib.resolve(config_lib.override(config, overrides))


def _build(arms=(NO_LRN, TANH), seeds=(0, 1), base=None, **overrides):
    return plan_lib.build(base or _base(**overrides), "configs/shapes.py", "three", arms, seeds)


def _begin(plan, workdir):
    """Writes the plan as if its first run had been started."""
    (workdir / plan.runs[plan.order()[0]].dir).mkdir(parents=True, exist_ok=True)
    plan_lib.write(plan, workdir)


def test_the_file_is_as_written_down(tmp_path):
    base = _base()
    plan_lib.write(_build(base=base), tmp_path)
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
    plan = _build()
    plan_lib.write(plan, tmp_path)
    read = plan_lib.read(tmp_path)
    assert read.order() == plan.order()
    assert read.to_json() == json.loads(json.dumps(plan.to_json()))
    assert plan_lib.read(tmp_path / "elsewhere") is None


def test_runs_go_seed_by_seed():
    plan = _build()
    assert [plan.label(run) for run in plan.order()] == [
        "baseline seed 0", "no_lrn seed 0", "tanh seed 0", "baseline seed 1", "no_lrn seed 1", "tanh seed 1"]


def test_runs_may_go_arm_by_arm():
    plan = _build()
    assert [plan.label(run) for run in plan.order("arms")] == [
        "baseline seed 0", "baseline seed 1", "no_lrn seed 0", "no_lrn seed 1", "tanh seed 0", "tanh seed 1"]


def test_what_an_arm_is_compared_with_and_its_views_are_kept(tmp_path):
    arms = [Arm("relu", {}), Arm("tanh", TANH.overrides, against="relu"), Arm("centre", {}, views="centre")]
    plan_lib.write(_build(arms), tmp_path)
    tree = json.loads((tmp_path / "plan.json").read_text())
    assert [(a.get("against"), a.get("views")) for a in tree["arms"]] == [
        (None, None), (None, None), ("relu", None), (None, "centre")]
    assert [(a.against, a.views) for a in plan_lib.read(tmp_path).arms] == [
        ("", ""), ("", ""), ("relu", ""), ("", "centre")]
    assert len(_build(arms).runs) == 4  # an evaluation is no run


def test_identical_runs_are_one_run():
    plan = _build([NO_LRN, Arm("relu", {"model.activation": "relu"}),
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
    ({"seed": 3}, "arm a: config.seed: the sweep's seeds are every arm's"),
])
def test_every_arm_is_checked_before_anything_starts(overrides, message):
    with pytest.raises(ConfigError, match=message):
        _build([NO_LRN, Arm("a", overrides)])


def test_more_seeds_and_arms_are_merged(tmp_path):
    old = _build([NO_LRN], (0, 1))
    _begin(old, tmp_path)
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), _build([TANH], (0, 1, 2)), tmp_path)
    assert whole.seeds == (0, 1, 2)
    assert [(arm.name, sorted(arm.runs)) for arm in whole.arms] == [
        ("baseline", [0, 1, 2]), ("no_lrn", [0, 1]), ("tanh", [0, 1, 2])]
    assert len(whole.runs) == 8
    assert len(asked.runs) == 6  # what this command runs: no_lrn is for the command that asked for it
    # No order of commands changes a run's folder.
    assert all(whole.runs[run.id].dir == run.dir for run in [*old.runs.values(), *asked.runs.values()])


def test_a_run_keeps_its_folder_when_another_arm_comes_to_share_it(tmp_path):
    old = _build([Arm("norm_free", {"model.lrn.layers": ()})])
    _begin(old, tmp_path)
    _, asked = plan_lib.merge(plan_lib.read(tmp_path), _build([NO_LRN]), tmp_path)
    assert asked.runs[asked.arms[1].runs[0]].dir.startswith("runs/norm_free-")


def test_runs_are_found_again_when_the_plan_is_lost(tmp_path):
    old = _build([Arm("norm_free", {"model.lrn.layers": ()})])
    for run in old.runs.values():
        (tmp_path / run.dir).mkdir(parents=True)
    _, asked = plan_lib.merge(None, _build([NO_LRN]), tmp_path)
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
    ids = _in_an_older_spelling(_build(), tmp_path)
    if lost:
        (tmp_path / "plan.json").unlink()
    for _ in range(2):  # also by the command after the next
        whole, asked = plan_lib.merge(plan_lib.read(tmp_path), _build(), tmp_path)
        plan_lib.write(whole, tmp_path)
        assert set(asked.runs) == set(whole.runs) == set(ids.values())
        assert all(run.dir.endswith(f"-{id_}") for id_, run in asked.runs.items())
        assert [arm.runs for arm in asked.arms] == [
            {seed: ids[id_] for seed, id_ in arm.runs.items()} for arm in _build().arms]
        assert all(plan_lib.state_of(tmp_path / run.dir) == "partial" for run in asked.runs.values())
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), _build(seeds=(0, 1, 2)), tmp_path)  # more seeds: ids of now
    assert [set(arm.runs) for arm in asked.arms] == [{0, 1, 2}] * 3
    assert set(ids.values()) < set(asked.runs) == set(whole.runs)


def test_planned_runs_of_an_older_spelling_that_never_began_make_way(tmp_path):
    old = _build()
    _in_an_older_spelling(old, tmp_path, begun=False)
    (tmp_path / "runs" / "anything-0123456789").mkdir(parents=True)  # something was begun
    whole, asked = plan_lib.merge(plan_lib.read(tmp_path), old, tmp_path)
    assert set(whole.runs) == set(asked.runs) == set(old.runs)
    assert set(whole.order()) == set(old.runs)


def test_an_arm_s_overrides_in_another_order_are_the_same_arm(tmp_path):
    arm = Arm("pooled", {"model.pool.layers": (1, 2)})
    plan_lib.write(_build([arm]), tmp_path)
    tree = json.loads((tmp_path / "plan.json").read_text())
    tree["arms"][1]["overrides"]["model.pool.layers"] = [2, 1]
    run_files.write_json(tmp_path / "plan.json", tree)
    (tmp_path / "runs" / "pooled").mkdir(parents=True)
    plan_lib.merge(plan_lib.read(tmp_path), _build([arm]), tmp_path)
    with pytest.raises(WorkdirError, match="its arm pooled has other overrides"):
        plan_lib.merge(plan_lib.read(tmp_path), _build([Arm("pooled", {"model.pool.layers": (1,)})]), tmp_path)


def test_another_base_is_refused(tmp_path):
    _begin(_build(), tmp_path)
    new = _build(**{"train.epochs": 3, "model.dropout": 0.1, "model.lrn.k": 1.0, "optim.momentum": 0.8})
    with pytest.raises(WorkdirError) as caught:
        plan_lib.merge(plan_lib.read(tmp_path), new, tmp_path)
    message = str(caught.value)
    assert "config.model.dropout: 0.5 there, 0.1 here" in message
    assert "and 1 more" in message
    assert "choose another --workdir" in message
    assert "\n" not in message


def test_a_plan_of_which_nothing_was_started_binds_nobody(tmp_path):
    plan_lib.write(_build(), tmp_path)
    whole, _ = plan_lib.merge(plan_lib.read(tmp_path), _build(**{"train.epochs": 3}), tmp_path)
    assert {run.config["train"]["epochs"] for run in whole.runs.values()} == {3}


def test_what_cannot_change_a_result_may_change(tmp_path):
    _begin(_build(), tmp_path)
    new = _build([NO_LRN], (0,), **{"data.dir": "elsewhere"})
    whole, _ = plan_lib.merge(plan_lib.read(tmp_path), new, tmp_path)
    assert len(whole.runs) == 6
    assert whole.runs[whole.arms[0].runs[0]].config["data"]["dir"] == "elsewhere"  # the newest counts


def test_an_arms_name_means_one_thing_in_a_workdir(tmp_path):
    _begin(_build(), tmp_path)
    with pytest.raises(WorkdirError, match="its arm tanh has other overrides"):
        plan_lib.merge(plan_lib.read(tmp_path), _build([Arm("tanh", {"model.dropout": 0.0})]), tmp_path)


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
    plan = _build(seeds=tuple(range(700)))
    plan_lib.merge(None, plan, tmp_path)
    assert len(plan.order()) == 2100


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
    plan = _build(seeds=(0, 1), **{"train.epochs": 10})
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
    """A sweep that was begun on a card and goes on on a CPU is no matter of minutes."""
    plan = _build(seeds=(0, 1, 2), **{"train.epochs": 10})
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
    assert "for 1 of them (on Ray, 1 at a time), by the times of runs that are there on AMD EPYC, 1 core a run" in first
    assert "cost: unknown for 2 runs (few, no_conv4) until a run like them has its first evaluation on AMD EPYC" in (
        second)
    [only, others] = dry_run.cost_in_words(costs.Costs(plan, tmp_path, CARD), [runs["few"]], Unasked(1, device=CARD))
    assert only.startswith("cost: unknown until a run has its first evaluation on NVIDIA H200 (on Ray")
    assert others == "  the times of runs that are there are of other devices: AMD EPYC, 1 core a run"


def _sweep(tmp_path, body):
    file = tmp_path / "mine.py"
    file.write_text(f"def get_sweep():\n    return {body}\n")
    return str(file)


def test_a_sweep_file(tmp_path):
    found = sweep_file.load(_sweep(tmp_path, "dict(config='configs/shapes.py:paper', ablations=('lrn',), seeds=3, "
                              "jobs=2, arms={'a': {'model.dropout': 0.1}}, overrides={'train.epochs': 2})"))
    assert found == sweep_file.Sweep("configs/shapes.py:paper", "mine", {"train.epochs": 2}, ("lrn",),
                                (Arm("a", {"model.dropout": 0.1}),), (0, 1, 2), 2)
    assert sweep_file.load("configs/sweeps/three.py").ablations == (
        "lrn.no_lrn", "pooling.nonoverlapping", "activation.tanh")


@pytest.mark.parametrize(("body", "message"), [
    ("dict(config='c.py', seed=3)", "'seed': no such key; did you mean 'seeds'?"),
    ("dict(seeds=3)", "config: needs the path"),
    ("dict(config='c.py', seeds=0)", "seeds: 0 is neither"),
    ("dict(config='c.py', seeds=(0, -1))", "seeds: (0, -1) is neither"),
    ("dict(config='c.py', seeds='3')", "seeds: '3' is neither"),
    ("dict(config='c.py', jobs=-1)", "jobs: -1 is not a number"),
    ("dict(config='c.py', arms=['a'])", "arms: must be a dict"),
    ("dict(config='c.py', arms={'a': 3})", "arms: a: must be a dict from fields"),
    ("dict(config='c.py', overrides=3)", "overrides: must be a dict from fields"),
    ("dict(config='c.py', ablations=3)", "ablations: must be names"),
    ("dict(config='c.py', name=3)", "name: 3 is not a text"),
    ("dict(config='c.py', order='value')", "order: 'value' is not one of seeds, arms"),
    ("dict(config='c.py', search=True)", "search: True is neither False nor"),
    ("dict(config='c.py', search={'epoch': 1})", "search: {'epoch': 1} is neither False nor"),
    ("[1]", "must return a dict"),
    ("1 / 0", "ZeroDivisionError"),
])
def test_a_wrong_sweep_file_is_one_line(tmp_path, body, message):
    with pytest.raises(ConfigError) as caught:
        sweep_file.load(_sweep(tmp_path, body))
    assert message in str(caught.value)
    assert "--sweep=" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "seeds"), [
    ("3", (0, 1, 2)), ("7,", (7,)), ("0,5, 7", (0, 5, 7)), ("(4, 4)", (4,))])
def test_seeds_on_the_command_line(text, seeds):
    assert sweep_file.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "", "-1", "three", "1.5", "1,x"])
def test_wrong_seeds(text):
    with pytest.raises(ConfigError, match="--seeds="):
        sweep_file.parse_seeds(text)


class OneByOne(executors.Unasked):
    """Each run is done at once. `events`: what happened, in order."""

    events = ()
    now = ()

    def room(self, run):
        return not self.now

    def start(self, run, folder):
        run_files.write_json(folder / "result.json", {"id": run, "status": "finished"})
        OneByOne.now, OneByOne.events = (run,), (*self.events, "start")
        return True

    def ended(self):
        ended, OneByOne.now = self.now, ()
        return [executors.Ended(run, 0) for run in ended]


class Silent:
    def line(self, text): ...

    def ended(self, run, result, state): ...

    def update(self, state): ...


def test_the_next_run_starts_before_the_interim_report(tmp_path):
    whole, one = _build(), OneByOne(1)
    first = whole.order()[:3]
    for run in first:
        (tmp_path / whole.runs[run].dir).mkdir(parents=True)

    def report():
        OneByOne.events = (*OneByOne.events, "report")

    state = schedule.Schedule(whole, tmp_path, first, one, Silent(), report).run(signals.Signals())
    assert list(state.finished) == first
    assert one.events == ("start", "start", "report", "start", "report", "report")


def test_runs_that_another_process_ends_are_counted_while_ours_go_on(tmp_path, monkeypatch):
    whole = _build()
    theirs, ours, later = whole.order()[:3]
    folders = {run: tmp_path / whole.runs[run].dir for run in (theirs, ours, later)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    used = {folders[theirs]}
    monkeypatch.setattr(schedule, "_LOOK_AGAIN", 0.0)
    monkeypatch.setattr(plan_lib, "in_use", lambda folder: folder in used)
    seen = []

    class Slow(executors.Unasked):
        now, ticks = "", 0

        def room(self, run):
            return not self.now

        def start(self, run, folder):
            self.now, self.ticks = run, 0
            return True

        def ended(self):
            self.ticks += 1
            if self.now == ours and self.ticks == 2:  # the other process ends its run
                run_files.write_json(folders[theirs] / "result.json", {"id": theirs, "status": "finished"})
                used.clear()
            if not self.now or self.ticks < 5:
                return []
            run, self.now = self.now, ""
            run_files.write_json(folders[run] / "result.json", {"id": run, "status": "finished"})
            return [executors.Ended(run, 0)]

    class Watching(Silent):
        def update(self, state):
            seen.append((list(state.finished), list(state.running), list(state.elsewhere)))

    state = schedule.Schedule(whole, tmp_path, [theirs, ours, later], Slow(1), Watching()).run(signals.Signals())
    assert ([], [ours], [theirs]) in seen
    assert ([theirs], [ours], []) in seen
    assert list(state.finished) == [theirs, ours, later]
