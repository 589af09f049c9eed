"""Where a sweep's runs are executed: one small file per executor.

An executor starts each run in a fresh process (`experiments.worker`) with the resources that fall to it, and
tells how it ended. What is run, again or never again, is `experiments.schedule`'s to decide.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection
from typing import Protocol


class Executor(Protocol):
    """What `experiments.schedule` needs."""

    @property
    def slots(self) -> int:
        """Runs at a time."""
        ...

    @property
    def running(self) -> Collection[str]:
        """Ids of the runs under way."""
        ...

    def start(self, run: str, folder: pathlib.Path) -> None:
        """Starts a run, its output appended to log.txt; called while fewer than `slots` are under way."""
        ...

    def ended(self) -> list[tuple[str, int]]:
        """(run, exit code as in experiments.worker, negative for a signal) of those that have ended since."""
        ...

    def stop(self) -> None:
        """Asks all of them to save a checkpoint and end."""
        ...

    def kill(self) -> None:
        """Ends all of them at once."""
        ...
