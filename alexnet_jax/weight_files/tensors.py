"""The content of a weights file: its layers' arrays in one layout, read one by one, and other facts about its network.

Files of other projects are converted to the layout `channels first`, that of PyTorch and Caffe: convolutions [out,
in / groups, height, width]; dense layers [out, in], with inputs that are maps in the order channel, height, width; the
columns' outputs and inputs side by side, the first column first; colours red, green, blue. Only files of this project
have its own layout (`params`): `[column, height, width, in, out]`.
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


class Damaged(ValueError):
    """The bytes are not what the file's format asks for. The message has no file name (`refused`)."""


class Unsupported(Damaged):
    """The file may be complete, but has something that is not read here. The message says what."""


def refused(path: pathlib.Path, what: str, error: Damaged) -> CheckpointError:
    """The error for a file that cannot be read as `what`, e.g. 'a Caffe model'."""
    remedy = "name another file" if isinstance(error, Unsupported) else "copy the file again, or name another"
    return CheckpointError(f"{path}: cannot be read as {what}: {error}; {remedy}")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array in a file: its shape is known; `read` returns its content, where possible as a view on the file."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as a file has it.

    Attributes:
      format: for messages and records, e.g. 'Caffe'. layout: PARAMS or CHANNELS_FIRST.
      layers: {layer: {'kernel', 'bias'}}, in the file's order.
      named: are the layers' names this project's (conv1, …, fc8)? Else layers are identified by their order.
      facts: what the file says about its network beyond shapes: 'order' of the steps after conv1 and conv2, constants
        of the response norm ('lrn'), is there a 'same_map' norm.
      config, classes, inputs: of files of this project: nested config, {'keys', 'names'}, {'mean', 'colour'}.
      forget: to be called when a layer has been copied: frees the memory of the parts of the file that were read.
    """

    format: str
    layout: str
    layers: Mapping[str, Mapping[str, Tensor]]
    named: bool = True
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    classes: Mapping[str, Any] | None = None
    inputs: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    forget: Callable[[], None] = lambda: None


def of_array(array: np.ndarray) -> Tensor:
    return Tensor(array.shape, lambda: array)


def mapped(path: pathlib.Path) -> memoryview:
    """The file's bytes, each part read from the disk when it is used. Raises CheckpointError."""
    if path.exists() and not path.is_file():  # reading a pipe without a writer would block
        raise CheckpointError(f"{path}: not a regular file; save its content as one")
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise CheckpointError(f"{path}: the file is empty; copy it again, or name another")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(describe_os_error(error)) from error


def forget(data: memoryview) -> Callable[[], None]:
    """A function that frees the memory of a mapped file's pages (`mapped`). They are read again when they are used."""
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
