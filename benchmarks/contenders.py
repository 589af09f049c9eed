"""Child processes that take turns: each holds one library, computes when it is told and sleeps meanwhile.

The parent imports neither JAX nor PyTorch. A child is `python -m benchmarks.child SIDE CORES`; it reads one JSON
request a line and answers with one JSON line, {"value": …} or {"error": …}.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from alexnet_jax.environment import allocator
from alexnet_jax.errors import UserError
from experiments.executors import local

_ROOT = pathlib.Path(__file__).resolve().parents[1]
SIDES = ("ours", "torch")


class Contender:
    """A child process of one side, 'ours' or 'torch', on these cores.

    Args:
      cores: those it may use; its library takes as many threads. environment: changes to the parent's.
    """

    def __init__(self, side: str, cores: list[int], environment: dict[str, str] | None = None):
        self.side = side
        env = dict(os.environ) | allocator(os.environ) | (environment or {})  # PyTorch gains by it too
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), env.get("PYTHONPATH"))))
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both sides share a GPU's memory
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            env[name] = str(len(cores))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", side, ",".join(map(str, cores))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, encoding="utf-8")

    def ask(self, what: str, **arguments: Any) -> Any:
        """Calls `what` of the side's module in the child. Raises UserError with the child's message."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"what": what, "arguments": arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = process.wait()
            raise UserError(f"the process that measures {self.side} ended with exit code {code}"
                            + (" (out of memory? try a smaller --batch)" if code == -9 else ""))
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"{self.side}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """Ends the child."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cores(threads: int) -> list[int]:
    """The first `threads` of the cores that this process may use; all of them for 0.

    Raises:
      UserError: there are fewer.
    """
    here = local.cores()
    if threads > len(here):
        raise UserError(f"--threads={threads}: this process may use {len(here)} cores")
    return here[:threads] if threads else here
