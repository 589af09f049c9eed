"""The benchmarks measure what their tables say: same loss on both sides, right arithmetic and bookkeeping. No times."""

import contextlib
import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from oracle import needs_torch, network, random_images

from alexnet_jax import data, run_files
from alexnet_jax.errors import UserError
from alexnet_jax.inspect.targets import hlo
from alexnet_jax.models import geometry
from alexnet_jax.parallel import column_costs
from benchmarks import (
    command,
    contenders,
    importing,
    networks,
    profile,
    racing,
    roofline,
    rounds,
    sweep_worker,
    synthetic,
    table,
)

try:
    import torch
    import torch.nn.functional as F

    from benchmarks import peer, side_torch
except ImportError:
    torch = None


@needs_torch
@pytest.mark.parametrize("norm", ["stock", "banded"])
@pytest.mark.parametrize("name", [*networks.FULL, *networks.SMALL])
def test_both_sides_compute_the_same_loss(name, norm):
    # Shrunk in width only: sizes, strides, norms and pools are the network's own.
    c = networks.config_of(name, 2, shrink=True, changes={"model.dropout": 0.0})
    if norm == "banded" and not c.model.lrn.layers:
        pytest.skip("no norm in this network")
    rng = np.random.default_rng(3)
    params = {layer: {kind: (array + 0.05 * rng.standard_normal(array.shape)).astype(np.float32)
                      for kind, array in leaves.items()} for layer, leaves in side_torch.initial(c).items()}
    images = random_images(c, 2).astype(np.float32)
    labels = np.asarray([1, 7])
    ours = jax.nn.log_softmax(network(c, 10)(params, images))[np.arange(2), labels]
    theirs = peer.Peer(c, params, norm)(
        torch.tensor(np.moveaxis(images, -1, 1)).contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(theirs, torch.tensor(labels))
    assert abs(float(theirs.detach().std())) > 1e-3
    assert float(loss.detach()) == pytest.approx(-float(np.mean(ours)), rel=2e-5)


@needs_torch
def test_the_banded_norm_is_pytorchs_own_with_its_gradient():
    c = networks.config_of("paper", 2, changes={"model.lrn.alpha": 0.3})
    x = torch.randn(2, 96, 5, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 96, 5, 5, dtype=torch.float64)
    found = {}
    for norm in peer.NORMS:
        y = peer.local_response_norm(c.model, x, norm)
        found[norm] = y.detach(), torch.autograd.grad((y * upstream).sum(), x)[0]
    for mine, stock in zip(found["banded"], found["stock"], strict=True):
        torch.testing.assert_close(mine, stock, rtol=1e-10, atol=1e-12)


@needs_torch
def test_the_peer_learns_by_momentum_and_decay():
    c = networks.config_of("four-layer", 4, shrink=True)
    step = side_torch.Step(c, "stock", compiled=False)
    step.run(1)
    before = float(step.last)
    step.run(30)
    assert float(step.last) < before


def test_the_arithmetic_of_the_full_network():
    # Paper, figure 2; by hand, multiply-adds of one image over both columns.
    forward = {"conv1": 55**2 * 96 * 363, "conv2": 27**2 * 256 * 1200, "conv3": 13**2 * 384 * 2304,
               "conv4": 13**2 * 384 * 1728, "conv5": 13**2 * 256 * 1728, "fc6": 4096 * 9216, "fc7": 4096 * 4096,
               "fc8": 1000 * 4096}
    c = networks.config_of("paper", 7)
    work = networks.passes(c, 1000, 7)
    assert {x.layer: x.flops for x in work if x.name == "forward"} == {k: 14 * v for k, v in forward.items()}
    # Three products a layer, but no gradient with respect to the image.
    assert networks.step_flops(c, 1000, 7) == 14 * (3 * sum(forward.values()) - forward["conv1"])
    update = sum(x.bytes for x in work if x.name == "update")
    assert update == 5 * 4 * 60_965_224


def test_the_bytes_of_a_dense_layer_by_hand():
    c = networks.config_of("paper", 7, "bfloat16")
    found = {x.name: x.bytes for x in networks.passes(c, 1000, 7) if x.layer == "fc7"}
    inputs = outputs = 7 * 4096
    weights = 4096 * 4096 + 4096
    assert found["forward"] == 2 * (inputs + weights + outputs)
    assert found["input gradient"] == 2 * (outputs + weights + inputs)
    assert found["weight gradient"] == 2 * (3 * outputs + inputs + outputs) + 4 * weights


def test_two_devices_share_the_arithmetic():
    c = networks.config_of("released", 8, "bfloat16")
    assert sum(x.flops for x in networks.passes(c, 1000, 8, 2)) * 2 == networks.step_flops(c, 1000, 8)
    own = sum(x.bytes for x in networks.passes(c, 1000, 8, 2) if x.name == "update") / 20
    # fc8's biases lie on both devices, which this leaves out.
    assert column_costs.per_device(c, 1000, 2)["parameters"] - own == 500


def test_a_pass_takes_the_longer_of_arithmetic_and_memory():
    one = networks.Pass("x", "forward", flops=100.0, bytes=10.0)
    assert one.seconds(10.0, 10.0) == 10.0
    assert one.seconds(1000.0, 10.0) == 1.0
    assert networks.floor_seconds([one, one], 10.0, 10.0) == 20.0


def test_everyone_takes_a_turn_and_another_one_begins_each_round():
    log = []
    found = rounds.alternate({name: lambda name=name: log.append(name) or float(len(log)) for name in "abc"}, 3)
    assert log == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert found == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}


def test_ratios_are_taken_within_a_round():
    # A machine that is ten times slower in the second round doesn't touch the ratio.
    found = rounds.ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])
    assert (found["median"], found["least"]) == (2.0, 2.0)
    assert rounds.spread(found) == "2.00 [2.00, 2.10]"
    assert rounds.summary([3.0])["low"] == 3.0


def _quick(name, *arguments):
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--quick", "--threads=1", *arguments],
                          capture_output=True, text=True, check=False, cwd=command.ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@needs_torch
@pytest.mark.slow
def test_a_race_from_the_command_line(tmp_path):
    out = tmp_path / "small.json"
    text = _quick("small", "--only", "alexnet32", "conv-local-13", f"--out={out}")
    result = json.loads(out.read_text())
    assert [row["network"] for row in result["rows"]] == ["alexnet32", "conv-local-13"]
    row = result["rows"][0]
    assert list(row["seconds"]) == ["ours", racing.STOCK, racing.BEST]
    assert list(result["rows"][1]["seconds"]) == list(row["seconds"])
    turns = {key: value["all"] for key, value in row["seconds"].items()}
    assert [len(turn) for turn in turns.values()] == [2, 2, 2]
    assert row["ratio"][racing.STOCK]["all"] == [a / b for a, b in zip(turns[racing.STOCK], turns["ours"], strict=True)]
    assert all(np.isfinite(loss) for loss in row["loss"].values())
    assert {"jax", "torch"} <= result["versions"].keys()
    assert result["device"]["cores"] == 1
    assert "QUICK" in text
    assert "| alexnet32 | 8 | float32 |" in text


@pytest.mark.slow
def test_a_cold_start_from_the_command_line(tmp_path):
    out = tmp_path / "cold.json"
    _quick("cold_start", "--rounds=1", "--together=2", f"--out={out}")
    row, = json.loads(out.read_text())["rows"]
    assert row["config"] == "configs/shapes.py"
    assert all("step " in text and "initial signals " in text for text in row["compiled"].values())
    assert sum("from the cache" in text for text in row["together"]["compiled"]) >= 1
    assert len(row["cold"]["all"]) == len(row["warm"]["all"]) == 1


def test_a_child_answers_errors_and_continues_and_is_replaced_when_it_dies():
    with contenders.Contender("ours", contenders.cores(1)) as ours:
        ours._process.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError, match=r"ours: no answer to 'about' within 0.01 s"):
            ours.ask("about", timeout=0.01)
        with pytest.raises(UserError, match="ours: KeyError: 'nothing'"):
            ours.ask("run", key="nothing", steps=1)
        assert ours.ask("about")["count"] >= 1


def test_nested_compilation_is_counted_once(monkeypatch):
    monkeypatch.setattr(sweep_worker, "_STRETCHES", [])
    monkeypatch.setattr(sweep_worker, "_SPENT", {"compile": 0.0})
    sweep_worker.count(1.0, 2.0)  # 1 … 3, apart from the rest
    sweep_worker.count(5.0, 1.0)  # 5 … 6 and 7 … 8, both within 4 … 9
    sweep_worker.count(7.0, 1.0)
    sweep_worker.count(4.0, 5.0)
    assert sweep_worker._SPENT["compile"] == 7.0


def test_more_threads_than_cores_are_refused():
    with pytest.raises(UserError, match="--threads=4096: this process may use"):
        contenders.cores(4096)


def test_each_network_has_processes_of_its_own(monkeypatch):
    made, raced = [], []

    class Child(contextlib.nullcontext):
        def __init__(self, side, cores, environment=None):
            super().__init__(self)
            made.append(self)

    def device(result, children, cores):
        result["device"] = {"platform": "cpu"}

    def measure(args, children, cell, compiled):
        raced.append((cell.network, set(children.values())))
        return {"missing": {}}

    monkeypatch.setattr(contenders, "Contender", Child)
    monkeypatch.setattr(command, "device", device)
    monkeypatch.setattr(command, "floor", lambda *_: {"flops_per_second": 1.0, "bytes_per_second": 1.0})
    monkeypatch.setattr(racing, "measure", measure)
    parser = command.parser("small", "", 1)
    racing.add_flags(parser)
    racing.race("small", parser.parse_args(["--threads=1", "--quick"]), ["alexnet32", "four-layer"], [128], [128])
    assert [network for network, _ in raced] == ["alexnet32", "four-layer"]
    assert all(len(children) == 3 for _, children in raced)
    assert not raced[0][1] & raced[1][1]


def test_an_unknown_network_is_refused():
    args = command.parser("small", "", 1)
    racing.add_flags(args)
    with pytest.raises(UserError, match="--only=alexnet33: no such network; valid: alexnet32,"):
        racing.chosen(args.parse_args(["--only", "alexnet33"]), networks.SMALL)


def _sparse(tmp_path, count):
    folder = synthetic.make(tmp_path, "train", count, 32, classes=10, sparse=True)
    synthetic.make(tmp_path, "val", 32, 32, classes=10)
    return folder


def test_a_synthetic_store_is_a_store(tmp_path):
    folder = _sparse(tmp_path, 3_000_000)
    images = folder / "images.u8"
    assert images.stat().st_size == 3_000_000 * 32 * 32 * 3
    assert images.stat().st_blocks * 512 < 1 << 20  # nine gigabytes that take no room
    c = networks.config_of("alexnet32", 16, shrink=True, changes=synthetic.fields(tmp_path, 32))
    split = data.open_split(c.data, "train[-5:]")
    assert split.images.shape == (5, 32, 32, 3)
    assert not split.images.any()
    assert len(data.open_split(c.data, "val").classes) == 10


@pytest.mark.slow
def test_an_epoch_counts_the_images_of_its_steps(tmp_path, monkeypatch):
    from benchmarks import side_ours

    _sparse(tmp_path, 80)
    moments = iter((10.0, 14.0))
    monkeypatch.setattr(side_ours, "_clock", lambda: next(moments))
    # 5 steps of 16 images; the clock runs from the end of the first: 64 images in 4 seconds.
    rate = side_ours.epoch("alexnet32", 16, "float32", synthetic.fields(tmp_path, 32) | {
        "data.eval_split": "val", "mesh.data": "1", "mesh.column": "1"}, shrink=True)
    assert rate == 16.0


def test_the_roofline_by_hand():
    # fc6 on one H100, batch 128, bfloat16: 2 · 128 · 4096 · 9216 operations; reading its weights takes longer.
    c = networks.config_of("released", 128, "bfloat16")
    row = next(x for x in roofline.layers(c, 128, roofline.CARDS["h100"]) if x["layer"] == "fc6")
    weights = 4096 * 9216 + 4096
    moved = 2 * (128 * 9216 + weights + 128 * 4096)
    assert row["bound"] == "memory"
    assert row["forward"] == pytest.approx(moved / 3.35e12)
    assert row["flops"] == 3 * 2 * 128 * 4096 * 9216


def test_the_exchanges_are_those_of_the_compiled_program():
    # The bytes that tests/test_inspect_targets.py finds in programs compiled for h100:4x2.
    c = networks.config_of("released", 128, "bfloat16")
    found = {(x["what"], x["collective"]): x["bytes"] for x in roofline.exchanges(c, 128, 4, 2, roofline.CARDS["h100"])}
    assert found[("conv3", "all-gather")] == found[("conv3", "reduce-scatter")] == 5_537_792
    assert found[("fc6", "all-gather")] == 1_179_648
    assert found[("fc8", "all-reduce")] == 4 * 128 * 1000
    assert found[("gradients", "all-reduce")] == 1.5 * 4 * column_costs.per_device(c, 1000, 2)["parameters"]
    assert not any(what == "gradients" for what, _ in
                   {(x["what"], "") for x in roofline.exchanges(c, 128, 1, 2, roofline.CARDS["h100"])})


def _result(**changes):
    return {"schema": command.SCHEMA, "benchmark": "cold_start", "command": "python -m benchmarks.cold_start",
            "started": "2020-01-01", "git": {}, "quick": False, "rows": [
                {"config": "configs/x.py", "batch": 64, "cold": rounds.summary([9.0]), "warm": rounds.summary([4.0])}],
            **changes}


def test_rendering_keeps_what_is_written_by_hand():
    text = ("# By hand\n<!-- begin cold_start -->\nold\n<!-- end cold_start -->\nbetween\n"
            "<!-- begin full -->\n<!-- end full -->\n")
    new = table.fill(text, {"cold_start": _result()})
    assert new.startswith("# By hand\n<!-- begin cold_start -->\n")
    assert "| configs/x.py | 64 | 9.0 [9.0, 9.0] | 4.0 [4.0, 4.0] |\n<!-- end cold_start -->\nbetween\n" in new
    assert "<!-- begin full -->\nNot measured yet.\n<!-- end full -->" in new
    assert "\nold\n" not in new
    assert table.fill(new, {"cold_start": _result()}) == new


@pytest.mark.parametrize(("changes", "message"), [
    ({"quick": True}, "results/cold_start.json: a result of --quick, which measures nothing"),
    ({"schema": 0}, "results/cold_start.json: not a benchmark's result of this version"),
])
def test_what_is_no_measurement_is_not_rendered(changes, message):
    with pytest.raises(UserError, match=message):
        table.fill("<!-- begin cold_start -->\n<!-- end cold_start -->", {"cold_start": _result(**changes)})


def test_a_result_without_a_place_is_refused():
    with pytest.raises(UserError, match=r"results/mine.json: RESULTS.md has no <!-- begin mine -->"):
        table.fill("", {"mine": _result()})


@needs_torch
def test_an_import_is_measured_in_a_process_of_its_own(tmp_path):
    kind, file = "torchvision.safetensors", tmp_path / "a"
    importing.make(file, kind, importing.TINY)
    held = np.ones(1 << 27)  # 1 GB of this process, which doesn't count
    cost = importing.measure(file, kind, importing.TINY, tmp_path / "run")
    assert file.stat().st_size < cost.peak < held.nbytes
    assert cost.seconds > 0
    assert run_files.read_json(tmp_path / "run" / "result.json")["status"] == "imported"
    with pytest.raises(UserError, match="not an empty folder"):
        importing.measure(file, kind, importing.TINY, tmp_path / "run")


def test_the_table_of_imports():
    megabyte = rounds.summary([1e6 * n for n in (500, 600, 700)])
    row = {"file": "a.pth", "bytes": 200_000_000, "peak": megabyte, "tiny": rounds.summary([2e8]),
           "seconds": rounds.summary([4.0])}
    assert importing.table({"rows": [row]})[2:] == ["| a.pth | 200 MB | 600 MB | 200 MB | 2.0 | 4.0 |"]


def test_every_network_has_its_own_layers():
    shapes = {name: [x.name for x in geometry.layers(networks.config_of(name, 8))] for name in networks.SMALL}
    assert shapes["four-layer"] == ["conv1", "conv2", "conv3", "fc8"]
    assert shapes["conv-local-11"] == ["conv1", "conv2", "conv3", "conv4", "fc8"]
    assert len(shapes["alexnet64"]) == 8
    assert not networks.config_of("released-no-lrn", 8).model.same_map.layers


@pytest.mark.parametrize(("operation", "where", "kind"), [
    ("convolution", "jit(_train_step)/transpose(jvp())/conv2/conv_general_dilated", profile.PRODUCTS),
    ("dot", "jit(_train_step)/jvp()/fc6/cbi,cio->cbo/dot_general", profile.PRODUCTS),
    ("dot", "jit(_train_step)/jvp()/conv1/cond/branch_0_fun/dot_general", profile.LAYERS),  # the norm's window
    ("fusion", "jit(_train_step)/jvp()/conv1/mul", profile.LAYERS),
    ("fusion", "", profile.LAYOUT),
    ("copy", "", profile.LAYOUT),
    ("fusion", "jit(_train_step)/jit(_where)/select_n", profile.UPDATE),
    ("fusion", "jit(_train_step)/jvp()/vmap()/gather", profile.IMAGES),
    ("reduce", "jit(_train_step)/jvp()/reduce_sum", profile.REST),
    ("while", "jit(_train_step)/jvp()/cond/branch_0_fun/while", None),
])
def test_an_instruction_belongs_to_one_kind_of_work(operation, where, kind):
    assert profile.kind_of(operation, where) == kind


def test_a_profile_counts_every_product_of_the_step_once():
    from benchmarks import side_ours

    try:
        side_ours.setup("four", "four-layer", 4, "float32", shrink=True)
        found = side_ours.profile("four", 2)
        text = side_ours._STEPS["four"].compiled_text()
    finally:
        side_ours.forget()
    assert len({row["name"] for row in found}) == len(found)
    products = {row["name"] for row in found if profile.kind_of(row["operation"], row["where"]) == profile.PRODUCTS}
    entry = {x.name for x in hlo.instructions(text) if x.operation in ("convolution", "dot")}
    assert products == entry
    summary = profile.summarise(found)
    assert sum(summary["kinds"].values()) > summary["kinds"][profile.PRODUCTS] > 0
    assert list(summary["layers"]) == ["conv1", "conv2", "conv3", "fc8"]
    own = sum(row["seconds"] for row in found if profile.kind_of(row["operation"], row["where"]))
    assert sum(summary["kinds"].values()) == pytest.approx(own)
    assert len(summary["dearest"]) == 5
