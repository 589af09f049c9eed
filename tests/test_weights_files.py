"""Readers of weights files: what was written is read, and damaged files get one line, without code run or memory
taken."""

import collections
import json
import os
import pathlib
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import weights_files as files
from oracle import needs_torch
from safetensors.numpy import save_file

from alexnet_jax import weight_files, weights
from alexnet_jax.errors import CheckpointError, ConfigError
from alexnet_jax.training import initial_weights
from alexnet_jax.weight_files import caffe, cuda_convnet, inert, protobuf
from alexnet_jax.weights import importing

RNG = np.random.default_rng(0)
# Kernels of a small network of two columns in PyTorch's layout.
SHAPES = {"conv1": (8, 3, 5, 5), "conv2": (8, 4, 3, 3), "conv3": (12, 8, 3, 3), "fc6": (10, 12 * 4), "fc7": (6, 10),
          "fc8": (5, 6)}
KERNELS = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
BIASES = {name: RNG.standard_normal(shape[0]).astype(np.float32) for name, shape in SHAPES.items()}
LRN = {"n": 5, "alpha": 0.0001, "beta": 0.75}
CAFFE = [("data", "Data", [], None), ("c1", "Convolution", [KERNELS["conv1"], BIASES["conv1"]], None),
         ("r1", "ReLU", [], None), ("n1", "LRN", [], LRN), ("p1", "Pooling", [], None),
         ("c2", "Convolution", [KERNELS["conv2"], BIASES["conv2"]], None), ("r2", "ReLU", [], None),
         ("p2", "Pooling", [], None), ("n2", "LRN", [], LRN),
         ("c3", "Convolution", [KERNELS["conv3"], BIASES["conv3"]], None), ("r3", "ReLU", [], None),
         *((name, "InnerProduct", [KERNELS[name], BIASES[name]], None) for name in ("fc6", "fc7", "fc8"))]


def assert_read(network, kernels=KERNELS, biases=BIASES):
    assert len(network.layers) == len(kernels)
    for found, name in zip(network.layers.values(), kernels, strict=True):
        for leaf, expected in (("kernel", kernels[name]), ("bias", biases[name])):
            assert found[leaf].shape == expected.shape
            np.testing.assert_array_equal(found[leaf].read(), expected)


def written(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


# Caffe.


@pytest.mark.parametrize(("generation", "doubles"), [("layer", False), ("layer", True), ("v1", False), ("v0", False)])
def test_a_caffemodel_of_each_generation(tmp_path, generation, doubles):
    layers = [x for x in CAFFE if generation == "layer" or x[1] != "Data"]
    network = weights.read(written(tmp_path, files.caffemodel(layers, generation, doubles=doubles)))
    assert_read(network, KERNELS | {"conv1": KERNELS["conv1"][:, ::-1]})  # blue, green, red there
    assert network.facts["order"] == ["relu-lrn-pool", "relu-pool-lrn"]
    assert network.facts["lrn"] == (None if generation == "v0" else LRN | {"k": 1.0})


def test_numbers_that_are_not_packed_and_fields_that_are_not_known(tmp_path):
    array = np.arange(6, dtype=np.float32)
    blob = (files.field(7, files.field(1, 2) + files.field(1, 3)) + b"".join(files.field(5, float(x)) for x in array)
            + files.field(90, "new") + files.field(91, 7) + files.field(92, 0.5) + b"\xe9\x05" + bytes(8))
    tensor = caffe._blob(memoryview(blob))
    np.testing.assert_array_equal(tensor.read(), array.reshape(2, 3))


def test_a_mean_image_of_caffe(tmp_path):
    mean = RNG.uniform(0, 255, (1, 3, 6, 6)).astype(np.float32)
    for old in (True, False):
        found = caffe.read_mean(written(tmp_path, files.blob(mean if old else mean[0], old)))
        np.testing.assert_array_equal(found, mean[0, ::-1].transpose(1, 2, 0))
    with pytest.raises(CheckpointError, match=r"of shape \[1, 4, 6, 6\] is not a square image with three colours"):
        caffe.read_mean(written(tmp_path, files.blob(np.zeros((1, 4, 6, 6), np.float32))))


@pytest.mark.parametrize("kept", [6, 10, 60, 127, 300])
def test_a_mean_of_numpy_that_was_cut(tmp_path, kept):
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 3), np.float32))
    whole = (tmp_path / "a.npy").read_bytes()
    assert importing._mean_image(tmp_path / "a.npy").shape == (8, 8, 3)
    (tmp_path / "a.npy").write_bytes(whole[:kept])
    with pytest.raises(CheckpointError, match=r"a\.npy: not a complete \.npy file") as error:
        importing._mean_image(tmp_path / "a.npy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "part"), [
    (files.field(1, "net"), "it has no layers"),
    (files.caffemodel([("a", "ReLU", [], None)]), "none of its layers has weights"),
    (files.caffemodel([("a", "Convolution", [KERNELS["conv1"]], None)]), "layer 'a' has 1 array"),
    (files.field(100, files.field(7, files.field(7, files.field(1, files.varint(1 << 40))) + files.field(5, b"1234"))),
     r"4 bytes of floats for an array of shape \[1099511627776\]; copy the file again"),
    (files.field(1, "net") + b"\xa2\x06\xff\xff\xff\xff\x0f", "cut short: a field of 4,294,967,295 bytes where 0 are"),
    (files.field(1, "net") + b"\x0b", "a field of unknown kind 3"),
    (files.field(100, files.field(7, files.field(7, files.field(1, b"\x01" * 99)))), "more than 8 numbers in a shape"),
])
def test_caffemodels_that_lie(tmp_path, content, part):
    with pytest.raises(CheckpointError, match=part):
        caffe.read(written(tmp_path, content))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: not a regular file; save its content as one"):
        weight_files.read(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"config\.init\.weights: .*pipe: not a regular file"):
        initial_weights.digest(tmp_path / "pipe")


def test_a_number_that_never_ends():
    with pytest.raises(protobuf.Damaged, match="more than ten bytes"):
        protobuf.varint(memoryview(b"\xff" * 20), 0)


# cuda-convnet.


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_checkpoint_of_2012(tmp_path, protocol):
    layers = files.two_columns(KERNELS, BIASES)
    network = weights.read(written(tmp_path, files.checkpoint(layers, protocol)))
    assert_read(network)
    assert network.facts == {"order": ["lrn-pool-relu", "relu-lrn-pool"], "same_map": True}


def test_a_list_of_layers_as_in_2011_and_arrays_of_today_s_pickle(tmp_path):
    names = list(files.two_columns(KERNELS, BIASES))
    layers = list(files.two_columns(KERNELS, BIASES).values())
    for x in layers:
        x["inputs"] = [names.index(i) for i in x["inputs"]]
        x.pop("inputLayers", None)
    assert_read(weights.read(written(tmp_path, pickle.dumps({"model_state": {"layers": layers}}, 4))))
    assert_read(weights.read(written(tmp_path, pickle.dumps({"model_state": {"layers": layers}}, 2))))


def test_one_column(tmp_path):
    kernel = KERNELS["conv1"]
    layers = [{"name": "data", "type": "data", "inputs": []},
              {"name": "c", "type": "conv", "inputs": [0], "filterSize": [5], "gpu": [0],
               "weights": [kernel.reshape(8, -1).T], "biases": BIASES["conv1"][:, None]}]
    found = weights.read(written(tmp_path, files.python2({"model_state": {"layers": layers}})))
    assert_read(found, {"conv1": kernel})


@pytest.mark.parametrize(("layer", "change", "part"), [
    ("conv2b", {"inputs": ["neuron_conv1a"]}, "sees one column, and not its own; name another file"),
    ("conv3a", {"biases": np.zeros((24, 1), np.float32)}, r"24 biases for 6 outputs, which is one for each position"),
    ("conv1a", {"filterSize": [4]}, "75 rows of weights, which are not filters of side 4"),
    ("conv1a", {"type": "local"}, "type local"),
    ("fc6a", {"weights": []}, "does not have one matrix for each of its inputs"),
    ("neuron_conv1a", {"inputs": ["neuron_conv1a"]}, "circle"),
    ("conv1a", {"inputs": ["nowhere"]}, r"its layers are not as cuda-convnet writes them \(KeyError\)"),
    ("conv1a", {"inputs": ["data"] * 1_001}, "more than 1,000 layers, or than 1,000 inputs of a layer"),
    ("conv163", {}, "66 layers side by side, and at most 64 columns are read")])
def test_checkpoints_that_do_not_add_up(tmp_path, layer, change, part):
    layers = files.two_columns(KERNELS, BIASES)
    for number in range(int(layer[5:]) + 1 if layer[5:].isdecimal() else 0):
        layers[f"conv1{number}"] = {**layers["conv1a"], "name": f"conv1{number}"}
    layers[layer].update(change)
    for x in layers.values():
        x.pop("inputLayers", None)
    with pytest.raises(CheckpointError, match=part):
        cuda_convnet.read(written(tmp_path, files.checkpoint(layers)))


def test_batches_meta(tmp_path):
    mean = RNG.uniform(0, 255, (3, 4, 4)).astype(np.float32)
    found = cuda_convnet.read_meta(written(tmp_path, files.python2(
        {"data_mean": mean.reshape(-1, 1), "label_names": ["tench", "goldfish"], "num_vis": 48})))
    np.testing.assert_array_equal(found["mean"], mean.transpose(1, 2, 0))
    assert found["names"] == ["tench", "goldfish"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [
    {"a": [1, -1, 2**40, -2**70, 1.5, None, True, False, "text é", b"\x00\xff" * 200], (1, "b"): ((), (1, 2, 3, 4))},
    [[], {}, [[1]], collections.OrderedDict([("b", 1), ("a", [2])])],
    {"f": np.arange(6.0).reshape(2, 3), "g": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
     "s": np.float32(2.5), "e": np.zeros((0, 3), bool)}], ids=["plain", "nested", "arrays"])
def test_the_reader_of_pickles_agrees_with_python_s(value, protocol):
    found = inert.load(pickle.dumps(value, protocol))

    def same(a, b):
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        elif isinstance(b, dict):
            assert list(a) == list(b)
            for key in b:
                same(a[key], b[key])
        elif isinstance(b, (list, tuple)):
            assert (type(a), len(a)) == (type(b), len(b))
            for x, y in zip(a, b, strict=True):
                same(x, y)
        else:
            assert bytes(a) == b if isinstance(b, bytes) else a == b

    same(found, value)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_nothing_in_a_pickle_is_called(tmp_path):
    target = tmp_path / "touched"
    for protocol in range(6):
        content = pickle.dumps({"model_state": {"layers": [Malice(target)]}}, protocol)
        found = inert.load(content)["model_state"]["layers"][0]
        assert isinstance(found, inert.Record)
        with pytest.raises(CheckpointError, match="no model_state with layers"):
            cuda_convnet.read(written(tmp_path, content))
    for raw in (b"cos\nsystem\n(S'touch %b'\ntR.", b"(S'touch %b'\nios\nsystem\n.", b"(cos\nsystem\nS'touch %b'\no."):
        assert isinstance(inert.load(raw % bytes(target)), inert.Record)
    assert not target.exists()
    pickle.loads(pickle.dumps(Malice(target)))  # Python's own reader does it
    assert target.exists()


@pytest.mark.parametrize(("content", "part"), [
    (b"\x80\x02Pname\n.", "which a pickle of data does not have"), (b"\x80\x02]r\xff\xff\xff\xff.", None),
    (b"\x80\x02T\xff\xff\xff\x7f.", "cut short: 2,147,483,647 bytes"), (b"\x80\x02T\xff\xff\xff\xffab.", "cut short"),
    (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cut short"), (b"\x80\x02K\x01K\x02R.", "is called"),
    (b"\x80\x02(.", "a mark"), (b"\x80\x02.", "IndexError"), (b"\x80\x02K\x01", "cut short"),
    (b"\x80\x02}]K\x01s.", "TypeError"), (b"I12", "within a line"), (b"L" + b"9" * 5000 + b"\n.", "ValueError")])
def test_pickles_that_lie(content, part):
    if part is None:
        assert inert.load(content) == []  # a place in the memo is no size
        return
    with pytest.raises(inert.Damaged, match=part):
        inert.load(content)


def called(name, argument, tuple_=b"\x85"):
    """A pickle that calls a function again and again, with one argument, and keeps what that gives."""
    module, function = name.rsplit(".", 1)
    return (b"\x80\x02" + argument + b"q\x00" + f"c{module}\n{function}\n".encode() + b"q\x01("
            + (b"h\x01h\x00" + tuple_ + b"R") * 5_000 + b"t.")


NONES = b"](" + b"N" * 10_000 + b"e"
LONG = b"X" + struct.pack("<I", 60_000) + b"x" * 60_000


@pytest.mark.parametrize("content", [
    called("__builtin__.set", NONES), called("collections.OrderedDict", b"](" + b"NN\x86" * 5_000 + b"e"),
    called("_codecs.encode", LONG, b"N\x86"), b"\x80\x04" + LONG + b"q\x00(" + b"h\x00h\x00\x93" * 5_000 + b"t.",
    b"\x80\x02T" + struct.pack("<i", 90_000) + b"x" * 90_000 + b"q\x00(" + b"}h\x00Ns" * 5_000 + b"t."])
def test_a_pickle_that_copies_itself_over_and_over_is_stopped(content, monkeypatch):
    monkeypatch.setattr(inert, "_COPIES", 1 << 20)
    tracemalloc.start()
    with pytest.raises(inert.Damaged, match="over and over"):
        inert.load(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def test_keys_of_tuples_within_tuples_are_not_hashed():
    for depth in (2, 100_000):  # Python's own reader ends without a word at the second
        with pytest.raises(inert.Damaged, match="a key of tuples within tuples"):
            inert.load(b"\x80\x02}N" + b"\x85" * depth + b"Ns.")
    assert inert.load(b"\x80\x02}NK\x01\x86Ns.") == {(None, 1): None}


@pytest.mark.parametrize(("shape", "kind", "raw"), [
    ((1 << 40,), "f4", b"1234"), ((1 << 80, 0), "f4", b""), ((2, -2), "f4", b""), ((1,), "O8", bytes(8)),
    ((1,), "V8", bytes(8)), ((2,), "f4", None), ("x", "f4", b"")])
def test_arrays_whose_bytes_do_not_fill_them(shape, kind, raw):
    with pytest.raises(inert.Damaged, match="an array"):
        inert._build(inert._DType(kind), shape, raw, False)


# PyTorch and safetensors.

TORCHVISION = {"features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "classifier.1": "fc6",
               "classifier.4": "fc7", "classifier.6": "fc8"}


def state_dict(prefix=""):
    return {f"{prefix}{place}.{leaf}": array for place, name in TORCHVISION.items()
            for leaf, array in (("weight", KERNELS[name]), ("bias", BIASES[name]))}


@needs_torch
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: {"state_dict": d, "epoch": 90, "arch": "alexnet"}])
def test_a_state_dict_of_pytorch(tmp_path, legacy, wrap):
    import torch

    tensors = {name: torch.tensor(array) for name, array in state_dict("module.").items()}
    torch.save(wrap(tensors), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert_read(weights.read(tmp_path / "a.pth"))


@needs_torch
def test_a_file_of_pytorch_that_could_run_code_is_refused(tmp_path):
    import torch

    torch.save({"state_dict": Malice(tmp_path / "touched")}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"could run code; save model\.state_dict\(\) alone"):
        weights.read(tmp_path / "a.pth")
    torch.save([torch.zeros(3)], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"has a list in it, not a state dict; save model\.state_dict\(\)"):
        weights.read(tmp_path / "a.pth")
    assert not (tmp_path / "touched").exists()


@needs_torch
@pytest.mark.parametrize(("make", "said"), [
    (lambda torch: torch.zeros(1).expand(1 << 40), "the file has fewer numbers than that"),
    (lambda torch: torch.zeros(5, 6).to_sparse(), r"a cpu tensor of float32, torch\.sparse_coo; save it as a dense"),
    (lambda torch: torch.zeros(5, 6, dtype=torch.complex64), "a cpu tensor of complex64"),
    (lambda torch: torch.zeros(5, 6, dtype=torch.int8), "a cpu tensor of int8"),
    (lambda torch: torch.zeros(5, 6, device="meta"), "a meta tensor of float32")],
    ids=["repeated", "sparse", "complex", "int8", "meta"])
def test_tensors_of_other_kinds_are_refused(tmp_path, make, said):
    import torch

    torch.save({"classifier.6.weight": make(torch), "classifier.6.bias": torch.zeros(5)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: classifier\.6\.weight .*{said}"):
        weights.read(tmp_path / "a.pth")


@needs_torch
def test_tensors_of_other_precisions_and_parameters_are_read(tmp_path):
    import torch

    kernel = torch.nn.Parameter(torch.arange(30.0).reshape(5, 6).to(torch.bfloat16))
    torch.save({"classifier.6.weight": kernel.T.contiguous().T, "classifier.6.bias": torch.zeros(5).half()},
               tmp_path / "a.pth")
    found = weights.read(tmp_path / "a.pth").layers["fc8"]["kernel"].read()
    np.testing.assert_array_equal(found, np.arange(30, dtype=np.float32).reshape(5, 6))


def test_safetensors_under_either_naming(tmp_path):
    save_file(state_dict(), tmp_path / "a")
    assert_read(weights.read(tmp_path / "a"))
    save_file({f"{name}.{leaf}": array for name in SHAPES
               for leaf, array in (("weight", KERNELS[name]), ("bias", BIASES[name]))}, tmp_path / "b")
    assert_read(weights.read(tmp_path / "b"))


def test_names_of_neither_kind(tmp_path):
    save_file({"layer1.0.weight": KERNELS["fc8"]}, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"layer1\.0\.weight: unknown name of a tensor; names have to be"):
        weights.read(tmp_path / "a")
    save_file({"fc8.weight": KERNELS["fc8"]}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="layer fc8 has no biases"):
        weights.read(tmp_path / "a")


@pytest.mark.parametrize(("content", "part"), [
    (b"", "the file is empty"), (b"\x89HDF\r\n", "HDF5"), (b"\x1f\x8b\x08", "unpack it first"),
    (b"hello", "a file of an unknown format; name a PyTorch state dict"), (None, "no such file")])
def test_what_is_no_weights_file(tmp_path, content, part):
    if content is not None:
        written(tmp_path, content)
    with pytest.raises(CheckpointError, match=part) as error:
        weights.read(tmp_path / "file")
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="a folder"):
        weights.read(tmp_path)


# Damage at random.


def _contents(tmp_path):
    yield "caffe", files.caffemodel(CAFFE)
    yield "v1", files.caffemodel([x for x in CAFFE if x[1] != "Data"], "v1")
    yield "cuda-convnet", files.checkpoint(files.two_columns(KERNELS, BIASES))
    yield "text pickle", files.checkpoint(files.two_columns(KERNELS, BIASES), 0)
    save_file(state_dict(), tmp_path / "whole", {"format": "pt", "note": json.dumps({})})
    yield "safetensors", (tmp_path / "whole").read_bytes()
    try:
        import torch
    except ImportError:
        return
    for legacy in (False, True):
        torch.save({name: torch.tensor(array) for name, array in state_dict().items()}, tmp_path / "whole",
                   _use_new_zipfile_serialization=not legacy)
        yield "torch", (tmp_path / "whole").read_bytes()


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of damaged files
def test_cut_and_altered_files_get_one_line_and_no_memory(tmp_path):
    rng = np.random.default_rng(1)
    for kind, content in _contents(tmp_path):
        assert_some(weights.read(written(tmp_path, content)))
        said = []
        if kind != "torch":  # whose own memory this wouldn't see
            tracemalloc.start()
        for number in range(120 if kind != "torch" else 30):
            damaged = bytearray(content)
            if number % 2:
                # Where the structure is, more often than in the numbers.
                place = int(rng.integers(0, len(damaged) if number % 4 == 1 else min(300, len(damaged))))
                damaged[place] ^= int(rng.integers(1, 256))
            else:
                del damaged[int(rng.integers(0, len(damaged))):]
            path = written(tmp_path, bytes(damaged), f"damaged{number}")
            try:
                assert_some(weights.read(path))
            except CheckpointError as error:
                said.append((str(path), str(error)))
            path.unlink()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(said) > 0.4 * (number + 1), kind  # half are cuts
        assert all(text.startswith(path) and "\n" not in text and len(text) < 400 for path, text in said)
        assert peak < 20 * len(content) + 4e6, (kind, peak)


def assert_some(network):
    """Reads all arrays."""
    assert network.layers
    for leaves in network.layers.values():
        for tensor in leaves.values():
            assert tensor.read().shape == tensor.shape


def test_a_pickle_may_hold_itself():
    content = pickle.dumps(loop := [1])
    assert inert.load(content) == loop
    loop.append(loop)
    found = inert.load(pickle.dumps(loop))
    assert found[1] is found


def test_sizes_of_a_shape_are_checked_before_anything_is_made(tmp_path):
    header = json.dumps({"features.0.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(CheckpointError, match=r"not a complete safetensors file: .*; copy the file again"):
        weights.read(written(tmp_path, struct.pack("<Q", len(header)) + header + bytes(4)))
