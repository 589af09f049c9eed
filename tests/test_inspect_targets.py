"""Compiled, not run: the full network for H100s and TPU v5e, by XLA's own compilers, which need no accelerator.

`make test-targets` installs the compilers and runs this; each test skips, with the reason, where its compiler is
absent. Each target is compiled once, in a process of its own, for both recipes in bfloat16 with 128 images a replica.
"""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from alexnet_jax.errors import ConfigError, UserError
from alexnet_jax.inspect import targets

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPLICA = 128
RECIPES = ("paper", "released")


@functools.cache
def compiled(target, which="forward,step"):
    """{recipe: {'state': bytes, 'forward': …, 'step': …}} of the programs for `target`; skips without its compiler."""
    kind = targets.parse(target).kind
    if importlib.util.find_spec(kind.module) is None:
        pytest.skip(f"the compiler for {kind.title} is not installed: make test-targets")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "TPU_"))}
    command = [sys.executable, ROOT / "tests/programs/targets_compiled.py", target, which, ",".join(RECIPES)]
    done = subprocess.run(command, cwd=ROOT, text=True,
                          env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=1750, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# What a replica's 128 images are at each exchange, in bfloat16: all columns' values together.
_EXCHANGED = {"conv3": 2 * REPLICA * 13 * 13 * 256, "fc6": 2 * REPLICA * 6 * 6 * 256, "fc7": 2 * REPLICA * 4096}
_LOGITS = 4 * REPLICA * 1000  # summed in float32
FORWARD = sorted([["all-gather", "column", name, size // 2, size] for name, size in _EXCHANGED.items()]
                 + [["all-reduce", "column", "fc8", _LOGITS, _LOGITS]])
STEP = sorted(FORWARD + [["reduce-scatter", "column", name, size, size // 2] for name, size in _EXCHANGED.items()])
# The state of one device with both columns: 60,965,224 parameters and as many velocities, float32.
WHOLE = 2 * 4 * 60_965_224
BIASES = 2 * 4 * 1000  # fc8's, whole on every device

on_all = pytest.mark.parametrize("target", ["h100:1x2", "h100:4x2", "v5e:128x2"])
of_both = pytest.mark.parametrize("recipe", RECIPES)


@pytest.mark.targets
@pytest.mark.timeout(1800)
@on_all
@of_both
def test_forward_is_three_gathers_and_a_sum_between_the_columns(target, recipe):
    assert sorted(compiled(target)[recipe]["forward"]["collectives"]) == FORWARD


@pytest.mark.targets
@pytest.mark.timeout(1800)
@on_all
@of_both
def test_training_adds_three_scatters_and_sums_of_gradients_over_data(target, recipe):
    got = compiled(target)[recipe]
    found = got["step"]["collectives"]
    assert sorted(x for x in found if x[1] == "column") == STEP
    # Over 'data': the gradients in float32, every byte once, and two scalars (loss and mistakes). The compilers join
    # gradients of several layers into one collective, and how many they make of it is theirs to choose: one to three
    # were seen.
    rest = [x for x in found if x[1] != "column"]
    if targets.parse(target).data == 1:
        assert rest == []
    else:
        assert {tuple(x[:3]) for x in rest} == {("all-reduce", "data", "gradients")}
        assert len(rest) <= 4
        assert sum(handed_in for *_, handed_in, _ in rest) == got["state"] // 2 + 2 * 4


@pytest.mark.targets
@pytest.mark.timeout(1800)
@on_all
@of_both
def test_everything_fits(target, recipe):
    for which in ("forward", "step"):
        memory = compiled(target)[recipe][which]["memory"]
        assert 0 < memory["temporaries"] < memory["total"] < targets.parse(target).kind.memory
    # The new state takes the old one's place: what is put out beside it are three sums (padded, on a TPU).
    memory = compiled(target)[recipe]["step"]["memory"]
    assert memory["outputs"] - memory["aliased"] < 4096


@pytest.mark.targets
@pytest.mark.timeout(1800)
@on_all
@of_both
def test_a_column_of_its_own_halves_the_state(target, recipe):
    assert compiled(target)[recipe]["state"] == (WHOLE - BIASES) // 2 + BIASES


@pytest.mark.targets
@pytest.mark.timeout(1800)
@of_both
def test_a_second_card_halves_work_and_memory(recipe):
    one, two = compiled("h100:1x1", "step")[recipe], compiled("h100:1x2")[recipe]
    assert one["step"]["collectives"] == []
    assert one["state"] == WHOLE
    # The compiler's own sums differ by as much: images and constants are whole on both cards.
    memory = [x["step"]["memory"] for x in (one, two)]
    assert memory[0]["arguments"] - memory[1]["arguments"] == (WHOLE - BIASES) // 2
    assert memory[1]["temporaries"] < 0.75 * memory[0]["temporaries"]
    # Calls of cuDNN on each card: a convolution a layer and column, conv1 and conv3 (which both columns read alike) in
    # one; a gradient for each one's kernels, and for its input but for the images.
    def calls(x):
        c = x["step"]["convolutions"]
        return c["BiasActivationForward"] + c["Forward"], c["BackwardFilter"], c["BackwardInput"]

    assert calls(two) == (5, 5, 4)
    assert calls(one) == (1 + 2 + 1 + 2 + 2, 1 + 2 + 1 + 2 + 2, 2 + 1 + 2 + 2)


@pytest.mark.targets
@pytest.mark.timeout(1800)
@of_both
def test_a_chip_does_half_of_the_work(recipe):
    products = {"conv1": 105_415_200, "conv2": 223_948_800, "conv3": 149_520_384, "conv4": 112_140_288,
                "conv5": 74_760_192, "fc6": 37_748_736, "fc7": 16_777_216, "fc8": 4_096_000}
    got = compiled("v5e:128x2")[recipe]
    half = REPLICA * sum(products.values())  # two operations each, of half of the products
    # TPU's compiler leaves products with the padding's zeros out of its count.
    assert 0.9 * half < got["forward"]["flops"] < 1.05 * half
    backward = 3 * half - REPLICA * products["conv1"]
    assert 0.9 * backward < got["step"]["flops"] < 1.05 * backward


@pytest.mark.targets
@pytest.mark.timeout(1800)
def test_the_command_prints_what_was_compiled():
    compiled("h100:1x2")  # skips where there is no compiler
    done = _describe("--config=configs/imagenet_released.py", "--config.train.precision=bfloat16", "--target=h100:1x2",
                     "--nolargest_batch")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("compiled, not run: 2 × NVIDIA H100 80GB HBM3 (1 data × 2 column), bfloat16, "
                                  "batch 128 (128 a replica); jax ")
    assert "forward pass of one view: 4 collectives\n" in done.stdout
    assert "training step: 7 collectives\n" in done.stdout
    assert "all-gather  column  conv3  5,537,792  11,075,584" in done.stdout
    assert f"parameters and velocity: {(WHOLE - BIASES) // 2 + BIASES:,} bytes" in done.stdout


@pytest.mark.targets
@pytest.mark.timeout(1800)
def test_columns_that_do_not_divide_are_refused_before_anything_is_compiled():
    compiled("h100:1x2")
    done = _describe("--config=configs/imagenet_released.py", "--target=h100:1x3")
    assert done.returncode == 2
    assert done.stderr == "error: config.mesh.column: 2 columns do not divide over 3 devices; valid: 1, 2\n"


# Without a compiler.


def _describe(*arguments, **env):
    return subprocess.run([sys.executable, "-m", "alexnet_jax.describe", *arguments], cwd=ROOT, capture_output=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT), **env), text=True, timeout=900, check=False)


def test_targets_are_parsed():
    target = targets.parse("h100:4x2")
    assert (target.name, target.data, target.column, target.devices, str(target)) == ("h100", 4, 2, 8, "h100:4x2")
    assert target.kind.memory == 76_436_412_825


@pytest.mark.parametrize("text", ["h100", "a100:1x2", "h100:0x2", "h100:1x", "h100:1×2", "v5e:128x2x1", ""])
def test_an_unknown_target_is_answered_with_the_valid_forms(text):
    with pytest.raises(ConfigError) as caught:
        targets.parse(text)
    message = str(caught.value)
    assert message.startswith(f"--target={text}: not a target; valid: h100:DATAxCOLUMN, v5e:DATAxCOLUMN")
    assert "\n" not in message


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match=r"--target=v5e:256x2: 512 devices; at most 256 v5e"):
        targets.parse("v5e:256x2")


def test_without_the_compiler_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for text, extra in (("h100:1x2", "targets-cuda"), ("v5e:128x2", "targets-tpu")):
        with pytest.raises(UserError) as caught:
            targets.prepare(targets.parse(text))
        assert f"is not installed; pip install -c constraints.txt -e '.[{extra}]'" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("target", "fixed", "each", "refuses"), [
    ("h100:1x2", 300_000_000, 4_230_000, False), ("h100:4x2", 300_000_000, 4_230_000, False),
    ("v5e:128x2", 300_000_000, 4_600_000, True), ("h100:1x1", 76_000_000_000, 3_000_000, False)])
def test_the_search_brackets_the_largest_batch(monkeypatch, target, fixed, each, refuses):
    from alexnet_jax.inspect.targets import compiling

    target, tried = targets.parse(target), []

    def compile_program(batch, which, _):
        need = fixed + each * batch // target.data
        tried.append(batch)
        if refuses and need > target.kind.memory:
            raise MemoryError
        return compiling.Compiled((), (), compiling.Memory(need, 0, 0, 0, 0), 0.0, None, None, "")

    monkeypatch.setattr(compiling, "program_for", lambda config, classes, target, batch: batch)
    monkeypatch.setattr(compiling, "compile_program", compile_program)
    said = []
    low, high = compiling.largest_batch(None, 10, target, {32: 1}, said.append)
    unit, largest = 128 * target.data, (target.kind.memory - fixed) // each * target.data
    assert low <= largest < high
    assert high - low <= max(unit, low // 16)
    assert low % unit == 0
    assert len(tried) == len(set(tried)) == len(said) <= 8


def test_a_step_that_never_fits_is_one_line(monkeypatch):
    from alexnet_jax.inspect.targets import compiling

    huge = compiling.Compiled((), (), compiling.Memory(1 << 50, 0, 0, 0, 0), 0.0, None, None, "")
    monkeypatch.setattr(compiling, "program_for", lambda *_: None)
    monkeypatch.setattr(compiling, "compile_program", lambda *_: huge)
    with pytest.raises(UserError, match=r"--target=h100:1x2: the training step does not fit with 128 images"):
        compiling.largest_batch(None, 10, targets.parse("h100:1x2"))


def test_the_command_names_a_wrong_target_at_once():
    done = _describe("--config=configs/shapes.py", "--target=b200:1x2")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --target=b200:1x2: not a target; valid: h100:DATAxCOLUMN")
    assert len(done.stderr.splitlines()) == 1
