"""Several processes as one run: how they start, what they agree on, and what happens when one of them is lost.

Every process runs the same command. A start by hand names the place where they meet:

    python -m alexnet_jax.main … --coordinator=HOST:PORT --processes=2 --process=0     # and --process=1 elsewhere

Under Slurm (`srun`, more than one task) nothing has to be said: JAX reads the environment, as it does where
JAX_COORDINATOR_ADDRESS and its companions are set. One process alone needs nothing either. Records are written by
process 0; checkpoints by all together, so the workdir has to be on a file system that all of them see.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import json
import os
import pathlib
import re
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from alexnet_jax import messages
from alexnet_jax.errors import ConfigError, ProcessLost, TrainingError, UserError

EVERY = 16  # steps or batches between two agreements: a signal is heeded that late
_HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_leaving: int | None = None  # the exit code of a process that is on its way out
_handler: Any = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands among others, as the command line says it; all None: not said."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def check(self) -> None:
        """Raises ConfigError, naming the flag, unless all three are given and fit, or none is."""
        given = {"--coordinator": self.coordinator, "--processes": self.processes, "--process": self.process}
        missing = [name for name, value in given.items() if value is None]
        if len(missing) == 3:
            return
        if missing:
            raise ConfigError(f"{missing[0]}: needed too; --coordinator=HOST:PORT, --processes=N and --process=I "
                              "go together")
        assert self.coordinator is not None
        assert self.processes is not None
        assert self.process is not None
        if not re.fullmatch(r".+:\d+", self.coordinator):
            raise ConfigError(f"--coordinator: {self.coordinator!r} is not HOST:PORT, e.g. 10.0.0.1:12345")
        if self.processes < 1:
            raise ConfigError(f"--processes: {self.processes} is below 1")
        if not 0 <= self.process < self.processes:
            raise ConfigError(f"--process: {self.process} is not one of 0 … {self.processes - 1} "
                              f"(--processes={self.processes})")


def start(place: Place, timeout: int = 300) -> None:
    """Joins the other processes, if there are any. Call it before anything else of JAX.

    Args:
      timeout: seconds to wait for all to come.

    Raises:
      ConfigError: the flags contradict each other. TrainingError: the others could not be reached in time.
    """
    place.check()
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    slurm = tasks.isdecimal() and int(tasks) > 1
    if place.coordinator is None and not slurm and not os.environ.get("JAX_COORDINATOR_ADDRESS"):
        return
    import jax

    try:
        # CPUs (tests, a demonstration): collectives over TCP.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(place.coordinator, place.processes, place.process,
                                   initialization_timeout=timeout, heartbeat_timeout_seconds=_HEARTBEAT)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes of this run did not meet within {timeout} s (coordinator "
                            f"{place.coordinator or 'of the cluster'}): {_short(error)}") from error
    _take_aborts()


def several() -> bool:
    """Is this run made of more than one process?"""
    import jax

    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Is this the process that keeps the records?"""
    import jax

    return jax.process_index() == 0


def agree(stop: bool, due: bool) -> tuple[bool, bool]:
    """(has any process been asked to stop, is a checkpoint due by the first process's clock). Called by all at once."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        flags = np.asarray(multihost_utils.process_allgather(np.asarray([stop, due], np.int32)))
    return bool(flags[:, 0].any()), bool(flags[0, 1])


def everywhere(value: bool) -> bool:
    """Is it so in every process? Called by all at once."""
    if not several():
        return value
    return not agree(not value, False)[0]


def from_first(value: int) -> int:
    """The first process's `value`, in every process."""
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def text_from_first(text: str) -> str:
    """The first process's `text`, in every process. Called by all at once."""
    import numpy as np
    from jax.experimental import multihost_utils

    mine = np.frombuffer(text.encode(), np.uint8)
    sent = np.zeros(from_first(len(mine)), np.uint8)
    sent[:len(mine)] = mine[:len(sent)]
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(sent))).decode()


def meet(fields: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Have all processes the first one's config and environment, and do they see its workdir? Called by all at once.

    Args:
      fields: of the config, by dotted name, and of `numerics.asked`, JSON's kinds of values.

    Raises:
      ConfigError: in every process, if one of them doesn't.
    """
    differ = _differences(fields)
    if differ is not None:
        raise ConfigError(f"{'; '.join(differ[:3]) or 'another process has another config than this one'}; start all "
                          "processes of a run with the same config, in the same environment")
    path, token = workdir / ".processes", text_from_first(secrets.token_hex(8))
    if is_first():
        path.write_text(token, encoding="ascii")
    everywhere(True)  # it is written
    sees = _reads(path, token)
    all_see = everywhere(sees)
    if is_first():
        path.unlink()
    if not all_see:
        whose = "not seen by all processes" if sees else "not the one that process 0 writes to"
        raise ConfigError(f"--workdir: {workdir} is {whose}; give all of them the same folder, on a file system that "
                          "they share")


def meet_over(what: str, found: Mapping[str, str]) -> None:
    """Have all processes found the same there as the first? Called by all at once, with {field: text}.

    Raises:
      ConfigError: in every process, if one of them hasn't.
    """
    differ = _differences(found)
    if differ is not None:
        raise ConfigError(f"{'; '.join(differ[:3]) or f'another process has other {what} than this one'}; give all "
                          f"processes of a run the same {what}")


def _differences(fields: Mapping[str, Any]) -> list[str] | None:
    """What is other here than in the first process; None if all processes have the same. Called by all at once."""
    mine = json.dumps(fields)
    first, here = json.loads(text_from_first(mine)), json.loads(mine)
    differ = [f"{name} = {first.get(name)!r} in process 0, {here.get(name)!r} here"
              for name in first | here if first.get(name) != here.get(name)]
    return None if everywhere(not differ) else differ


def _reads(path: pathlib.Path, text: str) -> bool:
    """Is that the file's content, within the seconds that a shared file system may take to show it?"""
    for _ in range(50):
        with contextlib.suppress(OSError):
            if path.read_text(encoding="ascii") == text:
                return True
        time.sleep(0.1)
    return False


def is_loss(error: BaseException | None) -> bool:
    """Does this failure, or what caused it, come from a process that no longer answers?"""
    import jax

    if not several():
        return False
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            if not messages.is_out_of_memory(error):  # that is this one's own memory
                return True
        # This project's and the system's own messages name paths, which may be called anything.
        elif isinstance(error, ConnectionError) or (
                not isinstance(error, (UserError, OSError)) and messages.is_loss(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def lost(why: object) -> ProcessLost:
    """What a failed collective means to the user of several processes. why: in a library's words."""
    return ProcessLost("another process of this run has ended or cannot be reached; start all of them again with the "
                       f"same command, and the run is resumed from its last checkpoint ({_short(why)})")


def leave(code: int) -> NoReturn:
    """Ends this process at once: the usual end would wait for processes that no longer answer."""
    global _leaving
    _leaving = code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    if several() and is_first():
        time.sleep(1)  # the others lose their meeting place with this process: they may have something to say before
    os._exit(code)


def _take_aborts() -> None:
    """A process that JAX aborts ends in one line and with the exit code of a loss, as after a failed collective.

    A thread of JAX's coordination service aborts the process when another one has been silent for `_HEARTBEAT` seconds,
    whatever the other threads do: most often they wait for that process, and sometimes they are just leaving. JAX has
    no public way to be asked instead, and Python's own handlers would run in the main thread, which waits.
    """
    global _handler
    libc, kind = ctypes.CDLL(None), ctypes.CFUNCTYPE(None, ctypes.c_int)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, kind)

    def end(_number: int) -> None:
        if threading.get_ident() == threading.main_thread().ident:  # a fault of what the main thread called
            faulthandler.dump_traceback()
            return  # and abort() ends the process
        if _leaving is None:
            with contextlib.suppress(OSError):
                os.write(2, f"error: {lost('JAX aborted this process: see above')}\n".encode())
        os._exit(ProcessLost.exit_code if _leaving is None else _leaving)

    _handler = kind(end)  # for as long as the process lives
    libc.signal(signal.SIGABRT, _handler)


def _short(why: object) -> str:
    return " ".join(str(why).split())[:160]
