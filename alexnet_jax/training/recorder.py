"""What a run writes while it trains: run.json, the rows of both CSVs, TensorBoard events, progress, its log."""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import provenance, run_files
from alexnet_jax.data.loader import Course
from alexnet_jax.progress import Progress
from alexnet_jax.text import duration, percent
from alexnet_jax.training.events import Events
from alexnet_jax.training.program import Sums
from alexnet_jax.training.workdir import Clock, Log


def write_run_json(workdir: pathlib.Path, about: Mapping[str, Any], here: Mapping[str, Any], log: Log) -> None:
    """Writes run.json when a run starts; when it is resumed, adds the time and what has changed.

    Args:
      about: the run and its images. here: from `provenance.describe`.
    """
    path = workdir / "run.json"
    before = run_files.read_json(path)
    if before is None:
        run_files.write_json(path, {
            "schema": run_files.SCHEMA, **about, "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]], **here,
            "started": run_files.now(), "resumed": []})
        return
    changed = provenance.changed(before, here)
    entry = {"at": run_files.now(), **changed} if changed else run_files.now()
    kept = {key: value for key, value in before.items() if key != "about_data"}
    data = {key: value for key, value in about.items() if key == "about_data"}
    run_files.write_json(path, {**kept, **data, "resumed": [*before.get("resumed", []), entry]})
    if changed:
        log(f"note: changed since this run began: {', '.join(changed)} (run.json)")


class Recorder:
    """Writes the rows, events and progress of one run. A context manager.

    Args:
      evaluated: the step of the latest evaluation in the checkpoint: rows beyond it are dropped.
      classes: number of classes. show: progress on the terminal. clock: with what was measured so far.
    """

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, course: Course, evaluated: int, classes: int,
                 show: bool, log: Log, clock: Clock):
        self.log, self.clock, self._started = log, clock, clock.started
        self._config, self._course, self._five = config, course, run_files.tells_top5(classes)
        self.metrics = run_files.Rows(workdir / "metrics.csv", run_files.METRICS, evaluated)
        self.timing = run_files.Rows(workdir / "timing.csv", run_files.TIMING, evaluated)
        self.events = Events(workdir, evaluated)
        self._progress = Progress(workdir, config.train.epochs, course.steps, show)

    def __enter__(self) -> Recorder:
        self._progress.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.close()
        self._progress.__exit__(*error)

    def close(self) -> None:
        for part in (self.metrics, self.timing, self.events):
            part.close()

    def state(self, state: str, step: int) -> None:
        """Shows what the run is doing: compiling, evaluating, stopped, …"""
        self._progress.update(state, step, self._course.epochs_done(step))

    def trained(self, step: int, seen: Sums | None) -> None:
        """Shows the progress of training. `seen`: sums of a recent call; None if there are none since the last row."""
        if seen is not None:
            rate = self.clock.rate()
            left = rate and (self._course.steps - step) * self._config.train.batch_size / rate
            self._progress.update("training", step, self._course.epochs_done(step), rate,
                                  int(seen.wrong) / int(seen.images), left)

    def row(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.csv. A checkpoint of its step comes after it (`loop`)."""
        self.metrics.append(row)
        self.events.add(row if self._five else {k: v for k, v in row.items() if k != "eval_top5_error"})

    def saved(self) -> None:
        """Logs the newest row, once its checkpoint is being written, and appends to timing.csv."""
        row = self.metrics.rows[-1]
        times = self.times(row["epoch"], row["step"], self.clock.rate() or 0.0)
        self.events.add(times)
        self._progress.evaluated(row["eval_top1_error"])
        top1, top5 = percent(row["eval_top1_error"]), percent(row["eval_top5_error"])
        error = f"{top1} top-1, {top5} top-5" if self._five else top1
        self.log(f"epoch {row['epoch']}/{self._config.train.epochs}: rate {row['learning_rate']:g} · training loss "
                 f"{row['train_loss']:.4f}, error {percent(row['train_top1_error'])} · evaluation error {error} "
                 f"· {duration(times['train_seconds'] + times['eval_seconds'])}")

    def times(self, epoch: int, step: int, rate: float | None = None) -> dict[str, Any]:
        """Appends a row to timing.csv and resets the clock. `rate`: images/s; None if nothing was trained."""
        clock, self.clock = self.clock, Clock()
        times = {"epoch": epoch, "step": step, "train_seconds": round(clock.train, 3),
                 "eval_seconds": round(clock.eval, 3), "checkpoint_seconds": round(clock.checkpoint, 3),
                 "compile_seconds": round(clock.compile, 3),
                 "images_per_second": None if rate is None else round(rate, 2),
                 "elapsed_seconds": round(time.perf_counter() - self._started, 3)}
        self.timing.append(times)
        return times
