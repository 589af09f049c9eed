"""Commands in forks of one process that has imported what they need: a tenth of a second each, not three.

    python tests/forked.py < CASES

CASES is a JSON object, name → {"command": module, "arguments": […], "out": kind, "err": kind, …}; what the last line
says is one too, name → exit code. A case's stdout and stderr, of the kinds below as Python makes them at its start,
are gathered in `NAME.out` and `NAME.err` in the current folder. Further keys: "environment", added to the others';
"user", a number; "ignored", signals that are ignored from the beginning; "waits", whether it reads its arguments and
then does nothing; "signals": [[file, text, number, …], …], sent when that text is in that file, here "arguments" once
those are read; several arrive at once. A case that had ended before has the exit code "ended before NUMBER".
"""

import contextlib
import fcntl
import functools
import io
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
import tty
import warnings

import jax  # noqa: F401  imported, not started

from alexnet_jax import cli, commands
from alexnet_jax.data.readers import shapes
from alexnet_jax.training import loop  # noqa: F401
from experiments import report, run  # noqa: F401

DRAINS = {}  # of terminals, by descriptor
_LONG = 240  # seconds, beyond what a busy machine takes for anything


class Notebook:
    """What a notebook, a GUI or a test puts in place of a stream: it can be written to, and that is all."""

    def __init__(self, file):
        self.write = file.write


def stream(kind, descriptor, file):
    """What sys.stdout or sys.stderr is where the process's descriptor is of this kind."""
    def text(encoding="utf-8"):
        errors = "backslashreplace" if descriptor == 2 else "strict"
        return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), encoding, errors,
                                line_buffering=descriptor == 2 or os.isatty(descriptor), write_through=descriptor == 2)

    def to(other):
        os.dup2(other, descriptor)
        os.close(other)

    if kind == "closed":
        os.close(descriptor)
        return None
    if kind == "none":
        return None
    if kind == "notebook":
        return Notebook(open(file, "w", encoding="utf-8", buffering=1))
    if kind == "ended":
        ended = io.StringIO()
        ended.close()
        return ended
    if kind == "full":
        to(os.open("/dev/full", os.O_WRONLY))
        return text()
    if kind == "gone":  # … | head, after its last line
        reader, writer = os.pipe()
        os.close(reader)
        to(writer)
        return text()
    if kind == "stuck":  # a pipe that is not read for now and whose other user has made it refuse what it can't hold
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        os.write(writer, b" " * 4096)
        to(writer)
        return text()
    if kind.startswith("tty"):
        near, far = os.openpty()
        tty.setraw(far)
        to(far)
        DRAINS[descriptor] = threading.Thread(target=drain, args=(near, file), daemon=True)
        DRAINS[descriptor].start()
        return text(kind.partition(" ")[2])
    to(os.open(file, os.O_WRONLY | os.O_CREAT, 0o666))
    return text(kind)


def drain(near, file):
    with open(file, "wb", buffering=0) as out, contextlib.suppress(OSError):  # its other end is closed
        while content := os.read(near, 4096):
            out.write(content)


def wait(file, *_):
    with open(file, "w", encoding="utf-8") as out:
        out.write("read")
    time.sleep(_LONG)


def content(file):
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read()
    except FileNotFoundError:
        return ""


def ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signalled(name, case, pid):
    """The case's exit code, after its signals."""
    for file, text, *numbers in case.get("signals", ()):
        place = f"{name}.arguments" if file == "arguments" else file
        end = time.monotonic() + _LONG
        while text not in content(place) and time.monotonic() < end and not ended(pid):
            time.sleep(0.02)
        # Stopped meanwhile, so that it can neither end before the first nor have dealt with it before the second.
        os.kill(pid, signal.SIGSTOP)
        if not os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]):
            return f"ended before {numbers[0]}"
        for number in (*numbers, signal.SIGCONT):
            os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child(name, case):
    for number in case.get("ignored", ()):
        signal.signal(number, signal.SIG_IGN)
    os.environ.update(case.get("environment", {}))
    for variable in [v for v, value in case.get("environment", {}).items() if value is None]:
        os.environ.pop(variable)
    for descriptor, key, stream_name in ((1, "out", "stdout"), (2, "err", "stderr")):
        made = stream(case.get(key, "utf-8"), descriptor, f"{name}.{key}")
        setattr(sys, stream_name, made)
        setattr(sys, f"__{stream_name}__", made)
    if "user" in case:
        os.setgroups([])
        os.setresgid(*[case["user"]] * 3)
        os.setresuid(*[case["user"]] * 3)
    if case.get("waits"):
        cli.parse_flags = commands.Parser.parse_known_args = functools.partial(wait, f"{name}.arguments")
    sys.argv = [case["command"], *case["arguments"]]
    code = 0
    try:
        runpy.run_module(case["command"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 99
    for made in (sys.stdout, sys.stderr):  # as Python does at its end
        try:
            if made is not None and not isinstance(made, Notebook) and not made.closed:
                made.flush()
        except BaseException:
            code = 120
    for descriptor, thread in DRAINS.items():
        os.close(descriptor)
        thread.join()
    os._exit(code)


def main():
    warnings.simplefilter("ignore")  # runpy's of modules that are imported, JAX's of forks
    shapes.COUNTS = {"train": 80, "test": 30}  # as tiny_run.py
    codes = {}
    for name, case in json.load(sys.stdin).items():
        pid = os.fork()
        if pid == 0:
            child(name, case)
        codes[name] = signalled(name, case, pid)
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
