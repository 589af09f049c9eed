"""Reads a tiny run's newest readable checkpoint, by an analysis and by the run itself: `STORE WORKDIR`."""

import gc
import pathlib
import sys

import tiny_run

from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import checkpoint, resume
from alexnet_jax.training.program import Program

folder = pathlib.Path(sys.argv[2]) / "checkpoints"
print("step", checkpoint.read_newest(folder, print)[1]["step"])
gc.collect()
config = tiny_run._config(sys.argv[1])
checkpoints = checkpoint.Checkpoints(folder, 2)
found = checkpoints.restore(resume.like(Program(config, 10, make_mesh(config))), print)
print("step", found and found[1]["step"])
checkpoints.close()
gc.collect()
