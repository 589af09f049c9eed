"""The content of a weights file: its layers' arrays in one layout, read one by one, and other facts about its network.

Every format is brought to the layout `channels first`, PyTorch's and Caffe's: convolutions [out, in / groups, height,
width], dense layers [out, in] whose inputs, where they are maps, go by channel, height, width; the columns' outputs and
inputs side by side, the first column first; colours red, green, blue. Files of this project alone have its own layout
(`params`): `[column, height, width, in, out]`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import mmap
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alexnet_jax.errors import CheckpointError, describe_os_error

_ALIGNMENT = 64  # bytes
PARAMS, CHANNELS_FIRST = "params", "channels first"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array of a file: its shape is known, `read` gives its content, a view on the file where that is possible."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as a file has it.

    Attributes:
      format: for messages and records, e.g. 'Caffe'. layout: PARAMS or CHANNELS_FIRST.
      layers: {layer: {'kernel', 'bias'}}, in the file's order; the layers' names are this project's where the file says
        which they are, else any, in order (`named`).
      facts: what the file tells of its network beyond shapes: 'order' of steps after each layer, 'lrn' constants.
      config, classes, inputs: of files of this project: nested config, {'keys', 'names'}, {'mean', 'colour'}.
    """

    format: str
    layout: str
    layers: Mapping[str, Mapping[str, Tensor]]
    named: bool = True
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    classes: Mapping[str, Any] | None = None
    inputs: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    # Called once a layer has been copied: what of the file was looked at need not stay in memory.
    forget: Callable[[], None] = lambda: None


def of_array(array: np.ndarray) -> Tensor:
    return Tensor(array.shape, lambda: array)


def mapped(path: pathlib.Path) -> memoryview:
    """The file's bytes, read as they are looked at. Raises CheckpointError."""
    if path.exists() and not path.is_file():  # reading a pipe without a writer would block
        raise CheckpointError(f"{path}: not a regular file; save its content as one")
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise CheckpointError(f"{path}: the file is empty")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(describe_os_error(error)) from error


def forget(data: memoryview) -> Callable[[], None]:
    """Frees the memory of the pages of a mapped file (`mapped`); they can be read again."""
    def free() -> None:
        if isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            data.obj.madvise(mmap.MADV_DONTNEED)

    return free


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array, aligned so that JAX on a CPU uses it without a copy."""
    size = 4 * math.prod(shape)
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first:first + size].view(np.float32).reshape(shape)


def digest(path: pathlib.Path) -> str:
    """SHA-256 of the file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
