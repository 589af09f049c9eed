"""Common parts of the benchmarks: flags, the device's peak rates, the JSON file, one-line errors."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax import commands, provenance, run_files, text
from alexnet_jax.errors import UserError
from benchmarks import contenders

SCHEMA = 1
ROOT = pathlib.Path(__file__).resolve().parents[1]
Result = dict[str, Any]


def parser(name: str, doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with the common flags: --rounds, --threads, --round_seconds, --out, --quick."""
    out = commands.Parser(f"benchmarks.{name}", doc)
    out.add_argument("--rounds", type=commands.whole_number, default=rounds,
                     help=f"how often each takes its turn ({rounds})")
    out.add_argument("--round_seconds", type=float, default=2.0, help="of a turn, about; one step at least (2)")
    out.add_argument("--threads", type=int, default=0, help="cores to use; 0: all that the process may use")
    out.add_argument("--out", type=pathlib.Path, help="a JSON file for the result, for benchmarks.table")
    out.add_argument("--quick", action="store_true", help="tiny networks, two rounds: does it work?")
    return out


def say(line: str) -> None:
    """Prints progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def begin(name: str, args: argparse.Namespace) -> Result:
    """The header of a result: benchmark, time and command; `finish` completes it."""
    if args.quick:
        args.rounds, args.round_seconds = min(args.rounds, 2), 0.0
    if args.out and not args.out.parent.is_dir():
        raise UserError(f"--out={args.out}: no folder {args.out.parent}; create it first")
    return {"schema": SCHEMA, "benchmark": name, "command": f"python -m benchmarks.{name} {' '.join(_given())}".strip(),
            "started": run_files.now(), "git": provenance.git_state(), "quick": args.quick, "rounds": args.rounds,
            "load_before": _load()}


def _given() -> list[str]:
    return [argument for argument in sys.argv[1:] if not argument.startswith("--out")]


def _load() -> float | None:
    """The load average over the last minute, or None."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def device(result: Result, children: Sequence[contenders.Contender], cores: Sequence[int]) -> None:
    """Adds 'device' and 'versions', as reported by the children."""
    versions: dict[str, str] = {}
    for child in children:
        about = child.ask("about")
        versions |= about["versions"]
        if child.side == "ours":
            result["device"] = {key: about[key] for key in ("platform", "kind", "count")} | {"cores": len(cores)}
    result["versions"] = versions


def floor(result: Result, children: Sequence[contenders.Contender], precision: str,
          limit: float | None = None) -> dict[str, Any]:
    """The device's best rates for a matrix product and a memory copy, with either library, for `result["floor"]`.

    Args:
      limit: timeout of an answer, in seconds.
    """
    gpu = result["device"]["platform"] != "cpu"
    # Several products per synchronisation on a GPU, so that its latency isn't part of each product's time.
    size, megabytes, calls = (8192, 1024, 8) if gpu else (2048, 256, 1)
    if result["quick"]:
        size, megabytes = 256, 8
    rates = {child.side: (child.ask("matmul", limit, size=size, repeats=10, precision=precision, calls=calls),
                          child.ask("copy", limit, megabytes=megabytes, repeats=10, calls=calls))
             for child in children}
    return {
        "flops_per_second": max(rate for rate, _ in rates.values()),
        "bytes_per_second": max(rate for _, rate in rates.values()),
        "matrix": size, "megabytes": megabytes, "precision": precision,
        "by": {side: {"flops_per_second": a, "bytes_per_second": b} for side, (a, b) in rates.items()}}


def finish(result: Result, args: argparse.Namespace, table: Callable[[Result], list[str]]) -> None:
    """Writes the JSON file, if requested with --out, and prints the tables."""
    result["load_after"], result["ended"] = _load(), run_files.now()
    if args.out:
        run_files.write_text(args.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print("\n".join([heading(result), "", *table(result)]))


def heading(result: Result) -> str:
    """One line: device, versions, command, date, and whether the machine was otherwise busy."""
    d, floor_ = result.get("device", {}), result.get("floor")
    cores = f", {text.count(d['cores'], 'core')}" if d.get("platform") == "cpu" else ""
    versions = ", ".join(f"{k} {v}" for k, v in result.get("versions", {}).items() if k in ("jax", "torch", "python"))
    peak = (f" · matrix product {floor_['flops_per_second'] / 1e9:,.0f} GFLOP/s ({floor_['precision']}), memory copy "
            f"{floor_['bytes_per_second'] / 1e9:,.1f} GB/s") if floor_ else ""
    quick = " · QUICK: tiny networks, no measurement" if result.get("quick") else ""
    git = result.get("git", {})
    when = (f"{result['started'][:10]}, revision {git.get('revision', '?')[:7]}"
            f"{' with uncommitted changes' if git.get('dirty') else ''}")
    if d and "load_before" in result:
        when += f", load before {result.get('load_before')}"
    parts = [f"{d['kind']}{cores}" if d else "", versions, when, f"`{result['command']}`{peak}{quick}"]
    return " · ".join(part for part in parts if part)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column aligned left, the others right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def run(main: Callable[[argparse.Namespace], None], made: argparse.ArgumentParser) -> None:
    """The entry point of a benchmark."""
    commands.run_main(lambda: main(made.parse_args()))
