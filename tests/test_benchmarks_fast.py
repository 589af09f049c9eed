"""The part "fast" of `benchmarks.accelerator`: what is measured when, and results after failures. No times."""

import json
import os
import subprocess
import sys
from typing import ClassVar

import pytest
from oracle import needs_torch

from alexnet_jax.errors import UserError
from benchmarks import command, contenders, table
from benchmarks.accelerator import context, fast
from benchmarks.accelerator import record as records
from benchmarks.racing import BEST, STOCK, Cell

CPU = {"platform": "cpu", "kind": "a processor", "count": 1, "memory": None, "cores": 1}
GPU = CPU | {"platform": "gpu", "kind": "a card"}
SECONDS = {"ours": 0.002, STOCK: 0.006, BEST: 0.003}


class Child:
    """A contender that computes nothing. `fails` is {what: message}, the same for all calls of that name."""

    made: ClassVar[list] = []
    log: ClassVar[list] = []

    def __init__(self, side, cores, environment=None):
        self.side, self.fails = side, {}
        self.name = ("ours", STOCK, BEST)[len(Child.made) % 3]
        Child.made.append(self)
        self.seen = GPU | {"platform": "cuda" if side == "torch" else "gpu"}

    def begin(self, what, timeout=None, **arguments):
        Child.log.append((self.name, what))
        self._asked = what, arguments

    def answer(self):
        what, arguments = self._asked
        Child.log.append((self.name, f"{what} answered"))
        if what in self.fails:
            raise UserError(f"{self.side}: {self.fails[what]}")
        return {
            "about": self.seen, "setup": 1.0, "loss": 2.3, "forget": None, "matmul": 4e14, "copy": 2e12,
            "run": SECONDS[self.name] * arguments.get("steps", 0), "kernels": {"seconds": 0.0016, "kernels": [
                {"name": "wgmma", "instruction": "x", "where": "jit(f)/jvp()/conv2/conv", "seconds": 0.0008,
                 "calls": 1.0}]}}[what]

    def ask(self, what, timeout=None, **arguments):
        self.begin(what, timeout, **arguments)
        return self.answer()

    def close(self):
        Child.log.append((self.name, "ended"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        Child.log.append((self.name, "closed"))


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs the part with children that `change` may spoil; returns its record."""
    monkeypatch.setattr(contenders, "Contender", Child)
    monkeypatch.setattr(fast, "CELLS", (Cell("released", 128, "bfloat16"), Cell("released-no-lrn", 8, "float32")))
    said = []

    def run(change=lambda child: None, device=GPU, seconds=600.0):
        Child.made, Child.log = [], []
        monkeypatch.setattr(Child, "__enter__", lambda self: change(self) or self)
        found = records.read(tmp_path, "fast") or {
            "schema": 1, "part": "fast", "quick": False, "device": device, "versions": {"jax": "0.0"}, "steps": {},
            "command": "python -m benchmarks.accelerator", "begun": ["2020-01-01T00:00:00"]}
        own = context.Context(tmp_path, found, seconds, str(len(said)), said.append)
        fast.run(own)
        own.end()
        return records.read(tmp_path, "fast"), said

    return run


def test_all_compile_side_by_side_and_take_turns_when_all_have(go):
    found, said = go()
    assert found["status"] == "finished"
    assert said == [*(f"fast: matrix product 400.0 TFLOP/s ({precision}), copy 2,000 GB/s" for precision in
                      ("bfloat16", "tensorfloat32", "float32")),
                    "fast: released, batch 128, bfloat16: ours 2.00 ms, PyTorch 6.00 ms, PyTorch, tuned 3.00 ms",
                    "fast: released-no-lrn, batch 8, float32: ours 2.00 ms, PyTorch 6.00 ms"]
    cell = found["steps"]["released, batch 128, bfloat16"]
    assert {side: round(one["median"], 4) for side, one in cell["turns"].items()} == SECONDS
    assert len(cell["turns"]["ours"]["all"]) == fast.ROUNDS
    assert [round(cell["ratio"][side]["median"], 4) for side in (STOCK, BEST)] == [3.0, 1.5]
    assert cell["kernels"][0]["name"] == "wgmma"
    # Without a norm there is nothing to tune.
    assert list(found["steps"]["released-no-lrn, batch 8, float32"]["turns"]) == ["ours", STOCK]
    assert list(found["steps"]["rates"])[:3] == ["bfloat16", "tensorfloat32", "float32"]
    first = Child.log.index(("ours", "setup"))
    assert [what for _, what in Child.log[first:first + 6]] == ["setup"] * 3 + ["setup answered"] * 3
    assert Child.log[first + 6][1] == "run"
    # A process that was profiled measures nothing more.
    last = Child.log.index(("ours", "kernels answered"))
    assert Child.log[last + 1] == ("ours", "ended")
    assert not any(what == "run" for _, what in Child.log[last:Child.log.index(("ours", "setup"), last)])
    assert [what for _, what in Child.log[-3:]] == ["closed"] * 3


def test_finished_steps_start_no_process(go):
    found, _ = go()
    again, _ = go(lambda child: pytest.fail("started"))
    assert again["steps"] == found["steps"]
    assert not Child.log


@pytest.mark.parametrize(("what", "turns"), [("setup", ["ours", BEST]), ("run", ["ours"])])
def test_a_peer_that_fails_leaves_the_rest(go, what, turns):
    found, _ = go(lambda child: child.fails.update({what: "out of memory"}) if child.name == STOCK else None)
    cell = found["steps"]["released, batch 128, bfloat16"]
    assert list(cell["turns"]) == turns
    assert cell["missing"] == {STOCK: "torch: out of memory"}
    assert found["status"] == "finished"


def test_a_peer_that_compiles_too_long_leaves_time_for_the_turns(go, monkeypatch):
    given = []
    begin = Child.begin

    def watched(self, what, timeout=None, **arguments):
        given.append((what, timeout))
        begin(self, what, timeout, **arguments)

    monkeypatch.setattr(Child, "begin", watched)
    late = "no answer to 'setup' within 75 s"
    found, said = go(lambda child: child.fails.update(setup=late) if child.name == BEST else None, seconds=100.0)
    cell = found["steps"]["released, batch 128, bfloat16"]
    assert (found["status"], cell["partial"], list(cell["turns"])) == ("cut off", True, ["ours", STOCK])
    assert said[3].endswith(f"ours 2.00 ms, PyTorch 6.00 ms; without {BEST}: torch: {late}")
    assert all(fast._TURNS <= limit < 100 - fast._TURNS for what, limit in given if what in ("setup", "run"))
    assert {limit for what, limit in given if what == "kernels"} == {fast._PROFILE_LIMIT}
    found, _ = go()  # the next command measures it again
    assert list(found["steps"]["released, batch 128, bfloat16"]["turns"]) == ["ours", STOCK, BEST]


def test_a_failure_of_ours_is_one_steps_own(go):
    def spoil(child):
        if child.name == "ours":
            child.fails["kernels"] = "the profiler saw no kernel on this device"
            child.fails["matmul"] = "broken"

    found, said = go(spoil)
    assert found["status"] == "failed"
    assert "broken" in found["steps"]["rates"]["error"]
    cell = found["steps"]["released, batch 128, bfloat16"]
    assert (cell["kernels"], cell["kernels_missing"]) == ([], "ours: the profiler saw no kernel on this device")
    assert said[0] == "fast: rates failed: UserError: ours: broken"
    again, _ = go()
    assert again["status"] == "finished"
    assert again["steps"]["released, batch 128, bfloat16"] == cell


@pytest.mark.parametrize("why", ["absent", "on the CPU"])
def test_without_pytorch_this_project_is_measured_alone(go, why):
    def spoil(child):
        if child.side == "torch" and why == "absent":
            child.fails["about"] = "ModuleNotFoundError: No module named 'torch'"
        elif child.side == "torch":
            child.seen = CPU

    found, said = go(spoil)
    assert found["status"] == "finished"
    assert list(found["steps"]["released, batch 128, bfloat16"]["turns"]) == ["ours"]
    assert said[0].startswith("fast: without PyTorch: torch")


def test_nothing_is_timed_while_a_peer_still_starts(go):
    """The second peer is no longer waited for once the first is without PyTorch."""
    found, _ = go(lambda child: child.fails.update(about="no PyTorch") if child.name == STOCK else None)
    assert {(STOCK, "ended"), (BEST, "ended")} < set(Child.log[:Child.log.index(("ours", "matmul"))])
    assert found["status"] == "finished"


def test_processes_that_do_not_start_are_not_left(go):
    found, _ = go(lambda child: child.fails.update(about="no room") if child.name == "ours" else None)
    assert found["status"] == "failed"
    assert len(Child.made) == 9  # each step tries
    ends = [number for number, (_, what) in enumerate(Child.log) if what == "closed"]
    starts = [number for number, entry in enumerate(Child.log) if entry == ("ours", "about")]
    assert len(ends) == 9
    assert ends[2] < starts[1]


def test_a_process_that_begins_anew_on_a_cpu_measures_nothing(go, monkeypatch):
    def close(self):
        self.seen = CPU

    monkeypatch.setattr(Child, "close", close)
    found, _ = go()
    assert found["steps"]["released, batch 128, bfloat16"]["turns"]
    assert found["steps"]["released-no-lrn, batch 8, float32"]["error"] == "UserError: ours computes on a processor"


def test_its_table_says_where_and_what(go):
    found, _ = go(lambda child: child.fails.update(setup="no") if child.name == BEST else None)
    text = table.render(found)
    head, *lines = text.split("\n")
    assert head.startswith("a card · jax 0.0 · 2020-01-01, revision ")
    row = next(line for line in lines if line.startswith("| released | 128"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:9] == ["released", "128", "bfloat16", "2.00", "6.00", "–", "3.00 [3.00, 3.00]", "–", "64,000"]
    assert "| released, batch 128, bfloat16 | `wgmma` | conv2 | 0.800 | 50% |" in lines
    with pytest.raises(UserError, match="a result of --quick"):
        table.render(found | {"quick": True})


def test_many_steps_a_call_are_the_steps_of_one_a_call(monkeypatch):
    from benchmarks import side_ours

    monkeypatch.setattr(side_ours, "_RESIDENT", 12)
    try:
        side_ours.setup("many", "four-layer", 4, "tensorfloat32", shrink=True, resident=True)
        step = side_ours._STEPS["many"]
        assert (step.steps_per_call, step.done, int(step.sums.images)) == (3, 2, 8)
        step.run(7)
        assert (step.done, int(step.sums.images)) == (9, 36)
        seen = side_ours.kernels("many", 2)
    finally:
        side_ours.forget()
    assert len(seen["kernels"]) == 5
    assert seen["kernels"][0]["seconds"] >= seen["kernels"][4]["seconds"] > 0
    assert seen["seconds"] >= sum(kernel["seconds"] for kernel in seen["kernels"])


def test_one_device_is_measured_where_there_are_more():
    """PyTorch has one."""
    code = ("from benchmarks import side_ours; side_ours.setup('a', 'alexnet32', 8, 'float32', shrink=True); "
            "print(side_ours._STEPS['a'].program.mesh.size, side_ours.about()['count'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=command.ROOT,
                          env=os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"})
    assert done.stdout == "1 2\n", done.stderr


def test_every_cell_is_a_network_that_is_there():
    for cell in (*fast.CELLS, *fast.QUICK):
        assert cell.least({"flops_per_second": 1e12, "bytes_per_second": 1e12}) > 0
    assert [(cell.network, cell.batch, cell.precision) for cell in fast.CELLS[:2]] == [
        ("released", 128, "bfloat16"), ("released", 1024, "bfloat16")]


@needs_torch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_part_from_start_to_end(tmp_path):
    done = subprocess.run([sys.executable, "-m", "benchmarks.accelerator", "--quick", "--parts=fast", "--minutes=14",
                           f"--out={tmp_path}"], capture_output=True, text=True, check=False, cwd=command.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fast.json").read_text())
    assert found["status"] == "finished", done.stdout
    for cell in fast.QUICK:
        step = found["steps"][fast.title(cell)]
        assert list(step["turns"]) == ["ours", STOCK, BEST][:2 if cell.resident else 3]
        assert len(step["kernels"]) == 5
