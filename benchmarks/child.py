"""The child process of `contenders.Contender`: `python -m benchmarks.child SIDE CORES`. Not for users."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback


def main(side: str, cores: str) -> None:
    # Before JAX or PyTorch starts: they create one thread per visible core.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # libraries' output goes to stderr
    module = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            module = module or importlib.import_module(f"benchmarks.side_{side}")
            answer = {"value": getattr(module, request["what"])(**request["arguments"])}
        except Exception as error:
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            answer = {"error": text[:500]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
