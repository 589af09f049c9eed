"""JAX's profiler on a few training steps, by instruction of the compiled program."""

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
    """Seconds of each instruction in one step, the dearest first.

    Args:
      step: a `side_ours.Step` that has run before.

    Returns:
      'name', 'operation', 'where' (JAX's name of it), 'attributes', 'shape', 'seconds' of all that the profiler saw,
      and of products that it missed, with 0 seconds.

    Raises:
      UserError: it saw none.
    """
    known = {x.name: x for x in hlo.instructions(step.compiled_text() or "")}
    spent: collections.Counter[str] = collections.Counter()
    for _, name, nanoseconds in _events(step, steps):
        if name in known:
            spent[name] += nanoseconds
    if not spent:
        raise UserError("the profiler saw no instruction of the compiled program on this device")
    out = []
    # On a busy machine the profiler may miss one. A product that it missed is there, with 0 seconds.
    missed = [(x.name, 0) for x in known.values() if x.operation in ("convolution", "dot") and x.name not in spent]
    for name, nanoseconds in [*spent.most_common(), *missed]:
        x = known[name]
        # A weight gradient that the compiler rewrote bears no name: that of what it is computed from, then.
        where = _origin(x, known) if x.operation in ("convolution", "dot") else _where(x)
        out.append({"name": name, "operation": x.operation, "where": where, "attributes": x.attributes,
                    "shape": x.shape, "seconds": nanoseconds / 1e9 / steps})
    return out


def kernels(step, steps: int, most: int = 5) -> dict[str, Any]:
    """What the device did in one step, by the names of its kernels: {'seconds' of all, 'kernels': the dearest ones}.

    On an accelerator a kernel's name is the compiler's or the library's own, whether or not it can be told which
    instruction it is of; on a CPU kernels are instructions. Of each: 'name', 'instruction' and 'where' (JAX's name of
    it), '' where they aren't known; 'seconds' of a step; 'calls' in a step.

    Raises:
      UserError: the profiler saw none.
    """
    known = {x.name: x for x in hlo.instructions(step.compiled_text() or "")}
    spent: collections.Counter[tuple[str, str]] = collections.Counter()
    calls: collections.Counter[tuple[str, str]] = collections.Counter()
    for kernel, name, nanoseconds in _events(step, steps):
        if jax.default_backend() != "cpu" or (name in known and kind_of(known[name].operation, "")):
            spent[kernel, name] += nanoseconds
            calls[kernel, name] += 1
    if not spent:
        raise UserError("the profiler saw no kernel on this device")
    return {"seconds": spent.total() / 1e9 / steps, "kernels": [
        {"name": kernel, "instruction": name, "where": _origin(known[name], known) if name in known else "",
         "seconds": nanoseconds / 1e9 / steps, "calls": calls[kernel, name] / steps}
        for (kernel, name), nanoseconds in spent.most_common(most)]}


def _events(step, steps: int) -> Iterator[tuple[str, str, int]]:
    """(kernel, instruction or '', nanoseconds) of all that the profiler sees of `steps` steps on the device."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            step.run(steps)
        for path in pathlib.Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                # On a GPU the host's threads name operations too, while they start them.
                if jax.default_backend() != "cpu" and not plane.name.startswith("/device"):
                    continue
                lines = list(plane.lines)
                # The same time may stand in several lines: by stream (GPU), by instruction (TPU), by program, by step.
                own = [line for line in lines if line.name.startswith("Stream")] or [
                    line for line in lines if line.name == "XLA Ops"] or lines
                for line in own:
                    for event in line.events:
                        yield event.name, str(dict(event.stats).get("hlo_op", "")), int(event.duration_ns)


def _where(x: hlo.Instruction) -> str:
    found = re.search(r'op_name="([^"]*)"', x.attributes)
    return found[1] if found else ""


def _origin(x: hlo.Instruction, known: dict[str, hlo.Instruction]) -> str:
    """JAX's name of x, or else of the nearest instruction before it, the last operand (the gradient) first."""
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
