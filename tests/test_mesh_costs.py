"""What a device computes, holds and communicates, read from programs compiled for emulated CPU devices.

Two devices halve it; four columns work as two do; and the exchanges are those that `model.exchange` names.
"""


import emulated
import pytest

pytestmark = pytest.mark.timeout(600)

COMMON = r'''
import json, re
import jax, jax.numpy as jnp, numpy as np
from alexnet_jax import config as config_lib
from alexnet_jax.parallel import mesh as mesh_lib
from alexnet_jax.training import program
from alexnet_jax.training import augment
from alexnet_jax.inspect.targets import compiling, hlo
from alexnet_jax import networks, recipes

def config(**changes):
    c = config_lib.default()
    networks.alexnet32(c)
    recipes.apply(c, "released")
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        c.model[name].features = 16
    c.model.fc6.features = c.model.fc7.features = 32
    c.data.size, c.augment.chunk, c.train.batch_size, c.train.precision = 28, 2, 8, "float32"
    named = {k.replace("__", "."): v for k, v in changes.items()}
    return config_lib.resolve(config_lib.override(c, named))

def programs(c, column):
    mesh = mesh_lib.make_mesh(config_lib.override(c, {"mesh.data": 1, "mesh.column": column}))
    return program.Program(c, 10, mesh)

def compiled(p):
    step, view = compiling.arguments(p)
    return {"step": p.train_step.lower(*step).compile(), "forward": p.view_log_probs.lower(*view).compile()}

def collectives(executable, column):
    out = []
    for x in hlo.collectives(executable.as_text()):
        layer = re.search(r"/((?:conv|fc)\d)/", x.where)
        out.append([x.kind, hlo.axis_of(x, 1, column), layer[1] if layer else ""])
    return sorted(out)
'''

COSTS = COMMON + r'''
# 16 kernels a column: enough for Winograd's algorithm on one device and on two.
c = config(train__batch_size=16, **{f"model__conv{i}__features": 32 for i in range(1, 6)})
out = {}
for column in (1, 2):
    p = programs(c, column)
    out[column] = {"state": compiling.state_bytes(p)}
    for name, executable in compiled(p).items():
        out[column][name] = {"products": hlo.multiply_adds(executable.as_text()),
                             "flops": executable.cost_analysis()["flops"],
                             "arguments": executable.memory_analysis().argument_size_in_bytes,
                             "temporaries": executable.memory_analysis().temp_size_in_bytes}
size, crop = c.data.size, c.data.crop
step, _ = compiling.arguments(p)
views = jax.jit(lambda images, rows, noise, consts: augment.training_views(
    images, jax.random.key(0), rows, noise, consts, c))
local = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
out["augmentation"] = views.lower(*local((step[2][0], step[2][2], step[7], step[3]))).compile().cost_analysis()["flops"]
out["replicated"] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(step[1:]))
p = programs(c, 1)
out["layers"] = {x.name: x.multiply_adds for x in p.layers}
print(json.dumps(out))
'''

FOUR = COMMON + r'''
c = config(model__columns=4, train__precision="float64")
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8, 28, 28, 3)).astype(np.uint8)
labels = (np.arange(8) % 10).astype(np.int32)
consts = augment.Constants(np.full((24, 24, 3), 120, np.float32), (40 * rng.standard_normal((3, 3))).astype(np.float32))
rates = {g: 0.01 for g in ("weights", "biases", "conv1_weights", "conv1_biases")}
out = {}
for column in (1, 2, 4):
    p = programs(c, column)
    state, losses, step = p.init(jnp.int32(1)), [], None
    put = lambda tree: jax.device_put(tree, jax.sharding.NamedSharding(p.mesh, jax.sharding.PartitionSpec()))
    zero = put(program.Sums(jnp.zeros((), jnp.float64), jnp.int32(0), jnp.int32(0)))
    for number in range(3):
        args = (state, zero, mesh_lib.put_batch(p.mesh, (images, labels, np.arange(8, dtype=np.int32))),
                *map(put, (consts, program.Moment(jnp.int32(1), jnp.int32(number), rates, jnp.float64(0.1)))))
        step = step or p.train_step.lower(*args).compile()
        state, sums = step(*args)
        losses.append(float(sums.loss) / 8)
    out[column] = {"losses": losses, "step": collectives(step, column),
                   "kernel": state.params["conv2"]["kernel"].addressable_shards[0].data.shape[0]}
print(json.dumps(out))
'''

EXCHANGES = COMMON + r'''
out = {}
for name, layers in (("none", ()), ("conv4", ("conv4", "fc6", "fc7")), ("paper", ("conv3", "fc6", "fc7"))):
    c = config(model__exchange=layers)
    out[name] = {which: collectives(executable, 2) for which, executable in compiled(programs(c, 2)).items()}
print(json.dumps(out))
'''

BYTES = COMMON + r'''
from alexnet_jax.parallel import column_costs
out = {}
for columns, devices in ((2, 2), (4, 4), (4, 2)):
    c = config(model__columns=columns)
    step, _ = compiling.arguments(p := programs(c, devices))
    found = [[x.kind, re.search(r"/((?:conv|fc)\d)/", x.where)[1], x.handed_in, x.received]
             for x in hlo.collectives(p.train_step.lower(*step).compile().as_text())]
    out[f"{columns} on {devices}"] = {"compiled": found, "told": column_costs.exchanges(c, 10, devices)}
print(json.dumps(out))
'''


def test_two_devices_halve_work_and_memory():
    out = emulated.run(COSTS, 2)
    one, two = out["1"], out["2"]
    # Winograd's algorithm: 4 of conv2's 12 rows in 8 products and not 4 · 5, 3 of the others' 6 in 5 and not 3 · 3.
    fewer = {"conv2": (8, 20)} | dict.fromkeys(("conv3", "conv4", "conv5"), (5, 9))
    layers = out["layers"] | {name: out["layers"][name] * few // many for name, (few, many) in fewer.items()}

    # Every product of every convolution and matrix: half, to the last one. In the forward pass they are those of the
    # layers and the banded products of the response norms (24² and 12² pixels, 16 channels a column).
    norms = 2 * 16 * 16 * (24**2 + 12**2)
    # conv1 computes four neighbours at once from 8 columns of pixels, where each alone needs 5 (`fast.convolve`).
    wider = layers["conv1"] * 8 // 5 - layers["conv1"]
    assert one["forward"]["products"] == 16 * (sum(layers.values()) + wider + norms)
    for which in ("forward", "step"):
        assert 2 * two[which]["products"] == one[which]["products"], which
    # Backward, as many again for the weights and for the input of each layer (the images' is not wanted), and a banded
    # product for each norm. Nothing is computed twice.
    assert one["step"]["products"] == 16 * (3 * sum(layers.values()) - layers["conv1"] + wider + 2 * norms)

    # All operations. What doesn't halve: augmentation, which both devices do for all images; the softmax and the loss,
    # 16 × 10 logits; and what the compiler computes twice to save memory, differently for one column and two. Measured:
    # 0.4989 and 0.4994 of the work of one device.
    for which, whole in (("step", out["augmentation"]), ("forward", 16 * 24 * 24 * 3)):
        half = (one[which]["flops"] + whole) / 2
        assert two[which]["flops"] == pytest.approx(half, rel=0.005), which

    # Parameters and velocity: half, but for the output layer's 10 biases, which both hold.
    biases = 2 * 10 * 4
    assert two["state"] - biases == (one["state"] - biases) / 2
    # The compiler's own sum of the arguments: the state, and images, labels and constants, whole on both.
    for count in (one, two):
        assert count["step"]["arguments"] == count["state"] + out["replicated"]
    assert two["step"]["temporaries"] < 0.75 * one["step"]["temporaries"]


def _exchange(*layers):
    """The collectives of a forward pass, and of a training step, with exchanges before these layers."""
    forward = sorted([["all-gather", "column", layer] for layer in layers] + [["all-reduce", "column", "fc8"]])
    return forward, sorted(forward + [["reduce-scatter", "column", layer] for layer in layers])


def test_four_columns_train_alike_on_one_two_and_four_devices():
    out = emulated.run(FOUR, 4, x64=True)
    alone = out["1"]
    assert len({round(loss, 6) for loss in alone["losses"]}) == 3, "steps that change nothing prove nothing"
    assert alone["step"] == []
    for devices, local in (("1", 4), ("2", 2), ("4", 1)):
        assert out[devices]["kernel"] == local
        assert out[devices]["losses"] == pytest.approx(alone["losses"], rel=1e-9), devices
    _, expected = _exchange("conv3", "fc6", "fc7")
    assert out["2"]["step"] == expected
    assert out["4"]["step"] == expected


def test_the_bytes_of_the_exchanges_are_those_of_the_compiled_program():
    # In float32: the compiler for CPUs widens collectives of bfloat16. Those are tested in test_describe.py, against
    # the numbers of programs for H100s, and in test_targets.py.
    batch = 8
    for name, both in emulated.run(BYTES, 4).items():
        expected = []
        for layer, kind, handed_in, received, _, _ in both["told"]:
            expected.append([kind, layer, batch * handed_in, batch * received])
            if kind == "all-gather":  # its transpose, backward
                expected.append(["reduce-scatter", layer, batch * received, batch * handed_in])
        assert len(expected) == 7
        assert sorted(both["compiled"]) == sorted(expected), name


def test_columns_meet_where_the_config_says_and_nowhere_else():
    out = emulated.run(EXCHANGES, 2)
    for name, layers in (("none", ()), ("conv4", ("conv4", "fc6", "fc7")), ("paper", ("conv3", "fc6", "fc7"))):
        forward, step = _exchange(*layers)
        assert out[name]["forward"] == forward, name
        assert out[name]["step"] == step, name
