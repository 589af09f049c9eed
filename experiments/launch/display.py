"""The state of a sweep for people: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import collections
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from alexnet_jax import names, run_files
from alexnet_jax.text import count, duration, percent
from alexnet_jax.training import views
from experiments.launch import costs as costs_lib
from experiments.launch.costs import Left
from experiments.launch.schedule import State
from experiments.sweep import plan as plan_lib

_LIVE_SECONDS, _LINE_SECONDS = 1.0, 30.0
COLUMNS = ("run", "state", "epoch", "training error", "evaluation error", "images/s", "left")


def progress_of(folder: pathlib.Path, since: float = 0.0) -> dict[str, Any]:
    """A run's progress.json; {} if it is older than `since` (seconds since 1970): another process's."""
    path = folder / "progress.json"
    try:
        if path.stat().st_mtime >= since:
            return run_files.read_json(path) or {}
    except OSError:
        pass
    return {}


def row(label: str, progress: dict[str, Any], placed: bool = True) -> tuple[str, ...]:
    """A run under way, for the columns `COLUMNS`."""
    if not progress:
        return (label, "starting" if placed else "waiting for room", "", "", "", "", "")
    rate, left = progress.get("images_per_second"), progress.get("seconds_left")
    return (label, str(progress.get("state", "")), _epoch(progress),
            percent(progress.get("train_top1_error")), percent(progress.get("eval_top1_error")),
            f"{rate:,.0f}" if rate else "–", duration(left) if left is not None else "–")


def describe_result(result: dict[str, Any]) -> str:
    """'finished: error 20.1% (ten views)' of a result.json."""
    if result["status"] == "finished" and result.get("eval"):
        seen = views.headline(result["eval"])
        error = f"{percent(run_files.error_rates(result['eval'][seen])[0])} ({views.NAMES[seen]})"
        warning = str(result.get("message") or "").partition(";")[0]  # the report has all of it
        return f"finished: error {error}" + (f"; {warning}" if warning else "")
    return f"{result['status']}: {result.get('message')}"


class Display:
    """Shows a sweep's progress. A context manager."""

    def __init__(self, plan: plan_lib.Plan, workdir: pathlib.Path, costs: costs_lib.Costs):
        self._plan, self._workdir, self._costs = plan, workdir, costs
        self._live: Any = None
        self._shown = time.monotonic()  # a first status line only after the interval
        self._noted = ""

    def __enter__(self) -> Display:
        if sys.stdout.isatty():
            try:
                from rich.console import Console
                from rich.live import Live
            except ImportError:
                return self
            # No thread of its own: the driver starts processes.
            self._live = Live(console=Console(), auto_refresh=False, transient=True)
            self._live.start()
            self._shown = 0.0
        return self

    def __exit__(self, *_) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        text = names.plain(text)
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, emoji=False)
        else:
            print(text, flush=True)

    def ended(self, run: str, result: dict[str, Any] | None, state: State) -> None:
        ended = len(state.finished) + len(state.failed)
        if result is None:
            self.line(f"[{ended}/{state.total}] {self._plan.label(run)}: failed: {state.failed[run]}")
            return
        _, seconds = plan_lib.measured(self._workdir / self._plan.runs[run].dir)
        took = f" ({duration(seconds)})" if seconds else ""
        self.line(f"[{ended}/{state.total}] {self._plan.label(run)}: {describe_result(result)}{took}")
        self._costs.add(run)

    def update(self, state: State) -> None:
        now = time.monotonic()
        if now - self._shown < (_LINE_SECONDS if self._live is None else _LIVE_SECONDS):
            return
        self._shown = now
        rows = {run: progress_of(self._workdir / self._plan.runs[run].dir, since)
                for run, since in state.running.items()}
        for run in filter(rows.get, rows):
            self._costs.observe(run)
        if (note := self._costs.fallen_back()) != self._noted:
            self.line(note)
            self._noted = note
        if self._live is None:
            parts = [f"{self._plan.label(run)} {_brief(progress)}" for run, progress in rows.items()]
            self.line(" · ".join([self._summary(state, rows), *parts]))
        else:
            cells = [row(self._plan.label(run), progress, run not in state.unplaced) for run, progress in rows.items()]
            # Rows that don't fit are counted; otherwise the terminal would cut off the summary.
            height = max(1, self._live.console.height - 6)
            if len(cells) > height:
                cells[height - 1:] = [(f"… and {len(cells) - height + 1} more", *[""] * (len(COLUMNS) - 1))]
            self._live.update(table(cells, self._summary(state, rows)), refresh=True)

    def _summary(self, state: State, rows: dict[str, dict[str, Any]]) -> str:
        parts = [f"{len(state.finished)} of {state.total} done"]
        counts = {"running": rows, "waiting": state.waiting, "in use by another process": state.elsewhere,
                  "failed": state.failed}
        parts += [f"{len(items)} {what}" for what, items in counts.items() if items]
        if state.stopping:
            return ", ".join([*parts, "stopping"])
        return ", ".join(parts) + in_words(time_left(self._costs, state.waiting, rows, state.slots))


def in_words(left: Left | None) -> str:
    if left is None or left.seconds < 1:
        return ""
    more = len(left.unknown)
    return f"; about {duration(left.seconds)} left" + (
        f", not counting {count(more, 'run')} of another kind" if more else "")


def time_left(costs: costs_lib.Costs, waiting: Iterable[str], rows: Mapping[str, Mapping[str, Any]],
              slots: int) -> Left:
    """Until a sweep is done, `slots` runs at a time.

    Args:
      rows: the progress of the runs under way, which tells how long their like take before any has ended.
    """
    running, unknown, live = [], [], collections.defaultdict[str, list[float]](list)
    for run, progress in rows.items():
        rate, steps, step = progress.get("seconds_left"), progress.get("steps"), progress.get("step")
        left = rate if rate is not None else costs.left(run, progress.get("epoch") or 0.0)
        if left is None:
            unknown.append(run)
            continue
        running.append(left)
        if rate and steps and step and steps > step:
            live[costs.shape_of(run)].append(rate * steps / (steps - step) / costs.epochs(run))
    total = sum(running)
    for run in waiting:
        each, seconds = live.get(costs.shape_of(run)), costs.left(run)
        if seconds is None and each:
            seconds = sum(each) / len(each) * costs.epochs(run)
        if seconds is None:
            unknown.append(run)
        else:
            total += seconds
    return Left(max(total / max(1, slots), *running, 0.0), tuple(unknown))


def _brief(progress: dict[str, Any]) -> str:
    if not progress:
        return "starting"
    error = percent(progress.get("eval_top1_error"))
    return f"{progress.get('state')} epoch {_epoch(progress)}, evaluation error {error}"


def _epoch(progress: dict[str, Any]) -> str:
    return f"{progress.get('epoch') or 0:.1f}/{progress.get('epochs')}"


def table(rows: list[tuple[str, ...]], caption: str) -> Any:
    """A rich table of runs under way."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(COLUMNS):
        out.add_column(column, justify="left" if i < 2 else "right", no_wrap=i == 0)
    for cells in rows:
        out.add_row(*(Text(names.plain(cell)) for cell in cells))
    return Group(out, Text(names.plain(caption)))


def show(rows: list[tuple[str, ...]], caption: str) -> None:
    """Prints that table once; without rows or without rich, lines."""
    try:
        from rich.console import Console
    except ImportError:
        rows_text = ["  ".join(cells) for cells in rows]
        print("\n".join(map(names.plain, [*rows_text, caption])))
        return
    if rows:
        Console().print(table(rows, caption))
    else:
        print(names.plain(caption))
