"""The part "what_for" of `benchmarks.accelerator`: sweeps stopped in time, recorded, and continued elsewhere."""

import shutil
import sys
import tarfile

import fake_driver
import pytest

from alexnet_jax import provenance
from benchmarks.accelerator import context, what_for
from benchmarks.accelerator import record as records
from benchmarks.accelerator.what_for import Evidence
from experiments import recording
from experiments.analysis import workdirs
from experiments.sweep import sweep_file

DEVICE = {"platform": "cpu", "kind": "a processor", "count": 1, "memory": None, "cores": 1}


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs the part on sweeps of fake runs; returns its record and its words. `left`: the seconds that it has."""
    monkeypatch.setattr(what_for, "DRIVER", (sys.executable, fake_driver.FAKE))
    monkeypatch.setattr(what_for, "_PACK_EVERY", 0.0)
    attempts = []

    def run(*evidence, out="out", left=lambda: 1000.0):
        monkeypatch.setattr(what_for, "OPEN", evidence)
        (tmp_path / out).mkdir(exist_ok=True)
        attempts.append(out)
        found = records.read(tmp_path / out, "what_for") or {
            "schema": 1, "part": "what_for", "quick": False, "device": DEVICE, "steps": {}}
        said = []
        own = context.Context(tmp_path / out, found, 0.0, str(len(attempts)), said.append)
        monkeypatch.setattr(own, "left", left)
        what_for.run(own)
        own.end()
        return records.read(tmp_path / out, "what_for"), [line for line in said if "uncommitted changes" not in line]

    return run


def _mine(tmp_path, seeds=(1, 2), **options):
    return Evidence("X", "mine", seeds, (fake_driver.sweep(tmp_path, **options),))


def _recorded(archive, folder):
    """{label: state} of the sweep in an archive."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    sweep = workdirs.read_sweep(folder / "records" / "mine")
    return {f"{arm.name} seed {seed}": run.state for arm in sweep.arms for seed, run in arm.runs.items()}


def test_a_sweep_is_run_and_recorded_and_another_machine_resumes_from_the_records(go, tmp_path):
    found, said = go(_mine(tmp_path))
    step = found["steps"]["X: mine"]
    assert (found["status"], step["finished"], step["runs"]) == ("finished", 4, 4)
    assert said == ["what_for: mine: 4 of 4 runs finished"]
    archive = tmp_path / "out" / "what_for" / "records.tar.gz"
    assert set(_recorded(archive, tmp_path / "a").values()) == {"finished"}
    (tmp_path / "other" / "what_for").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "other" / "what_for")
    found, _ = go(_mine(tmp_path, (1, 2, 3)), out="other")
    assert found["steps"]["X: mine"]["finished"] == 6
    done = fake_driver.steps(tmp_path / "other" / "what_for" / "work" / "mine")
    assert done == {f"{arm} seed {seed}": fake_driver.ALL if seed == 3 else []
                    for arm in ("baseline", "no_lrn") for seed in (1, 2, 3)}


def test_it_stops_in_time_and_nothing_is_done_twice(go, tmp_path):
    # The arm waits after its first step until it is told to continue; the time is up when the baseline has finished.
    mine = _mine(tmp_path, (1,), arms={"waits": {"train.eval_every": 8}})
    own = tmp_path / "out" / "what_for" / "work" / "mine"
    there = {"finished": 1, "begun": 2, "runs": 2}
    found, said = go(mine, left=lambda: 1000.0 * (what_for.counts(own) != there or "1" not in _log(own, "waits")))
    assert found["status"] == "cut off"
    step = found["steps"]["X: mine"]
    assert step["partial"]
    assert {key: step[key] for key in there} == there
    assert said == ["what_for: mine: 1 of 2 runs finished"]
    archive = tmp_path / "out" / "what_for" / "records.tar.gz"
    assert _recorded(archive, tmp_path / "a") == {"baseline seed 1": "finished", "waits seed 1": "unfinished"}
    # On this machine it resumes; on another one what had not finished begins anew.
    other = tmp_path / "other" / "what_for" / "work" / "mine"
    other.parent.mkdir(parents=True)
    what_for.unpack(archive, other.parent)
    for workdir in (own, other):
        (workdir / "go").touch()
        found, _ = go(mine, out=workdir.parents[2].name)
        assert found["steps"]["X: mine"]["finished"] == 2
    assert fake_driver.steps(own) == dict.fromkeys(("baseline seed 1", "waits seed 1"), fake_driver.ALL)
    assert fake_driver.steps(other) == {"baseline seed 1": [], "waits seed 1": fake_driver.ALL}


def _log(workdir, name):
    return "".join(path.read_text() for path in workdir.glob(f"runs/{name}-*/steps.log"))


def test_a_sweep_without_its_images_is_left_out_and_the_next_one_runs(go, tmp_path, monkeypatch):
    monkeypatch.setattr(what_for, "DRIVER", (sys.executable, "-c", "import sys; from experiments import run; "
                                             "sys.argv[0] = 'experiments.run'; run.run()"))
    for name in ("ALEXNET_DATA_DIR", "ALEXNET_STORE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    found, said = go(what_for.OPEN[0])
    assert found["status"] == "cut off"
    step = found["steps"]["B1: tiny_imagenet_paper_like"]
    assert "tiny-imagenet-100" in step["left_out"]
    assert said[-1] == f"what_for: tiny_imagenet_paper_like is left out: {step['left_out']}"
    monkeypatch.setattr(what_for, "DRIVER", (sys.executable, fake_driver.FAKE))
    found, _ = go(_mine(tmp_path, (1,)))
    assert found["steps"]["X: mine"]["finished"] == 2


def test_runs_that_fail_are_an_error_and_the_others_are_recorded(go, tmp_path):
    found, _ = go(_mine(tmp_path, (1,), arms={"bad": {"optim.learning_rate": 9.0}}))
    assert found["status"] == "failed"
    assert found["steps"]["X: mine"]["error"] == "UserError: 1 run failed; the same command tries again"
    assert found["steps"]["X: mine"]["finished"] == 1
    states = _recorded(tmp_path / "out" / "what_for" / "records.tar.gz", tmp_path / "a")
    assert states == {"baseline seed 1": "finished", "bad seed 1": "failed"}


def test_what_is_open_is_the_plans():
    for evidence in what_for.OPEN:
        asked = sweep_file.load(evidence.arguments[0].removeprefix("--sweep="))
        assert evidence.seeds == asked.seeds
    whole = next(one for one in what_for.OPEN if one.name == "conv_local_whole")
    assert whole.arguments[1:] == ("--config.train.epochs=520", "--config.train.eval_every=104")


def test_a_record_is_resumed_and_seeds_begun_on_another_kind_are_left_to_it(go, tmp_path, monkeypatch):
    monkeypatch.setattr(what_for, "RESULTS", tmp_path / "results")
    mine = _mine(tmp_path)
    assert what_for.seeds_left(mine, "a card") == (1, 2)
    go(mine)  # and is recorded
    kind = provenance.cpu_name()
    recording.copy_sweep(tmp_path / "out" / "what_for" / "work" / "mine", tmp_path / "results" / "mine")
    more = _mine(tmp_path, (1, 2, 3))
    assert what_for.seeds_left(more, kind) == (1, 2, 3)
    assert what_for.seeds_left(more, "a card") == (3,)
    monkeypatch.setitem(DEVICE, "kind", kind)
    go(more, out="other")
    done = fake_driver.steps(tmp_path / "other" / "what_for" / "work" / "mine")
    assert [label for label, steps in done.items() if steps] == ["baseline seed 3", "no_lrn seed 3"]
    monkeypatch.setitem(DEVICE, "kind", "a card")
    found, _ = go(mine, out="card")
    assert found["status"] == "finished"
    assert "another kind" in found["steps"]["X: mine"]["recorded"]
