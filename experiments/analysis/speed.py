"""Epochs that a run takes to reach a given error, and the ratio between two kinds of runs.

The paper's figure 1 and section 3.1: ReLUs reach 25% training error on CIFAR-10 six times faster than tanh, with a
learning rate chosen for each. A run that ends before it gets there ("censored") still gives a lower bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.analysis import statistics
from experiments.analysis.workdirs import Run, Sweep, field

NAMES = {"relu": "ReLU", "tanh": "tanh"}
ERROR = "eval_top1_error"  # with the weights at the end of an epoch


@dataclasses.dataclass(frozen=True)
class Arrival:
    """When a run got to an error: after `epochs`, or not within `epochs` if not `reached`."""

    epochs: float
    reached: bool


def arrival(rows: Sequence[Mapping[str, Any]], threshold: float, column: str = ERROR) -> Arrival | None:
    """When the error in `column` first fell to `threshold`, linearly interpolated between two evaluations.

    Returns:
      None without rows. A run whose first evaluation is already below arrived there at the latest.
    """
    before: tuple[float, float] | None = None
    for row in rows:
        epoch, error = float(row["epoch"]), float(row[column])
        if error <= threshold:
            if before is None:
                return Arrival(epoch, True)
            (epoch0, error0) = before
            return Arrival(epoch0 + (epoch - epoch0) * (error0 - threshold) / (error0 - error), True)
        before = epoch, error
    return None if before is None else Arrival(before[0], False)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Epochs of the slow kind over epochs of the fast kind: geometric mean over the seeds that both have.

    `log` is the estimate of ln(slow / fast) (Student's t over pairs of a seed). `bound`: '' for a ratio; 'at least' if
    runs of the slow kind never arrived and count with the epochs that they ran; 'at most' likewise for the fast kind;
    'unknown' for both.
    """

    log: statistics.Estimate
    bound: str

    @property
    def value(self) -> float | None:
        return None if self.log.mean is None else math.exp(self.log.mean)

    @property
    def low(self) -> float | None:
        return None if self.log.low is None or self.bound in ("at most", "unknown") else math.exp(self.log.low)

    @property
    def high(self) -> float | None:
        return None if self.log.high is None or self.bound in ("at least", "unknown") else math.exp(self.log.high)

    @property
    def text(self) -> str:
        """E.g. '6.8× [6.1, 7.5]', 'at least 5.0× (95% interval from 4.1)'."""
        if self.value is None:
            return ""
        text = f"{self.bound} {self.value:.1f}×".lstrip()
        if self.low is not None and self.high is not None:
            return f"{text} [{self.low:.1f}, {self.high:.1f}]"
        return text if self.low is None else f"{text} (95% interval from {self.low:.1f})"


def ratio(fast: Mapping[int, Arrival], slow: Mapping[int, Arrival]) -> Ratio:
    """The ratio of `slow` to `fast`, each {seed: arrival}."""
    seeds = sorted(set(fast) & set(slow))
    lost = [not all(side[seed].reached for seed in seeds) for side in (fast, slow)]
    bound = {(False, False): "", (False, True): "at least", (True, False): "at most",
             (True, True): "unknown"}[lost[0], lost[1]]
    return Ratio(statistics.paired_difference({s: math.log(slow[s].epochs) for s in seeds},
                                              {s: math.log(fast[s].epochs) for s in seeds}), bound)


def in_words(name: str, arrivals: Iterable[Arrival]) -> str:
    """The mean as 'ReLU 5.5 epochs'; runs that never arrived count with the epochs that they ran, and are mentioned."""
    arrivals = list(arrivals)
    times, late = [a.epochs for a in arrivals], sum(not a.reached for a in arrivals)
    over = f"; {late} of {len(times)} not within {max(times):g}" if late else ""
    return f"{name} {'at least ' if late else ''}{sum(times) / len(times):.1f} epochs{over}"


# Choosing a learning rate.


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of the grid, with the error after its last epoch, infinite if it diverged."""

    activation: str
    rate: float
    error: float


def points(grid: Sweep) -> list[Point]:
    """The finished and diverged runs of a grid, sorted by activation and rate."""
    result = []
    for run in grid.runs.values():
        if run.state in ("finished", "diverged"):
            error = float(run.rows[-1][ERROR]) if run.state == "finished" and run.rows else math.inf
            result.append(Point(activation_of(run), field(run.config, "optim.learning_rate"), error))
    return sorted(result, key=lambda p: (p.activation, p.rate))


def errors_of(points: Iterable[Point], activation: str) -> dict[float, float]:
    """{rate: error}, for `experiments.sweep.grid`."""
    return {p.rate: p.error for p in points if p.activation == activation}


def activation_of(run: Run) -> str:
    return str(field(run.config, "model.activation"))
