"""Runs on one and four devices, images on the host or on the devices."""

import json
import pathlib
import sys

from tiny_run import COUNTS, TINY, shared_program

from alexnet_jax import config, run_files
from alexnet_jax.data.readers import shapes
from alexnet_jax.training import loop as train_lib

folder = pathlib.Path(sys.argv[1])
shapes.COUNTS = COUNTS
train_lib.Program = shared_program  # type: ignore[assignment,misc]
out = {}
# 2 × 1 and 1 × 2 in two processes: test_parallel_distributed.py
for side, placement, steps in ((1, "host", 0), (2, "host", 0), (2, "device", 0), (2, "device", 3)):
    c = config.resolve(config.override(config.default(), TINY | {
        "data.store": str(folder / "store"), "mesh.data": side, "mesh.column": side, "data.placement": placement,
        "train.steps_per_call": steps, "train.precision": "float64"}))
    name = f"{side}x{side} {placement} {steps}"
    result = train_lib.train(c, folder / name, show=False)
    out[name] = [[r["train_loss"], r["eval_loss"]] for r in run_files.read_rows(folder / name / "metrics.csv")] + [
        [result["eval"]["ten_view"]["loss"], result["eval"]["ten_view"]["top1_wrong"]]]
print(json.dumps(out))
