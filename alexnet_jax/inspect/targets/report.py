"""The text of `python -m alexnet_jax.describe --config=… --target=h100:1x2`. Imports JAX, as `compiling` does."""

from __future__ import annotations

import importlib.metadata
import re
import sys

from ml_collections import ConfigDict

from alexnet_jax import text
from alexnet_jax.errors import UserError
from alexnet_jax.inspect.targets import Target, compiling, hlo

_TITLES = {"forward": "forward pass of one view", "step": "training step"}
_MEMORY = {"arguments": "arguments", "outputs": "outputs", "aliased": "of them in place of arguments",
           "temporaries": "temporaries", "code": "code, if reported", "total": "total"}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def place(collective: hlo.Collective, axis: str) -> str:
    """What a collective serves: the layer that it stands in or, over 'data', gradients (and the loss with them).

    The compiler joins the gradients of several layers into one collective, which then bears one layer's name or none.
    """
    if axis == "data":
        return "gradients"
    layer = re.search(r"/((?:conv|fc)\d+)/", collective.where)
    return layer[1] if layer else "?"


def _program(compiled: compiling.Compiled, title: str) -> list[str]:
    rows = [(x.kind, axis, place(x, axis), f"{x.handed_in:,}", f"{x.received:,}")
            for x, axis in zip(compiled.collectives, compiled.axes, strict=True)]
    work = ""
    if compiled.flops is not None:
        work = f"; {compiled.flops:,.0f} floating-point operations, {compiled.accessed:,.0f} bytes read and written"
    lines = ["", f"{title}: {len(rows) or 'no'} collectives{work}"]
    if rows:
        table = [("collective", "over", "where", "handed in", "received"), *rows]
        lines += ["  " + line for line in text.table(table, [False] * 3 + [True] * 2)]
    return lines


def report(config: ConfigDict, classes: int, target: Target, search: bool) -> str:
    """What is printed; each compilation is announced on stderr first.

    Args:
      config: a resolved config; its mesh gives way to the target's.
      classes: output units; 0 where they are not known.
      search: look for the largest batch that fits as well.

    Raises:
      ConfigError: the config's columns or batch don't fit the target's mesh. UserError: the programs don't fit.
    """
    program = compiling.program_for(config, classes, target)
    batch, kind = program.config.train.batch_size, target.kind
    compiler = {"cuda": "jax-cuda12-plugin", "tpu": "libtpu"}[kind.platform]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", compiler))
    lines = [f"compiled, not run: {target.devices} × {kind.title} ({target.data} data × {target.column} column), "
             f"{config.train.precision}, batch {batch:,} ({batch // target.data:,} a replica); {versions}",
             "bytes are of one device"]
    done = {}
    for which, title in _TITLES.items():
        _say(f"compiling the {title} …")
        try:
            done[which] = compiling.compile_program(program, which, target)
        except MemoryError as error:
            raise UserError(f"--target={target}: the {title} does not fit with config.train.batch_size={batch}: "
                            f"{str(error)[:200]}") from error
        lines += _program(done[which], title)
    memory = [("memory, bytes", *_TITLES.values())]
    memory += [(label, *(f"{getattr(done[which].memory, field):,}" for which in _TITLES))
               for field, label in _MEMORY.items()]
    lines += ["", *text.table(memory, [False, True, True]), "",
              f"parameters and velocity: {compiling.state_bytes(program):,} bytes"]
    if search:
        _say(f"looking for the largest batch, about {done['step'].seconds:.0f} s a trial …")
        low, high = compiling.largest_batch(config, classes, target, {batch: done["step"].memory.total}, _say)
        lines.append(f"largest batch by memory alone: {low:,} fits, {high:,} does not ({low // target.data:,} and "
                     f"{high // target.data:,} a replica), in {kind.memory_is}")
    return "\n".join(lines)
