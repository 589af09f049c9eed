"""Four columns on two and four devices: the collectives of a training step, and their reported bytes."""

import json

from mesh_programs import collectives, config, exchanges, programs

from alexnet_jax.inspect.targets import compiling
from alexnet_jax.parallel import column_costs

c = config(model__columns=4, train__precision="float64")
out = {}
for column in (2, 4):
    p = programs(c, column)
    arguments, _ = compiling.arguments(p)
    step = p.train_step.lower(*arguments).compile()
    kernel = arguments[0].params["conv2"]["kernel"]
    out[column] = {"step": collectives(step, column), "compiled": exchanges(step),
                   "told": column_costs.exchanges(c, 10, column),
                   "kernel": kernel.sharding.shard_shape(kernel.shape)[0]}
print(json.dumps(out))
