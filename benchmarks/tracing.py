"""Profiles a few training steps with JAX's profiler, by instruction of the compiled program."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

from alexnet_jax.errors import UserError
from alexnet_jax.inspect.targets import hlo
from benchmarks.profile import kind_of


def profile(step, steps: int) -> list[dict[str, Any]]:
    """Seconds of each instruction in one step, longest first.

    Args:
      step: a `side_ours.Step` that has run before.

    Returns:
      'name', 'operation', 'where' (JAX's op_name), 'attributes', 'shape', 'seconds' of each profiled instruction, and
      of products that the profiler missed, with 0 seconds.

    Raises:
      UserError: nothing was profiled.
    """
    known = {x.name: x for x in hlo.instructions(step.compiled_text() or "")}
    spent: collections.Counter[str] = collections.Counter()
    for _, name, nanoseconds in _events(step, steps):
        if name in known:
            spent[name] += nanoseconds
    if not spent:
        raise UserError("the profiler recorded no instruction of the compiled program on this device")
    out = []
    # On a busy machine the profiler may miss instructions; missed products are included with 0 seconds.
    missed = [(x.name, 0) for x in known.values() if x.operation in ("convolution", "dot") and x.name not in spent]
    for name, nanoseconds in [*spent.most_common(), *missed]:
        x = known[name]
        # A weight gradient rewritten by the compiler has no name; use that of its operands.
        where = _origin(x, known) if x.operation in ("convolution", "dot") else _where(x)
        out.append({"name": name, "operation": x.operation, "where": where, "attributes": x.attributes,
                    "shape": x.shape, "seconds": nanoseconds / 1e9 / steps})
    return out


def kernels(step, steps: int, most: int = 5) -> dict[str, Any]:
    """The device's kernels in one step: {'seconds' in total, 'kernels': the longest ones}.

    On an accelerator a kernel's name is the compiler's or the library's, even if its instruction is unknown; on a CPU
    kernels are instructions. Each has 'name', 'instruction' and 'where' (JAX's op_name), '' if unknown; 'seconds' and
    'calls' per step.

    Raises:
      UserError: nothing was profiled.
    """
    known = {x.name: x for x in hlo.instructions(step.compiled_text() or "")}
    spent: collections.Counter[tuple[str, str]] = collections.Counter()
    calls: collections.Counter[tuple[str, str]] = collections.Counter()
    for kernel, name, nanoseconds in _events(step, steps):
        if jax.default_backend() != "cpu" or (name in known and kind_of(known[name].operation, "")):
            spent[kernel, name] += nanoseconds
            calls[kernel, name] += 1
    if not spent:
        raise UserError("the profiler recorded no kernel on this device")
    return {"seconds": spent.total() / 1e9 / steps, "kernels": [
        {"name": kernel, "instruction": name, "where": _origin(known[name], known) if name in known else "",
         "seconds": nanoseconds / 1e9 / steps, "calls": calls[kernel, name] / steps}
        for (kernel, name), nanoseconds in spent.most_common(most)]}


def _events(step, steps: int) -> Iterator[tuple[str, str, int]]:
    """(kernel, instruction or '', nanoseconds) of all events on the device in `steps` steps."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            step.run(steps)
        for path in pathlib.Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                # On a GPU the host's threads have events with operation names too, from launching them.
                if jax.default_backend() != "cpu" and not plane.name.startswith("/device"):
                    continue
                lines = list(plane.lines)
                # The same time may be in several lines: by stream (GPU), by instruction (TPU), by program, by step.
                own = [line for line in lines if line.name.startswith("Stream")] or [
                    line for line in lines if line.name == "XLA Ops"] or lines
                for line in own:
                    for event in line.events:
                        yield event.name, str(dict(event.stats).get("hlo_op", "")), int(event.duration_ns)


def _where(x: hlo.Instruction) -> str:
    found = re.search(r'op_name="([^"]*)"', x.attributes)
    return found[1] if found else ""


def _origin(x: hlo.Instruction, known: dict[str, hlo.Instruction]) -> str:
    """JAX's op_name of x, else of the nearest instruction before it, the last operand (the gradient) first."""
    seen, waiting = {x.name}, collections.deque([x])
    while waiting:
        x = waiting.popleft()
        if _where(x):
            return _where(x)
        for name in reversed(x.operands):
            if name in known and name not in seen:
                seen.add(name)
                waiting.append(known[name])
    return ""
