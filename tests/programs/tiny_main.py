"""`alexnet_jax.main` on the few images of tiny_run.py; `--dies`: killed at a step once it has rows and a checkpoint."""

import os
import pathlib
import signal
import sys

from alexnet_jax import main, run_files
from alexnet_jax.data.readers import shapes
from alexnet_jax.parallel import distributed

shapes.COUNTS = {"train": 80, "test": 30}
start = distributed.start


def started(*arguments):
    start(*arguments)
    from alexnet_jax.training import loop  # JAX may be imported from here on

    step = loop.Run._step

    def last(self, call):
        rows = run_files.read_rows(workdir / "metrics.csv", lenient=True)
        if len(rows) > 1 and any(entry.name.isdigit() for entry in (workdir / "checkpoints").iterdir()):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, call)

    loop.Run._step = last  # type: ignore[method-assign]


if "--dies" in sys.argv:
    sys.argv.remove("--dies")
    workdir = pathlib.Path(next(word for word in sys.argv if word.startswith("--workdir=")).partition("=")[2])
    distributed.start = started  # type: ignore[assignment]
main.run()
