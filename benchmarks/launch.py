"""Runs `python -m alexnet_jax.main …` for a number of steps and reports their time.

Started by benchmarks: the arguments are main's, the rest is passed in the environment (`launch`).
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from alexnet_jax.environment import allocator
from alexnet_jax.errors import UserError

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_WARM = 5  # steps before the clock starts


def launch(arguments: list[str], steps: int, cores: list[int], environment: dict[str, str] | None = None
           ) -> dict[str, Any]:
    """Runs main with `arguments` until `steps` training steps are done.

    Returns:
      'first': seconds from process start to the end of the first step; 'step': seconds per later step (None for fewer
      than seven steps); 'memory': {'VmRSS', 'RssAnon', 'RssFile'} in bytes at the end (Linux only).

    Raises:
      UserError: main ended before that.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        env = dict(os.environ) | allocator(os.environ) | (environment or {}) | {
            "BENCHMARK_STARTED": repr(time.time()), "BENCHMARK_STEPS": str(steps), "BENCHMARK_REPORT": str(report),
            "BENCHMARK_CORES": ",".join(map(str, cores))}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), env.get("PYTHONPATH"))))
        done = subprocess.run([sys.executable, "-m", "benchmarks.launch", *arguments], env=env, encoding="utf-8",
                              errors="replace", capture_output=True, check=False)
        if not report.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"alexnet_jax.main {' '.join(arguments)} ended before step {steps}: {last}")
        return json.loads(report.read_text("utf-8"))


def _memory() -> dict[str, int]:
    try:
        lines = pathlib.Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssFile") if name in fields}


def _count_steps() -> None:
    import jax

    from alexnet_jax.training.program import Program

    steps, started = int(os.environ["BENCHMARK_STEPS"]), float(os.environ["BENCHMARK_STARTED"])
    report: dict[str, Any] = {"step": None}
    done, since = 0, 0.0
    init = Program.__init__

    def counting(self, *arguments, **options):
        init(self, *arguments, **options)
        step = self.train_step

        def counted(*arguments):
            nonlocal done, since
            out = step(*arguments)
            done += 1
            if done in (1, min(1 + _WARM, steps), steps):
                jax.block_until_ready(out)
                if done == 1:
                    report["first"] = time.time() - started
                if done == steps:
                    if since and steps > 1 + _WARM:
                        report["step"] = (time.perf_counter() - since) / (steps - 1 - _WARM)
                    path = pathlib.Path(os.environ["BENCHMARK_REPORT"])
                    path.write_text(json.dumps(report | {"memory": _memory()}), "utf-8")
                    os._exit(0)
                since = time.perf_counter()
            return out

        counted.lower = step.lower  # type: ignore[attr-defined]
        self.train_step = counted

    Program.__init__ = counting  # type: ignore[method-assign]


def _main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in os.environ["BENCHMARK_CORES"].split(",")})
    from alexnet_jax import main as main_lib
    from alexnet_jax.parallel import distributed

    start = distributed.start

    def started(*arguments: Any) -> None:
        start(*arguments)  # JAX may be imported from here on
        _count_steps()

    distributed.start = started  # type: ignore[assignment]
    main_lib.run()


if __name__ == "__main__":
    _main()
