"""Runs the parts one after the other, each in a process that ends when its time is up. Doesn't import JAX."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from alexnet_jax import files, names, run_files, text
from alexnet_jax.errors import ConfigError, UserError, WorkdirError
from benchmarks import command
from benchmarks.accelerator import record as records
from benchmarks.accelerator.parts import MACHINE, PARTS, Part

GRACE = 4.0  # seconds between a part's deadline and killing it
_IDLE = 2 << 30  # bytes of a card's memory that its driver may hold
_LEAST = 15.0  # minimal seconds for which a part is started
_clock = time.monotonic


class Course:
    """Args: out: created if missing. seconds: time in which the command must end. quick: a rehearsal."""

    def __init__(self, out: pathlib.Path, seconds: float, quick: bool, given: str):
        self.out, self.quick, self.given = out, quick, given
        self.end = _clock() + seconds
        self.attempt = run_files.now()

    def left(self) -> float:
        return self.end - _clock()

    def run(self, chosen: Sequence[Part]) -> int:
        """Runs the parts and returns the exit code: 1 if something was wrong or failed.

        Raises:
          UserError: there is no accelerator and this isn't a rehearsal; the folder is another device's or in use.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with files.lock(self.out / ".lock", seconds=0) as mine:
            if not mine:
                raise WorkdirError(f"--out={self.out}: another command is using it; wait for it, or choose another "
                                   "folder")
            return self._run(chosen)

    def _run(self, chosen: Sequence[Part]) -> int:
        device = self._machine()
        status = {part: records.read(self.out, part.name).get("status", "") for part in chosen}
        # Failed parts are retried last.
        waiting = sorted((part for part in chosen if status[part] != "finished"),
                         key=lambda part: (part.rest, status[part] == "failed"))
        names.say(self._plan(device, chosen, waiting))
        if (device.get("taken") or 0) > _IDLE:
            names.say(f"note: other processes hold {text.size(device['taken'])} of this card's memory; what they "
                      "compute meanwhile makes these times longer")
        again = [part for part in waiting if not part.rest]
        for number, part in enumerate(again):
            others = number + 1 < len(waiting)
            self._part(part, device, part.seconds if others else math.inf)
        for part in again:
            if records.read(self.out, part.name).get("status") == "cut off":
                self._part(part, device, math.inf)
        for part in waiting[len(again):]:
            self._part(part, device, math.inf)
        return self._sum_up(chosen)

    def _machine(self) -> records.Record:
        """Examines the device, at every start. Returns the step's entry in machine.json."""
        before = records.read(self.out, MACHINE.name)
        if before and before["quick"] != self.quick:
            kind = "a rehearsal" if before["quick"] else "no rehearsal"
            raise WorkdirError(f"--out={self.out}: holds the results of {kind}; choose another folder")
        # From the parts, if a command was killed before machine.json was complete.
        heads = (records.read(self.out, part.name).get("device") for part in PARTS)
        old: records.Record = before.get("steps", {}).get("device") or next(filter(None, heads), {})
        self._begin(MACHINE, {}, fresh=True)
        self._process(MACHINE, min(MACHINE.seconds, self.left()))
        record = records.read(self.out, MACHINE.name)
        found = record.get("steps", {}).get("device", {})
        if record.get("status") != "finished":
            if before:
                records.write(self.out, before)
            why = found.get("error") or record.get("error") or "it did not answer in time"
            raise UserError(f"JAX does not start here: {why} (see {self.out / 'machine.log'})")
        if old and (old["platform"], old["kind"]) != (found["platform"], found["kind"]):
            if before:
                records.write(self.out, before)
            raise WorkdirError(f"--out={self.out}: holds results of {old['kind']}, and JAX sees {found['kind']} now; "
                               "choose another folder")
        if found["platform"] == "cpu" and not self.quick:
            why = self._why_a_cpu()
            for path in (records.path(self.out, MACHINE.name), self.out / "machine.log"):
                path.unlink(missing_ok=True)
            raise UserError(f"JAX sees no accelerator here, only {found['kind']}{why}; start it by a Python whose JAX "
                            f"is for the accelerator, not {sys.executable} (make accelerator PYTHON=…), or rehearse on "
                            "a CPU with --quick")
        return found

    def _why_a_cpu(self) -> str:
        """JAX's own reason, in brackets; '' if it gave none."""
        with contextlib.suppress(OSError):
            log = (self.out / "machine.log").read_text(encoding="utf-8", errors="replace")
            for line in reversed(log.splitlines()):
                if re.search("CUDA|GPU|TPU|ROC", line):
                    return f" ({names.short(line, 300)})"
        return ""

    def _plan(self, device: records.Record, chosen: Sequence[Part], waiting: Sequence[Part]) -> str:
        """One line about what will be done and how long it will take."""
        done = [part.name for part in chosen if part not in waiting]
        what = "; ".join(f"{part.name} ({part.what}, " + ("the rest" if part.rest else f"{part.seconds:.0f} s") + ")"
                         for part in waiting)
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + max(self.left(), 0)))
        return (f"{'rehearsal on' if self.quick else 'on'} {device['kind']}: {what or 'nothing left to do'}"
                + (f"; finished before: {', '.join(done)}" if done else "")
                + (f"; all of it ends by {until}, in {self.left() / 60:.1f} minutes, and the same command resumes; "
                   f"results in {self.out}" if waiting else f"; results in {self.out}"))

    def _part(self, part: Part, device: records.Record, most: float) -> None:
        seconds = min(most, self.left())
        if seconds < (_LEAST if not self.quick else GRACE + 1):
            return
        begun = _clock()
        self._begin(part, device)
        while True:
            code = self._process(part, seconds - (_clock() - begun))
            record = records.read(self.out, part.name)
            if code == 0 or not record:
                break
            step = record.pop("under_way", None)
            if code is None:  # its time is up
                record["status"] = "cut off"
                records.write(self.out, record)
                break
            said = f"{records.ENDED} {code}" + (" (killed: out of memory?)" if code == -9 else "")
            if step is None:
                records.write(self.out, record | {"status": "failed", "error": said})
                break
            # The next process continues after the step that killed this one.
            record["steps"][step] = {"error": said, "attempt": self.attempt}
            records.write(self.out, record)
            names.say(f"{part.name}: {step} failed: {said}")
            if seconds - (_clock() - begun) < GRACE + 1:
                records.write(self.out, record | {"status": "cut off"})
                break
        names.say(self._outcome(part, _clock() - begun))

    def _begin(self, part: Part, device: records.Record, fresh: bool = False) -> None:
        """Records that a part begins or resumes."""
        before = {} if fresh else records.read(self.out, part.name)
        head = {"schema": records.SCHEMA, "part": part.name, "what": part.what, "quick": self.quick,
                **({"note": f"{records.REHEARSAL}; on {device.get('kind', 'this machine')}"} if self.quick else {}),
                "status": "under way", "command": self.given, "begun": [*before.get("begun", ()), run_files.now()]}
        if device:
            about = ("platform", "kind", "count", "memory", "cores", "driver")
            head |= {"device": {key: device[key] for key in about}, "versions": device["versions"]}
        records.write(self.out, head | {"steps": before.get("steps", {})})

    def _process(self, part: Part, seconds: float) -> int | None:
        """Runs the part's process. Returns its exit code; None if it was killed because its time was up."""
        env = dict(os.environ)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(command.ROOT), env.get("PYTHONPATH"))))
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a part's processes share the device's memory
        arguments = (part.name, part.module or f"benchmarks.accelerator.{part.name}", self.out.absolute(),
                     max(seconds - GRACE, 0.0), self.attempt)
        child = subprocess.Popen([sys.executable, "-m", "benchmarks.accelerator.child", *map(str, arguments)],
                                 stdin=subprocess.PIPE, env=env, start_new_session=True)
        try:
            return child.wait(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # including its children
            child.wait()
            if child.stdin:
                child.stdin.close()

    def _outcome(self, part: Part, seconds: float) -> str:
        record = records.read(self.out, part.name)
        steps = record.get("steps", {})
        done, wrong = sum(map(records.is_done, steps.values())), records.wrong(record)
        line = f"{part.name}: {record.get('status', 'lost')} after {seconds:.0f} s, {done} steps"
        line += f"; WRONG: {', '.join(wrong)}" if wrong else ""
        if record.get("status") == "failed":
            line += f"; error: {record.get('error')} ({part.name}.log)"
        return line

    def _sum_up(self, chosen: Sequence[Part]) -> int:
        found = {part.name: records.read(self.out, part.name) for part in chosen}
        open_ = [name for name, record in found.items() if record.get("status") in (None, "cut off", "under way")]
        bad = [name for name, record in found.items() if record.get("status") == "failed" or records.wrong(record)]
        names.say("; ".join(filter(None, (
            f"not finished: {', '.join(open_)}: the same command resumes" if open_ else "",
            f"FAILED OR WRONG: {', '.join(bad)}" if bad else "",
            "" if open_ or bad else f"all parts are finished: {self.out}"))))
        return 1 if bad else 0


def chosen(text: str) -> list[Part]:
    """The parts in '--parts=a,b', in order of value; all for ''. Raises ConfigError."""
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    known = {part.name: part for part in PARTS}
    for word in wanted:
        if word not in known:
            raise ConfigError(f"--parts: no part {word!r}; choose from {', '.join(known)}")
    return [part for part in PARTS if not wanted or part.name in wanted]
