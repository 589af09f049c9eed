"""Part 1: does the accelerator compute what a CPU does?

All networks are compiled in parallel while the small checks run; meanwhile the killed and resumed run has its own
processes. The checks are in `checks` and `resumed`.
"""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

import jax

from alexnet_jax import names
from alexnet_jax.errors import UserError
from benchmarks import networks
from benchmarks.accelerator import checks, compared, resumed
from benchmarks.accelerator.context import Context

# Output shapes of conv1 and conv2, the inputs of norms and pooling: [column, batch, height, width, channel].
_CONV1, _CONV2 = (2, 4, 55, 55, 48), (2, 4, 27, 27, 128)
_TINY = (2, 2, 9, 8, 8)
_ORDER = ("float32", "bfloat16", "tensorfloat32")


def network_names(quick: bool) -> list[tuple[str, str]]:
    """(network, precision), in order of value."""
    recipes = ("released", *(recipe for recipe in networks.RECIPES if recipe != "released"))
    return [(recipe + (compared.SMALL if quick else ""), precision) for recipe in recipes for precision in _ORDER
            if not quick or recipe == "released" or precision == "float32"]


def titles(quick: bool) -> list[str]:
    """All steps, in order."""
    small = "tiny" if quick else "alexnet32"
    return ["draws", *layer_checks(quick), *(f"{name}, {precision}" for name, precision in network_names(quick)),
            f"losses, {small}", "calls", *(() if quick else ("losses, released",)), "killed and resumed"]


def layer_checks(quick: bool) -> dict[str, Callable[[], checks.Result]]:
    """Checks of norms and pooling alone."""
    one, two = (_TINY, _TINY) if quick else (_CONV1, _CONV2)
    norm = functools.partial(checks.response_norm, recipe="released")
    return {
        "response norm, conv1": functools.partial(norm, one, dtype="float32"),
        "response norm, conv2": functools.partial(norm, two, dtype="float32"),
        "response norm, conv2, bfloat16": functools.partial(norm, two, dtype="bfloat16"),
        "same-map norm": functools.partial(checks.same_map_norm, two, dtype="float32"),
        "same-map norm, bfloat16": functools.partial(checks.same_map_norm, two, dtype="bfloat16"),
        "max pooling": functools.partial(checks.pooling, one, "max"),
        "average pooling": functools.partial(checks.pooling, one, "avg")}


def run(context: Context) -> None:
    if (seen := jax.devices()[0].platform) != context.device["platform"]:
        raise UserError(f"JAX sees {seen} now, where it saw {context.device['kind']}")
    quick = context.quick
    with concurrent.futures.ThreadPoolExecutor(max(1, context.device["cores"] - 1)) as pool:
        compiled = {}
        for name, precision in network_names(quick):
            title = f"{name}, {precision}"
            if context.is_open(title):
                network = checks.Network(name, precision)
                # One at a time once a process has been killed, to identify the step.
                compiled[title] = network, (None if context.restarted else pool.submit(network.compile))
        title = "killed and resumed"
        killed = None
        if context.is_open(title):
            killed = pool.submit(resumed.same_when_resumed, context.folder / "resumed", "tiny" if quick else "small",
                                 context.device["platform"] not in ("cpu", "tpu"))
        _step(context, "draws", functools.partial(checks.same_draws, ("released",) if quick else networks.RECIPES))
        for name, check in layer_checks(quick).items():
            _step(context, name, check)
        for name, (network, job) in compiled.items():
            _step(context, name, functools.partial(_network, network, job))
        small = "tiny" if quick else "alexnet32"
        _step(context, f"losses, {small}", functools.partial(checks.same_losses, small))
        _step(context, "calls", functools.partial(checks.same_calls, context.folder / "store", small))
        if not quick:
            _step(context, "losses, released", functools.partial(checks.same_losses, "released"))
        if killed:
            _step(context, title, killed.result)


def _network(network: checks.Network, job: Any) -> checks.Result:
    return network.check(job.result() if job else network.compile())


def _step(context: Context, name: str, check: Callable[[], checks.Result]) -> None:
    if not context.is_open(name):
        return
    found = context.step(name, check)
    if found:
        wrong = names.short(str(found), 600)  # right.json has all
        context.say(f"right: {name}: right" if found["right"] else f"right: WRONG: {name}: {wrong}")
