"""Four columns on one, two and four devices: losses and collectives of three steps, and the bytes that are told."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
from mesh_programs import collectives, config, exchanges, programs

from alexnet_jax.parallel import column_costs
from alexnet_jax.parallel import mesh as mesh_lib
from alexnet_jax.training import augment, program

c = config(model__columns=4, train__precision="float64")
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8, 28, 28, 3)).astype(np.uint8)
labels = (np.arange(8) % 10).astype(np.int32)
consts = augment.Constants(np.full((24, 24, 3), 120, np.float32), (40 * rng.standard_normal((3, 3))).astype(np.float32))
rates = dict.fromkeys(("weights", "biases", "conv1_weights", "conv1_biases"), 0.01)
out = {}
for column in (1, 2, 4):
    p = programs(c, column)
    state, losses, step = p.init(jnp.int32(1)), [], None
    put = functools.partial(jax.device_put, device=jax.sharding.NamedSharding(p.mesh, jax.sharding.PartitionSpec()))
    zero = put(program.Sums(jnp.zeros((), jnp.float64), jnp.int32(0), jnp.int32(0)))
    for number in range(3):
        args = (state, zero, mesh_lib.put_batch(p.mesh, (images, labels, np.arange(8, dtype=np.int32))),
                *map(put, (consts, program.Moment(jnp.int32(1), jnp.int32(number), rates, jnp.float64(0.1)))))
        step = step or p.train_step.lower(*args).compile()
        state, sums = step(*args)
        losses.append(float(sums.loss) / 8)
    out[column] = {"losses": losses, "step": collectives(step, column), "compiled": exchanges(step),
                   "told": column_costs.exchanges(c, 10, column) if column > 1 else [],
                   "kernel": state.params["conv2"]["kernel"].addressable_shards[0].data.shape[0]}
print(json.dumps(out))
