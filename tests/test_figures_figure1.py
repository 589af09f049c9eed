"""Figure 1: the time to an error, the choice of rates, the ratio and its bounds, on known curves."""

import json
import math
import pathlib
import shutil
import sys

import pytest
from scipy import stats

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import figure1, recording
from experiments.analysis import packed, speed, verdicts
from experiments.analysis.speed import Arrival
from experiments.sweep import grid
from experiments.sweep import plan as plan_lib

WORKER = (sys.executable, str(pathlib.Path(__file__).resolve().parent / "fake_curves.py"))


def rows(*errors):
    return [{"epoch": i, speed.ERROR: error} for i, error in enumerate(errors, start=1)]


def go(*arguments):
    return figure1.main([*map(str, arguments)], worker=WORKER, prepare=lambda data: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(the folder of a whole experiment, the folder that it is recorded in)."""
    folder = tmp_path_factory.mktemp("figure1")
    assert go(f"--workdir={folder / 'runs'}", "--seeds=3", f"--record={folder / 'kept'}") == 0
    return folder / "runs", folder / "kept"


@pytest.mark.parametrize(("errors", "expected"), [
    ((0.5, 0.3, 0.2), Arrival(2.5, True)), ((0.5, 0.25), Arrival(2.0, True)), ((0.2,), Arrival(1.0, True)),
    ((0.5, 0.3), Arrival(2.0, False)), ((0.5, 0.3, 0.2, 0.3, 0.1), Arrival(2.5, True)), ((), None)])
def test_the_time_to_an_error(errors, expected):
    assert speed.arrival(rows(*errors), 0.25) == (expected and Arrival(pytest.approx(expected.epochs),
                                                                       expected.reached))


def test_the_ratio_is_the_mean_of_pairs_on_the_log_scale():
    fast, slow = {0: 5.0, 1: 6.0, 2: 7.0}, {0: 20.0, 1: 30.0, 2: 50.0, 3: 1.0}  # seed 3 has no partner
    found = speed.ratio(*({s: Arrival(e, True) for s, e in side.items()} for side in (fast, slow)))
    logs = [math.log(slow[s] / fast[s]) for s in fast]
    low, high = stats.t.interval(0.95, 2, loc=sum(logs) / 3, scale=stats.sem(logs))
    assert found.value == pytest.approx(stats.gmean([4, 5, 50 / 7]))
    assert (found.low, found.high, found.bound) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)), "")


@pytest.mark.parametrize(("fast", "slow", "bound", "word"), [
    ((True, True), (True, True), "", "reproduced"), ((True, True), (True, False), "at least", "reproduced"),
    ((False, True), (True, True), "at most", "unresolved"), ((False, True), (False, True), "unknown", "unresolved")])
def test_what_never_arrives_gives_a_bound(fast, slow, bound, word):
    found = speed.ratio({s: Arrival(5 + 0.1 * s, reached) for s, reached in enumerate(fast)},
                        {s: Arrival(20 + s, reached) for s, reached in enumerate(slow)})
    assert found.bound == bound
    assert (found.low is None) == (bound in ("at most", "unknown"))
    assert (found.high is None) == (bound in ("at least", "unknown"))
    assert verdicts.ratio(found, 6.0).word == word


def test_a_slower_relu_contradicts():
    found = speed.ratio({s: Arrival(20 + s, True) for s in range(3)}, {s: Arrival(5 + 0.1 * s, True) for s in range(3)})
    assert verdicts.ratio(found, 6.0).word == "contradicted"


@pytest.mark.parametrize(("errors", "expected"), [
    ({1.0: 0.5, 2.0: 0.4, 4.0: 0.6}, None), ({1.0: 0.3, 2.0: 0.4}, 0.5), ({1.0: 0.5, 2.0: 0.4}, 4.0),
    ({1.0: 0.4, 2.0: math.inf}, 0.5), ({1.0: math.inf, 2.0: math.inf}, 0.5),
    ({0.5: 0.5, 1.0: 0.4, 2.0: math.inf}, None)])
def test_a_grid_is_extended_at_the_edge_of_its_best_rate(errors, expected):
    assert grid.beyond(errors, 2.0) == expected


def test_equal_errors_do_not_move_a_grid():
    assert grid.best({0.5: 0.9, 1.0: 0.9, 2.0: 0.9}) == 1.0
    assert grid.beyond({0.5: 0.9, 1.0: 0.9, 2.0: 0.9}, 2.0) is None


def test_the_known_ratio_comes_out_at_the_rates_that_are_best(finished):
    folder, kept = finished
    for where in (folder, kept):
        claim = json.loads((where / "figure1.json").read_text())
        assert (claim["claim"], claim["measured"]["unit"], claim["measured"]["n"]) == ("relu", "ratio", 3)
        # The curves are exponential and the interpolation linear, so a part in a hundred is lost.
        assert claim["measured"]["value"] == pytest.approx(6.0, rel=0.02)
        assert claim["measured"]["low"] < claim["measured"]["value"] < claim["measured"]["high"]
        assert claim["verdict"]["word"] == "reproduced"
        assert claim["figure"]["rates"] == {"relu": 0.002, "tanh": 0.0005}
        tried = {a: [p["rate"] for p in claim["figure"]["grid"] if p["activation"] == a] for a in ("relu", "tanh")}
        assert tried == {"relu": [0.0005, 0.001, 0.002, 0.004], "tanh": [0.00025, 0.0005, 0.001, 0.002]}
        assert claim["figure"]["epochs_to_threshold"]["relu"]["0"]["epochs"] == pytest.approx(6.0, rel=0.01)
        assert set(claim["protocol"]) == {"dataset", "train_split", "eval_split", "resolution", "seeds", "epochs",
                                          "device", "revision", "command"}
        assert claim["protocol"]["seeds"] == [0, 1, 2]
        # 36 seconds an epoch: 8 runs of 6 epochs, then 3 of 6 and 3 of 36, and two neighbours of each: 8, a third more,
        # and 45, a quarter more, which isn't enough.
        assert claim["cost_core_hours"] == pytest.approx((48 + 3 * 6 + 3 * 36 + 2 * 8 + 2 * 45) / 100, abs=0.03)
        beside = {a: {rate: x["reached"] for rate, x in by.items()} for a, by in claim["figure"]["neighbours"].items()}
        assert beside == {"relu": {"0.001": True, "0.004": True}, "tanh": {"0.00025": False, "0.001": False}}
        assert ("epochs of seed 0 at the chosen rate and beside it: ReLU 8.0 at 0.001, 6.0 at 0.002, 8.0 at 0.004; "
                "tanh over 45.0 at 0.00025, 36.0 at 0.0005, over 45.0 at 0.001; the ratio of the quickest 6.0"
                ) in claim["verdict"]["why"]
        assert (where / "figure1.png").stat().st_size > 20_000


def test_the_same_command_computes_nothing_again(finished, capsys):
    folder, _ = finished
    before = {p: p.read_text() for p in folder.rglob("starts.log")}
    assert set(before.values()) == {"started\n"}
    assert go(f"--workdir={folder}", "--seeds=3") == 0
    assert {p: p.read_text() for p in folder.rglob("starts.log")} == before
    assert "6.0× [" in capsys.readouterr().out


def test_records_hold_no_machine_s_folders_and_are_enough_to_draw(finished):
    folder, kept = finished
    for path in kept.rglob("*.*"):
        if path.suffix in (".json", ".csv"):
            assert str(folder.parent) not in path.read_text()
    assert not list(kept.rglob("starts.log"))
    before = {p: p.read_bytes() for p in kept.rglob("*") if p.is_file()}
    assert figure1.main([f"--results={kept}"]) == 0
    assert {p: p.read_bytes() for p in kept.rglob("*") if p.is_file()} == before
    # Nor are the numbers written again: a record from before the neighbours were tried has none.
    (kept / "figure1.json").write_text("{}\n")
    (kept / "figure1.png").unlink()
    try:
        assert figure1.main([f"--results={kept}"]) == 0
        assert (kept / "figure1.json").read_text() == "{}\n"
        assert (kept / "figure1.png").read_bytes() == before[kept / "figure1.png"]
    finally:
        (kept / "figure1.json").write_bytes(before[kept / "figure1.json"])
    with pytest.raises(ConfigError, match="--record: --results only draws"):
        figure1.main([f"--results={kept}", f"--record={kept}"])
    assert list(packed.Record(kept / "grid").runs) == list(plan_lib.read(folder / "grid").runs)


def _unpacked(kept, folder):
    """The records as workdirs, whose files a test may change."""
    for part in ("grid", "seeds"):
        recording.unpack(kept / part, folder / part)
    return folder


def test_a_cap_gives_a_lower_bound(tmp_path):
    assert go(f"--workdir={tmp_path}", "--seeds=2", "--epochs=20", "--grid=0.0005,0.002", "--grid_epochs=2") == 0
    claim = json.loads((tmp_path / "figure1.json").read_text())
    assert claim["measured"]["text"].startswith("at least 3.3× (95% interval from 3.2)")
    assert claim["measured"]["high"] is None
    assert claim["figure"]["epochs_to_threshold"]["tanh"]["0"] == {"epochs": 20.0, "reached": False}


def test_a_broken_off_run_is_named_and_left_out(finished, tmp_path):
    kept = _unpacked(finished[1], tmp_path)
    seeds = plan_lib.read(kept / "seeds")
    run = next(r for r in seeds.runs.values() if seeds.label(r.id) == "baseline seed 1")
    path = kept / "seeds" / run.dir / "result.json"
    run_files.write_json(path, json.loads(path.read_text()) | {"status": "diverged", "eval": None})
    found = figure1.measure(kept)
    assert found["broken"] == ["relu seed 1 (diverged)"]
    assert found["ratio"].log.n == 2


def _stop(kept, tmp_path, epochs):
    """A copy of the records in which these seeds with tanh are under way, after so many epochs."""
    _unpacked(kept, tmp_path / "kept")
    seeds = plan_lib.read(tmp_path / "kept" / "seeds")
    for seed, had in epochs.items():
        run = next(r for r in seeds.runs.values() if seeds.label(r.id) == f"tanh_0.0005 seed {seed}")
        folder = tmp_path / "kept" / "seeds" / run.dir
        (folder / "result.json").unlink()
        lines = (folder / "metrics.csv").read_text().splitlines()
        (folder / "metrics.csv").write_text("\n".join(lines[:1 + had]) + "\n")
    return tmp_path / "kept"


def test_a_run_under_way_is_a_lower_bound_once_it_took_longer_than_relu(finished, tmp_path):
    _, kept = finished
    folder = _stop(kept, tmp_path, {0: 20, 1: 3, 2: 25})
    found = figure1.measure(folder)
    assert found["arrivals"]["tanh"] == {0: Arrival(20, False), 2: Arrival(25, False)}
    assert found["broken"] == ["tanh seed 1 (under way, epoch 3)"]
    assert (found["ratio"].bound, found["ratio"].log.n) == ("at least", 2)
    figure1.write(folder, found, ["figure1"])
    claim = json.loads((folder / "figure1.json").read_text())
    assert claim["protocol"]["seeds"] == [0, 2]
    assert claim["measured"]["text"].startswith("at least ")


def test_a_run_under_way_says_nothing_before_it_took_longer_than_all_that_arrived(finished, tmp_path):
    _, kept = finished
    found = figure1.measure(_stop(kept, tmp_path, {1: 20}))
    assert sorted(found["arrivals"]["tanh"]) == [0, 2]
    assert found["broken"] == ["tanh seed 1 (under way, epoch 20)"]
    assert (found["ratio"].bound, found["ratio"].log.n) == ("", 2)


@pytest.mark.parametrize(("arguments", "part"), [
    (("--seeds=0",), "--seeds=0"), (("--grid=fast",), "--grid=fast: write learning rates"),
    (("--grid=0.1,inf",), "--grid=0.1,inf: write learning rates"),
    (("--jobs=none",), "--jobs: 'none' is not a whole number"), (("--config=configs/nothing.py",), "no such file"),
    (("--config=configs/cifar10.py",), "recipe 'relu'")])
def test_bad_arguments_in_one_line(tmp_path, arguments, part):
    with pytest.raises(ConfigError, match=part) as caught:
        go(f"--workdir={tmp_path / 'runs'}", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_nothing_recorded_yet(tmp_path):
    with pytest.raises(ConfigError, match=r"--results=.*none: no folder grid there"):
        figure1.main([f"--results={tmp_path / 'none'}"])


def test_too_early_to_draw(finished, tmp_path):
    _, kept = finished
    _unpacked(kept, tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept" / "seeds" / "runs")
    with pytest.raises(WorkdirError, match="no finished run with relu or tanh yet"):
        figure1.measure(tmp_path / "kept")
