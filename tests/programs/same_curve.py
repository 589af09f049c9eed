"""Stops a run on one or two devices once it has left chance, and resumes copies of it on other meshes."""

import contextlib
import json
import pathlib
import shutil
import sys
from typing import Any

import jax
import numpy as np
from tiny_run import COUNTS, TINY, interrupt, shared_program

from alexnet_jax import config, run_files
from alexnet_jax.data.readers import shapes
from alexnet_jax.errors import Interrupted
from alexnet_jax.training import loop as train_lib

precision, steps, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
shapes.COUNTS = COUNTS
train_lib.Program = shared_program  # type: ignore[assignment,misc]
train_lib._threads = lambda: 0  # only what is called is compiled
STOP = 140 if precision == "float64" else 200  # float64's curve is the same on any machine, and below the test's limit
base = TINY | {"data.store": str(folder / "store"), "train.precision": precision, "train.epochs": STOP // 4 + 4,
               "train.eval_every": 7, "model.conv1.features": 8, "model.conv1.init_std": 0.01,
               "model.conv2.features": 16, "model.conv3.features": 16, "model.fc6.features": 64,
               "model.fc7.features": 64, "model.dropout": 0.5, "model.init_scaling": "full_fan_in",
               "optim.learning_rate": 0.01}
real, losses, updates = train_lib.Run._step, list[float](), list[float]()
states: dict[int, Any] = {}  # one device's, by step, where the others start from these


def step(self, batch):
    here = self.standing.step
    if here == stop:
        interrupt()
    if here in states and name != "1x1":
        self.state = jax.device_put(states[here], self.program.state_shardings)
    elif precision != "float64" and name == "1x1":
        states[here] = jax.tree.map(np.array, self.state)
    state, sums = real(self, batch)
    losses.append(float(sums.loss))
    if precision != "float64" and name != "start":
        after = states.setdefault(here + 1, jax.tree.map(np.array, state))
        updates.append(max(float(np.linalg.norm(np.asarray(mine) - theirs) / np.linalg.norm(update))
                           for part in (0, 1) for mine, theirs, update in zip(*map(
                               jax.tree.leaves, (state[part], after[part], after.velocity)), strict=True)))
    return state, sums


train_lib.Run._step = step  # type: ignore[method-assign]
out = {}
# Two devices write the checkpoint that one and four resume in float64; one device, by which most of the steps are
# cheaper, else. 2x2 has what 1x2 and 2x1 have, which mesh_lines.py trains on too.
stages = [("start", 1, 1, STOP - 8), ("start", 1, 2, STOP)] if precision == "float64" else [("start", 1, 1, STOP)]
# In float64 the copies are trained to the end, where all ten views of the evaluation are compared too.
end = -1 if precision == "float64" else STOP + steps
for name, data, column, stop in (*stages, ("1x1", 1, 1, end), ("2x2", 2, 2, end), ("1x4", 1, 4, end)):  # noqa: B007  # `step` reads `stop`
    fields = {"mesh.data": data, "mesh.column": column}
    c = config.resolve(config.override(config.default(), base | {"model.columns": 4} | fields))
    if name != "start":
        losses.clear()
        updates.clear()
        shutil.copytree(folder / "start", folder / name)
    with contextlib.suppress(Interrupted):
        train_lib.train(c, folder / name, show=False)
    rows = run_files.read_rows(folder / name / "metrics.csv")
    out[name] = {"losses": list(losses), "updates": list(updates),
                 "rows": [[r["train_loss"], r["eval_loss"]] for r in rows],
                 "result": run_files.read_json(folder / name / "result.json")}
print(json.dumps(out))
