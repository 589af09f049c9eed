"""This machine: worker processes that share its cores and its cards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alexnet_jax import environment, provenance
from alexnet_jax.errors import ConfigError
from alexnet_jax.provenance import cores
from alexnet_jax.text import count, size
from experiments.executors import Ended, cards, devices, mps
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

    Several on one card share its memory evenly, and use it at once by way of NVIDIA's multi-process service.

    Args:
      workdir: the sweep's.
      jobs: 0 takes one per core, or on cards as many as suit the runs (`cards.jobs`); never more than `runs`.
      runs: how many the sweep has.
      worker: the command that runs one run, to which arguments are added.
      each: cores of a run; 0 shares all of them evenly.
      configs: of the runs. service: may the multi-process service be started?
    """

    def __init__(self, workdir: pathlib.Path, jobs: int, runs: int, worker: Sequence[str] = WORKER, each: int = 0,
                 configs: Sequence[Mapping[str, Any]] = (), service: bool = True):
        self._workdir, self._worker, self._each = workdir, tuple(worker), each
        self.cores, self.accelerators = cores()[:provenance.most_cores()], accelerators(os.environ)
        # Only looked up where several runs may share a card.
        self._cards = cards.look(self.accelerators) if self.accelerators and jobs != 1 and runs > 1 else []
        suits = cards.jobs(self._cards, len(self.cores), configs, each, provenance.free_memory())
        several = self.accelerators and (jobs > len(self.accelerators) or (not jobs and suits > 1))
        self._standing = mps.standing(os.environ, service) if several else None
        self._forgone = 1  # how many would suit a card if they didn't have to take turns
        if self._standing and not self._standing.shares:
            self._forgone, suits = suits, 1
        room = suits * len(self.accelerators) or max(1, len(self.cores) // max(1, each))
        if not self.accelerators and devices.another_make(os.environ):
            room = 1  # which runs would share, as its cards can't be given out
        self._slots = jobs or min(room, max(1, runs))
        self._services: dict[str, mps.Service] = {}  # by the names of the cards that they are for
        self._opened = False
        self._processes: dict[str, _Process] = {}
        self._news: list[str] = []

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
        on_cores = f"{count(len(share(self.cores, 0, self.slots, self._each)), 'core')} each"
        if not self.accelerators:
            return f"{self.slots} at a time, {on_cores}"
        where = f"{self.slots} at a time, on {count(len(self.accelerators), 'accelerator')}"
        if self._shared and self._standing:
            memory = f"{size(int(self._share * self._cards[0].total))} and " if self._share else ""
            return f"{where}, {self._per_card} on a card with {memory}{on_cores}, {self._standing.value}"
        if self._forgone > 1 and self._standing:
            return f"{where}; {self._forgone} of these runs on a card would compute {self._standing.value}"
        return where

    @property
    def _per_card(self) -> int:
        return -(-self.slots // max(1, len(self.accelerators)))

    @property
    def _shared(self) -> bool:
        """Do several runs share a card?"""
        return self._per_card > 1 and bool(self.accelerators)

    @property
    def _share(self) -> float:
        """The part of a card's memory that each run may use; 0 where that isn't known."""
        if not self._shared or {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"} & os.environ.keys():
            return 0.0
        return min((cards.share(card, self._per_card) for card in self._cards), default=0.0)

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
        self._open()
        slot = min(set(range(self.slots)) - {p.slot for p in self._processes.values()})
        service = self._service(slot)
        mine = ",".join(map(str, share(self.cores, slot, self.slots, self._each)))
        command = [*self._worker, f"--workdir={self._workdir}", f"--run={run}", f"--parent={os.getpid()}",
                   f"--cores={mine}"]
        # A process group of its own: a terminal's Ctrl-C reaches the sweep alone, which passes it on once.
        with (folder / "log.txt").open("ab") as log:
            popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                     env=self._environment(slot), process_group=0,
                                     pass_fds=[service.descriptor] if service else [])
        self._processes[run] = _Process(popen, slot)
        return True

    def _open(self) -> None:
        """Starts the multi-process service, before the first run that needs it."""
        if self._shared and self._standing is mps.Standing.OURS and not self._opened:
            self._opened = True
            # By their own names where cards are numbered alike by all: the service has then no other cards.
            alike = len({card.kind for card in self._cards}) == 1
            uuids = [card.uuid for card in self._cards]
            parts = [name for name in self.accelerators if name.startswith("MIG-")]
            news: list[str] = []
            # CUDA gives a process, and so a service, one instance of the divided cards (MIG): each has its own.
            for names in [uuids] if alike else [[part] for part in parts] or [[]]:
                try:
                    service = mps.Service(self._workdir, ",".join(names))
                except OSError as error:
                    news.append(f"NVIDIA's multi-process service does not start ({error}): the runs on a card take "
                                "turns")
                else:
                    self.accelerators = uuids if alike else self.accelerators
                    self._services |= dict.fromkeys(names or self.accelerators, service)
                    if service.joined:
                        news.append("NVIDIA's multi-process service belongs to another sweep")
            self._news += dict.fromkeys(news)

    def _card(self, slot: int) -> str:
        """The card of a slot, for CUDA_VISIBLE_DEVICES."""
        return self.accelerators[slot % len(self.accelerators)]

    def _service(self, slot: int) -> mps.Service | None:
        return self._services.get(self._card(slot)) if self._services else None

    def _environment(self, slot: int) -> dict[str, str]:
        env = {**os.environ, **environment.allocator(os.environ)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
        env.setdefault("PYTHONFAULTHANDLER", "1")  # a crash in native code leaves its stack in log.txt
        env["PYTHONIOENCODING"] = LOG_ENCODING
        if self.accelerators:  # not tested on a machine with several
            env["CUDA_VISIBLE_DEVICES"] = self._card(slot)
            env["JAX_PLATFORMS"] = platforms(env)
        if self._shared:
            # A run sees its share as the card's memory, which decides where its images are, and allocates as needed;
            # the rest is for allocations outside XLA, by cuDNN and the compiler's trials.
            env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
            if self._share:
                env["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{self._share:.4f}"
        service = self._service(slot)
        return env | service.environment if service else env

    def ended(self) -> list[Ended]:
        out = []
        for run, process in list(self._processes.items()):
            code = process.popen.poll()
            if code is not None:
                del self._processes[run]
                out.append(Ended(run, code))
        return out

    def news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        # SIGTERM says the same as SIGINT, and says it quietly to a process that is still starting.
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        while self._services:
            _, service = self._services.popitem()
            if service not in self._services.values():
                service.close()

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(process.popen.pid, number)  # with whatever it has started
                else:
                    process.popen.send_signal(number)


def share(available: Sequence[int], slot: int, slots: int, each: int = 0) -> list[int]:
    """The cores of a slot, equally many for each; with more slots than cores several have the same ones.

    Args:
      each: how many; 0 for as many as can be.
    """
    each = min(each or max(1, len(available) // slots), len(available))
    first = slot % (len(available) // each) * each
    return list(available[first : first + each])


def has_cuda() -> bool:
    """Is JAX for NVIDIA's cards installed?"""
    return any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def platforms(env: Mapping[str, str]) -> str:
    """JAX_PLATFORMS of a run on a card: by itself JAX would only warn, and compute on the CPU, if it can't have it."""
    return env.get("JAX_PLATFORMS") or "cuda,cpu"


def accelerators(env: Mapping[str, str]) -> list[str]:
    """The GPUs that runs can have, for CUDA_VISIBLE_DEVICES; [] where JAX would compute on the CPU.

    The instances of a divided card (MIG) in its place: CUDA gives a process no more than one of them.
    """
    if not has_cuda():
        return []
    if env.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return []
    if "CUDA_VISIBLE_DEVICES" in env:
        names = [name.strip() for name in env["CUDA_VISIBLE_DEVICES"].split(",")]
        named = itertools.takewhile(re.compile(r"\d+$|(GPU|MIG)-").match, names)  # as CUDA reads it
        return list(dict.fromkeys(named))
    try:
        listing = devices.nvidia_smi("-L")
    except OSError:  # some containers have the cards, but not this program
        listing = ["GPU 0: …" for _ in devices.DEV.glob("nvidia[0-9]*")]
    except subprocess.CalledProcessError as error:  # of several cards one may be out of order
        listing = error.stdout.splitlines()
    except subprocess.TimeoutExpired:
        raise ConfigError("CUDA_VISIBLE_DEVICES: nvidia-smi, which lists this machine's cards, doesn't answer; name "
                          "the cards, or set JAX_PLATFORMS=cpu") from None
    found: list[list[str]] = []  # of each card: its UUID if it is told, then those of its instances
    for line in map(str.strip, listing):
        uuid = re.findall(r"UUID: ([^)]+)", line)
        if line.startswith("GPU "):
            found.append(uuid[:1] or [""])
        elif line.startswith("MIG ") and found:
            found[-1] += uuid[:1]
    if not any(instances for _, *instances in found):
        return [str(i) for i in range(len(found))]
    return [name for uuid, *instances in found for name in instances or [uuid]]
