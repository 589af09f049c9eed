"""`python -m experiments.launch.worker …` that also writes its time breakdown to the run's spent.json.

`spent.json`: seconds of this process: {'start' (until train is called), 'compile', 'evaluate', 'checkpoint', 'train'
(all training steps but the first), 'inside' (train's call), 'process' (total)}; the others exclude compilation.
'programs': number of XLA compilations; 'cached': how many of them came from the persistent cache.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

from experiments.launch import worker

_SPENT = {"start": 0.0, "compile": 0.0, "evaluate": 0.0, "checkpoint": 0.0}
_STRETCHES: list[tuple[float, float]] = []  # (begin, seconds) of compilation, not nested
_COUNTS = {"programs": 0, "cached": 0}


def _born() -> float:
    """The start time of this process, comparable with `time.time`."""
    boot = float(pathlib.Path("/proc/uptime").read_text("ascii").split()[0])
    started = int(pathlib.Path("/proc/self/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()[19])
    return time.time() - (boot - started / os.sysconf("SC_CLK_TCK"))


def _timed(kind: str, call):
    """Wraps `call` to add its time, without compilation, to `kind`."""

    def timed(*arguments, **options):
        begin, compiling = time.perf_counter(), _SPENT["compile"]
        try:
            return call(*arguments, **options)
        finally:
            _SPENT[kind] += time.perf_counter() - begin - (_SPENT["compile"] - compiling)

    return timed


def count(begin: float, seconds: float) -> None:
    """Adds a stretch of compilation that ends now; nested ones (functions called by the traced one) count once."""
    while _STRETCHES and _STRETCHES[-1][0] >= begin:
        _SPENT["compile"] -= _STRETCHES.pop()[1]
    _STRETCHES.append((begin, seconds))
    _SPENT["compile"] += seconds


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event in ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration",
                 "/jax/core/compile/backend_compile_duration"):
        count(time.perf_counter() - duration_secs, duration_secs)
        _COUNTS["programs"] += event.endswith("backend_compile_duration")


def _on_event(event: str, **_: Any) -> None:
    _COUNTS["cached"] += event == "/jax/compilation_cache/cache_hits"


def _train(config, workdir: pathlib.Path, **options) -> dict[str, Any]:
    import jax

    from alexnet_jax import run_files
    from alexnet_jax.training import checkpoint, evaluate, loop

    jax.monitoring.register_event_duration_secs_listener(_on_duration)
    jax.monitoring.register_event_listener(_on_event)
    evaluate.evaluate = _timed("evaluate", evaluate.evaluate)
    for name in ("save", "wait", "restore", "close", "__init__"):
        setattr(checkpoint.Checkpoints, name, _timed("checkpoint", getattr(checkpoint.Checkpoints, name)))
    _SPENT["start"] = time.time() - _born()
    begin = time.perf_counter()
    result = loop.train(config, workdir, **options)
    inside = time.perf_counter() - begin
    rows = run_files.read_rows(workdir / "timing.csv")
    # The first step of a process is timed with compilation; what was not compilation is the step itself.
    train_seconds = sum(row["train_seconds"] for row in rows)
    (workdir / "spent.json").write_text(json.dumps(
        {**_SPENT, **_COUNTS, "train": train_seconds, "inside": inside, "process": time.time() - _born()}), "utf-8")
    return result


if __name__ == "__main__":
    worker.end(worker.main(train=_train))
