"""Which runs are started, in which order, and what happens when one ends, dies or is trained by another process.

    finished, diverged   never run again
    failed               recorded and skipped; tried again when the command is given again
    partial              resumes from its checkpoint
    died                 (killed, out of memory) restarted from its checkpoint, `RESTARTS` times at most, then
                         recorded as failed
    lost                 with its node, on a cluster: the same, `LOSSES` times at most
    in use               another process trains it: resumed, if unfinished, when that process lets go of it
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from alexnet_jax.signals import Signals
from experiments.executors import Ended, Executor
from experiments.launch import worker
from experiments.sweep import plan as plan_lib

RESTARTS = 2
LOSSES = 20  # nodes may come and go; a run that crashes every node is stopped anyway
GRACE = 180.0  # seconds for checkpoints after Ctrl-C: a compilation, or the full network on a CPU, is slow
_TICK, _LOOK_AGAIN = 0.1, 1.0


@dataclasses.dataclass
class State:
    """What the display shows."""

    total: int
    waiting: collections.deque[str]
    finished: dict[str, str] = dataclasses.field(default_factory=dict)  # run → 'finished' or 'diverged'
    failed: dict[str, str] = dataclasses.field(default_factory=dict)  # run → message
    running: dict[str, float] = dataclasses.field(default_factory=dict)  # run → when it was started
    elsewhere: dict[str, float] = dataclasses.field(default_factory=dict)  # run → when to look again
    unplaced: frozenset[str] = frozenset()  # those of `running` that have no place yet
    slots: int = 1  # runs at a time
    stopping: bool = False


class Display(Protocol):
    """What `Schedule` tells, as it happens."""

    def line(self, text: str) -> None: ...

    def ended(self, run: str, result: dict[str, Any] | None, state: State) -> None: ...

    def update(self, state: State) -> None: ...


class Schedule:
    """Runs `order`, as many at a time as the executor has slots."""

    def __init__(self, plan: plan_lib.Plan, workdir: pathlib.Path, order: Sequence[str], executor: Executor,
                 display: Display, after_each: Callable[[], None] = lambda: None):
        self.plan, self.workdir, self.executor, self.display = plan, workdir, executor, display
        self.after_each = after_each
        self.state = State(len(order), collections.deque())
        self._deaths: collections.Counter[str] = collections.Counter()
        self._losses: collections.Counter[str] = collections.Counter()
        self._began, self._deadline, self._changed = time.time(), 0.0, False
        for run in order:
            state = plan_lib.state_of(self._folder(run))
            if state in plan_lib.DONE:
                self.state.finished[run] = state
            else:
                self.state.waiting.append(run)

    def _folder(self, run: str) -> pathlib.Path:
        return self.workdir / self.plan.runs[run].dir

    def run(self, stop: Signals) -> State:
        """Runs until all runs have ended, or have stopped after a signal."""
        try:
            while True:
                if stop.count:
                    self._stop(stop)
                for end in self.executor.ended():
                    self._ended(end)
                for line in self.executor.news():
                    self.display.line(line)
                if not stop.count:
                    self._fill()
                if self._changed:  # after starting the next runs, which needn't wait for it
                    self._changed = False
                    self.after_each()
                todo = not stop.count and (self.state.waiting or self.state.elsewhere)
                if not self.state.running and not todo:
                    break
                self.state.unplaced, self.state.slots = frozenset(self.executor.unplaced), self.executor.slots
                self.display.update(self.state)
                time.sleep(_TICK)
        except BaseException:
            # The driver itself failed, e.g. a full disk: its workers save what they have.
            self.executor.stop()
            raise
        return self.state

    # Starting.

    def _fill(self) -> None:
        while (run := self._next()) is not None:
            if self.executor.start(run, self._folder(run)):
                self.state.running[run] = time.time()
            else:
                self.state.elsewhere[run] = time.monotonic() + _LOOK_AGAIN

    def _next(self) -> str | None:
        """The next unfinished run for which there is room; runs in use by another process are deferred."""
        self._look_elsewhere()
        while self.state.waiting:
            if not self.executor.room(self.state.waiting[0]):
                return None
            run = self.state.waiting.popleft()
            if self._free(run):
                return run
        return None

    def _look_elsewhere(self) -> None:
        """Checks the runs of other processes: finished ones are counted, released ones are next."""
        now = time.monotonic()
        for run in [run for run, at in self.state.elsewhere.items() if at <= now]:
            if self._free(run):
                self.state.waiting.appendleft(run)

    def _free(self, run: str) -> bool:
        """Can the run be started? If it has ended or is in use, records that and returns False."""
        folder = self._folder(run)
        if plan_lib.in_use(folder):
            self.state.elsewhere[run] = time.monotonic() + _LOOK_AGAIN
            return False
        self.state.elsewhere.pop(run, None)
        result = plan_lib.result_of(folder)
        if result is None:
            return True
        if result["status"] in plan_lib.DONE:
            self._done(run, result)
            return False
        if (folder / "result.json").stat().st_mtime > self._began:
            self._failed(run, str(result.get("message")), record=False)  # tried just now, by another sweep
            return False
        return True

    # Ending.

    def _ended(self, end: Ended) -> None:
        run, code = end.run, end.code
        self.state.running.pop(run)
        folder = self._folder(run)
        result = plan_lib.result_of(folder)
        if result is not None and result["status"] in plan_lib.DONE:
            self._done(run, result)
        elif code == worker.IN_USE:
            self.state.elsewhere[run] = time.monotonic() + _LOOK_AGAIN
        elif code in (worker.FAILED, worker.USAGE):
            if result is not None and result["status"] == "failed":
                self._failed(run, str(result.get("message")), record=False)
            else:
                self._failed(run, self._last_word(folder))
        elif code == worker.DONE:
            self._failed(run, "its process ended without a result; see log.txt")
        elif self.state.stopping:
            self.state.waiting.appendleft(run)  # for the same command, another time
        else:
            self._died(end)

    def _died(self, end: Ended) -> None:
        run, code, how, counted, most = end.run, end.code, end.how, self._deaths, RESTARTS
        if code is None:
            counted, most = self._losses, LOSSES
        elif not how:
            how = f"its process ended with exit code {code}"
            if code < 0:
                how = f"its process was killed by {_signal_name(code)}"
                how += " (out of memory?)" if code == -signal.SIGKILL else ""
        counted[run] += 1
        if counted[run] <= most:
            self.display.line(f"{self.plan.label(run)}: {how}; restarting it from its last checkpoint "
                              f"({counted[run]} of {most})")
            self.state.waiting.appendleft(run)
        else:
            self._failed(run, f"{how}, {counted[run]} times; see log.txt")

    def _done(self, run: str, result: dict[str, Any]) -> None:
        self.state.finished[run] = result["status"]
        self.display.ended(run, result, self.state)
        self._changed = True

    def _failed(self, run: str, message: str, record: bool = True) -> None:
        self.state.failed[run] = message
        if record:
            worker.record_failure(self._folder(run), self.plan.runs[run], self.plan.arm_of(run).name, message)
        self.display.ended(run, None, self.state)
        self._changed = True

    def _last_word(self, folder: pathlib.Path) -> str:
        """The worker's last error message, where it could not record a failure."""
        try:
            lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        last = next((line for line in reversed(lines) if line.startswith("error: ")), "error: see log.txt")
        return last.removeprefix("error: ")

    # Stopping.

    def _stop(self, stop: Signals) -> None:
        count = len(self.executor.running)
        if not self.state.stopping:
            self.state.stopping = True
            if count:
                what = "runs save a checkpoint each" if count > 1 else "run saves a checkpoint"
                self.display.line(f"stopping: {count} {what} (Ctrl-C again ends at once, at the cost of the "
                                  "steps since the last one)")
            self.executor.stop()
            self._deadline = time.monotonic() + GRACE
        elif count and (stop.hurry or time.monotonic() > self._deadline):
            if not stop.hurry:
                self.display.line(f"no checkpoint after {GRACE:.0f} s; ending what still runs ({count}) now")
            self.executor.kill()


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
