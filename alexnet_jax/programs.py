"""Other programs' answers, within a limit of time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO


def run(arguments: Sequence[str], seconds: float, env: Mapping[str, str] | None = None,
        given: str = "") -> subprocess.CompletedProcess[str]:
    """A program's exit code and output.

    A program that hangs in a driver or at a network disk can't be killed. It is left behind, where `subprocess.run`
    would wait for it. Its streams are files: a pipe would stay open for as long as a service lives that it starts.

    Args:
      seconds: that it may take. given: its input.

    Raises:
      OSError: it can't be started. subprocess.TimeoutExpired: it takes longer.
    """
    with _file() as stdin, _file() as stdout, _file() as stderr:
        stdin.write(given.encode())
        stdin.seek(0)
        process = subprocess.Popen(arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        try:
            code = process.wait(seconds)
        except BaseException:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            raise
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read().decode("utf-8", "replace"),
                                           stderr.read().decode("utf-8", "replace"))


def _file() -> IO[bytes]:
    """A file without a name, in memory where the system can: a full disk must not look like a missing program."""
    return os.fdopen(os.memfd_create("answer"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()
