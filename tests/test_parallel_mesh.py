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


def test_every_mesh_trains_alike_and_columns_meet_three_times():
    out = emulated.run("mesh_lines.py", 4, x64=True)

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


def test_a_cpu_does_not_stand_in_for_a_card_that_is_asked_for(monkeypatch):
    """JAX itself leaves cuda out of 'cuda,cpu' on a machine without a card."""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    if jax.devices()[0].platform == "cpu":
        with pytest.raises(ConfigError, match=r"^JAX_PLATFORMS=cuda,cpu: .* would compute on the CPU; .*=cpu$"):
            mesh.make_mesh(config_lib.default())
    monkeypatch.setenv("JAX_PLATFORMS", "cpu,cuda")
    assert mesh.present() == jax.devices()


@jax.default_matmul_precision(None)
def test_float32_is_float32_on_accelerators_unless_requested(monkeypatch):
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
