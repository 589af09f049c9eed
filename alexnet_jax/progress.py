"""How a run shows that it is alive: a bar on a terminal, a line now and then elsewhere, and progress.json."""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any

from alexnet_jax import run_files
from alexnet_jax.text import duration, percent

_FILE_SECONDS, _LINE_SECONDS = 1.0, 30.0


class Progress:
    """Told the state often, shows it seldom. A context manager.

    Args:
      workdir: where progress.json goes. steps: of the whole run.
      show: draw a bar (terminal) or print a line every half minute (otherwise); False: the file only.
    """

    def __init__(self, workdir: pathlib.Path, epochs: int, steps: int, show: bool):
        self._path, self._epochs, self._steps, self._show = workdir / "progress.json", epochs, steps, show
        self._bar: Any = None
        self._task: Any = None
        self._written = self._printed = 0.0
        self._error: float | None = None

    def __enter__(self) -> Progress:
        if self._show and sys.stderr.isatty():
            try:
                from rich import progress as rich_progress
                from rich.console import Console
            except ImportError:
                return self
            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("epoch {task.fields[epoch]}/" + str(self._epochs)), rich_progress.BarColumn(),
                rich_progress.TextColumn("{task.fields[what]}", markup=False), console=Console(stderr=True),
                transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._steps, epoch=0, what="starting")
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def evaluated(self, error: float) -> None:
        """Takes in the newest evaluation error (a fraction), shown from now on."""
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
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=f"{epoch:.1f}", what=what)
        elif self._show and now - self._printed >= _LINE_SECONDS:
            self._printed = now
            print(f"epoch {epoch:.1f}/{self._epochs} · {what}", file=sys.stderr, flush=True)
