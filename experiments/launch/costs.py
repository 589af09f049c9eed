"""How long runs take, estimated from the timing.csv of similar runs; unknown without any.

Similar runs are of the same kind of device (`devices`), and of the same arm or of one with the same images, batches and
layers (`shape`): runs on a card say nothing about the hours on a CPU, nor 3,000 images about 40,000.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax import run_files
from experiments.executors import devices
from experiments.executors.devices import Device
from experiments.sweep import plan as plan_lib

_ENOUGH = 50  # runs of an arm that are read: a workdir of 10,000 runs opens in no time
_DATA = ("name", "size", "crop", "train_split", "fold_split", "fold_at", "eval_split", "tune_split", "fit_split")
_TRAIN = ("batch_size", "precision", "eval_every", "steps_per_call")
_LAYER = ("features", "kernel", "stride", "padding", "unshared")


def shape(config: Mapping[str, Any]) -> str:
    """The part of a (nested) config that an epoch's duration depends on, as text."""
    def of(part: Any, names: Sequence[str]) -> dict[str, Any]:
        return {name: part.get(name) for name in names} if isinstance(part, Mapping) else {}

    model = config.get("model") or {}
    layers = {name: of(model.get(name), _LAYER) for name in model if name.startswith(("conv", "fc"))}
    return json.dumps([of(config.get("data"), _DATA), of(config.get("train"), _TRAIN), config.get("mesh"), layers,
                       model.get("columns"), model.get("exchange"), model.get("pool")], sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Left:
    """The remaining time: seconds of runs whose cost is known, and the ids of the others."""

    seconds: float
    unknown: tuple[str, ...] = ()


class Costs:
    """Seconds per epoch on the devices of this sweep, from the runs of its workdir."""

    def __init__(self, plan: plan_lib.Plan, workdir: pathlib.Path, here: Device | None = None):
        """`here`: what a run gets; None where that isn't known before one is under way (`observe`)."""
        self._plan, self._workdir = plan, workdir
        self._expected = here
        self._seen: dict[str, Device] = {}  # by runs under way
        self._epochs: dict[tuple[str, Device], int] = collections.Counter()
        self._seconds: dict[tuple[str, Device], float] = collections.defaultdict(float)
        self._read: dict[str, int] = collections.Counter()
        self._shapes = {arm.name: shape(plan.runs[next(iter(arm.runs.values()))].config)
                        for arm in plan.arms if arm.runs}
        for run in plan.runs:
            self.add(run)

    def add(self, run: str) -> None:
        """Takes in a run's timing.csv. Once per run."""
        arm = self._plan.arm_of(run).name
        if self._read[arm] < _ENOUGH:
            folder = self._workdir / self._plan.runs[run].dir
            epochs, seconds = plan_lib.measured(folder)
            made_on = self._devices(folder) if epochs else []
            if len(made_on) == 1:
                self._read[arm] += 1
                self._epochs[arm, made_on[0]] += epochs
                self._seconds[arm, made_on[0]] += seconds

    def observe(self, run: str) -> None:
        """Records the device of a running run, which replaces the expected one."""
        if run not in self._seen and (found := self._devices(self._workdir / self._plan.runs[run].dir)):
            self._seen[run] = found[-1]

    @property
    def here(self) -> set[Device]:
        """The kinds of devices that this sweep's runs are made on."""
        return set(self._seen.values()) or ({self._expected} if self._expected else set())

    def fallen_back(self) -> str:
        """A note where runs compute on a CPU that were to have a card; '' where they don't."""
        found = [device for device in self._seen.values() if device.cores]
        if not found or self._expected is None or self._expected.cores:
            return ""
        return (f"note: runs compute on {found[0].kind}, not on {self._expected.kind}: JAX doesn't find the card; "
                "its reason may be in their log.txt")

    @property
    def elsewhere(self) -> list[Device]:
        """Other kinds that runs of this workdir were made on."""
        return sorted({device for _, device in self._epochs} - self.here, key=str)

    def _devices(self, folder: pathlib.Path) -> list[Device]:
        try:
            return devices.all_of(run_files.read_json(folder / "run.json") or {})
        except (OSError, ValueError, TypeError, AttributeError):
            return []

    def arm_of(self, run: str) -> str:
        return self._plan.arm_of(run).name

    def shape_of(self, run: str) -> str:
        return self._shapes[self.arm_of(run)]

    def per_epoch(self, arm: str) -> float | None:
        """Seconds an epoch of this arm's runs, or of those of the same shape if none of its own is measured."""
        def of(names: Sequence[str]) -> float | None:
            found = [key for key in self._epochs if key[0] in names and key[1] in self.here]
            epochs = sum(self._epochs[key] for key in found)
            return sum(self._seconds[key] for key in found) / epochs if epochs else None

        own = of([arm])
        return of([name for name, one in self._shapes.items() if one == self._shapes[arm]]) if own is None else own

    def left(self, run: str, done: float = 0.0) -> float | None:
        """Seconds that a run still takes after `done` epochs."""
        each = self.per_epoch(self.arm_of(run))
        return None if each is None else each * max(0.0, self.epochs(run) - done)

    def epochs(self, run: str) -> int:
        return int(self._plan.runs[run].config["train"]["epochs"])

    def left_of(self, runs: Sequence[str], jobs: int) -> Left:
        """Until these are done, `jobs` at a time, those that have begun from where they stand."""
        each = {run: self.left(run, plan_lib.measured(self._workdir / self._plan.runs[run].dir)[0]) for run in runs}
        known = [seconds for seconds in each.values() if seconds is not None]
        return Left(max(sum(known) / max(1, jobs), max(known, default=0.0)),
                    tuple(run for run, seconds in each.items() if seconds is None))
