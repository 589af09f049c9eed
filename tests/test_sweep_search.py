"""The search of learning rates: the candidates, their images, the choice, and that nothing is done twice."""

import json
import math
import pathlib
import subprocess
import sys

import fake_sweep
import pytest

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from experiments import report
from experiments.sweep import ablations, search
from experiments.sweep import plan as plan_lib
from experiments.sweep.arms import Arm, Search
from experiments.sweep.sweep_file import SearchSettings

HERE = pathlib.Path(__file__).resolve().parent
BASE = config_lib.resolve(cli.load_config("configs/cifar10.py"))
SETTINGS = SearchSettings(epochs=2, seeds=1)


def _arms(factors=(0.5, 1.0, 2.0)):
    relu, tanh = ablations.arms_of(["activation"], BASE)
    return [Arm("relu", relu.overrides, search=Search(factors=factors)),
            Arm("tanh", tanh.overrides, search=Search(factors=factors), against="relu")]


def _carry_out(standing, workdir, error):
    """Writes the results of the runs that are to be done; returns how many that were."""
    done = 0
    for run in standing.plan.runs.values():
        folder = workdir / search.FOLDER / run.dir
        if plan_lib.state_of(folder) in plan_lib.DONE:
            continue
        done += 1
        config = config_lib.from_json(run.config)
        e = error(config)
        fake_sweep.write_run(folder, config, top1=0.0 if e is None else 100 * e - 0.5,
                             state="diverged" if e is None else "finished")
    plan_lib.write(standing.plan, workdir / search.FOLDER)
    return done


def _search(workdir, error, arms=None, settings=SETTINGS):
    """(the standing at the end, runs done in each round)."""
    rounds = []
    while (standing := search.stand(BASE, "c.py", arms or _arms(), settings, workdir)).choices is None:
        rounds.append(_carry_out(standing, workdir, error))
        assert len(rounds) < 20
    return standing, rounds


def _bowl(best):
    """An error that is lowest at the rate `best[activation]`."""
    return lambda c: min(0.9, 0.3 + 0.05 * abs(math.log2(c.optim.learning_rate / best[c.model.activation])))


def test_candidates_learn_from_training_images_and_are_judged_on_others_of_them():
    plan = search.stand(BASE, "c.py", _arms(), SETTINGS, None).plan
    assert [arm.name for arm in plan.arms] == ["baseline", "relu_x0.5", "relu_x1", "relu_x2", "tanh_x0.5", "tanh_x1",
                                               "tanh_x2"]
    assert plan.aliases() == {"relu_x1": "baseline"}
    for run in plan.runs.values():
        data = run.config["data"]
        assert (data["train_split"], data["eval_split"]) == ("train[:36000]", "train[36000:40000]")
        assert run.config["train"]["epochs"] == 2
        assert run.config["optim"]["bias_learning_rate"] == 2 * run.config["optim"]["learning_rate"]
    # Both kinds have the same budget.
    assert len(plan.runs) == 6


def test_each_arm_gets_the_rate_with_the_lowest_error(tmp_path):
    standing, rounds = _search(tmp_path, _bowl({"relu": 0.01, "tanh": 0.005}), _arms((0.25, 0.5, 1.0, 2.0)))
    assert rounds == [8]
    assert {name: choice.best.value for name, choice in standing.choices.items()} == {"relu": 0.01, "tanh": 0.005}
    relu, tanh = search.with_chosen(_arms(), BASE, standing.choices)
    assert dict(relu.overrides) == {"model.activation": "relu"}  # the base's own rate: the baseline's runs
    assert tanh.overrides["optim.learning_rate"] == 0.005
    assert tanh.overrides["optim.bias_learning_rate"] == 0.01
    assert tanh.against == "relu"


def test_a_grid_is_extended_if_the_best_is_at_its_edge(tmp_path):
    standing, rounds = _search(tmp_path, _bowl({"relu": 0.01, "tanh": 0.01 / 8}))
    assert rounds == [6, 1, 1, 1]  # 0.0025, 0.00125 and 0.000625, of tanh alone; nothing is done twice
    choice = standing.choices["tanh"]
    assert (choice.best.value, choice.at_edge) == (0.00125, False)
    assert [c.factor for c in choice.candidates] == [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0]
    assert [c.factor for c in standing.choices["relu"].candidates] == [0.5, 1.0, 2.0]


def test_a_grid_that_never_turns_is_marked(tmp_path):
    standing, rounds = _search(tmp_path, lambda c: 0.5 - 0.001 * math.log2(c.optim.learning_rate), _arms())
    assert rounds == [6, *[2] * search.GROWTH]
    assert all(choice.at_edge for choice in standing.choices.values())
    search.record(standing, tmp_path)
    assert search.sentence(run_files.read_json(tmp_path / search.FILE)).count("at the edge of the grid") == 2


def test_rates_that_diverge_are_no_choice_and_the_grid_goes_down(tmp_path):
    bowl = _bowl({"relu": 0.00125, "tanh": 0.00125})
    standing, _ = _search(tmp_path, lambda c: None if c.optim.learning_rate > 0.003 else bowl(c))
    choice = standing.choices["relu"]
    assert (choice.best.value, choice.at_edge) == (0.00125, False)
    assert [c.errors for c in choice.candidates if c.factor >= 0.5] == [{0: None}] * 3


def test_of_equal_errors_the_arms_own_rate_is_taken_and_seeds_count_by_their_mean(tmp_path):
    standing, rounds = _search(tmp_path / "equal", lambda c: 0.4)
    assert [choice.best.factor for choice in standing.choices.values()] == [1.0, 1.0]

    def uneven(config):  # the mean is lowest at 0.01, seed 0 alone is not
        return {0.005: (0.50, 0.50), 0.01: (0.45, 0.45), 0.02: (0.40, 0.60)}[config.optim.learning_rate][config.seed]

    standing, rounds = _search(tmp_path / "two", uneven, settings=SearchSettings(2, 2))
    assert rounds == [12]
    assert {choice.best.value for choice in standing.choices.values()} == {0.01}


@pytest.mark.parametrize(("split", "parts"), [
    ("train[:40000]", ("train[:36000]", "train[36000:40000]")), ("train", ("train[:90%]", "train[90%:]")),
    ("train[10:30]", ("train[10:28]", "train[28:30]")), ("train[:50%]", ("train[:45%]", "train[45%:50%]")),
    ("train[:-50%]", ("train[:45%]", "train[45%:-50%]")), ("train[:15]", ("train[:13]", "train[13:15]"))])
def test_images_kept_back(split, parts):
    assert search.held_back(split) == parts


def test_images_that_cannot_be_held_out_must_be_given():
    with pytest.raises(ConfigError, match=r"config\.data\.tune_split: a tenth of 'train\[:-5000\]' can't be cut off"):
        search.held_back("train[:-5000]")


def test_a_configs_own_tuning_images_are_used():
    base = config_lib.resolve(config_lib.override(BASE, {
        "data.train_split": "train[:30000]", "data.tune_split": "train[30000:40000]"}))
    own = search.base_of(base, SearchSettings())
    assert (own.data.train_split, own.data.eval_split, own.data.tune_split) == (
        "train[:30000]", "train[30000:40000]", "")
    assert own.train.epochs == base.train.epochs


def test_without_a_search_an_arm_that_is_the_base_is_left_out():
    (tanh,) = search.without(_arms(), BASE)
    assert (tanh.name, tanh.search, tanh.against) == ("tanh", None, "")


SWEEP = '''
def get_sweep():
    return {"config": "configs/shapes.py", "ablations": ("activation",), "seeds": 2, "jobs": 2, "search": %s,
            "overrides": {"train.epochs": 1, "checkpoint.every_seconds": 0.01}}
'''


def _run(tmp_path, *arguments, what="{'seeds': 1}"):
    (tmp_path / "mine.py").write_text(SWEEP % what)
    return subprocess.run([sys.executable, str(HERE / "fake_run.py"), f"--sweep={tmp_path / 'mine.py'}",
                           f"--workdir={tmp_path / 'w'}", *arguments], capture_output=True, text=True, check=False,
                          cwd=HERE.parent, timeout=240)


def test_the_runner_searches_first_and_only_once(tmp_path):
    before = _run(tmp_path, "--dry_run")
    assert "search of learning rates first: 8 runs of 1 epoch on train[:90%], judged on train[90%:]; 8 to do" in (
        before.stdout)
    assert not (tmp_path / "w").exists()
    done = _run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chosen for each arm by its error on `train[90%:]`" in done.stdout
    tree = run_files.read_json(tmp_path / "w" / "search.json")
    assert {name: arm["value"] for name, arm in tree["arms"].items()} == {"relu": 0.01, "tanh": 0.01}
    plan = plan_lib.read(tmp_path / "w")
    assert [(arm.name, arm.against) for arm in plan.arms] == [("baseline", ""), ("relu", ""), ("tanh", "relu")]
    steps = {path: path.read_text() for path in (tmp_path / "w").glob("**/steps.log")}
    assert len(steps) == 8 + 4
    again = _run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_text() for path in (tmp_path / "w").glob("**/steps.log")} == steps
    assert "tanh: optim.learning_rate 0.01, by its search" in _run(tmp_path, "--dry_run").stdout


def test_a_search_under_way_is_shown_by_status(tmp_path):
    standing = search.stand(BASE, "c.py", _arms(), SETTINGS, tmp_path)
    (tmp_path / search.FOLDER).mkdir()
    plan_lib.write(standing.plan, tmp_path / search.FOLDER)
    shown = subprocess.run([sys.executable, "-m", "experiments.status", f"--workdir={tmp_path}"], capture_output=True,
                           text=True, check=True, cwd=HERE.parent)
    assert "search: 6 runs: 6 waiting" in shown.stdout


def test_no_search_where_the_sweep_says_so(tmp_path):
    done = _run(tmp_path, what="False")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "w" / "search").exists()
    assert [arm.name for arm in plan_lib.read(tmp_path / "w").arms] == ["baseline", "tanh"]


def test_the_report_shows_what_was_tried(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0), "tanh": ("activation", {"model.activation": "tanh"}, 6.0, 3.0)}
    workdir = fake_sweep.write_sweep(tmp_path / "w", arms=arms, epochs=2)
    standing, _ = _search(workdir, _bowl({"relu": 0.01, "tanh": 0.005}), _arms((0.25, 0.5, 1.0, 2.0)))
    search.record(standing, workdir)
    text = report.render(workdir)
    assert "tanh 0.005 of 0.0025 35.0%, 0.005 30.0%, 0.01 35.0%, 0.02 40.0%" in text
    assert "after 2 epochs on `train[:36000]` (1 seed)" in text
    assert json.loads((workdir / "search.json").read_text())["arms"]["tanh"]["factor"] == 0.5
    (workdir / "search.json").write_text('{"schema": 1, "arms": {}, "protocol": {"epochs": 1}}')
    assert "search.json is damaged" in report.render(workdir)
