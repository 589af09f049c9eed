"""What has to be equal on an accelerator: part "right" of benchmarks.accelerator, run on the one that JAX sees.

On a CPU these skip; there each of the same checks runs on small networks (and finds what is wrong). The part has a
process of its own: as a user's programs are compiled, not as the other tests' (conftest.py).
"""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from oracle import needs_torch

from alexnet_jax.errors import UserError
from alexnet_jax.models import arithmetic
from benchmarks.accelerator import checks, compared, context, exact, reference, resumed, right

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = f"released{compared.SMALL}"


def _run(out, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", "--parts=right", f"--out={out}", *arguments], cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS" or "--quick" in arguments},
        capture_output=True, text=True, check=False)
    path = out / "right.json"
    return done, json.loads(path.read_text()) if path.exists() else {}


# On an accelerator.


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    platform = jax.devices()[0].platform
    if platform == "cpu":
        pytest.skip("JAX sees no accelerator here")
    done, record = _run(tmp_path_factory.mktemp("right"), "--minutes=20")
    assert record, done.stderr
    return record["steps"]


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("step", right.titles(quick=False))
def test_an_accelerator_computes_what_a_cpu_does(step, found):
    assert found[step].get("right"), found[step]


# The same checks on a CPU.


@pytest.mark.timeout(900)
def test_all_checks_are_right_on_a_cpu_with_small_networks(tmp_path):
    done, record = _run(tmp_path, "--quick", "--minutes=14")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(record["steps"]) == right.titles(quick=True)
    assert all(step["right"] for step in record["steps"].values())
    assert record["note"].startswith("a rehearsal")


@pytest.mark.parametrize("name", right.layer_checks(quick=True))
def test_a_layer_alone(name):
    assert right.layer_checks(quick=True)[name]()["right"]


@pytest.mark.parametrize(("name", "function"), [
    ("response norm, conv2", "local_response_norm"), ("same-map norm", "same_map_norm"), ("max pooling", "pool")])
def test_a_layer_that_is_a_little_wrong_is_found(name, function, monkeypatch):
    own = getattr(arithmetic, function)
    # Beyond what a layer may be off by for its rounding: TF32's in a norm, one maximum credited twice.
    monkeypatch.setattr(arithmetic, function, lambda *a, **b: own(*a, **b) * (1 + 1e-5))
    assert not right.layer_checks(quick=True)[name]()["right"]


def test_a_small_network_and_what_training_draws():
    network = checks.Network(SMALL, "float32")
    assert network.check(network.compile())["right"]
    assert checks.same_draws(("paper", "caffe"))["right"]  # the rehearsal's are the released code's


def test_other_draws_are_found(monkeypatch):
    wanted = compared.read("draws")
    wanted["crops"]["released 7"][3][2] ^= 1
    wanted["masks"]["other"]["kept"] += 1
    wanted["shifts"]["released 0"][5][1] *= 1.001
    right_ones = compared.read("draws")
    monkeypatch.setattr(checks, "draws", lambda recipes: right_ones)
    monkeypatch.setattr(compared, "read", lambda name: wanted)
    found = checks.same_draws()
    assert (found["right"], found["crops_that_differ"], found["masks_that_differ"]) == (False, 1, ["other"])
    assert found["noise"] > 1e-5


@pytest.mark.parametrize("name", [name for name in compared.NETWORKS if compared.SMALL not in name])
def test_tf32_is_not_taken_for_float32_and_half_a_gradient_is_not_right(name):
    wanted = compared.read(name)
    for precision in compared.PRECISIONS:
        errors, tolerance = wanted["errors"][precision], checks.tolerances(wanted, precision)
        assert errors.keys() == tolerance.keys() == {"loss", *wanted["tensors"]}
        assert all(errors[key] < tolerance[key] < 1 for key in errors)
        found = json.loads(json.dumps(wanted))
        assert checks.judged(found, wanted, precision)["share_of_tolerance"] == 0
        for key in ("norm", "projections", "entries"):
            tensor = found["tensors"]["conv3.kernel"]
            tensor[key] = (np.asarray(tensor[key]) * (0.1 if precision == "bfloat16" else 0.5)).tolist()
        judged = checks.judged(found, wanted, precision)
        assert (judged["right"], judged["worst"]) == (False, "conv3.kernel")
    assert wanted["errors"]["tensorfloat32"]["logits"] > 10 * checks.tolerances(wanted, "float32")["logits"]


@pytest.mark.parametrize("name", compared.LOSSES)
def test_other_losses_and_other_initial_weights_are_found(name, monkeypatch):
    wanted = compared.read(f"losses-{name}")
    monkeypatch.setattr(checks, "losses", lambda name: found)
    for update, right_ones in ((None, True), (0, False), (3, False)):
        found = json.loads(json.dumps(wanted))
        if update is not None:
            found["losses"][update] *= 1.001
        assert checks.same_losses(name)["right"] == right_ones
    found = json.loads(json.dumps(wanted))
    found["initial"]["conv2.kernel"]["norm"] *= 1.001
    assert not checks.same_losses(name)["right"]


def test_a_call_of_many_steps_that_draws_otherwise_is_found(tmp_path, monkeypatch):
    train = checks.Feed.train

    def later(self, call, state, sums, consts, moment):
        return train(self, call, state, sums, consts, moment._replace(step=np.int32(moment.step + (call.steps > 1))))

    monkeypatch.setattr(checks.Feed, "train", later)
    found = checks.same_calls(tmp_path, "tiny")
    assert not found["right"]
    apart = found["apart"]["calls of 4, streamed"]
    assert all(apart[key] > 4 * most for key, most in checks.CALLS.items()), apart
    assert all(found["apart"]["on the device, streamed"][key] <= most for key, most in checks.CALLS.items())


def test_a_device_is_not_taken_for_another(tmp_path, monkeypatch):
    own = context.Context(tmp_path, {"quick": True, "part": "right", "steps": {}, "device": {
        "platform": "another", "kind": "a card", "cores": 1}}, 60.0, "now", print)
    with pytest.raises(UserError, match=f"^JAX sees {jax.devices()[0].platform} now, where it saw a card$"):
        right.run(own)


# The references.


@needs_torch
def test_the_reference_of_a_small_network_is_reproduced():
    made, wanted = reference.network(SMALL), compared.read(SMALL)
    assert max(compared.distances(made, wanted).values()) < 1e-9
    assert made.keys() == wanted.keys()


def test_weights_and_images_are_the_same_anywhere():
    # By hand: splitmix64's first outputs from seed 0 (Vigna, https://prng.di.unimi.it/splitmix64.c).
    assert exact.words("", 3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert exact.whole("x", (5,), 1 << 15).tolist() == [
        int(exact.words("x", 2)[i // 4] >> np.uint64(16 * (i % 4)) & np.uint64(0xFFFF)) - (1 << 16) * int(
            exact.words("x", 2)[i // 4] >> np.uint64(16 * (i % 4) + 15) & np.uint64(1)) for i in range(5)]
    numbers = exact.scattered("y", (1 << 16,), 0.03)
    assert numbers.std() == pytest.approx(0.03, rel=0.01)
    scaled = numbers.astype(np.float64) * 2.0**16
    assert (scaled == np.round(scaled)).all()  # whole numbers
    assert np.abs(scaled).max() < 2**12


def test_a_distance_is_that_of_the_arrays():
    a = exact.scattered("a", (300, 40), 1.0).astype(np.float64)
    b = a + exact.scattered("b", (300, 40), 0.01)
    measured = exact.distance(exact.summary("t", b), exact.summary("t", a))
    assert measured == pytest.approx(exact.relative(b, a), rel=0.5)
    assert exact.distance(exact.summary("t", np.full_like(a, np.nan)), exact.summary("t", a)) == np.inf
    assert exact.distance(exact.summary("t", a[::-1].copy()), exact.summary("t", a)) > 1  # the right numbers elsewhere


def test_a_resumed_run_that_differs_is_found(tmp_path, monkeypatch):
    def train(command, **_):
        workdir = pathlib.Path(command[4])
        (workdir / "checkpoints" / "3").mkdir(parents=True, exist_ok=True)
        for name in ("metrics.csv", "outcomes.json", "digest", *(() if "kill" in command else ("result.json",))):
            (workdir / name).write_text(str(workdir if name == "digest" else ""))
        (workdir / "run.json").write_text(json.dumps({"device": {"platform": platform}}))
        return subprocess.CompletedProcess(command, -9 if "kill" in command else 0)

    platform = "gpu"
    monkeypatch.setattr(subprocess, "run", train)
    found = resumed.same_when_resumed(tmp_path / "x", "tiny", gpu=True)
    assert (found["right"], found["files_that_differ"]) == (False, ["digest"])
    assert (found["flags"], found["killed_after_step"]) == (resumed.DETERMINISTIC, 3)
    platform = "cpu"
    with pytest.raises(RuntimeError, match="a process of the three computed on the CPU"):
        resumed.same_when_resumed(tmp_path / "x", "tiny", gpu=True)
    monkeypatch.setattr(subprocess, "run", functools.partial(train_that_ends, train))
    with pytest.raises(RuntimeError, match=r"the three processes ended with \[0, 1, 0\], and not 0, -9, 0"):
        resumed.same_when_resumed(tmp_path / "x", "tiny", gpu=False)


def train_that_ends(train, command, **options):
    return subprocess.CompletedProcess(command, abs(train(command, **options).returncode) // 9)
