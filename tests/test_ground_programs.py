"""Other programs' answers: none that hangs, or can't be killed, keeps a command."""

import os
import signal
import subprocess
import sys

import pytest

from alexnet_jax import programs


def test_output_and_exit_code():
    code = "import sys; print(input() + 'é'); print('no', file=sys.stderr); sys.exit(3)"
    done = programs.run([sys.executable, "-c", code], 60, os.environ | {"PYTHONUTF8": "1"}, given="yes\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "yesé\n", "no\n")
    with pytest.raises(subprocess.CalledProcessError):
        done.check_returncode()
    with pytest.raises(FileNotFoundError):
        programs.run(["no-such-program"], 1)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
def test_no_disk_is_needed(monkeypatch):
    monkeypatch.setattr(programs.tempfile, "TemporaryFile", pytest.fail)
    assert programs.run([sys.executable, "-c", "print(input())"], 60, given="yes\n").stdout == "yes\n"


def test_a_service_that_stays_is_not_waited_for(tmp_path):
    done = programs.run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo up"], 30)
    assert done.stdout == "up\n"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # still there


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_what_cannot_be_killed_is_left_behind(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "kill", lambda process: None)  # as in a driver that hangs
        with pytest.raises(subprocess.TimeoutExpired):
            programs.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"], 1)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # still there


def test_what_takes_too_long_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"], 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
