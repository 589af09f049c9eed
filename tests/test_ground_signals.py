"""Signals, for every command: a checkpoint if there is something to save, else an end in one line."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny_run

from alexnet_jax import run_files, signals

ROOT = pathlib.Path(__file__).resolve().parents[1]
STOPPED = 130
# Started by other commands.
INSIDE = {"benchmarks.accelerator.child", "benchmarks.accelerator.resumed", "benchmarks.child", "benchmarks.launch",
          "benchmarks.sweep_worker", "experiments.executors.mps", "experiments.launch.worker"}
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for folder in ("alexnet_jax", "experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text("utf-8"))
FIRST = {"alexnet_jax.weights": ["export"]}  # what a command is told before its flags
NOW = signals.NUMBERS
EPOCHS = 40_000
# A run's ways to stop: what it ignores from its beginning, and what is sent when. Epochs enough for
# whoever looks only now and then.
WAYS = {
    "SIGHUP": ([], [("epoch 2/", signal.SIGHUP)]),
    "a batch system": ([], [("epoch 2/", signal.SIGXCPU)]),
    "what else ends processes": ([], [("epoch 2/", signal.SIGQUIT, signal.SIGRTMAX)]),
    "nohup, in a shell's background": ([signal.SIGINT, signal.SIGHUP], [
        ("epoch 1/", signal.SIGINT), ("epoch 2/", signal.SIGHUP), ("epoch 4/", signal.SIGTERM)]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (exit code, what came out on stderr, the case's folder)}."""
    tmp = tmp_path_factory.mktemp("signals")
    cases = {}
    for command in COMMANDS:
        if command not in INSIDE:
            cases[command] = {"command": command, "arguments": FIRST.get(command, []), "waits": True,
                              "ignored": [signal.SIGINT],
                              "signals": [["arguments", "read", number] for number in (signal.SIGINT, signal.SIGHUP)]}
    cases["alexnet_jax.describe SIGTERM"] = {"command": "alexnet_jax.describe", "arguments": [], "waits": True,
                                             "signals": [["arguments", "read", signal.SIGTERM]]}
    for way, (ignored, sent) in WAYS.items():
        folder = tmp / "runs" / way
        cases[way] = {"command": "alexnet_jax.main", "ignored": ignored, "arguments": [
            "--config=configs/shapes.py", f"--workdir={folder}", *(
                f"--config.{name}={str(value).replace(' ', '')}" for name, value in
                (tiny_run.TINY | {"augment.chunk": 8, "train.epochs": EPOCHS}).items())],
            "signals": [[str(folder / "log.txt"), *what] for what in sent]}
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "",
        "ALEXNET_STORE_DIR": str(tmp / "store"), "JAX_COMPILATION_CACHE_DIR": str(tmp / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "forked.py")], input=json.dumps(cases),
                          capture_output=True, text=True, cwd=tmp, env=env, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    return {name: (codes[name], (tmp / f"{name}.err").read_text(), tmp / "runs" / name) for name in cases}


@pytest.mark.parametrize("command", [*(c for c in COMMANDS if c not in INSIDE), "alexnet_jax.describe SIGTERM"])
def test_a_command_that_has_nothing_to_save_ends(results, command):
    assert len(COMMANDS) > 20
    assert importlib.util.find_spec(command.partition(" ")[0]) is not None
    code, said, _ = results[command]
    assert (code, said) == (STOPPED, "interrupted\n")


@pytest.mark.parametrize("way", WAYS)
def test_a_run_saves_a_checkpoint(results, way):
    code, said, folder = results[way]
    assert code == STOPPED
    progress = run_files.read_json(folder / "progress.json")
    assert progress["state"] == "stopped"
    assert (folder / "checkpoints" / str(progress["step"])).is_dir()
    assert said.splitlines()[-1] == (
        f"error: stopped at step {progress['step']} of {4 * EPOCHS}; the same command resumes it")
    assert progress["step"] >= 4 * int(WAYS[way][1][-1][0].removeprefix("epoch ").rstrip("/"))


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python's handler runs


@pytest.fixture
def plain(monkeypatch):
    """Handlers as a terminal's process has them, and those of the tests again afterwards."""
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    for number in signals.NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_all_that_ends_a_process_is_taken():
    """By what the system does with each signal, in a process that does nothing about it."""
    said = subprocess.run([sys.executable, "tests/programs/what_ends.py"], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    ends = set(json.loads(said.stdout))
    assert ends - {signal.SIGPIPE, signal.SIGXFSZ} == set(NOW), "of those two Python makes errors"


@pytest.mark.parametrize("number", NOW)
def test_signals_are_counted_and_handlers_put_back(plain, number, monkeypatch):
    with signals.Signals() as taken:
        taken.check()
        send(number)
        send(number)  # the same keystroke
        assert (taken.received, taken.count) == (number, 1)
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        send(number)
        assert taken.count == 2
        with pytest.raises(signals.Stop):
            taken.check()
    assert all(signal.getsignal(n) == signal.SIG_DFL for n in signals.NUMBERS)


def test_what_is_ignored_stays_ignored_unless_it_must_not(plain):
    for number in NOW:
        signal.signal(number, signal.SIG_IGN)
    with signals.Signals(always=[signal.SIGTERM]) as taken:
        for number in NOW:
            send(number)
        assert (taken.received, taken.count) == (signal.SIGTERM, 1)
    assert all(signal.getsignal(n) == signal.SIG_IGN for n in NOW)


def test_what_is_blocked_stays_blocked_unless_it_must_not(plain):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
    try:
        with signals.Signals(always=[signal.SIGTERM]) as taken:
            send(signal.SIGTERM)
            assert taken.received == signal.SIGTERM
        with signals.Signals() as taken:
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= {signal.SIGHUP}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_became_of_processes_is_known_though_sigchld_is_ignored(plain):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert subprocess.run(["false"], check=False).returncode == 0, "as Python has it"
        with signals.Signals():
            assert subprocess.run(["false"], check=False).returncode == 1
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_second_ctrl_c_is_at_once_and_no_other_second_signal(plain, monkeypatch):
    clock = iter(range(100, 400, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with signals.Signals(signals.at_the_second) as taken:
        for number in NOW:
            send(number)
        assert taken.count == len(NOW)
        assert not taken.hurry
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        with taken.acting(signals.at_once), pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        send(signal.SIGTERM)


def test_imports_come_to_their_end(plain):
    done = []

    def imports():
        with signals.afterwards():
            send(signal.SIGTERM)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        imports()
    assert done == ["all of it"]
    with signals.afterwards():
        pass


# What is imported by a command: what it does, and how the command ends.
IMPORTED = {
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", STOPPED, "interrupted"),
    "a warning": ("raise DeprecationWarning('old')", 2, "error: DeprecationWarning: old; PYTHONWARNINGS or -W turns "
                  "this warning into an error; unset it"),
    "a variable": ("raise ValueError('Key backend: x is not a valid value')", 2,
                   "error: MPLBACKEND=x: not a backend of Matplotlib; unset it"),
    "memory": ("raise MemoryError", 1, "error: there is not enough memory; see whether a limit is set (ulimit -v)"),
    "threads": ("raise RuntimeError(\"can't start new thread\")", 1, "error: this process can start no more threads; "
                "raise the limit on processes (ulimit -u)")}


@pytest.mark.parametrize("what", IMPORTED)
@pytest.mark.parametrize(("command", "module"), [
    ("experiments.report", "matplotlib"), ("alexnet_jax.evaluate", "numpy")])
def test_a_command_that_is_still_importing_ends_in_one_line(tmp_path, command, module, what):
    does, code, line = IMPORTED[what]
    (tmp_path / f"{module}.py").write_text(f"import os, signal, time\n{does}\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run([sys.executable, "-m", command], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "x"})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{line}\n")


def test_who_imports_the_library_keeps_ctrl_c_and_tracebacks(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import signal, sys, alexnet_jax, experiments\n"
        "print(signal.getsignal(signal.SIGINT) == signal.default_int_handler, sys.excepthook == sys.__excepthook__)")
    done = subprocess.run([sys.executable, "-m", "mine"], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert done.stdout == "True True\n"


def test_a_caller_s_alarm_clock_stays_its_own(plain):
    rung = []
    signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    with signals.Signals() as taken:
        send(signal.SIGALRM)
    assert (rung, taken.count) == ([signal.SIGALRM], 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with signals.Signals(signals.at_once), signals.Signals() as taken:  # a run's within its command's
        send(signal.SIGALRM)
        assert taken.received == signal.SIGALRM


def test_a_thread_leaves_signals_to_the_main_one(plain):
    said = []

    def work():
        with signals.Signals() as taken:
            said.append((taken.count, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [(0, signal.SIG_DFL)]
