"""Several processes as one run: how they start, what they agree on, and what happens when one of them is lost.

Every process runs the same command. Started by hand, they are given a coordinator:

    python -m alexnet_jax.main … --coordinator=HOST:PORT --processes=2 --process=0     # and --process=1 elsewhere

Under Slurm (`srun`, more than one task) no flags are needed: JAX reads the environment, as it does where
JAX_COORDINATOR_ADDRESS and the like are set. Records are written by process 0; checkpoints by all together, so the
workdir has to be on a shared file system.
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

EVERY = 16  # steps or batches between two agreements, and so the delay of a signal
_HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_leaving: int | None = None  # the exit code of a process that is on its way out
_handler: Any = None


class Differ(ConfigError):
    """The processes of a run were started in different ways. Raised in all of them."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The coordinator, the number of processes and this one's index, from the command line; all None: not given."""

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
    """Joins the other processes, if there are any. Call it before any other use of JAX.

    Args:
      timeout: seconds to wait for all of them.

    Raises:
      ConfigError: the flags contradict each other. TrainingError: the others could not be reached in time.
    """
    place.check()
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    slurm = tasks.isdecimal() and int(tasks) > 1
    if place.coordinator is None and not slurm and not os.environ.get("JAX_COORDINATOR_ADDRESS"):
        return
    import jax

    _take_aborts()  # from the first moment that JAX can
    try:
        # On CPUs (tests, demonstrations): collectives over TCP.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(place.coordinator, place.processes, place.process,
                                   initialization_timeout=timeout, heartbeat_timeout_seconds=_HEARTBEAT)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes of this run did not meet within {timeout} s (coordinator "
                            f"{place.coordinator or 'of the cluster'}): {_short(error)}") from error


def several() -> bool:
    """Is this run made of more than one process?"""
    import jax

    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Is this the process that keeps the records?"""
    import jax

    return jax.process_index() == 0


def agree(stop: bool, due: bool) -> tuple[bool, bool]:
    """(has any process been told to stop, is a checkpoint due by the first process's clock). A collective."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        flags = np.asarray(multihost_utils.process_allgather(np.asarray([stop, due], np.int32)))
    return bool(flags[:, 0].any()), bool(flags[0, 1])


def everywhere(value: bool) -> bool:
    """Is `value` true in every process? A collective."""
    if not several():
        return value
    return not agree(not value, False)[0]


def from_first(value: int) -> int:
    """The first process's `value`, in every process."""
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def text_from_first(text: str) -> str:
    """The first process's `text`, in every process. A collective."""
    import numpy as np
    from jax.experimental import multihost_utils

    mine = np.frombuffer(text.encode(), np.uint8)
    sent = np.zeros(from_first(len(mine)), np.uint8)
    sent[:len(mine)] = mine[:len(sent)]
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(sent))).decode()


def meet(fields: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Checks that all processes have the same config, environment and workdir. A collective.

    Args:
      fields: the config's, by dotted name, and those of `numerics.asked`; JSON values.

    Raises:
      Differ: in every process, if one of them differs.
    """
    differ = _differences(fields)
    if differ is not None:
        raise Differ(f"{'; '.join(differ[:3]) or 'another process has a different config'}; start all "
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
        raise Differ(f"--workdir: {workdir} is {whose}; give all of them the same folder, on a file system that they "
                     "share")


def meet_over(what: str, found: Mapping[str, str]) -> None:
    """Checks that all processes have found the same, {field: text}. A collective.

    Raises:
      Differ: in every process, if one of them differs.
    """
    differ = _differences(found)
    if differ is not None:
        raise Differ(f"{'; '.join(differ[:3]) or f'another process has different {what}'}; give all "
                     f"processes of a run the same {what}")


def _differences(fields: Mapping[str, Any]) -> list[str] | None:
    """What differs here from the first process; None if all processes agree. A collective."""
    mine = json.dumps(fields)
    first, here = json.loads(text_from_first(mine)), json.loads(mine)
    differ = [f"{name} = {first.get(name)!r} in process 0, {here.get(name)!r} here"
              for name in first | here if first.get(name) != here.get(name)]
    return None if everywhere(not differ) else differ


def _reads(path: pathlib.Path, text: str) -> bool:
    """Does the file contain `text`, within the seconds that a shared file system may need?"""
    for _ in range(50):
        with contextlib.suppress(OSError):
            if path.read_text(encoding="ascii") == text:
                return True
        time.sleep(0.1)
    return False


def is_loss(error: BaseException | None) -> bool:
    """Is this error, or its cause, due to a process that no longer answers?"""
    import jax

    if not several():
        return False
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            if not messages.is_out_of_memory(error):  # that is this one's own memory
                return True
        # Messages of this project and of the system contain paths, whose names could match.
        elif isinstance(error, ConnectionError) or (
                not isinstance(error, (UserError, OSError)) and messages.is_loss(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def lost(why: object) -> ProcessLost:
    """The error for a failed collective. why: the library's message."""
    return ProcessLost("another process of this run has ended or cannot be reached; start all of them again with the "
                       f"same command, and the run is resumed from its last checkpoint ({_short(why)})")


def leave(code: int, together: bool = False) -> NoReturn:
    """Ends this process at once: the usual end would wait for processes that no longer answer.

    Args:
      together: all processes leave, for the same reason.
    """
    global _leaving
    _leaving = code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone
            stream.flush()
    if several() and together:
        # The coordinator ends with the first process, and JAX then aborts the others: they come here first.
        with contextlib.suppress(Exception):
            everywhere(True)
    elif several() and is_first():
        time.sleep(1)  # let the others finish their messages
    os._exit(code)


def _take_aborts() -> None:
    """Makes a process that JAX aborts end with one line and the exit code of a loss, as after a failed collective.

    A thread of JAX's coordination service aborts the process when another one has been silent for `_HEARTBEAT` seconds,
    while the other threads usually wait for that process, or are about to end. JAX has no public way to change that,
    and Python's own handlers would run in the main thread, which is blocked.
    """
    global _handler
    libc, kind = ctypes.CDLL(None), ctypes.CFUNCTYPE(None, ctypes.c_int)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, kind)

    def end(_number: int) -> None:
        if threading.get_ident() == threading.main_thread().ident:  # a fault of what the main thread called
            faulthandler.dump_traceback()
            libc.signal(signal.SIGABRT, kind())  # SIG_DFL: the signal ends the process, whoever has sent it
            os.kill(os.getpid(), signal.SIGABRT)
            return
        if _leaving is None:
            with contextlib.suppress(OSError):
                os.write(2, f"error: {lost('JAX aborted this process: see above')}\n".encode())
        os._exit(ProcessLost.exit_code if _leaving is None else _leaving)

    _handler = kind(end)  # for as long as the process lives
    libc.signal(signal.SIGABRT, _handler)


def _short(why: object) -> str:
    return " ".join(str(why).split())[:160]
