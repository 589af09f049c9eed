"""Compiles the programs of a config for accelerators that need not be there, and says what the compiler made of them.

Imports JAX: `alexnet_jax.inspect.targets.prepare` has to come first, in a process of its own. Nothing is
allocated or run.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import messages
from alexnet_jax.errors import UserError
from alexnet_jax.inspect.targets import Target, hlo
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training.given import arguments
from alexnet_jax.training.program import Program

# Chips of the v5e slices that libtpu knows, by their topology's name.
_SLICES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_GPUS_PER_HOST = 8
_TOO_MUCH = 1 << 62  # bytes of a program that the compiler refuses, without saying how many they are


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device, as the compiler planned them.

    `arguments` include the state, of which `aliased` bytes are overwritten in place by `outputs`; `code` is the
    program's own size where the compiler tells. What a device needs at once is at most `total`.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of one program.

    Attributes:
      collectives: of its text, in their order; axes: along which axis of the mesh each goes (`hlo.axis_of`).
      memory: of one device. seconds: that compiling took.
      flops, accessed: floating-point operations and bytes of one device where the compiler gives them (TPU), or None.
      text: the optimised program.
    """

    collectives: tuple[hlo.Collective, ...]
    axes: tuple[str, ...]
    memory: Memory
    seconds: float
    flops: float | None
    accessed: float | None
    text: str = dataclasses.field(repr=False)


@functools.cache
def devices(target: Target) -> tuple[Any, ...]:
    """Descriptions of at least `target.devices` accelerators that are wired together; not devices to run on.

    Raises:
      UserError: this version of the compiler doesn't know the topology.
    """
    try:
        if target.kind.platform == "cuda":
            hosts = -(-target.devices // _GPUS_PER_HOST)
            per_host = target.devices if hosts == 1 else _GPUS_PER_HOST
            card = importlib.resources.files("alexnet_jax.inspect.targets").joinpath("h100.txtpb").read_text("utf-8")
            found = topologies.get_topology_desc(platform="cuda", topology_name=target.name, target_config=card,
                                                 topology=f"1x{hosts}x{per_host}")  # slices × hosts × cards
        else:
            chips = min(n for n in _SLICES if n >= target.devices)
            found = topologies.get_topology_desc(platform="tpu", topology_name=f"{target.name}:{_SLICES[chips]}")
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"--target={target}: the compiler cannot describe these devices: "
                        f"{' '.join(str(error).split())[:300]}") from error
    return tuple(found.devices)


def on_target(config: ConfigDict, target: Target, batch: int | None = None) -> tuple[ConfigDict, Mesh]:
    """The config with the target's mesh (and `batch` images a step), and that mesh.

    Raises:
      ConfigError: the columns or the batch don't divide. UserError: as `devices`.
    """
    changes: dict[str, Any] = {"mesh.data": target.data, "mesh.column": target.column}
    if batch is not None:
        changes["train.batch_size"] = batch
    config = config_lib.resolve(config_lib.override(config, changes))
    return config, make_mesh(config, list(devices(target)))


def program_for(config: ConfigDict, classes: int, target: Target, batch: int | None = None) -> Program:
    """The programs of `config` on the target's mesh. Raises ConfigError and UserError as `on_target`."""
    config, mesh = on_target(config, target, batch)
    return Program(config, classes, mesh)


def state_bytes(program: Program) -> int:
    """Bytes of parameters and velocity on one device."""
    step, _ = arguments(program)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
               for leaf in jax.tree.leaves(step[0]))


def compile_program(program: Program, which: str, target: Target) -> Compiled:
    """`which` of the programs, 'step' (training) or 'forward' (log probabilities of one view), for `target`.

    Raises:
      MemoryError: the compiler finds that it doesn't fit (TPU; the compiler for CUDA doesn't look).
    """
    step, view = arguments(program)
    function, given = (program.train_step, step) if which == "step" else (program.view_log_probs, view)
    started = time.perf_counter()
    try:
        compiled = function.trace(*given).lower(lowering_platforms=(target.kind.platform,)).compile()
    except jax.errors.JaxRuntimeError as error:
        if messages.is_out_of_memory(error):
            raise MemoryError(str(error).splitlines()[0]) from error
        raise
    seconds = time.perf_counter() - started
    planned = compiled.memory_analysis()
    memory = Memory(planned.argument_size_in_bytes, planned.output_size_in_bytes, planned.alias_size_in_bytes,
                    planned.temp_size_in_bytes, planned.generated_code_size_in_bytes)
    # None from CUDA's compiler. TPU's `optimal_seconds` is negative for such programs: not taken.
    cost = compiled.cost_analysis() or {}
    text = compiled.as_text()
    found = tuple(hlo.collectives(text))
    axes = tuple(hlo.axis_of(x, target.data, target.column) for x in found)
    return Compiled(found, axes, memory, seconds, cost.get("flops"), cost.get("bytes accessed"), text)


def largest_batch(config: ConfigDict, classes: int, target: Target, known: dict[int, int] | None = None,
                  say: Callable[[str], None] = lambda line: None) -> tuple[int, int]:
    """(the largest batch found whose training step fits, the smallest found that doesn't), images over all devices.

    Compiles the step at a handful of batches, each 128 images a replica or a multiple, chosen by the straight line
    through the last two, until the two answers are at most 1/16 or 128 images a replica apart.

    Args:
      known: {batch: bytes of a device} that are known already.
      say: is told each trial.

    Raises:
      UserError: not even 128 images a replica fit.
    """
    unit = 128 * target.data
    limit = target.kind.memory
    need = {batch // unit: total for batch, total in (known or {}).items() if batch % unit == 0}

    def fits(units: int) -> bool:
        if units not in need:
            started = time.perf_counter()
            program = program_for(config, classes, target, units * unit)
            try:
                need[units] = compile_program(program, "step", target).memory.total
            except MemoryError:
                need[units] = _TOO_MUCH
            verdict = "fits" if need[units] <= limit else "does not fit"
            size = f"{need[units]:,} bytes a device, " if need[units] < _TOO_MUCH else ""
            say(f"batch {units * unit:,}: {size}{verdict} ({time.perf_counter() - started:.0f} s)")
        return need[units] <= limit

    low, high = 0, 0  # 0: not known yet
    trial = 1
    while True:
        if fits(trial):
            low = max(low, trial)
        else:
            high = trial if not high else min(high, trial)
        if high and high - low <= max(1, low // 16):
            break
        trial = _next(low, high, need, limit)
    if not low:
        raise UserError(f"--target={target}: the training step does not fit with {unit:,} images")
    return low * unit, high * unit


def _next(low: int, high: int, need: dict[int, int], limit: int) -> int:
    """Where to look next, in units: towards where the line through the largest two that fit meets the limit."""
    if low < 2:
        guess = 2 * low
    else:
        below = max(n for n in need if n < low)
        slope = (need[low] - need[below]) / (low - below)
        guess = low + int((limit - need[low]) / slope) if slope > 0 else 2 * low
        # The first guess is a bit low, so that what comes after it tells from above.
        guess = max(guess, low + max(1, low // 16))
    if high:
        return guess if low < guess < high else (low + high) // 2
    return max(guess, low + 1)
