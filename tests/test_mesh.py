"""Meshes: the refusals, and training on four emulated devices, which gives the same numbers however they are laid out.

Only two columns and what they exchange cross devices: three all-gathers (conv3, fc6, fc7) and one all-reduce (fc8).
"""

import re

import emulated
import jax
import pytest

from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.parallel import mesh
from alexnet_jax.training import augment, program

pytestmark = pytest.mark.timeout(600)

SCRIPT = r'''
import json, re
import jax, jax.numpy as jnp, numpy as np
from alexnet_jax import config as config_lib
from alexnet_jax.parallel import mesh as mesh_lib
from alexnet_jax.training import program
from alexnet_jax.training import augment
from alexnet_jax import networks, recipes

c = config_lib.default()
networks.alexnet32(c)
recipes.apply(c, "released")
for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
    c.model[name].features = 8
c.model.fc6.features = c.model.fc7.features = 16
c.data.size, c.augment.chunk, c.train.batch_size, c.train.precision = 28, 2, 8, "float64"
c = config_lib.resolve(c)

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8, 28, 28, 3)).astype(np.uint8)
labels = (np.arange(8) % 10).astype(np.int32)
consts = augment.Constants(np.full((24, 24, 3), 120, np.float32), (40 * rng.standard_normal((3, 3))).astype(np.float32))
rates = {g: 0.01 for g in ("weights", "biases", "conv1_weights", "conv1_biases")}
names = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

def collectives(text):
    return {n: len(re.findall(r"\s%s(?:-start)?\(" % n, text)) for n in names}

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
    step = None
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
'''


def test_every_mesh_trains_alike_and_columns_meet_three_times():
    out = emulated.run(SCRIPT, 4, x64=True)

    alone = out["1x1"]
    assert alone["dtype"] == "float64"
    assert len({round(loss, 6) for loss in alone["losses"]}) == 4, "four steps that change nothing prove nothing"
    assert len({round(row[0], 9) for row in alone["logs"]}) == 8, "log probabilities that don't tell images apart"
    for name in ("1x2", "2x1", "2x2"):
        assert out[name]["losses"] == pytest.approx(alone["losses"], rel=1e-9), name
        for row, expected in zip(out[name]["logs"], alone["logs"], strict=True):
            assert row == pytest.approx(expected, rel=1e-9), name
    for name, local in (("1x1", 2), ("1x2", 1), ("2x1", 2), ("2x2", 1)):
        assert out[name]["kernel"] == [local], f"columns of a device on {name}"

    none = dict.fromkeys(alone["forward"], 0)
    assert alone["forward"] == none
    assert alone["step"] == none
    assert out["2x1"]["forward"] == none, "replicas have nothing to tell each other in the forward pass"
    for name in ("1x2", "2x2"):
        assert out[name]["forward"] == none | {"all-gather": 3, "all-reduce": 1}, name
        step = dict(out[name]["step"])
        # fc8's sum, and on 2 × 2 the gradients' and the loss's over 'data', as the compiler buckets them.
        reduces = step.pop("all-reduce")
        assert step == {"all-gather": 3, "reduce-scatter": 3, "all-to-all": 0, "collective-permute": 0}, name
        assert reduces >= 1
    # fc8's logits, and the gradient of its bias, which is whole on both devices, needs none or one.
    assert out["1x2"]["step"]["all-reduce"] <= 2

    assert out["auto"] == {"auto": [2, 2], "layer": [4, 1], "odd": [1, 2], "one": [4, 1]}


@pytest.mark.parametrize(("field", "count", "overrides"), [
    ("config.mesh.column", 3, {"mesh.column": 3}),
    ("config.mesh", 1, {"mesh.data": 1, "mesh.column": 2}),
    ("config.mesh", 2, {"mesh.data": 4, "mesh.column": 1}),
    ("config.mesh.data", 3, {"mesh.data": 3, "mesh.column": 1}),
    ("config.model.lrn.window", 2, {"mesh.data": 1, "mesh.column": 2, "model.lrn.window": "layer"}),
])
def test_refusals_are_one_line_and_name_the_field(field, count, overrides):
    c = config_lib.override(config_lib.default(), overrides)
    with pytest.raises(ConfigError) as caught:
        mesh.make_mesh(c, jax.devices()[:1] * count)
    message = str(caught.value)
    assert message.startswith(field + ":")
    assert "\n" not in message


def test_devices_that_are_not_there(monkeypatch):
    def devices():
        raise RuntimeError("Unknown backend:\n'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ConfigError, match=r"^JAX_PLATFORMS=cuda: no such devices here; .*: 'cuda'\)$"):
        mesh.make_mesh(config_lib.default())
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(ConfigError, match=r"^JAX finds no devices here"):
        mesh.make_mesh(config_lib.default())


@jax.default_matmul_precision(None)
def test_float32_is_float32_on_accelerators_unless_asked(monkeypatch):
    assert program.products("float32", "cpu") is None
    assert (program.products("float32", "gpu"), program.products("bfloat16", "gpu")) == ("float32", None)
    with jax.default_matmul_precision("tensorfloat32"):
        assert program.products("float32", "gpu") == "tensorfloat32"

    c = config_lib.resolve(config_lib.override(config_lib.default(), {
        **{f"model.conv{i}.features": 4 for i in range(1, 6)}, "model.fc6.features": 4, "model.fc7.features": 4,
        "train.batch_size": 2, "optim.schedule": "constant"}))

    def written():
        """The products and convolutions of a training step, as lowered for a GPU."""
        p = program.Program(c, 10, mesh.make_mesh(c, jax.devices()[:1]))
        shape = jax.ShapeDtypeStruct
        state = jax.eval_shape(p.init, 0)
        batch = shape((2, 256, 256, 3), "uint8"), shape((2,), "int32"), shape((2,), "int32")
        consts = augment.Constants(shape((256, 256, 3), "float32"), shape((3, 3), "float32"))
        rates = dict.fromkeys(("weights", "biases", "conv1_weights", "conv1_biases"), shape((), "float32"))
        text = p.train_step.trace(state, p.zero_sums(), batch, consts, program.Moment(0, 0, rates, 0.1)).lower(
            lowering_platforms=("cuda",)).as_text()
        return [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]

    plain = written()
    assert len(plain) >= 23  # eight layers forward, with respect to weights and, but for conv1, to inputs
    monkeypatch.setattr(program, "products", lambda *_: "float32")
    exact = written()
    assert len(exact) == len(plain)
    assert all("HIGHEST" in line for line in exact)
    assert not any("HIGHEST" in line for line in plain)
