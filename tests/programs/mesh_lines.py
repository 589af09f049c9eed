"""Four steps of training on each mesh of four devices: losses, outputs and the collectives of the programs."""

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mesh_programs import config

from alexnet_jax import config as config_lib
from alexnet_jax.parallel import mesh as mesh_lib
from alexnet_jax.training import augment, program

c = config(**{f"model__conv{i}__features": 8 for i in range(1, 6)}, model__fc6__features=16, model__fc7__features=16,
           train__precision="float64")

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8, 28, 28, 3)).astype(np.uint8)
labels = (np.arange(8) % 10).astype(np.int32)
consts = augment.Constants(np.full((24, 24, 3), 120, np.float32), (40 * rng.standard_normal((3, 3))).astype(np.float32))
rates = dict.fromkeys(("weights", "biases", "conv1_weights", "conv1_biases"), 0.01)
names = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

def collectives(text):
    return {n: len(re.findall(rf"\s{n}(?:-start)?\(", text)) for n in names}

def put(m, tree):
    return jax.device_put(tree, jax.sharding.NamedSharding(m, jax.sharding.PartitionSpec()))

out = {}
for data, column in ((1, 1), (1, 2), (2, 1), (2, 2)):
    m = mesh_lib.make_mesh(config_lib.override(c, {"mesh.data": data, "mesh.column": column}))
    p = program.Program(c, 10, m)
    state = p.init(jnp.int32(1))
    view = np.zeros(3, np.int32)
    asked = (state.params, mesh_lib.put_batch(m, images), put(m, view), put(m, consts))
    forward = p.view_log_probs.lower(*asked).compile()
    batch = mesh_lib.put_batch(m, (images, labels, np.arange(8, dtype=np.int32)))
    step: Any = None
    losses, zero = [], put(m, program.Sums(jnp.zeros((), jnp.float64), jnp.int32(0), jnp.int32(0)))
    for number in range(4):
        moment = program.Moment(jnp.int32(1), jnp.int32(number), rates, jnp.float64(0.1))
        args = (state, zero, batch, put(m, consts), put(m, moment))
        step = step or p.train_step.lower(*args).compile()
        state, sums = step(*args)
        losses.append(float(sums.loss) / 8)
    logs = np.asarray(forward(state.params, mesh_lib.put_batch(m, images), put(m, view), put(m, consts)))
    out[f"{data}x{column}"] = {
        "losses": losses, "logs": logs.tolist(), "forward": collectives(forward.as_text()),
        "step": collectives(step.as_text()), "dtype": str(jax.tree.leaves(state.params)[0].dtype),
        "kernel": sorted({s.data.shape[0] for s in state.params["conv2"]["kernel"].addressable_shards})}
auto = {"auto": c, "layer": config_lib.override(c, {"model.lrn.window": "layer"}),
        "odd": config_lib.override(c, {"train.batch_size": 7}), "one": config_lib.override(c, {"model.columns": 1})}
out["auto"] = {k: [mesh_lib.make_mesh(v).shape[a] for a in ("data", "column")] for k, v in auto.items()}
print(json.dumps(out))
