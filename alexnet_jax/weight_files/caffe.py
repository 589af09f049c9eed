"""Caffe's binary files: a network (`.caffemodel`, NetParameter) and a mean image (`.binaryproto`, BlobProto).

Fields are identified by their numbers in Caffe's published `caffe.proto`. All three generations of layers are read:
`layer` (100), V1's `layers` (2), and V0's layers inside these. Caffe's images have the colour order blue, green, red;
here the input channels of conv1 and the channels of a mean image are reversed.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import struct
from typing import Any

import numpy as np

from alexnet_jax.weight_files import protobuf
from alexnet_jax.weight_files.protobuf import fields
from alexnet_jax.weight_files.tensors import (
    CHANNELS_FIRST,
    Damaged,
    Network,
    Tensor,
    Unsupported,
    forget,
    mapped,
    refused,
)

_AXES = 8  # of a blob, at most
_LAYERS, _BLOBS = 10_000, 16  # of a network and of a layer, at most
_PIECES = 1_000  # that a blob's numbers may be stored in, at most; numbers stored one by one are joined first
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU"}
_V0_TYPES = {"conv": "Convolution", "innerproduct": "InnerProduct", "lrn": "LRN", "pool": "Pooling", "relu": "ReLU"}
_STEPS = {"LRN": "lrn", "Pooling": "pool", "ReLU": "relu"}


def read(path: pathlib.Path) -> Network:
    """The network of a `.caffemodel`. Raises CheckpointError."""
    try:
        layers, data = [], mapped(path)
        for number, kind, value in fields(data):
            if number in (2, 100) and kind == protobuf.BYTES:
                layers.append(_layer(value) if number == 100 else _old_layer(value))
                if len(layers) > _LAYERS or len(layers[-1]["blobs"]) > _BLOBS:
                    raise Damaged(f"more than {_LAYERS:,} layers, or than {_BLOBS} arrays in a layer")
        return dataclasses.replace(_network(layers), forget=forget(data))
    except Damaged as error:
        raise refused(path, "a Caffe model", error) from error
    except (UnicodeDecodeError, struct.error) as error:
        raise refused(path, "a Caffe model", Damaged(str(error))) from error


def read_mean(path: pathlib.Path) -> np.ndarray:
    """A mean image as float32 [height, width, 3], red, green, blue. Raises CheckpointError."""
    try:
        blob = _blob(mapped(path))
        shape = blob.shape[1:] if len(blob.shape) == 4 and blob.shape[0] == 1 else blob.shape
        if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
            raise Damaged(f"an array of shape {list(blob.shape)} is not a square image with three colours")
        return np.ascontiguousarray(blob.read().reshape(shape)[::-1].transpose(1, 2, 0), np.float32)
    except Damaged as error:
        raise refused(path, "a mean image of Caffe", error) from error


def _layer(data: memoryview) -> dict[str, Any]:
    """{'name', 'type', 'blobs', 'lrn'} of a LayerParameter."""
    found: dict[str, Any] = {"name": "", "type": "", "blobs": [], "lrn": None}
    for number, kind, value in fields(data):
        if kind != protobuf.BYTES:
            continue
        if number in (1, 2):
            found["name" if number == 1 else "type"] = _text(value)
        elif number == 7:
            found["blobs"].append(_blob(value))
        elif number == 118:
            found["lrn"] = value
    return found


def _old_layer(data: memoryview) -> dict[str, Any]:
    """The same of a V1LayerParameter, or of the V0LayerParameter in it."""
    found: dict[str, Any] = {"name": "", "type": "", "blobs": [], "lrn": None}
    for number, kind, value in fields(data):
        if number == 1 and kind == protobuf.BYTES:
            for inner, inner_kind, content in fields(value):
                if inner_kind == protobuf.BYTES and inner == 1:
                    found["name"] = _text(content)
                elif inner_kind == protobuf.BYTES and inner == 2:
                    found["type"] = _V0_TYPES.get(_text(content), "")
                elif inner_kind == protobuf.BYTES and inner == 50:
                    found["blobs"].append(_blob(content))
        elif number == 4 and kind == protobuf.BYTES:
            found["name"] = _text(value)
        elif number == 5 and kind == protobuf.VARINT:
            found["type"] = _V1_TYPES.get(value, "")
        elif number == 6 and kind == protobuf.BYTES:
            found["blobs"].append(_blob(value))
        elif number == 18 and kind == protobuf.BYTES:
            found["lrn"] = value
    return found


def _text(value: memoryview) -> str:
    if len(value) > 4096:
        raise Damaged("a name of more than 4096 bytes")
    return bytes(value).decode()


def _blob(data: memoryview) -> Tensor:
    """The array of a BlobProto. Raises Damaged unless it has exactly as many numbers as its shape asks for."""
    old, shape = {1: 1, 2: 1, 3: 1, 4: 1}, None
    floats: list[memoryview | bytearray] = []
    doubles: list[memoryview | bytearray] = []
    for number, kind, value in fields(data):
        if number in old and kind == protobuf.VARINT:
            old[number] = value
        elif number == 7 and kind == protobuf.BYTES:
            shape = _shape(value)
        elif (number, kind) in ((5, protobuf.BYTES), (8, protobuf.BYTES)):
            (floats if number == 5 else doubles).append(value)
        elif (number, kind) in ((5, protobuf.FIXED32), (8, protobuf.FIXED64)):
            parts = floats if number == 5 else doubles
            if not parts or not isinstance(parts[-1], bytearray):
                parts.append(bytearray())
            parts[-1] += value  # type: ignore[operator]
        if len(floats) + len(doubles) > _PIECES:
            raise Damaged(f"an array whose numbers are in more than {_PIECES:,} pieces")
    dims = tuple(old.values()) if shape is None else shape
    form, parts = ("<f8", doubles) if doubles else ("<f4", floats)
    size = sum(map(len, parts))
    if any(n < 1 for n in dims) or math.prod(dims) * np.dtype(form).itemsize != size:
        raise Damaged(f"{size:,} bytes of {'double' if doubles else 'float'}s for an array of shape {list(dims)}")
    return Tensor(dims, lambda: protobuf.numbers(parts, form).reshape(dims))


def _shape(data: memoryview) -> tuple[int, ...]:
    dims: list[int] = []
    for number, kind, value in fields(data):
        if number == 1 and kind == protobuf.VARINT:
            dims.append(value)
        elif number == 1 and kind == protobuf.BYTES:
            dims += protobuf.packed_varints(value, _AXES)
        if len(dims) > _AXES:
            raise Damaged(f"an array of more than {_AXES} axes")
    return tuple(dims)


def _lrn(data: memoryview) -> dict[str, float]:
    """The constants of an LRNParameter, with Caffe's defaults."""
    found: dict[str, float] = {"n": 5, "alpha": 1.0, "beta": 0.75, "k": 1.0}
    for number, kind, value in fields(data):
        if number == 1 and kind == protobuf.VARINT:
            found["n"] = value
        elif number in (2, 3, 5) and kind == protobuf.FIXED32:
            found[{2: "alpha", 3: "beta", 5: "k"}[number]] = float(str(np.frombuffer(value, "<f4")[0]))
    return found


def _network(layers: list[dict[str, Any]]) -> Network:
    if not layers:
        raise Damaged("it has no layers")
    convs = [x for x in layers if x["type"] == "Convolution" and x["blobs"]]
    dense = [x for x in layers if x["type"] == "InnerProduct" and x["blobs"]]
    if not convs and not dense:
        raise Damaged("none of its layers has weights")
    found = {}
    for x in (*convs, *dense):
        if len(x["blobs"]) != 2:
            raise Unsupported(f"layer {x['name']!r} has {len(x['blobs'])} array(s), not weights and biases")
        kernel, bias = x["blobs"]
        if x["type"] == "InnerProduct":  # older files give every array four axes
            kernel = _squeezed(kernel, 2)
        if x["name"] in found:
            raise Damaged(f"two layers have the name {x['name']!r}")
        found[x["name"]] = {"kernel": kernel, "bias": _squeezed(bias, 1)}
    first = found[convs[0]["name"]]["kernel"] if convs else None
    if first is not None and len(first.shape) == 4 and first.shape[1] == 3:
        found[convs[0]["name"]]["kernel"] = Tensor(first.shape, lambda: first.read()[:, ::-1])
    return Network("Caffe", CHANNELS_FIRST, found, named=False, facts=_facts(layers))


def _squeezed(tensor: Tensor, axes: int) -> Tensor:
    extra = len(tensor.shape) - axes
    if extra <= 0 or any(n != 1 for n in tensor.shape[:extra]):
        return tensor
    return Tensor(tensor.shape[extra:], lambda: tensor.read().reshape(tensor.shape[extra:]))


def _facts(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What shapes do not say: the steps after the first two convolutions, and the response norm's constants."""
    order: list[list[str]] = []
    for x in layers:
        if x["type"] == "Convolution":
            order.append([])
        elif order and x["type"] in _STEPS and len(order) <= 2:
            order[-1].append(_STEPS[x["type"]])
    norms = [_lrn(x["lrn"]) for x in layers if x["type"] == "LRN" and x["lrn"] is not None]
    return {"order": ["-".join(steps) for steps in order[:2]], "lrn": norms[0] if norms else None}
