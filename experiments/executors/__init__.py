"""Where a sweep's runs are executed: one small file per executor.

An executor starts each run in a fresh process (`experiments.launch.worker`) with its share of the resources, and
reports how it ended. Which runs are started, and restarted, is decided by `experiments.launch.schedule`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection
from typing import Protocol

from experiments.executors.devices import Device

NAMES = ("local", "ray")  # of --executor


@dataclasses.dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    run: str
    code: int | None  # as in experiments.launch.worker, negative for a signal; None: lost, by no fault of its own
    how: str = ""  # where the code doesn't say it: 'node 10.0.0.3 was lost'


class Executor(Protocol):
    """What `experiments.launch.schedule` needs."""

    @property
    def slots(self) -> int:
        """Runs at a time, for now."""
        ...

    @property
    def running(self) -> Collection[str]:
        """Ids of the started runs."""
        ...

    @property
    def unplaced(self) -> Collection[str]:
        """Those of `running` that still wait for resources."""
        ...

    @property
    def description(self) -> str:
        """'2 at a time, 1 core each'."""
        ...

    @property
    def device(self) -> Device | None:
        """The device of a run, for estimates; None if that isn't known before one has started."""
        ...

    @property
    def devices(self) -> int | None:
        """How many devices a run has; None where that isn't known."""
        ...

    def room(self, run: str) -> bool:
        """Can this run be started now?"""
        ...

    def start(self, run: str, folder: pathlib.Path) -> bool:
        """Starts a run for which there is room, its output appended to log.txt. False: another driver has it."""
        ...

    def ended(self) -> list[Ended]:
        """The runs that have ended since the last call."""
        ...

    def news(self) -> list[str]:
        """Lines for the user since the last call."""
        ...

    def stop(self) -> None:
        """Asks all of them to save a checkpoint and end."""
        ...

    def kill(self) -> None:
        """Ends all of them at once."""
        ...

    def close(self) -> None:
        """Releases the executor's resources; no more runs."""
        ...


@dataclasses.dataclass(frozen=True)
class Unasked:
    """Stands for a cluster in a dry run, which doesn't connect to it: nothing is ever started."""

    jobs: int

    @property
    def slots(self) -> int:
        return max(1, self.jobs)

    running: Collection[str] = ()
    unplaced: Collection[str] = ()
    device: Device | None = None
    devices: int | None = None

    @property
    def description(self) -> str:
        return f"on Ray, {self.slots} at a time" + ("" if self.jobs else " until the cluster's size is known")

    def room(self, run: str) -> bool:
        return False

    def start(self, run: str, folder: pathlib.Path) -> bool:
        return False

    def ended(self) -> list[Ended]:
        return []

    def news(self) -> list[str]:
        return []

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass
