"""The output of `describe`, compared with hand calculations and the paper's figure 2."""

import pathlib
import re
import subprocess
import sys

import pytest

from alexnet_jax import cli, describe, paths
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect import drawing
from alexnet_jax.models import geometry
from alexnet_jax.parallel import column_costs

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _config(path, **overrides):
    named = {k.replace("__", "."): v for k, v in overrides.items()}
    return config_lib.resolve(config_lib.override(cli.load_config(f"configs/{path}"), named))


def test_the_full_network_by_hand():
    rows = {row["name"]: row for row in describe.table(_config("imagenet_paper.py"))}
    # Positions × what a unit sees × kernels.
    assert {name: row["multiply_adds"] for name, row in rows.items()} == {
        "conv1": 55 * 55 * (11 * 11 * 3) * 96, "conv2": 27 * 27 * (5 * 5 * 48) * 256,
        "conv3": 13 * 13 * (3 * 3 * 256) * 384, "conv4": 13 * 13 * (3 * 3 * 192) * 384,
        "conv5": 13 * 13 * (3 * 3 * 192) * 256, "fc6": 9216 * 4096, "fc7": 4096 * 4096, "fc8": 4096 * 1000}
    assert [row["units"] for row in rows.values()] == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert rows["conv1"]["bytes"] == 4 * (55 * 55 * 96 + 27 * 27 * 96)
    assert rows["fc6"]["bytes"] == 4 * 4096
    assert rows["conv1"]["filter"] == "11×11 stride 4 pad 0,3"
    assert rows["conv2"]["per column"] == "27×27×128 → 13×13×128"
    assert (rows["conv2"]["sees"], rows["conv3"]["sees"]) == ("own column", "all columns")
    assert rows["conv1"]["then"] == "ReLU, LRN, max pool 3/2"
    text = describe.describe(_config("imagenet_paper.py"))
    assert "60,965,224 parameters (the paper's network: 60 million" in text
    assert "659,272 neurons (the paper's: 650,000" in text


def test_unshared_weights_are_counted_at_each_position():
    rows = {row["name"]: row for row in describe.table(_config("conv_local.py:11"), 10)}
    assert rows["conv3"]["parameters"] == 36 * (9 * 64 + 1) * 64
    assert rows["conv3"]["multiply_adds"] == 36 * 9 * 64 * 64
    assert rows["conv3"]["filter"] == "3×3 pad 1 unshared"
    assert rows["conv3"]["sees"] == "layer below"


def test_departures_name_each_field_once_and_nothing_else():
    paper = _config("imagenet_paper.py")
    assert describe.departures(paper, "paper") == [("model.classes", 1000, 0),
                                                   ("augment.pca.statistics", "ilsvrc2012", "train")]
    changed = _config("imagenet_released.py", model__lrn__layers=(1,), optim__momentum=0.8)
    assert [name for name, *_ in describe.departures(changed, "released")] == [
        "model.classes", "model.lrn.layers", "augment.pca.statistics", "optim.momentum"]
    assert ("data.crop", 227, 224) in describe.departures(cli.load_config("configs/imagenet.py:caffe"), "paper")
    # Of a layer that is left out there is one line.
    without = _config("imagenet_released.py", model__conv3__features=0)
    assert ("model.conv3.features", 0, 384) in describe.departures(without, "paper")
    assert not any(name.startswith("model.conv3.init") for name, *_ in describe.departures(without, "paper"))


def test_placement_by_hand():
    c = _config("imagenet_released.py", train__precision="bfloat16")
    met = column_costs.exchanges(c, 1000, 2)
    # pool2, pool5 and fc6 of the other column, two bytes a value; the logits in float32.
    assert [(x.layer, x.forward, x.backward) for x in met] == [
        ("conv3", 13 * 13 * 128 * 2, 13 * 13 * 128 * 2), ("fc6", 6 * 6 * 128 * 2, 6 * 6 * 128 * 2),
        ("fc7", 2048 * 2, 2048 * 2), ("fc8", 4000, 0)]
    # What XLA's compiler for two H100s says of 128 images (README, tests/test_inspect_targets.py).
    assert [(128 * x.handed_in, 128 * x.received) for x in met] == [
        (5_537_792, 11_075_584), (1_179_648, 2_359_296), (524_288, 1_048_576), (512_000, 512_000)]
    numbers = column_costs.per_device(c, 1000, 2)
    assert numbers["parameters"] == (60_965_224 - 1000) // 2 + 1000
    assert numbers["multiply_adds"] == sum(row["multiply_adds"] for row in describe.table(c)) // 2
    assert (numbers["received_forward"], numbers["received_backward"]) == (60_576, 56_576)
    text = describe.describe(c)
    assert "on 2 devices, a column each (config.mesh.column), a device holds 30,483,112 parameters" in text
    assert "nothing is exchanged between devices" in describe.describe(_config("cifar10.py", mesh__column="1"))
    assert "devices" not in describe.describe(_config("lenet.py"))
    # As training takes them: two at most unless more are asked for, and one where norms span the columns.
    assert "on 2 devices, 2 columns each" in describe.describe(_config("cifar10.py", model__columns=4))
    assert "on 4 devices, a column each" in describe.describe(
        _config("cifar10.py", model__columns=4, mesh__column="4"))
    caffe = cli.load_config("configs/imagenet.py:caffe")
    assert "nothing is exchanged between devices" in describe.describe(config_lib.resolve(caffe))
    with pytest.raises(ConfigError, match="'layer' needs all columns on one device"):
        describe.describe(config_lib.override(caffe, {"mesh.column": 2}))


@pytest.mark.parametrize(("path", "arrows", "dashed"), [
    # Two into conv1; own arrows into seven layers of two columns, of which three see the other too; two into fc8.
    ("imagenet_released.py", 2 + 2 * 6 + 2 * 3 + 2, 6), ("author_runs.py:150", 2 + 2 * 6 + 2, 0), ("lenet.py", 5, 0)])
def test_the_drawing(tmp_path, path, arrows, dashed):
    c = _config(path)
    drawing.draw(c, 10, tmp_path / "net.svg")
    text = (tmp_path / "net.svg").read_text()
    lines = re.findall(r'<path d="M [^"]*"[^>]*style="fill: none;[^"]*"', text)
    assert sum("stroke-dasharray" in line for line in lines) == dashed
    assert len(lines) == arrows
    for layer in geometry.layers(c, 10):
        assert f"<!-- {layer.name}" in text
    total = sum(layer.parameters for layer in geometry.layers(c, 10))
    assert f"{total:,} parameters" in text
    drawing.draw(c, 10, tmp_path / "net.png")
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "message"), [("net.gif", "has to end in .svg, .png, .pdf"),
                                               ("nowhere/net.svg", "there is no folder")])
def test_where_nothing_can_be_drawn(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        paths.output(str(tmp_path / name))


def test_classes_are_known_or_reported_as_assumed():
    assert describe.classes_of(_config("cifar10.py")) == 10
    assert "classes of image_folder:tiny-imagenet-100 are known once" in describe.describe(_config("tiny_imagenet.py"))
    assert "known once" not in describe.describe(_config("tiny_imagenet.py", model__classes=100))


def _run(*arguments):
    code = ("import sys; sys.argv[0] = 'describe'; import runpy; "
            "runpy.run_module('alexnet_jax.describe', run_name='__main__')")
    probe = "import atexit; atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr)); "
    return subprocess.run([sys.executable, "-c", "import sys; " + probe + code, *arguments], cwd=ROOT,
                          capture_output=True, text=True, timeout=240)


def test_the_command_needs_no_jax():
    done = _run("--config=configs/cifar10.py")
    assert done.returncode == 0
    assert "departures from the recipe paper" in done.stdout
    assert done.stderr == "False\n", "describing must neither compile nor import JAX"


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "--config=FILE is needed"),
    (["--config=configs/cifar10.py", "--config.model.conv1.kernel=40"], "config.model.conv1.kernel: a 40-pixel filter"),
    (["--config=configs/cifar10.py", "--config.mesh.column=3"], "config.mesh.column: 2 columns do not divide over 3"),
    (["--config=configs/lenet.py:mnist"], "data 'mnist': not one of cifar10, shapes"),
    (["--config=configs/conv_local.py:12"], "variant '12': not one of 13, 11, 11_no_lrn"),
])
def test_mistakes_are_one_line(arguments, message):
    done = _run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2, "the message and the probe's line"
