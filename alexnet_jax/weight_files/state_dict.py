"""PyTorch's state dicts and safetensors files. A tensor's name says which layer it belongs to.

Names are torchvision's (`features.0.weight`, …, `classifier.6.bias`) or those of this project's layers
(`conv1.weight`, …, `fc8.bias`). Prefixes that wrappers add (`module.`) are ignored. A safetensors file of this project
has a layout of its own, and also contains the run's config, classes and mean (`weights.exporting`).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax.errors import CheckpointError
from alexnet_jax.weight_files.tensors import CHANNELS_FIRST, PARAMS, Network, Tensor, forget, mapped

TORCHVISION = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
               "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
FORMAT = "alexnet_jax"  # the format in the metadata of a safetensors file of this project
_OWN = re.compile(r"(conv[1-5]|fc[678])\.(weight|bias)")
_WRAPPERS = re.compile(r"(^|\.)(module|_orig_mod)\.")


def read_torch(path: pathlib.Path) -> Network:
    """The network of a PyTorch file, loaded by PyTorch without running code. Raises CheckpointError."""
    try:
        import torch
    except ImportError:
        raise CheckpointError(f"{path}: a file of PyTorch, which is not installed here; pip install torch, or save the "
                              "weights as .safetensors") from None
    try:
        # Only PyTorch's newer format, a zip, can be mapped into memory.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # of many kinds, for damaged files
        said = " ".join(str(error).split())
        if "nsupported" in said and ("GLOBAL" in said or "class" in said or "global" in said):
            raise CheckpointError(f"{path}: has more in it than tensors and plain values, so loading it could run "
                                  "code; save model.state_dict() alone") from error
        raise CheckpointError(f"{path}: PyTorch cannot read it: {said[:120] or type(error).__name__}; copy the file "
                              "again, or name another") from error
    extra: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(extra.get(key), Mapping):
            found = extra[key]
            break
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: has a {type(found).__name__} in it, not a state dict; save model.state_dict()")
    tensors, inputs = ({str(name): _of_torch(path, str(name), t) for name, t in tree.items()
                        if isinstance(t, torch.Tensor)} if isinstance(tree, Mapping) else {}
                       for tree in (found, extra.get("input")))
    classes = extra.get("classes")
    return _named(path, "PyTorch", tensors, extra.get("config"), classes if isinstance(classes, Mapping) else None,
                  {name: tensor.read() for name, tensor in inputs.items()})


def _of_torch(path: pathlib.Path, name: str, tensor: Any) -> Tensor:
    """Raises CheckpointError unless the tensor is dense, of floating-point numbers, and all of them are in the file."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_floating_point() or str(tensor.layout) != "torch.strided" or tensor.device.type != "cpu":
        raise CheckpointError(f"{path}: {name} is a {tensor.device.type} tensor of {kind}, {tensor.layout}; save it as "
                              "a dense tensor of float32")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: {name} has shape {list(tensor.shape)}, and the file has fewer numbers than "
                              "that (an expanded tensor); save tensor.clone()")
    return Tensor(tuple(tensor.shape), lambda: tensor.detach().float().numpy())


def read_safetensors(path: pathlib.Path) -> Network:
    """The network of a safetensors file. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    try:
        about = safe_open(path, framework="numpy").metadata() or {}  # checks the whole header
        data = mapped(path)
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(bytes(data[8:start]))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file: {' '.join(str(error).split())[:120]}; copy "
                              "the file again, or name another") from error
    tensors = {name: _of_header(path, name, entry, data[start:]) for name, entry in header.items()
               if name != "__metadata__"}
    if about.get("format") != FORMAT:
        return dataclasses.replace(_named(path, "safetensors", tensors), forget=forget(data))
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, leaf = name.partition(".")
        if layer != "input":
            layers.setdefault(layer, {})[leaf] = tensor
    for layer, leaves in layers.items():
        if set(leaves) != {"kernel", "bias"}:
            raise CheckpointError(f"{path}: layer {layer} has {', '.join(sorted(leaves))}, not kernel and bias; export "
                                  "the network again")
    try:
        config, classes = json.loads(about["config"]), json.loads(about["classes"])
        if not isinstance(config, dict) or not all(isinstance(classes[key], list) for key in ("keys", "names")):
            raise TypeError
    except (KeyError, ValueError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: the config or the classes in its metadata cannot be read; export the network "
                              "again") from None
    inputs = {name.partition(".")[2]: t.read() for name, t in tensors.items() if name.startswith("input.")}
    return Network("alexnet_jax", PARAMS, layers, config=config, classes=classes, inputs=inputs, forget=forget(data))


def _of_header(path: pathlib.Path, name: str, entry: Mapping[str, Any], data: memoryview) -> Tensor:
    """A view on a tensor in a file whose header the library has checked. Its own `get_tensor` copies twice."""
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(entry["dtype"])
    if kind is None:
        raise CheckpointError(f"{path}: {name} has numbers of type {entry['dtype']}, which is not read; save it as F32")
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    return Tensor(shape, lambda: np.frombuffer(data[first:last], kind).reshape(shape))


def _named(path: pathlib.Path, kind: str, tensors: Mapping[str, Tensor], config: Any = None, classes: Any = None,
           inputs: Mapping[str, np.ndarray] | None = None) -> Network:
    """The network of these tensors, by their names. Raises CheckpointError: unknown names, or one is missing."""
    bare = {_WRAPPERS.sub(r"\1", name): t for name, t in tensors.items()}
    theirs = {f"{place}.{leaf}": (layer, leaf) for layer, place in TORCHVISION.items() for leaf in ("weight", "bias")}
    known = theirs if any(name in theirs for name in bare) else {
        name: tuple(name.split(".")) for name in bare if _OWN.fullmatch(name)}
    strange = [name for name in bare if name not in known]
    if strange or not bare:
        said = f"{', '.join(strange[:3])}: unknown name of a tensor" if strange else "has no tensors"
        raise CheckpointError(f"{path}: {said}; names have to be those of torchvision's alexnet (features.0.weight, …) "
                              "or conv1.weight, …, fc8.bias")
    layers: dict[str, dict[str, Tensor]] = {}
    for name in [n for n in known if n in bare]:
        layer, leaf = known[name]
        layers.setdefault(layer, {})["kernel" if leaf == "weight" else "bias"] = bare[name]
    for layer, leaves in layers.items():
        if len(leaves) < 2:
            raise CheckpointError(f"{path}: layer {layer} has no {'weights' if 'bias' in leaves else 'biases'}; save "
                                  "both")
    return Network(kind, CHANNELS_FIRST, layers, config=config if isinstance(config, dict) else None, classes=classes,
                   inputs=inputs or {})
