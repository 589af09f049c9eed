"""Checkpoints of cuda-convnet, as written by the 2012 code, its predecessor of 2011 and cuda-convnet2.

A pickle of `{'model_state': {'layers': …}, 'op': options}`. `layers` is a dict by name (2012 and later) or a list
(2011), each layer a dict with its `name`, `type`, `inputs` (names, or places in the list), `weights` (a matrix for each
input: channels · filter pixels × filters, or inputs × outputs) and `biases`. The network of two GPUs has two layers of
each kind, conv1a and conv1b, …. Which column a matrix reads is said only by its input: run 145's fc2048bb names the
second column first.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax.weight_files import inert
from alexnet_jax.weight_files.inert import text
from alexnet_jax.weight_files.tensors import (
    CHANNELS_FIRST,
    Damaged,
    Network,
    Tensor,
    Unsupported,
    forget,
    mapped,
    of_array,
    refused,
)

_CHECKPOINT = "a checkpoint of cuda-convnet"
_MOST = 1_000  # layers of a file, and inputs of a layer, at most
_COLUMNS = 64  # at most, as in a config
_STEPS = {"cmrnorm": "lrn", "pool": "pool", "neuron": "relu", "rnorm": "same-map"}


def read(path: pathlib.Path) -> Network:
    """The network of a checkpoint. Raises CheckpointError."""
    try:
        data = mapped(path)
        return dataclasses.replace(_network(inert.load(data)), forget=forget(data))
    except Damaged as error:
        raise refused(path, _CHECKPOINT, error) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        strange = Damaged(f"its layers are not as cuda-convnet writes them ({type(error).__name__})")
        raise refused(path, _CHECKPOINT, strange) from error


def read_meta(path: pathlib.Path) -> dict[str, Any]:
    """What a `batches.meta` has of these two: 'mean', float32 [size, size, 3], and 'names', a list of texts.

    Raises:
      CheckpointError: it is damaged, or the mean is not a square image with three colours.
    """
    try:
        tree = inert.load(mapped(path))
        if not isinstance(tree, dict):
            raise Damaged("it is not a dict")
        found: dict[str, Any] = {}
        mean = tree.get("data_mean")
        if isinstance(mean, np.ndarray):
            side = round((mean.size / 3) ** 0.5)
            if 3 * side * side != mean.size:
                raise Damaged(f"its data_mean of {mean.size:,} values is not a square image with three colours")
            found["mean"] = np.ascontiguousarray(mean.reshape(3, side, side).transpose(1, 2, 0), np.float32)
        if isinstance(tree.get("label_names"), list):
            found["names"] = [text(name) for name in tree["label_names"]]
        return found
    except Damaged as error:
        raise refused(path, "a batches.meta of cuda-convnet", error) from error


@dataclasses.dataclass
class _Layer:
    name: str
    type: str
    inputs: list[str]
    content: Mapping[str, Any]
    depth: int = 0  # number of layers with weights below it

    @property
    def weighs(self) -> bool:
        return self.type in ("conv", "fc", "local")


def _layers(tree: Any) -> dict[str, _Layer]:
    state = tree.get("model_state") if isinstance(tree, dict) else None
    found = state.get("layers") if isinstance(state, dict) else None
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
        raise Damaged("it has no model_state with layers")
    if len(found) > _MOST or any(len(x.get("inputs") or ()) > _MOST for x in found):
        raise Damaged(f"more than {_MOST:,} layers, or than {_MOST:,} inputs of a layer")
    names = [text(x["name"]) for x in found]
    layers = {}
    for name, x in zip(names, found, strict=True):
        inputs = [names[i] if isinstance(i, int) else text(i) for i in x.get("inputs") or []]
        layers[name] = _Layer(name, text(x["type"]), inputs, x)
    return layers


def _source(layers: Mapping[str, _Layer], name: str, steps: list[str]) -> _Layer:
    """The layer with weights, or the data, whose outputs reach the layer `name`.

    Args:
      steps: gets the names of the steps in between, the last one first.
    """
    for _ in range(len(layers) + 1):
        layer = layers[name]
        if layer.weighs or not layer.inputs:
            return layer
        steps.append(_STEPS.get(layer.type, layer.type))
        if len(layer.inputs) != 1:
            raise Unsupported(f"layer {name!r} of type {layer.type!r} has several inputs")
        name = layer.inputs[0]
    raise Damaged("its layers form a circle")


def _network(tree: Any) -> Network:
    layers = _layers(tree)
    stages: list[list[_Layer]] = []
    sources: dict[str, list[_Layer]] = {}
    orders: dict[int, str] = {}
    waiting = [x for x in layers.values() if x.weighs]
    placed: dict[str, int] = {}
    while waiting:
        ready = []
        for x in waiting:
            steps: list[list[str]] = [[] for _ in x.inputs]
            below = [_source(layers, name, each) for name, each in zip(x.inputs, steps, strict=True)]
            if all(not s.weighs or s.name in placed for s in below):
                x.depth = 1 + max((placed[s.name] for s in below if s.weighs), default=-1)
                sources[x.name] = below
                orders.setdefault(x.depth, "-".join(reversed(steps[0])) if steps else "")
                ready.append(x)
        if not ready:
            raise Damaged("its layers form a circle")
        for x in ready:
            placed[x.name] = x.depth
            waiting.remove(x)
    for depth in range(1 + max(placed.values(), default=-1)):
        stages.append(sorted((layers[n] for n, d in placed.items() if d == depth), key=_place))
    if not stages:
        raise Damaged("none of its layers has weights")
    found = {}
    for depth, stage in enumerate(stages):
        found[stage[0].name] = _stage(stage, stages[depth - 1] if depth else [], sources)
    order = [orders.get(depth, "") for depth in (1, 2)]
    return Network("cuda-convnet", CHANNELS_FIRST, found, named=False,
                   facts={"order": [o.replace("-same-map", "") for o in order], "same_map": "same-map" in order[1]})


def _place(layer: _Layer) -> tuple[int, str]:
    gpu = layer.content.get("gpu")
    gpu = gpu[0] if isinstance(gpu, list) and gpu else gpu
    return (gpu if isinstance(gpu, int) else 0, layer.name)


def _stage(stage: list[_Layer], below: list[_Layer], sources: Mapping[str, list[_Layer]]) -> dict[str, Tensor]:
    """The weights and biases of all columns side by side: [out, in / groups, height, width] or [out, in], and [out]."""
    if len(stage) > _COLUMNS:
        raise Unsupported(f"{len(stage)} layers side by side, and at most {_COLUMNS} columns are read")
    parts = [_kernel(x, number, len(stage), below, sources[x.name]) for number, x in enumerate(stage)]
    if len({p.shape[1:] for p in parts}) > 1:
        raise Unsupported(f"layers {', '.join(x.name for x in stage)}, which are side by side, differ in shape")
    biases = [_biases(x, p.shape[0]) for x, p in zip(stage, parts, strict=True)]
    shape = (sum(p.shape[0] for p in parts), *parts[0].shape[1:])
    return {"kernel": Tensor(shape, lambda: np.concatenate([p.read() for p in parts]) if len(parts) > 1
                             else parts[0].read()),
            "bias": of_array(np.concatenate(biases))}


def _kernel(x: _Layer, number: int, columns: int, below: list[_Layer], sources: list[_Layer]) -> Tensor:
    """One layer's weights, its inputs in the columns' order; a view if it has one input."""
    if x.type == "local":
        raise Unsupported(f"layer {x.name!r} is of type local, whose weights are not read")
    matrices = x.content["weights"]
    if (not isinstance(matrices, list) or len(matrices) != len(x.inputs)
            or not all(isinstance(m, np.ndarray) and m.ndim == 2 for m in matrices)):
        raise Damaged(f"layer {x.name!r} does not have one matrix for each of its inputs")
    if below:
        at = {layer.name: i for i, layer in enumerate(below)}
        if any(s.name not in at for s in sources):
            raise Unsupported(f"layer {x.name!r} has another input than the layer below it")
        places = [at[s.name] for s in sources]
        if len(places) == 1 and len(below) > 1 and (columns != len(below) or places != [number]):
            raise Unsupported(f"layer {x.name!r} sees one column, and not its own")
        if len(places) > 1 and sorted(places) != list(range(len(below))):
            raise Unsupported(f"layer {x.name!r} sees only some of the columns")
        matrices = [matrices[places.index(i)] for i in sorted(places)]
    turned = [_turned(x, m, i) for i, m in enumerate(matrices)]
    shape = (turned[0].shape[0], sum(t.shape[1] for t in turned), *turned[0].shape[2:])
    return Tensor(shape, lambda: np.concatenate(turned, axis=1) if len(turned) > 1 else turned[0])


def _turned(x: _Layer, matrix: np.ndarray, number: int) -> np.ndarray:
    """A matrix as [out, in] or [out, in, height, width]; a view."""
    if x.type == "fc":
        return matrix.T
    sizes = x.content["filterSize"]
    side = sizes[number] if isinstance(sizes, list) else sizes
    if not isinstance(side, int) or side < 1 or matrix.shape[0] % (side * side):
        raise Damaged(f"layer {x.name!r} has {matrix.shape[0]} rows of weights, which are not filters of side {side}")
    return matrix.reshape(-1, side, side, matrix.shape[1]).transpose(3, 0, 1, 2)


def _biases(x: _Layer, outputs: int) -> np.ndarray:
    found = x.content["biases"]
    if not isinstance(found, np.ndarray) or found.size != outputs:
        size = found.size if isinstance(found, np.ndarray) else 0
        wrong = f"layer {x.name!r} has {size:,} biases for {outputs:,} outputs"
        if size and size % outputs == 0:
            raise Unsupported(f"{wrong}, which is one for each position (sharedBiases=0)")
        raise Damaged(wrong)
    return np.asarray(found, np.float32).reshape(-1)
