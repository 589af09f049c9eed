"""NVIDIA's multi-process service, without which processes that share a card take turns on it.

    nvidia-cuda-mps-control -d                    starts it, `echo quit | nvidia-cuda-mps-control` ends it

A sweep that needs it starts it in a folder of its own, through a guardian: a process that waits until the service is no
longer used and then ends it. Its users, sweeps and their runs, hold a shared lock, so that it lasts until the last run
has saved its checkpoint, and no longer, however the sweep ends. A service that is already running is used and left
alone. No setting of a card is ever changed.

    python -m experiments.executors.mps FOLDER CARDS      the guardian
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from alexnet_jax import environment, files, programs

COMMAND = "nvidia-cuda-mps-control"
_PIPE, _LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_NAME = "alexnet_jax-mps"
_LONGEST = 90  # signs of the path of a folder with a socket, of which the system takes some 100
_SECONDS = 30.0  # that starting or ending may take


class Standing(enum.Enum):
    """What there is of the service for several runs on a card, in words."""

    OURS = "side by side through NVIDIA's multi-process service, started for them"
    RUNNING = "side by side through NVIDIA's multi-process service, which runs already"
    ABSENT = f"in turns, hardly faster than one: NVIDIA's multi-process service ({COMMAND}) is not installed"
    OFF = "in turns, hardly faster than one: --mps=off"

    @property
    def shares(self) -> bool:
        """Does a card compute for several processes at once?"""
        return self in (Standing.OURS, Standing.RUNNING)


def standing(env: Mapping[str, str], wanted: bool = True) -> Standing:
    """What several runs on a card would have. `wanted`: may a service be started, or used?"""
    if not wanted:
        return Standing.OFF
    if shutil.which(COMMAND, path=env.get("PATH")) is None:
        return Standing.ABSENT
    return Standing.RUNNING if runs(env) else Standing.OURS


def runs(env: Mapping[str, str]) -> bool:
    """Does a service answer that processes with this environment use?"""
    return _tell("get_server_list", env) == ""


def _tell(command: str, env: Mapping[str, str]) -> str:
    """Why the service doesn't take `command`; '' if it does."""
    return _call([], env, command + "\n")


def _call(arguments: Sequence[str], env: Mapping[str, str], stdin: str = "") -> str:
    try:
        done = programs.run([COMMAND, *arguments], _SECONDS, env, stdin)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    words = " ".join((done.stdout + done.stderr)[:2000].split())
    # Whether it says so by its exit code too depends on its version.
    failed = done.returncode or "Cannot find MPS control daemon" in words
    return words or f"exit code {done.returncode}" if failed else ""


class Service:
    """The use of a service that this sweep starts, or that another one of the same user has started: until `close`.

    Args:
      workdir: the sweep's. cards: those that it is for, as for CUDA_VISIBLE_DEVICES; '': all.

    Attributes:
      environment: what its runs need. descriptor: to be passed on to them: who has it uses the service.
      joined: is it another sweep's?

    Raises:
      OSError: it does not start; says why.
    """

    def __init__(self, workdir: pathlib.Path, cards: str = ""):
        own = _folder(workdir, cards)
        self._guardian: subprocess.Popen | None = None
        for folder in sorted(own.parent.glob(f"{_NAME}-{environment.user()}-*-*")):
            if folder != own and (found := _join(folder, folder.name.split("-")[-2] == own.name.split("-")[-2])):
                self.descriptor, self._folder, self.joined = found, folder, True
                break
        else:
            self.descriptor, self._folder, self.joined = self._start(own, cards), own, False
        self.environment = _environment(self._folder)

    def _start(self, folder: pathlib.Path, cards: str) -> int:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_owner(folder)
            descriptor = None
            with contextlib.suppress(FileNotFoundError):  # the one before has just been ended
                descriptor = files.hold(folder / "users", shared=True)
            if descriptor is not None:
                try:
                    with files.lock(folder / "starting"):  # another driver of this sweep may want it at this moment
                        if not files.held(folder / "guardian"):
                            self._guardian = _guardian(folder, cards)
                            _await_start(self._guardian)
                        if runs(_surroundings(folder)):
                            _try(folder, cards)
                            return descriptor
                except BaseException:
                    os.close(descriptor)
                    self._await_end()
                    raise
                os.close(descriptor)
            time.sleep(0.1)
        raise OSError(f"the one in {folder} neither answers nor ends")

    def close(self) -> None:
        """Stops using it. If nothing else uses it, waits until it has ended."""
        os.close(self.descriptor)
        with contextlib.suppress(OSError):
            if (last := files.hold(self._folder / "users")) is not None:
                os.close(last)
            elif (other := files.hold(self._folder / "users", shared=True)) is not None:
                os.close(other)
                return  # others use it
        self._await_end()

    def _await_end(self) -> None:
        if self._guardian is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guardian.wait(_SECONDS)


def _folder(workdir: pathlib.Path, cards: str) -> pathlib.Path:
    """The folder of a sweep's own service: short, as it holds a socket, and on a disk of this machine."""
    parts = (hashlib.sha256(text).hexdigest()[:8] for text in (cards.encode(), os.fsencode(workdir.absolute())))
    name = "-".join((_NAME, str(environment.user()), *parts))
    root = pathlib.Path(tempfile.gettempdir())
    return (root if len(os.fsencode(root / name)) <= _LONGEST else pathlib.Path("/tmp")) / name


def _environment(folder: pathlib.Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def _surroundings(folder: pathlib.Path) -> dict[str, str]:
    return {**os.environ, **_environment(folder)}


def _check_owner(folder: pathlib.Path) -> None:
    if hasattr(os, "getuid") and os.lstat(folder).st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")


def _join(folder: pathlib.Path, same: bool) -> int | None:
    """The use of another sweep's service; None if it has none, or (not `same`) for other cards.

    Ends a service that is unused and whose guardian was killed.
    """
    with contextlib.suppress(OSError):
        _check_owner(folder)
        guarded = files.held(folder / "guardian")
        if same and guarded and (descriptor := files.hold(folder / "users", shared=True)) is not None:
            if runs(_surroundings(folder)):
                return descriptor
            os.close(descriptor)
        if not guarded and (alone := files.hold(folder / "users")) is not None:
            try:
                _end(folder)
            finally:
                os.close(alone)
    return None


def _guardian(folder: pathlib.Path, cards: str) -> subprocess.Popen:
    env = _surroundings(folder)
    root = str(pathlib.Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (root, env.get("PYTHONPATH"))))
    # A session of its own: Ctrl-C or a closed terminal ends the sweep, but not this.
    return subprocess.Popen([sys.executable, "-m", "experiments.executors.mps", str(folder), cards], env=env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            start_new_session=True)


def _await_start(guardian: subprocess.Popen) -> None:
    """Until it has started the service. Raises OSError: that did not work."""
    assert guardian.stdout is not None
    with guardian.stdout as output:
        answer = output.readline().decode(errors="replace").strip()
    if answer != "started":
        raise OSError(answer or "its guardian died")


# Prints CUDA's error, or 0, of a process that begins to use a card; nothing where the driver's library isn't found.
_CLIENT = """
import ctypes
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError:
    raise SystemExit
card, context = ctypes.c_int(), ctypes.c_void_p()
print(cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(card), 0)
      or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), card))
"""


def _try(folder: pathlib.Path, cards: str) -> None:
    """Tries a process that uses the service, which may run and yet let none have a card, as in some containers.

    Raises:
      OSError: that fails, or takes too long.
    """
    env = _surroundings(folder) | ({"CUDA_VISIBLE_DEVICES": cards} if cards else {})
    try:
        code = programs.run([sys.executable, "-c", _CLIENT], _SECONDS, env).stdout.strip()
    except subprocess.TimeoutExpired:
        raise OSError(f"a process that uses it gets no card within {_SECONDS:.0f} s") from None
    if code not in ("", "0"):
        raise OSError(f"a process that uses it gets no card: CUDA's error {code}")


def _main(folder: pathlib.Path, cards: str) -> None:
    """The guardian: starts the service, waits until it is unused, ends it."""
    env = _surroundings(folder)
    env.pop("CUDA_VISIBLE_DEVICES", None)
    if cards:
        env["CUDA_VISIBLE_DEVICES"] = cards
    with files.lock(folder / "guardian"):
        for part in _environment(folder).values():
            pathlib.Path(part).mkdir(exist_ok=True)
        if runs(env):  # left by a guardian that was killed
            _tell("quit", env)
        with contextlib.suppress(BrokenPipeError):  # the sweep has died meanwhile
            print(_call(["-d"], env) or "started", flush=True)
        with contextlib.suppress(OSError):
            sys.stdout.close()
        with files.lock(folder / "users"):
            _end(folder)


def _end(folder: pathlib.Path) -> None:
    """Ends the service, if it runs, and removes its folder. The caller holds the users' lock exclusively."""
    _tell("quit", _surroundings(folder))
    away = folder.with_name(f".{folder.name}.{os.getpid()}")  # atomically: the next user creates a new one
    folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


if __name__ == "__main__":
    _main(pathlib.Path(sys.argv[1]), sys.argv[2])
