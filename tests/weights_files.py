"""Weights files as others write them, made without this project's readers: Caffe's by its published schema, byte by
byte; cuda-convnet's by Python's own pickler made to write as Python 2 did.

    python tests/weights_files.py FILE KIND '[[96, 256, 384, 384, 256], 4096, 1000]'

writes a network of random weights to FILE, as benchmarks/importing.py needs it: `KINDS`, and its sizes as
`reference_networks.shapes` takes them. Needs PyTorch.
"""

import io
import json
import pathlib
import pickle
import struct
import sys
import typing

import numpy as np

# Caffe: protocol buffers.


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of a message: bytes, text, int, or float (32 bits)."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, old=False, doubles=False):
    """BlobProto: with a BlobShape, or num, channels, height and width as before 2014."""
    if old:
        sizes = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(i + 1, n) for i, n in enumerate(sizes))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    return shape + (field(8, array.astype("<f8").tobytes()) if doubles else field(5, array.astype("<f4").tobytes()))


_V1 = {"Convolution": 4, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18, "Dropout": 6, "Softmax": 20}
_V0 = {"Convolution": "conv", "InnerProduct": "innerproduct", "LRN": "lrn", "Pooling": "pool", "ReLU": "relu"}


def caffemodel(layers, generation="layer", name="net", doubles=False):
    """NetParameter of `layers`: (name, type, arrays, LRN constants or None). `generation`: layer, v1 or v0."""
    out = field(1, name)
    for layer, kind, arrays, lrn in layers:
        blobs = [blob(a, generation != "layer", doubles) for a in arrays]
        norm = field(1, lrn["n"]) + field(2, lrn["alpha"]) + field(3, lrn["beta"]) if lrn else b""
        if generation == "layer":
            content = field(1, layer) + field(2, kind) + field(3, "below") + field(4, "above")
            content += b"".join(field(7, b) for b in blobs) + (field(118, norm) if lrn else b"")
            out += field(100, content)
        elif generation == "v1":
            content = field(2, "below") + field(3, "above") + field(4, layer) + field(5, _V1[kind])
            content += b"".join(field(6, b) for b in blobs) + (field(18, norm) if lrn else b"")
            out += field(2, content)
        else:
            inner = field(1, layer) + field(2, _V0.get(kind, "other")) + b"".join(field(50, b) for b in blobs)
            out += field(2, field(1, inner) + field(2, "below"))
    return out


# cuda-convnet: pickles of Python 2.


class OldStyle:
    """Stands for an instance of a class of Python 2: `name` is 'module.Class'."""

    def __init__(self, name, /, **attributes):
        self.name, self.attributes = name, attributes


class _Python2(pickle._Pickler):
    """Writes texts and bytes as Python 2's strings, its NumPy's names, and instances of old-style classes."""

    dispatch: typing.ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        raw = value.encode() if isinstance(value, str) else value
        if not self.bin:
            self.write(b"S" + repr(raw)[1:].encode() + b"\n")
        elif len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, value, name=None):
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c" + f"{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    def save_type(self, value):
        self.save_global(value)

    dispatch[type(len)] = dispatch[type(pickle.dumps)] = dispatch[type(lambda: None)] = save_global
    dispatch[type] = save_type

    def save(self, value, save_persistent_id=True):
        if not isinstance(value, OldStyle):
            return super().save(value, save_persistent_id)
        seen = self.memo.get(id(value))
        if seen is not None:
            return self.write(self.get(seen[0]))
        module, _, name = value.name.rpartition(".")
        words = f"{module}\n{name}\n".encode()
        self.write(b"(c" + words + b"o" if self.bin else b"(i" + words)
        self.memoize(value)
        self.save(value.attributes)
        return self.write(b"b")


def python2(value, protocol=2):
    out = io.BytesIO()
    _Python2(out, protocol).dump(value)
    return out.getvalue()


def two_columns(kernels, biases, meet=("conv3", "fc6", "fc7"), swapped=("fc7",)):
    """The layers of a checkpoint of the 2012 network, from arrays in PyTorch's layout, all columns side by side.

    Args:
      kernels, biases: {layer: array}, convolutions grouped in two where they don't meet.
      swapped: layers whose second column names its inputs in the other order, as fc2048bb of run 145.
    """
    layers = {"data": {"name": "data", "type": "data", "inputs": []}}
    at = ["data"]
    for name, w in kernels.items():
        last = name == "fc8"
        own = w.ndim == 4 and name != "conv1" and name not in meet
        new = []
        for column, tag in enumerate([""] if last else "ab"):
            out = w.shape[0] if last else w.shape[0] // 2
            mine, bias = w[column * out:(column + 1) * out], biases[name][column * out:(column + 1) * out]
            inputs = [at[column]] if own else list(at)
            parts = [mine] if len(inputs) == 1 else np.split(mine, 2, axis=1)
            if name in swapped and column == 1:
                inputs, parts = inputs[::-1], parts[::-1]
            dic = {"name": name + tag, "type": "conv" if w.ndim == 4 else "fc", "inputs": inputs, "gpu": column,
                   "inputLayers": [layers[i] for i in inputs]}
            if w.ndim == 4:
                dic["filterSize"] = [w.shape[2]] * len(inputs)
                dic["weights"] = [np.ascontiguousarray(p.reshape(out, -1).T) for p in parts]
                dic["biases"] = bias.reshape(-1, 1)
            else:
                dic["weights"] = [np.asfortranarray(p.T) for p in parts]
                dic["biases"] = bias.reshape(1, -1)
            dic["weightsInc"] = [np.zeros_like(p) for p in dic["weights"]]
            layers[dic["name"]] = dic
            new.append(dic["name"])
            steps = {"conv1": ("cmrnorm", "pool", "neuron"), "conv2": ("neuron", "cmrnorm", "rnorm", "pool"),
                     "conv5": ("pool", "neuron")}.get(name, ("neuron",))
            for kind in () if last else steps:
                above = f"{kind}_{dic['name']}"
                layers[above] = {"name": above, "type": kind, "inputs": [new[-1]], "inputLayers": [layers[new[-1]]]}
                new[-1] = above
        at = new
    layers["probs"] = {"name": "probs", "type": "softmax", "inputs": at}
    return layers


def checkpoint(layers, protocol=2):
    options = OldStyle("options.OptionsParser", options={
        "gpu": OldStyle("options.Option", name="gpu", parser=OldStyle("options.ListOptionParser"), value=[0, 1]),
        "load_file": OldStyle("options.Option", name="load_file", value="/home/spoon/tmp/1.1", value_given=False)})
    return python2({"model_state": {"layers": layers, "epoch": 91, "batchnum": 1000, "train_outputs": [({}, 128)]},
                    "op": options}, protocol)


# Whole networks of random weights.

KINDS = ("torchvision.safetensors", "torchvision.pth", "bvlc_alexnet.caffemodel", "cuda-convnet")


def caffe_layers(kernels, biases, pool_first):
    """The layers of bvlc_alexnet, or of CaffeNet (pool_first), as `caffemodel` takes them."""
    layers = []
    for name, kernel in kernels.items():
        layers.append((name, "Convolution" if kernel.ndim == 4 else "InnerProduct", [kernel, biases[name]], None))
        if name != "fc8":
            layers.append((f"relu_{name}", "ReLU", [], None))
        after = {"conv1": ["LRN", "Pooling"], "conv2": ["LRN", "Pooling"], "conv5": ["Pooling"]}.get(name, [])
        layers += [(f"{kind}_{name}", kind, [], {"n": 5, "alpha": 1e-4, "beta": 0.75} if kind == "LRN" else None)
                   for kind in (after[::-1] if pool_first else after)]
    return layers


def torchvision_state(kernels, biases):
    """A state dict of torchvision's alexnet, of NumPy arrays."""
    places = dict(zip(kernels, ("features.0", "features.3", "features.6", "features.8", "features.10", "classifier.1",
                                "classifier.4", "classifier.6"), strict=True))
    return {f"{place}.{leaf}": arrays[layer] for layer, place in places.items()
            for leaf, arrays in (("weight", kernels), ("bias", biases))}


def write(path, kind, features, dense, classes):
    """Writes a network of random weights as one of KINDS. Needs PyTorch."""
    import reference_networks as reference

    groups = 1 if kind.startswith("torchvision") else 2
    kernels, biases = reference.random_weights(reference.shapes(features, dense, classes, groups))
    if kind == "torchvision.safetensors":
        from safetensors.numpy import save_file

        save_file(torchvision_state(kernels, biases), path)
    elif kind == "torchvision.pth":
        import torch

        torch.save({name: torch.from_numpy(a) for name, a in torchvision_state(kernels, biases).items()}, path)
    elif kind == "bvlc_alexnet.caffemodel":
        path.write_bytes(caffemodel(caffe_layers(kernels, biases, pool_first=False)))
    else:
        path.write_bytes(checkpoint(two_columns(kernels, biases)))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), sys.argv[2], *json.loads(sys.argv[3]))
