"""`python -m experiments.run` with real training on a few shapes; `--worker` is one of its runs."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from alexnet_jax.data.readers import shapes  # noqa: E402
from experiments import run  # noqa: E402
from experiments.launch import worker  # noqa: E402

shapes.COUNTS = {"train": 80, "test": 30}  # as tiny_run.py

if __name__ == "__main__":
    if "--worker" in sys.argv:
        sys.argv.remove("--worker")
        sys.exit(worker.main())
    run.run(run.Command(worker=(sys.executable, str(HERE / "tiny_sweep.py"), "--worker")))
