"""How far a long task is: a bar on a terminal, a line now and then elsewhere; a run's progress.json."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from alexnet_jax import names, run_files
from alexnet_jax.text import duration, percent

_FILE_SECONDS, _LINE_SECONDS = 1.0, 30.0


class Bar:
    """A bar on a terminal, elsewhere a line now and then. A context manager.

    Args:
      total: the amount of work, in any unit.
      stream: where the bar is drawn if that is a terminal; None: nowhere.
      say: prints a line where no bar is drawn; None: no lines.
      seconds: at least this long between two lines; the first comes after `first` seconds.
    """

    def __init__(self, total: int, stream: Any, say: Callable[[str], object] | None, seconds: float = _LINE_SECONDS,
                 first: float = 0.0):
        self._total, self._stream, self._say, self._seconds = total, stream, say, seconds
        self._said = time.monotonic() - seconds + first
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._stream is not None and self._stream.isatty():
            try:
                from rich import progress
                from rich.console import Console
            except ImportError:
                return self
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False), progress.BarColumn(),
                progress.TextColumn("{task.fields[what]}", markup=False), console=Console(file=self._stream),
                transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, what="starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, label: str, what: str) -> None:
        """`label` is shown before the bar, `what` behind it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=names.plain(label), what=names.plain(what))
        elif self._say is not None and time.monotonic() - self._said >= self._seconds:
            self._said = time.monotonic()
            self._say(f"{label} · {what}")


class Progress:
    """The progress of a run: updated often, shown and written seldom. A context manager.

    Args:
      workdir: where progress.json goes. steps: of the whole run.
      show: draw a bar (terminal) or print a line every half minute (otherwise); False: the file only.
    """

    def __init__(self, workdir: pathlib.Path, epochs: int, steps: int, show: bool):
        self._path, self._epochs, self._steps = workdir / "progress.json", epochs, steps
        self._bar = Bar(steps, sys.stderr if show else None, _say if show else None)
        self._written = 0.0
        self._error: float | None = None

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def evaluated(self, error: float) -> None:
        """Sets the newest evaluation error (a fraction), shown from now on."""
        self._error = error

    def update(self, state: str, step: int, epoch: float, rate: float | None = None, error: float | None = None,
               left: float | None = None) -> None:
        """`state`: compiling, training, evaluating, saving. `rate`: images/s. `left`: seconds."""
        now = time.monotonic()
        if now - self._written >= _FILE_SECONDS or state != "training":
            self._written = now
            run_files.write_json(self._path, {
                "state": state, "epoch": round(epoch, 3), "epochs": self._epochs, "step": step, "steps": self._steps,
                "images_per_second": rate and round(rate, 1), "train_top1_error": error,
                "eval_top1_error": self._error, "seconds_left": left and round(left), "updated": run_files.now()})
        what = state if state != "training" else (
            f"{rate or 0:,.0f} images/s · error: training {percent(error)}, evaluation {percent(self._error)} · "
            f"{duration(left)} left")
        self._bar.update(step, f"epoch {epoch:.1f}/{self._epochs}", what)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
