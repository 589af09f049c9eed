"""What XLA's text of a compiled program says of its communication and its work. Plain text in, plain data out: no JAX.

The text is that of one device: all devices run the same program on arrays of these shapes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16, "s32": 32,
         "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b(" + "|".join(_BITS) + r")\[([\d,]*)\]")
_DEFINITION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{\s*$")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One communication of a program.

    Attributes:
      kind: one of `KINDS`; forms that start and end apart count once.
      groups: the devices that talk to each other, as a sorted tuple of sorted tuples of their numbers; () for all.
      handed_in, received: bytes of a device's operands and results.
      operands: how many arrays travel together.
      where: JAX's name of the operation it comes from, e.g. `jit(step)/transpose(jvp())/shard_map/fc7/reduce_scatter`.
    """

    kind: str
    groups: tuple[tuple[int, ...], ...]
    handed_in: int
    received: int
    operands: int
    where: str


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`name` = `shape` `operation`(`operands`), `attributes`: as text; `computation` is where it stands."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    attributes: str
    computation: str


def size_of(shape: str) -> int:
    """Bytes of the arrays in a shape such as `(f32[8,4]{1,0}, bf16[2])`; memory layouts are not counted."""
    total = 0
    for kind, sizes in _ARRAY.findall(shape):
        total += math.prod(int(n) for n in sizes.split(",") if n) * _BITS[kind] // 8
    return total


def _closing(text: str, start: int) -> int:
    """Position of the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    raise ValueError(f"unbalanced brackets in: {text[:200]}")


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of all computations of a program's text, in its order."""
    computation = ""
    for line in text.splitlines():
        begins = _COMPUTATION.match(line)
        if begins:
            computation = begins.group(1)
            continue
        found = _DEFINITION.match(line)
        if not found:
            continue
        name, rest = found.groups()
        # A tuple's shape has brackets and spaces of its own, and so have layouts.
        end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
        operation = _OPERATION.match(rest, end)
        if not operation:
            continue
        opens = operation.end() - 1
        closes = _closing(rest, opens)
        operands = tuple(re.findall(r"%([\w.\-]+)", rest[opens:closes]))
        yield Instruction(name, rest[:end], operation.group(1), operands, rest[closes + 1:], computation)


def _groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    """`replica_groups={{0,1},{2,3}}`, `=[2,2]<=[4]` or `=[2,2]<=[2,2]T(1,0)`, or a permutation's pairs.

    From jax 0.11 on also by the mesh: `=mesh['data'=2,'column'=2] {'column'}`, devices in the mesh's order.
    """
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
    if named:
        extent = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        across = re.findall(r"'(\w+)'", named[2])
        kept = [axis for axis in extent if axis not in across]
        order = [list(extent).index(axis) for axis in (*kept, *across)]
        numbers = np.arange(math.prod(extent.values())).reshape(list(extent.values())).transpose(order)
        rows = numbers.reshape(-1, math.prod(extent[axis] for axis in across)).tolist()
        return tuple(sorted(tuple(sorted(row)) for row in rows))
    listed = re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes)
    if listed:
        groups = [tuple(int(n) for n in group.split(",") if n) for group in re.findall(r"\{([\d,]*)\}", listed[1])]
    else:
        tiled = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
        if not tiled:
            raise ValueError(f"replica groups of an unknown form: {attributes[:200]}")
        shape, sizes = ([int(n) for n in part.split(",")] for part in tiled.group(1, 2))
        numbers = np.arange(math.prod(sizes)).reshape(sizes)
        if tiled[3]:
            numbers = numbers.transpose([int(n) for n in tiled[3].split(",")])
        groups = [tuple(row) for row in numbers.reshape(shape).tolist()]
    return tuple(sorted(tuple(sorted(group)) for group in groups if group))


def collectives(text: str) -> list[Collective]:
    """The collectives of a program's text, in its order.

    Raises:
      ValueError: a collective is inside a loop, where the text doesn't say how often it runs, or in an unknown form.
    """
    known = list(instructions(text))
    shapes = {x.name: x.shape for x in known}
    loops = set()
    for x in known:
        if x.operation == "while":
            loops |= set(re.findall(r"(?:body|condition)=%([\w.\-]+)", x.attributes))
    out = []
    for x in known:
        kind = x.operation.removesuffix("-start")
        if kind not in KINDS:
            continue
        if x.computation in loops:
            raise ValueError(f"{x.name} is inside a loop")
        handed_in = sum(size_of(shapes[name]) for name in x.operands)
        received = size_of(x.shape)
        if x.operation.endswith("-start") and x.shape.startswith("(") and kind != "all-reduce":
            received -= handed_in  # the pair (operands, results); an all-reduce's start names its results alone
        where = re.search(r'op_name="([^"]*)"', x.attributes)
        out.append(Collective(kind, _groups(x.attributes), handed_in, received, len(x.operands),
                              where[1] if where else ""))
    return out


def axis_of(collective: Collective, data: int, column: int) -> str:
    """'data', 'column', 'both' or 'other': along which axis of the mesh its devices lie (numbered row by row)."""
    numbers = np.arange(data * column).reshape(data, column)
    along = {"both": [numbers.ravel()], "column": list(numbers), "data": list(numbers.T)}
    groups = collective.groups or (tuple(range(data * column)),)
    # Where an axis has one device, the other's groups are those of both: named by the axis that talks.
    order = ("column", "data", "both") if data == 1 else ("data", "column", "both")
    for axis in order:
        if groups == tuple(sorted(tuple(sorted(group.tolist())) for group in along[axis])):
            return axis
    return "other"


def multiply_adds(text: str) -> int:
    """Products of the program's convolutions and matrix products; those with a padding's zeros are counted.

    Of a text in which they stand as XLA's own operations, as on a CPU; not as calls of a library.
    """
    known = list(instructions(text))
    shapes = {x.name: [int(n) for n in _ARRAY.findall(x.shape)[0][1].split(",") if n] for x in known
              if _ARRAY.search(x.shape)}
    total = 0
    for x in known:
        if x.operation == "dot":
            left = shapes[x.operands[0]]
            summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", x.attributes)
            depth = math.prod(left[int(n)] for n in summed[1].split(",") if n) if summed else 1
        elif x.operation == "convolution":
            kernel = shapes[x.operands[1]]
            labels = re.search(r"dim_labels=\w+_(\w+)->", x.attributes)
            assert labels is not None, x
            depth = math.prod(kernel) // kernel[labels[1].index("o")]
        else:
            continue
        total += math.prod(shapes[x.name]) * depth
    return total
