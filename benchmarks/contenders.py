"""Child processes that take turns: each has one library, computes on request and otherwise sleeps.

The parent imports neither JAX nor PyTorch. A child is `python -m benchmarks.child SIDE CORES`; it reads one JSON
request per line and answers with one JSON line, {"value": …} or {"error": …}.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

from alexnet_jax.environment import allocator
from alexnet_jax.errors import UserError
from experiments.executors import local

_ROOT = pathlib.Path(__file__).resolve().parents[1]
SIDES = ("ours", "torch")


class Contender:
    """A child process of one side, 'ours' or 'torch'.

    Args:
      cores: the cores that it may use, one thread each. environment: changes to the parent's environment.
    """

    def __init__(self, side: str, cores: list[int], environment: dict[str, str] | None = None):
        self.side, self._cores = side, ",".join(map(str, cores))
        env = dict(os.environ) | allocator(os.environ) | (environment or {})  # the allocator speeds up PyTorch too
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), env.get("PYTHONPATH"))))
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both sides share a GPU's memory
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            env[name] = str(len(cores))
        self._environment, self._late = env, ""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-m", "benchmarks.child", self.side, self._cores],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment, encoding="utf-8")

    def ask(self, what: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Calls the function `what` of the side's module in the child; restarts a child that has died.

        Args:
          timeout: seconds after which the child is killed.

        Raises:
          UserError: with the child's message.
        """
        self.begin(what, timeout, **arguments)
        return self.answer()

    def begin(self, what: str, timeout: float | None = None, **arguments: Any) -> None:
        """Sends a request without waiting for its `answer`, so that several children can work at once."""
        if self._process.poll() is not None:
            self._close_pipes()
            self._process, self._late = self._start(), ""
        limit = threading.TIMEOUT_MAX if timeout is None else timeout
        self._timer = threading.Timer(limit, self._too_late, (f"{what!r} within {limit:g} s",))
        self._timer.daemon = True
        self._timer.start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"what": what, "arguments": arguments}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> Any:
        """Waits for the answer to `begin`."""
        process = self._process
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
        finally:
            self._timer.cancel()
        if not line:
            code = process.wait()
            if self._late:
                raise UserError(f"{self.side}: no answer to {self._late}")
            raise UserError(f"the process that measures {self.side} ended with exit code {code}"
                            + (" (out of memory? try a smaller --batch)" if code == -9 else ""))
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"{self.side}: {answer['error']}")
        return answer["value"]

    def _too_late(self, what: str) -> None:
        self._late = what
        self._process.kill()

    def close(self) -> None:
        """Ends the child."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # interrupted, perhaps during a compilation
            self._process.kill()
        self.close()


def cores(threads: int) -> list[int]:
    """The first `threads` cores of this process; all for 0.

    Raises:
      UserError: there are fewer.
    """
    here = local.cores()
    if threads > len(here):
        raise UserError(f"--threads={threads}: this process may use {len(here)} cores")
    return here[:threads] if threads else here
