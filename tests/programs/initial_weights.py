"""Of the config given as JSON: the weights that its run begins from, and how they lie on the mesh.

[are they those of the file, of how many arrays, is all placed as the program has it, [devices of fc6's kernel, columns
on one, columns]]
"""

import json
import sys
import types

import jax
import numpy as np
import tiny_run

from alexnet_jax import config, data, weights
from alexnet_jax.data.readers import shapes
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import initial_weights, program

shapes.COUNTS = tiny_run.COUNTS
c = initial_weights.filled(config.from_json(json.loads(sys.argv[1])))
split = data.open_split(c.data, "test")
built = program.Program(c, 10, make_mesh(c))
images = types.SimpleNamespace(classes=10, train=split, eval=split)
state = initial_weights.begin(c, built, built.init(np.uint32(0)), images, lambda line: None)
expected = weights.load(c.init.weights, c)
same = [np.array_equal(np.asarray(state.params[layer][leaf]), expected[layer][leaf])
        for layer in expected for leaf in ("kernel", "bias")]
placed = jax.tree.leaves(jax.tree.map(lambda x, wanted: x.sharding == wanted, state, built.state_shardings))
kernel = state.params["fc6"]["kernel"]
print(json.dumps([all(same), len(same), all(placed),
                  [len(kernel.sharding.device_set), kernel.addressable_shards[0].data.shape[0], kernel.shape[0]]]))
