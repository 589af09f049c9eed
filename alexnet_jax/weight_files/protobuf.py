"""The part of the protocol buffer wire format that Caffe's files need. Sizes are checked before use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.weight_files.tensors import Damaged

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """(value, position after it) of the number that begins at position `at`. Raises Damaged."""
    value = 0
    for count in range(10):
        if at + count >= len(data):
            raise Damaged("cut short within a number")
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise Damaged("a number of more than ten bytes")


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field: an int, or the bytes as a view on `data`.

    Raises:
      Damaged: the message ends within a field, or has bytes that are not a field.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >> 32:
            raise Damaged(f"no field begins at byte {at:,}")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise Damaged(f"a field of unknown kind {kind} at byte {at:,}")
        if size > len(data) - at:
            raise Damaged(f"cut short: a field of {size:,} bytes where {len(data) - at:,} are left")
        yield number, kind, data[at:at + size]
        at += size


def numbers(parts: Sequence[memoryview | bytearray], form: str) -> np.ndarray:
    """The elements of a repeated field of floating-point numbers, packed or one by one; a view if there is one part.

    Args:
      form: '<f4' or '<f8'.

    Raises:
      Damaged: a part is not a whole number of elements.
    """
    size = np.dtype(form).itemsize
    for part in parts:
        if len(part) % size:
            raise Damaged(f"{len(part):,} bytes where numbers of {size} bytes each should be")
    if len(parts) == 1:
        return np.frombuffer(parts[0], form)
    return np.frombuffer(b"".join(parts), form)


def packed_varints(data: memoryview, most: int) -> list[int]:
    """The whole numbers of a packed field. Raises Damaged beyond `most` of them."""
    at, found = 0, []
    while at < len(data):
        value, at = varint(data, at)
        found.append(value)
        if len(found) > most:
            raise Damaged(f"more than {most} numbers in a shape")
    return found
