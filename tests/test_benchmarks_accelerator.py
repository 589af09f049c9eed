"""`python -m benchmarks.accelerator` under errors, crashes, time limits and being killed."""

import json
import os
import signal
import subprocess
import sys
import time

import fake_driver
import pytest

from alexnet_jax.errors import ConfigError, UserError
from benchmarks import command
from benchmarks.accelerator import course
from benchmarks.accelerator import record as records
from benchmarks.accelerator.parts import Part

FAKE = Part("fake", "what the test says", 60.0, module="fake_part")
DEVICE = {"platform": "cpu", "kind": "a device", "count": 1, "memory": None, "cores": 1, "driver": None,
          "versions": {}}


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(command.ROOT / "tests"))


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs the fake part as FAKE says, in a command of its own; returns the exit code and the part's file."""
    def run(what, seconds=fake_driver.LONG, parts=(FAKE,)):
        monkeypatch.setenv("FAKE", json.dumps(what))
        monkeypatch.setattr(course.Course, "_machine", lambda self: DEVICE)
        own = course.Course(tmp_path, seconds, True, "the command")
        own.attempt = f"{time.time()}"
        code = own.run(parts)
        return code, records.read(tmp_path, "fake")

    return run


def _calls(tmp_path):
    return (tmp_path / "fake" / "calls").read_text().split("\n")[:-1]


def test_a_part_that_fails_in_each_way_does_all_the_rest(go, tmp_path, capfd):
    code, found = go({"a": 1, "b": "error", "c": "dies", "d": "wrong", "e": 2})
    assert (code, found["status"]) == (1, "failed")
    assert found["steps"]["b"]["error"] == "ValueError: two lines"
    assert found["steps"]["c"]["error"] == "the process ended with exit code 3"
    assert [found["steps"][name].get("number") for name in "ade"] == [1, None, 2]
    assert records.wrong(found) == ["d"]
    assert found["note"].startswith("a rehearsal with tiny networks")
    assert _calls(tmp_path) == ["1", "error", "dies", "wrong", "2"]
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("rehearsal on a device: fake (what the test says, 60 s); all of it ends by")
    assert "WRONG: d; error: b, c: see there (fake.log)" in lines[-2]
    assert lines[-1] == "FAILED OR WRONG: fake"
    assert "ValueError" in (tmp_path / "fake.log").read_text()
    # The same command again does what failed, and only that.
    code, found = go({"a": 1, "b": 3, "c": 4, "d": 5, "e": 2})
    assert (code, found["status"]) == (1, "finished")  # d is wrong for good
    assert _calls(tmp_path)[5:] == ["3", "4"]
    assert len(found["begun"]) == 2
    go({"a": 1})
    assert capfd.readouterr().out.splitlines()[-2] == (
        f"rehearsal on a device: nothing left to do; finished before: fake; results in {tmp_path}")


def test_a_library_that_crashes_as_python_ends_leaves_the_part_finished(go):
    code, found = go({"a": 1, "b": "crashes at the end"})
    assert (code, found["status"]) == (0, "finished")


def test_a_part_is_cut_off_when_its_time_is_up_and_resumes(go, tmp_path, monkeypatch):
    given = []

    class Hanging(subprocess.Popen):
        """All the time passes at once when the second step has begun."""

        def wait(self, timeout=None):
            if timeout is not None and not given:
                fake_driver.wait(lambda: "b" in records.read(tmp_path, "fake")["steps"])
                given.append(timeout)
                timeout = 0.1
            return super().wait(timeout)

    with monkeypatch.context() as patch:
        patch.setattr(course.subprocess, "Popen", Hanging)
        patch.setattr(course, "_clock", lambda: time.monotonic() + sum(given))
        code, found = go({"a": 1, "b": "hangs", "c": 2})
    assert 0 < given[0] <= fake_driver.LONG
    assert (code, found["status"]) == (0, "cut off")
    assert found["steps"]["b"]["number"] == 1
    assert found["steps"]["b"]["partial"]
    assert "under_way" not in found
    _, found = go({"a": 1, "b": 5, "c": "no time"})
    assert found["status"] == "cut off"
    assert [found["steps"][name]["number"] for name in "ab"] == [1, 5]
    _, found = go({"a": 1, "b": 5, "c": 2})
    assert found["status"] == "finished"
    assert _calls(tmp_path) == ["1", "hangs", "5", "2"]


_COMMAND = """
import sys, test_benchmarks_accelerator as this
from benchmarks.accelerator import course
import pathlib
course.Course._machine = lambda self: this.DEVICE
sys.exit(course.Course(pathlib.Path(sys.argv[1]), 600.0, True, "").run([this.FAKE]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_ends_its_part_and_can_be_resumed(go, tmp_path, number):
    env = os.environ | {"FAKE": json.dumps({"a": 1, "b": "hangs"}),
                        "PYTHONPATH": os.pathsep.join([str(command.ROOT), str(command.ROOT / "tests")])}
    killed = subprocess.Popen([sys.executable, "-c", _COMMAND, tmp_path], env=env)
    try:
        while not records.read(tmp_path, "fake").get("steps", {}).get("b"):
            assert killed.poll() is None
            time.sleep(0.05)
        processes = subprocess.run(["pgrep", "-f", f"child fake fake_part {tmp_path}"], text=True, check=True,
                                   capture_output=True).stdout.split()
        assert len(processes) == 1
    finally:
        killed.send_signal(number)
        killed.wait()
    fake_driver.wait(lambda: not os.path.exists(f"/proc/{processes[0]}"))
    assert records.read(tmp_path, "fake")["under_way"] == "b"
    _, found = go({"a": "not again", "b": 7})
    assert [found["steps"][name]["number"] for name in "ab"] == [1, 7]
    assert (found["status"], len(found["begun"])) == ("finished", 2)


def test_a_part_that_cannot_be_imported_leaves_the_others_theirs(go):
    lost = Part("lost", "nothing", 60.0, module="no_such_module")
    code, found = go({"a": 1}, parts=(lost, FAKE))
    assert (code, found["status"]) == (1, "finished")


def test_parts_are_chosen_by_name_and_keep_their_order(monkeypatch):
    parts = tuple(Part(name, "", 1.0) for name in "abc")
    monkeypatch.setattr(course, "PARTS", parts)
    assert course.chosen("c, a") == [parts[0], parts[2]]
    assert course.chosen("") == list(parts)
    with pytest.raises(ConfigError, match="--parts: no part 'd'; choose from a, b, c"):
        course.chosen("a,d")


def _command(*arguments):
    done = subprocess.run([sys.executable, "-m", "benchmarks.accelerator", *map(str, arguments)], text=True,
                          capture_output=True, check=False, cwd=command.ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    return done.returncode, done.stdout, done.stderr


def test_without_an_accelerator_it_is_a_rehearsal_or_nothing(tmp_path):
    code, out, err = _command(f"--out={tmp_path / 'x'}")
    assert (code, out) == (1, "")
    assert err.startswith("error: JAX sees no accelerator here, only ")
    assert err.count("\n") == 1
    assert not list((tmp_path / "x").glob("*.json"))


def test_jax_s_own_reason_for_a_cpu_is_said(tmp_path, monkeypatch):
    def machine(self, part, seconds):
        (self.out / "machine.log").write_text("a line\nCUDA version check failed: Outdated cuDNN\nanother line\n")
        records.write(self.out, {"schema": records.SCHEMA, "part": "machine", "quick": False, "status": "finished",
                                 "steps": {"device": DEVICE}})

    monkeypatch.setattr(course.Course, "_process", machine)
    with pytest.raises(UserError, match=r"only a device \(CUDA version check failed: Outdated cuDNN\); start it by a "):
        course.Course(tmp_path, 60.0, False, "the command").run((FAKE,))


def test_memory_that_others_hold_is_noted(go, monkeypatch, capfd):
    monkeypatch.setitem(DEVICE, "taken", 40 << 30)
    go({"a": 1})
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("note: other processes hold 42.9 GB of this card's memory; ")


def test_a_jax_that_does_not_start_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JAX_PLATFORMS", "nothing")
    with pytest.raises(UserError, match=r"JAX does not start here: RuntimeError: .*machine\.log"):
        course.Course(tmp_path, 60.0, False, "").run([FAKE])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "line"), [
    (["--minutes=nine", "--out=x"], "argument --minutes: 'nine' is not a number of minutes"),
    (["--minutes=0", "--out=x"], "argument --minutes: '0' is not a number of minutes"),
    ([], "the following arguments are required: --out"),
    (["--out=x", "--part=right"], "--part: no such option (did you mean --parts?)"),
])
def test_a_mistyped_command_is_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    from benchmarks.accelerator import __main__ as main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["accelerator", *arguments])
    with pytest.raises(ConfigError, match="--") as error:
        main.main()
    assert str(error.value) == line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("known_by", ["machine", "right", "right alone"])
def test_results_of_another_device_are_left_alone(known_by, tmp_path, monkeypatch):
    """Also where a command was killed before it knew the machine."""
    def machine(kind):
        return {"schema": records.SCHEMA, "part": "machine", "quick": True, "status": "finished",
                "steps": {"device": DEVICE | {"kind": kind}} if kind else {}}

    if known_by != "right alone":
        records.write(tmp_path, machine("an older card" if known_by == "machine" else ""))
    records.write(tmp_path, {"schema": records.SCHEMA, "part": "right", "steps": {},
                             "device": DEVICE | {"kind": "an older card"}})
    monkeypatch.setattr(course.Course, "_process", lambda self, part, seconds: records.write(self.out, machine("new")))
    with pytest.raises(UserError, match="holds results of an older card, and JAX sees new now; choose another folder"):
        course.Course(tmp_path, 60.0, True, "the command").run((FAKE,))
