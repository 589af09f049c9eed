"""Runs a part in its own process: `python -m benchmarks.accelerator.child PART MODULE OUT SECONDS ATTEMPT`.

Not for users. The libraries' output goes to OUT/PART.log. The process and its children end when its stdin is closed,
that is when the command ends for any reason.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import signal
import sys
import threading
import traceback

from alexnet_jax import environment, names
from benchmarks.accelerator import record as records
from benchmarks.accelerator.parts import MACHINE


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpid(), signal.SIGKILL)


def main(part: str, module: str, out: str, seconds: str, attempt: str) -> None:
    folder = pathlib.Path(out)
    said = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="replace")
    with (folder / f"{part}.log").open("a", encoding="utf-8") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    threading.Thread(target=_watch, daemon=True).start()

    def say(line: str) -> None:
        if part == MACHINE.name:  # the command reports it in one line
            return
        with contextlib.suppress(OSError):
            said.write(names.plain(line) + "\n")

    environment.prepare()
    from benchmarks.accelerator.context import Context

    record = records.read(folder, part)
    context = Context(folder, record, float(seconds), attempt, say)
    try:
        importlib.import_module(module).run(context)
    except Exception as error:
        traceback.print_exc()
        record |= {"status": "failed", "error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
        records.write(folder, record)
    else:
        context.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # all is written: a library that crashes as Python ends must not make a finished part a failed one
