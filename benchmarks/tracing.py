"""JAX's profiler on a few training steps, by instruction of the compiled program."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
from typing import Any

import jax

from alexnet_jax.errors import UserError
from alexnet_jax.inspect.targets import hlo


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
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    spent: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            step.run(steps)
        for path in pathlib.Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines:
                    for event in line.events:
                        name = dict(event.stats).get("hlo_op")
                        # On a GPU the host's threads name operations too, while they start them.
                        if name in known and (jax.default_backend() == "cpu" or plane.name.startswith("/device")):
                            spent[str(name)] += event.duration_ns
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
