"""This machine: worker processes that share its cores, or take one accelerator each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence

from alexnet_jax import environment
from experiments.executors import Ended, devices
from experiments.executors.devices import Device

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOG_ENCODING = "utf-8:backslashreplace"  # of what a worker prints to its log.txt, whatever this one's terminal shows
WORKER = (sys.executable, "-m", "experiments.launch.worker")


@dataclasses.dataclass
class _Process:
    popen: subprocess.Popen
    slot: int


class LocalExecutor:
    """`jobs` workers at a time, each with the same number of cores: results are bit for bit the same only so.

    Args:
      workdir: the sweep's.
      jobs: 0 takes one per accelerator, else one per core; never more than `runs`.
      runs: how many the sweep has.
      worker: the command that runs one run, to which arguments are added.
      each: cores of a run; 0 shares all of them evenly.
    """

    def __init__(self, workdir: pathlib.Path, jobs: int, runs: int, worker: Sequence[str] = WORKER, each: int = 0):
        self._workdir, self._worker, self._each = workdir, tuple(worker), each
        self.cores, self.accelerators = cores(), accelerators(os.environ)
        room = len(self.accelerators) or max(1, len(self.cores) // max(1, each))
        self._slots = jobs or min(room, max(1, runs))
        self._processes: dict[str, _Process] = {}

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def running(self) -> Collection[str]:
        return self._processes.keys()

    @property
    def unplaced(self) -> Collection[str]:
        return ()

    @property
    def description(self) -> str:
        if self.accelerators:
            what = f"on {len(self.accelerators)} accelerator{'s' if len(self.accelerators) > 1 else ''}"
        else:
            each = len(share(self.cores, 0, self.slots, self._each))
            what = f"{each} core{'s' if each > 1 else ''} each"
        return f"{self.slots} at a time, {what}"

    @functools.cached_property
    def device(self) -> Device | None:
        return devices.here(len(share(self.cores, 0, self.slots, self._each)), self.accelerators)

    @property
    def devices(self) -> int | None:
        return 1 if self.accelerators else devices.of_a_cpu(os.environ)

    def room(self, run: str) -> bool:
        return len(self._processes) < self.slots

    def start(self, run: str, folder: pathlib.Path) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self.slots)) - {p.slot for p in self._processes.values()})
        mine = ",".join(map(str, share(self.cores, slot, self.slots, self._each)))
        command = [*self._worker, f"--workdir={self._workdir}", f"--run={run}", f"--parent={os.getpid()}",
                   f"--cores={mine}"]
        # A process group of its own: a terminal's Ctrl-C reaches the sweep alone, which passes it on once.
        with (folder / "log.txt").open("ab") as log:
            popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                     env=self._environment(slot), process_group=0)
        self._processes[run] = _Process(popen, slot)
        return True

    def _environment(self, slot: int) -> dict[str, str]:
        env = {**os.environ, **environment.allocator(os.environ)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
        env.setdefault("PYTHONFAULTHANDLER", "1")  # a crash in native code leaves its stack in log.txt
        env["PYTHONIOENCODING"] = LOG_ENCODING
        if self.accelerators:  # not tested on a machine with several
            env["CUDA_VISIBLE_DEVICES"] = self.accelerators[slot % len(self.accelerators)]
            if self.slots > len(self.accelerators):
                # Several runs share one device's memory.
                env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        return env

    def ended(self) -> list[Ended]:
        out = []
        for run, process in list(self._processes.items()):
            code = process.popen.poll()
            if code is not None:
                del self._processes[run]
                out.append(Ended(run, code))
        return out

    def news(self) -> list[str]:
        return []

    def stop(self) -> None:
        # SIGTERM says the same as SIGINT, and says it quietly to a process that is still starting.
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        pass

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(process.popen.pid, number)  # with whatever it has started
                else:
                    process.popen.send_signal(number)


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share(available: Sequence[int], slot: int, slots: int, each: int = 0) -> list[int]:
    """The cores of a slot, equally many for each; with more slots than cores several have the same ones.

    Args:
      each: how many; 0 for as many as can be.
    """
    each = min(each or max(1, len(available) // slots), len(available))
    first = slot % (len(available) // each) * each
    return list(available[first : first + each])


def accelerators(env: Mapping[str, str]) -> list[str]:
    """The GPUs that runs can have, for CUDA_VISIBLE_DEVICES; [] where JAX would compute on the CPU."""
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return []
    if env.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in env:
        return [name for name in env["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", check=False,
                             timeout=30).stdout
    return [str(i) for i, _ in enumerate(line for line in listing.splitlines() if line.startswith("GPU "))]
