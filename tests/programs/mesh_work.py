"""The computation and memory of one and two devices."""

import json
from typing import Any

import jax
from mesh_programs import compiled, config, programs

from alexnet_jax.inspect.targets import compiling, hlo
from alexnet_jax.training import augment

# 16 kernels a column: enough for Winograd's algorithm on one device and on two.
c = config(train__batch_size=16, **{f"model__conv{i}__features": 32 for i in range(1, 6)})
out: dict[Any, Any] = {}
for column in (1, 2):
    p = programs(c, column)
    out[column] = {"state": compiling.state_bytes(p)}
    for name, executable in compiled(p).items():
        out[column][name] = {"products": hlo.multiply_adds(executable.as_text()),
                             "flops": (executable.cost_analysis() or {})["flops"],
                             "arguments": executable.memory_analysis().argument_size_in_bytes,
                             "temporaries": executable.memory_analysis().temp_size_in_bytes}
size, crop = c.data.size, c.data.crop
step, _ = compiling.arguments(p)
views = jax.jit(lambda images, rows, noise, consts: augment.training_views(
    images, jax.random.key(0), rows, noise, consts, c))


def local(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


_, _, (images, _, rows), consts, moment = step
lowered = views.lower(*local((images, rows, moment.noise, consts)))
out["augmentation"] = (lowered.compile().cost_analysis() or {})["flops"]
out["replicated"] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(step[1:]))
p = programs(c, 1)
out["layers"] = {x.name: x.multiply_adds for x in p.layers}
print(json.dumps(out))
