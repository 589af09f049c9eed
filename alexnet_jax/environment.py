"""Settings from before JAX starts: the compilation cache, XLA's flags, the C library's memory allocator.

Imports no JAX.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata

from alexnet_jax import names
from alexnet_jax.errors import DataError

# XLA for CPUs allocates a step's temporaries anew each time. With glibc's defaults they are fresh pages of 4 KiB, which
# the kernel clears one by one, a quarter of a step's time. Instead: pages of 2 MiB, memory that is kept when freed, and
# one heap, as threads' own heaps are too small to keep any.
_ALLOCATOR = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:"
              "glibc.malloc.arena_max=1")

_told: set[str] = set()


def _in_home(variable: str, name: str) -> pathlib.Path | None:
    """$variable, or the user's folder `name`; None without a home, e.g. for an unknown user in a container."""
    given = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), name)
    return None if given.startswith("~") else pathlib.Path(given)


def cache_folder() -> pathlib.Path | None:
    """The project's folder in the user's cache, for packed images and compiled programs. None without a home."""
    base = _in_home("XDG_CACHE_HOME", ".cache")
    return base and base / "alexnet_jax"


def writable(folder: pathlib.Path | None) -> bool:
    """Can files be written there, once the folder is created?"""
    if folder is None:
        return False
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)


def user() -> int:
    """The user id of this process; 0 on systems without user ids."""
    return os.getuid() if hasattr(os, "getuid") else 0


def _substitute() -> pathlib.Path:
    """This user's own folder in the temporary folder. Raises OSError if another user has created it."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"alexnet_jax-{user()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and os.lstat(folder).st_uid != user():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


def _tell(line: str) -> None:
    """Prints a note on stderr, once per process."""
    if line not in _told:
        _told.add(line)
        print(f"note: {names.plain(line)}", file=sys.stderr)


def store_folder() -> pathlib.Path:
    """The default folder of packed images: the cache folder, or without a home a temporary one, with a note.

    Raises:
      DataError: there is neither.
    """
    folder = cache_folder()
    if folder is not None and (os.path.isdir(folder) or writable(folder)):
        return folder
    why = f"{folder} cannot be written" if folder else "this user has no home directory"
    try:
        substitute = _substitute()
    except OSError as error:
        raise DataError(f"config.data.store: {why} and no temporary folder in its place ({error}); name a folder for "
                        "packed images, or set $ALEXNET_STORE_DIR") from error
    _tell(f"{why}: packed images go to {substitute}; config.data.store or $ALEXNET_STORE_DIR names another place")
    return substitute


def prepare_matplotlib() -> None:
    """Sets MPLCONFIGDIR where Matplotlib has no writable folder and would complain. Call it before its first import."""
    places = [_in_home("XDG_CONFIG_HOME", ".config"), _in_home("XDG_CACHE_HOME", ".cache")]
    if "MPLCONFIGDIR" not in os.environ and not all(writable(place and place / "matplotlib") for place in places):
        with contextlib.suppress(OSError):  # then it complains and continues
            os.environ["MPLCONFIGDIR"] = str(_substitute() / "matplotlib")


def xla_flags() -> str:
    """The XLA flags that this project always sets."""
    # jaxlib 0.10 sends CPU convolutions to YNNPACK, which is slower for these networks (benchmarks/).
    # XLA aborts on an unknown flag, hence the version check.
    return "--xla_cpu_experimental_ynn_fusion_type=" if metadata.version("jaxlib").startswith("0.10.") else ""


def prepare(precision: str = "float32") -> None:
    """Sets defaults for what the user has not set. Call it before the first `import jax`.

    Args:
      precision: `train.precision` of the run. JAX_ENABLE_X64=1 is respected for float64 only: in 64-bit mode JAX draws
        other random numbers, which a run's id doesn't show.
    """
    if precision != "float64":
        os.environ["JAX_ENABLE_X64"] = "0"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_folder()
        if not writable(folder and folder / "xla"):
            why, other = f"{folder} cannot be written" if folder else "this user has no home directory", (
                "$JAX_COMPILATION_CACHE_DIR or $XDG_CACHE_HOME names another place")
            try:
                folder = _substitute()
                _tell(f"{why}: compiled programs go to {folder}; {other}")
            except OSError as error:
                folder = None
                _tell(f"no compilation cache, as {why} and there is no temporary folder in its place ({error}): each "
                      f"process compiles again; {other}")
        if folder is not None:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter on stderr
    prepare_xla()


def prepare_xla() -> None:
    """Adds this project's XLA flags. Call it before the first computation."""
    flags = os.environ.get("XLA_FLAGS", "")
    if xla_flags() and "ynn_fusion_type" not in flags and flags.lstrip()[:1] in ("", "-"):  # else a file's name
        os.environ["XLA_FLAGS"] = f"{flags} {xla_flags()}".strip()


def options_of_init(platform: str) -> dict[str, int] | None:
    """Compiler options for the program that draws the initial weights, which runs once: on a CPU, quick to compile.

    Fully optimised, Threefry's loops take LLVM several times longer. The weights are the same to the bit.
    """
    if platform != "cpu" or "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", ""):
        return None
    return {"xla_backend_optimization_level": 1}


def allocator(env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for an allocator that suits XLA; {} where the user has set their own."""
    suits = platform.libc_ver()[0] == "glibc" and not {"GLIBC_TUNABLES", "LD_PRELOAD"} & env.keys()
    return {"GLIBC_TUNABLES": _ALLOCATOR} if suits else {}


def use_allocator() -> None:
    """Restarts this program with `allocator`, which the C library reads only at start-up; once.

    For a program's first lines: the process is replaced (`exec`), so what it has done is lost. The process id stays.
    """
    added = allocator(os.environ)
    if added and sys.orig_argv[1:]:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **added})
