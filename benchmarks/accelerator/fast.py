"""Is it fast? Training steps compared with PyTorch's and with the device's peak rates, and the longest kernels.

A step of this part is a cell: a network, a batch, a precision. This project and PyTorch (channels last, autocast,
torch.compile; with its own norm, and with a norm as a banded convolution) are separate processes, compile in parallel,
and then take turns. Networks for small images run as in training on accelerators, with the images on the device and
many steps per call. If PyTorch is missing or sees no accelerator, this project is measured alone.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from alexnet_jax.errors import UserError
from benchmarks import command, contenders, networks, profile, racing, rounds
from benchmarks.accelerator.context import Context, Unfinished
from benchmarks.racing import BEST, STOCK, Cell

CELLS = (Cell("released", 128, "bfloat16"), Cell("released", 1024, "bfloat16"),
         Cell("released-no-lrn", 1024, "bfloat16"), Cell("released", 1024, "tensorfloat32"),
         Cell("paper", 1024, "bfloat16"), Cell("alexnet64", 128, "float32", resident=True),
         Cell("alexnet32", 128, "float32", resident=True), Cell("conv-local-11", 128, "float32", resident=True))
QUICK = (Cell("alexnet32", 8, "bfloat16"), Cell("four-layer", 8, "tensorfloat32", resident=True))
ROUNDS, ROUND_SECONDS = 5, 0.4
LIMIT = 240.0  # timeout of an answer in seconds: longer than any compilation so far
_TURNS = 25.0  # seconds for the turns: a peer that is still compiling then is left out
_STEPS_PROFILED, _PROFILE_LIMIT = 3, 60.0

Sides = dict[str, contenders.Contender]


def run(context: Context) -> None:
    with contextlib.ExitStack() as stack:
        # Processes are started only when needed.
        sides = functools.cache(lambda: _start(stack, context))
        context.step("rates", lambda: _rates(sides(), context), seconds=30)
        for cell in QUICK if context.quick else CELLS:
            context.step(title(cell), functools.partial(_measure, sides, cell, context), seconds=45)


def title(cell: Cell) -> str:
    return f"{cell.network}, batch {cell.batch:,}, {cell.precision}"


def _start(stack: contextlib.ExitStack, context: Context) -> Sides:
    """Starts the processes that take part. None is left if ours fails."""
    cores = contenders.cores(0)
    with contextlib.ExitStack() as mine:
        sides = {side: mine.enter_context(contenders.Contender("ours" if side == "ours" else "torch", cores))
                 for side in ("ours", STOCK, BEST)}
        for child in sides.values():
            child.begin("about", LIMIT)
        for side, child in list(sides.items()):
            try:
                _check(child, context)
            except UserError as error:
                if side == "ours":
                    raise
                context.say(f"fast: without PyTorch: {error}")
                for peer in set(sides) - {"ours"}:  # another one may still be starting, beside what is measured next
                    sides.pop(peer).close()
                break
        stack.enter_context(mine.pop_all())
    return sides


def _check(child: contenders.Contender, context: Context) -> None:
    """Raises UserError if this child, asked "about", computes on a CPU in the accelerator's place, or vice versa."""
    seen = child.answer()
    if (seen["platform"] == "cpu") != (context.device["platform"] == "cpu"):
        raise UserError(f"{child.side} computes on {seen['kind']}")


def _rates(sides: Sides, context: Context) -> dict[str, Any]:
    """The device's own rates: matrix products by precision, and a copy."""
    children = [sides[side] for side in ("ours", STOCK) if side in sides]
    found: dict[str, Any] = {}
    for precision in ("bfloat16",) if context.quick else ("bfloat16", "tensorfloat32", "float32"):
        found[precision] = command.floor({"device": context.device, "quick": context.quick}, children, precision, LIMIT)
        context.note(**found)
        context.say(f"fast: matrix product {found[precision]['flops_per_second'] / 1e12:,.1f} TFLOP/s ({precision}), "
                    f"copy {found[precision]['bytes_per_second'] / 1e9:,.0f} GB/s")
    return found


def _measure(sides: Callable[[], Sides], cell: Cell, context: Context) -> dict[str, Any]:
    args = argparse.Namespace(quick=context.quick, rounds=2 if context.quick else ROUNDS,
                              round_seconds=0.0 if context.quick else ROUND_SECONDS)
    children = dict(sides())
    if not networks.config_of(cell.network, cell.batch).model.lrn.layers:
        children.pop(BEST, None)  # the same as STOCK
    compiled = context.device["platform"] != "cpu"
    limit = min(LIMIT, max(context.left() - _TURNS, _TURNS))
    children["ours"].begin("about", limit)  # a process that hasn't been asked yet, after the first cell
    _check(children["ours"], context)
    try:
        row = racing.measure(args, children, cell, compiled, limit)
    except UserError as error:
        if len(children) == 1:
            raise
        # A peer failed in the middle of a round; this project's time doesn't need it.
        row = racing.measure(args, {"ours": children["ours"]}, cell, compiled, limit) | {"missing": {STOCK: str(error)}}
    row["turns"] = row.pop("seconds")  # per step, by side; "seconds" in a record is the step's duration
    context.note(**row)
    context.say(f"fast: {title(cell)}: " + ", ".join(
        f"{side} {1e3 * one['median']:.2f} ms" for side, one in row["turns"].items())
        + "".join(f"; without {side}: {why[:160]}" for side, why in row["missing"].items()))
    if limit < LIMIT and any("no answer to" in why for why in row["missing"].values()):
        raise Unfinished  # it had less time than usual: the next command measures this cell again
    try:
        seen = children["ours"].ask("kernels", _PROFILE_LIMIT, key=cell.network, steps=_STEPS_PROFILED)
    except UserError as error:
        seen = {"kernels": [], "kernels_missing": str(error)}
    children["ours"].close()  # a profiler may slow down what follows: the next cell has a fresh process
    return row | {"kernel_seconds" if key == "seconds" else key: value for key, value in seen.items()}


def table(record: dict[str, Any]) -> list[str]:
    """Markdown of FOLDER/fast.json."""
    steps = record["steps"]
    rates = steps.get("rates", {})
    cells = [(Cell(*(step[key] for key in ("network", "batch", "precision", "resident"))), step)
             for step in steps.values() if "turns" in step]
    rows, dearest = [], []
    for cell, step in cells:
        mine = step["turns"]["ours"]["median"]
        others = [f"{1e3 * step['turns'][side]['median']:,.2f}" if side in step["turns"] else "–"
                  for side in (STOCK, BEST)]
        ratios = [rounds.spread(step["ratio"][side]) if side in step["ratio"] else "–" for side in (STOCK, BEST)]
        rate, floor = step["flops"] / mine, rates.get(cell.precision)
        shares = [f"{rate / floor['flops_per_second']:.0%}",
                  f"{cell.least(floor, record['quick']) / mine:.0%}"] if floor else ["–", "–"]
        rows.append([cell.network, f"{cell.batch:,}", cell.precision + (", resident" if cell.resident else ""),
                     f"{1e3 * mine:,.2f}", *others, *ratios, f"{cell.batch / mine:,.0f}", f"{rate / 1e12:,.1f}",
                     *shares])
        for kernel in step.get("kernels", ()):
            share = kernel["seconds"] / step["kernel_seconds"] if step["kernel_seconds"] else 0.0
            dearest.append([title(cell), f"`{kernel['name'][:60]}`", profile.layer_of(kernel["where"]) or "–",
                            f"{1e3 * kernel['seconds']:,.3f}", f"{share:.0%}"])
    by = "; ".join(f"{name} {one['flops_per_second'] / 1e12:,.1f} TFLOP/s" for name, one in rates.items()
                   if isinstance(one, dict) and "flops_per_second" in one)
    copies = [one["bytes_per_second"] for one in rates.values() if isinstance(one, dict) and "bytes_per_second" in one]
    lines = [f"The device's own matrix product: {by}; its copy: {max(copies) / 1e9:,.0f} GB/s.", ""] if copies else []
    return [*lines, *command.markdown(
        ["network", "batch", "precision", "ours, ms", f"{STOCK}, ms", f"{BEST}, ms", f"{STOCK} / ours",
         f"{BEST} / ours", "ours, images/s", "ours, TFLOP/s", "of the product's rate", "of the floor"], rows), "",
        f"Medians of {ROUNDS} turns of about {ROUND_SECONDS} s; ratios: median [quartiles] of the rounds' own, above 1 "
        "where this project is faster. PyTorch by torch.compile, without CUDA graphs; tuned: its norm as a banded 1×1 "
        "convolution. Ours includes crops, mirrors and colour noise; PyTorch's inputs lie ready. Resident: ours on "
        "images that lie on the device, many steps a call. Floor: arithmetic or memory traffic of each layer's "
        "products and of the update, whichever is longer, at the rates above.", "",
        *command.markdown(["the five dearest kernels of", "kernel", "layer", "ms a step", "of all kernels"], dearest)]
