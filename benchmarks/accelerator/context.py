"""The interface of a part: its time, its folder, and its record."""

from __future__ import annotations

import pathlib
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.accelerator import record as records

_clock = time.monotonic


class Unfinished(Exception):
    """Raised by a step's work when its time is up: its notes are kept, and the next command resumes with them."""


class Context:
    """The context of one process of a part.

    Args:
      out: the command's folder. record: the part's, with the results of earlier processes. seconds: time in which the
        part must end by itself; shortly after, it is killed. attempt: when the command began. said: called with a line
        for the user.

    Attributes:
      quick: a rehearsal with tiny networks.
      device: from machine.json: {"platform", "kind", "count", "memory" (bytes, or None), "cores"}.
    """

    def __init__(self, out: pathlib.Path, record: records.Record, seconds: float, attempt: str,
                 said: Callable[[str], object]):
        self.quick: bool = record["quick"]
        self.device: dict[str, Any] = record.get("device", {})
        self._out, self._record, self._attempt, self._said = out, record, attempt, said
        self._end = _clock() + seconds
        self._begun = _clock()
        self._revision = records.revision()
        self._left_out = False

    @property
    def folder(self) -> pathlib.Path:
        """The part's folder, kept between commands."""
        own = self._out / self._record["part"]
        own.mkdir(exist_ok=True)
        return own

    def left(self) -> float:
        """Seconds until the part must have ended."""
        return self._end - _clock()

    def say(self, line: str) -> None:
        """Prints a line for the user."""
        self._said(line)

    def step(self, name: str, work: Callable[[], dict[str, Any]], seconds: float = 0.0) -> dict[str, Any] | None:
        """The result of `work`: from the record, if an earlier process did the step, else by calling it now.

        On return it is in the part's file. An error is recorded, and the part continues with its next step.

        Args:
          work: returns a JSON-ready dict, or raises Unfinished. "right": False in it means a failed check.
          seconds: estimated time of the step, which is left to the next command if there is less time.

        Returns:
          The step's entry in the record; None if it was left out or failed.
        """
        steps = self._record["steps"]
        if not self.is_open(name):
            return steps[name] if records.is_done(steps[name]) else None
        if self.left() < seconds:
            self._left_out = True
            return None
        self._begun = _clock()
        self._record["under_way"] = name
        self._write()
        try:
            found = dict(work())
        except Unfinished:
            self._left_out = True
            del self._record["under_way"]
            self._write()
            return None
        except Exception as error:
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            self._finish(name, self._partial(name) | {"error": text, "attempt": self._attempt})
            self.say(f"{self._record['part']}: {name} failed: {text[:160]}")
            return None
        self._finish(name, found)
        return steps[name]

    def is_open(self, name: str) -> bool:
        """Is this step still to be done: neither done, nor failed in this command?"""
        entry = self._record["steps"].get(name)
        return entry is None or not (records.is_done(entry) or entry.get("attempt") == self._attempt)

    @property
    def restarted(self) -> bool:
        """Did a step in this command kill a process of this part? Then steps should run one at a time."""
        return any(entry.get("attempt") == self._attempt and entry["error"].startswith(records.ENDED)
                   for entry in self._record["steps"].values())

    def note(self, **found: Any) -> None:
        """Writes intermediate results of the current step to the file; `step` replaces them by the step's result."""
        name = self._record["under_way"]
        self._record["steps"][name] = self._timed({**self._partial(name), **found}) | {"partial": True}
        self._write()

    def before(self) -> dict[str, Any]:
        """The notes of the current step from before it was cut off, or {}."""
        return self._partial(self._record["under_way"])

    def end(self) -> None:
        """Closes the record. Called by the part's process."""
        failed = records.failed(self._record)
        self._record["status"] = "cut off" if self._left_out else "failed" if failed else "finished"
        if failed:
            self._record["error"] = f"{', '.join(failed)}: see there"
        self._write()

    def _partial(self, name: str) -> dict[str, Any]:
        own = ("error", "attempt", "partial", "seconds", "revision")
        return {key: value for key, value in self._record["steps"].get(name, {}).items() if key not in own}

    def _timed(self, found: dict[str, Any]) -> dict[str, Any]:
        return found | {"seconds": round(_clock() - self._begun, 3), "revision": self._revision}

    def _finish(self, name: str, found: dict[str, Any]) -> None:
        self._record["steps"][name] = self._timed(found)
        del self._record["under_way"]
        self._write()

    def _write(self) -> None:
        records.write(self._out, self._record)
