"""How long runs take, by the timing.csv of those that are there. Without a measurement: unknown."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence

from alexnet_jax import run_files
from experiments.sweep import plan as plan_lib

_PARTS = ("train_seconds", "eval_seconds", "checkpoint_seconds", "compile_seconds")
_ENOUGH = 50  # runs of an arm that are read: a workdir of 10,000 runs opens in no time


def measured(folder: pathlib.Path) -> tuple[int, float]:
    """(epochs done, seconds they took) of a run, over all resumes; (0, 0.0) before its first evaluation."""
    try:
        rows = run_files.read_rows(folder / "timing.csv")
        if rows:
            return int(rows[-1]["epoch"]), sum(row[part] or 0.0 for row in rows for part in _PARTS)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # half a line, at worst: an estimate can do without
    return 0, 0.0


class Costs:
    """Seconds an epoch, by arm, from the runs of a workdir."""

    def __init__(self, plan: plan_lib.Plan, workdir: pathlib.Path):
        self._plan, self._workdir = plan, workdir
        self._epochs: dict[str, int] = collections.Counter()
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._read: dict[str, int] = collections.Counter()
        for run in plan.runs:
            self.add(run)

    def add(self, run: str) -> None:
        """Takes in a run's timing.csv. Once per run."""
        arm = self._plan.arm_of(run).name
        if self._read[arm] < _ENOUGH:
            epochs, seconds = measured(self._workdir / self._plan.runs[run].dir)
            if epochs:
                self._read[arm] += 1
                self._epochs[arm] += epochs
                self._seconds[arm] += seconds

    def per_epoch(self, arm: str) -> float | None:
        """Seconds an epoch of this arm's runs, or of all runs if none of its own is measured."""
        if self._epochs[arm]:
            return self._seconds[arm] / self._epochs[arm]
        total = sum(self._epochs.values())
        return sum(self._seconds.values()) / total if total else None

    def left(self, run: str, done: float = 0.0) -> float | None:
        """Seconds that a run still takes after `done` epochs."""
        each = self.per_epoch(self._plan.arm_of(run).name)
        if each is None:
            return None
        return each * max(0.0, self._plan.runs[run].config["train"]["epochs"] - done)

    def left_of(self, runs: Sequence[str], jobs: int) -> float | None:
        """Seconds until these are done, `jobs` at a time, those that have begun from where they stand."""
        seconds = [self.left(run, measured(self._workdir / self._plan.runs[run].dir)[0]) for run in runs]
        known = [s for s in seconds if s is not None]
        if len(known) < len(seconds):
            return None
        return max(sum(known) / max(1, jobs), max(known, default=0.0))
