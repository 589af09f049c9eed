"""Caffe's files as written by Google's own library, with message types from Caffe's published schema."""

import numpy as np
import pytest

from alexnet_jax import weights
from alexnet_jax.weight_files import caffe

pytest.importorskip("google.protobuf", reason="needs the package protobuf, which writes these files")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

RNG = np.random.default_rng(0)
_TYPES = {"int64": 3, "int32": 5, "uint32": 13, "string": 9, "float": 2, "double": 1}
# caffe.proto, as much of it as these files have: (field, number, type, repeated, packed).
MESSAGES = {
    "BlobShape": [("dim", 1, "int64", True, True)],
    "BlobProto": [("shape", 7, "BlobShape", False, False), ("data", 5, "float", True, True),
                  ("diff", 6, "float", True, True), ("double_data", 8, "double", True, True),
                  *((name, i, "int32", False, False) for i, name in enumerate(("num", "channels", "height", "width"),
                                                                             1))],
    "LRNParameter": [("local_size", 1, "uint32", False, False), ("alpha", 2, "float", False, False),
                     ("beta", 3, "float", False, False), ("k", 5, "float", False, False)],
    "LayerParameter": [("name", 1, "string", False, False), ("type", 2, "string", False, False),
                       ("bottom", 3, "string", True, False), ("top", 4, "string", True, False),
                       ("loss_weight", 5, "float", True, False), ("blobs", 7, "BlobProto", True, False),
                       ("lrn_param", 118, "LRNParameter", False, False)],
    "V1LayerParameter": [("bottom", 2, "string", True, False), ("top", 3, "string", True, False),
                         ("name", 4, "string", False, False), ("type", 5, "int32", False, False),
                         ("blobs", 6, "BlobProto", True, False), ("blobs_lr", 7, "float", True, False),
                         ("lrn_param", 18, "LRNParameter", False, False)],
    "NetParameter": [("name", 1, "string", False, False), ("layers", 2, "V1LayerParameter", True, False),
                     ("input", 3, "string", True, False), ("layer", 100, "LayerParameter", True, False)]}
V1 = {"Convolution": 4, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18}
LAYERS = [("conv1", "Convolution", (4, 3, 5, 5)), ("relu1", "ReLU", None), ("norm1", "LRN", None),
          ("pool1", "Pooling", None), ("conv2", "Convolution", (6, 2, 3, 3)), ("fc8", "InnerProduct", (5, 24))]


def schema(packed=True):
    """{message: class}. `packed`: repeated numbers as Caffe's schema has them, else one by one."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, rows in MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, number, kind, repeated, in_one in rows:
            field = made.field.add(name=name, number=number, label=3 if repeated else 1)
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = 11, f".caffe.{kind}"
            field.options.packed = in_one and packed
            if not in_one:
                field.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in MESSAGES}


def fill(blob, array, old, doubles):
    if old:
        sizes = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = sizes
    else:
        blob.shape.dim.extend(array.shape)
    (blob.double_data if doubles else blob.data).extend(array.ravel().tolist())
    blob.diff.extend([0.5] * 3)  # gradients, which some files keep


@pytest.mark.parametrize("generation", ["layer", "layers"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("doubles", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_network_of_google_s_encoder(tmp_path, generation, old, doubles, packed):
    net = schema(packed)["NetParameter"](name="net", input=["data"])
    arrays = {}
    for name, kind, shape in LAYERS:
        layer = getattr(net, generation).add(name=name, bottom=["a"], top=["b"],
                                             type=kind if generation == "layer" else V1[kind])
        if kind == "LRN":
            layer.lrn_param.local_size, layer.lrn_param.alpha, layer.lrn_param.beta = 5, 1e-4, 0.75
        if shape:
            arrays[name] = [RNG.standard_normal(s).astype(np.float32) for s in (shape, shape[:1])]
            for array in arrays[name]:
                fill(layer.blobs.add(), array, old, doubles)
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    found = weights.read(tmp_path / "net.caffemodel")
    assert list(found.layers) == list(arrays)
    for name, (kernel, bias) in arrays.items():
        np.testing.assert_array_equal(found.layers[name]["bias"].read(), bias)
        np.testing.assert_array_equal(found.layers[name]["kernel"].read(),
                                      kernel[:, ::-1] if name == "conv1" else kernel)
    assert found.facts == {"order": ["relu-lrn-pool", ""], "lrn": {"n": 5, "alpha": 0.0001, "beta": 0.75, "k": 1.0}}


@pytest.mark.parametrize("old", [False, True])
def test_a_mean_of_google_s_encoder(tmp_path, old):
    mean = RNG.uniform(0, 255, (1, 3, 4, 4)).astype(np.float32)
    blob = schema()["BlobProto"]()
    fill(blob, mean, old, doubles=False)
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(caffe.read_mean(tmp_path / "mean.binaryproto"), mean[0, ::-1].transpose(1, 2, 0))
