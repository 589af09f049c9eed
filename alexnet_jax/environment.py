"""What has to be set before JAX starts: the compilation cache, XLA's flags, the C library's memory allocator.

Imports no JAX.
"""

from __future__ import annotations

import os
import pathlib
import platform
import sys
from collections.abc import Mapping
from importlib import metadata

# XLA for CPUs allocates a step's temporaries anew each time. With glibc's defaults they are fresh pages of 4 KiB, which
# the kernel clears one by one, a quarter of a step's time. Instead: pages of 2 MiB, memory that is kept when freed, and
# one heap, as threads' own heaps are too small to keep any.
_ALLOCATOR = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:"
              "glibc.malloc.arena_max=1")


def cache_folder() -> pathlib.Path:
    """The project's folder in the user's cache: packed images and compiled programs."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "alexnet_jax"


def prepare() -> None:
    """Sets the defaults that the user has not set. Call it before the first `import jax`."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter on stderr
    flags = os.environ.get("XLA_FLAGS", "")
    # jaxlib 0.10 sends CPU convolutions to YNNPACK, which is slower for these networks (benchmarks/).
    # XLA ends the process on a flag it doesn't know, hence the version.
    if metadata.version("jaxlib").startswith("0.10.") and "ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = (flags + " --xla_cpu_experimental_ynn_fusion_type=").strip()


def allocator(env: Mapping[str, str]) -> dict[str, str]:
    """What to add to a process's environment for an allocator that suits XLA; {} where the user has set one."""
    suits = platform.libc_ver()[0] == "glibc" and not {"GLIBC_TUNABLES", "LD_PRELOAD"} & env.keys()
    return {"GLIBC_TUNABLES": _ALLOCATOR} if suits else {}


def use_allocator() -> None:
    """Starts this program over with `allocator`, which the C library reads only once; nothing where that is done.

    For a program's first lines: what it has done so far is forgotten. The process number stays.
    """
    added = allocator(os.environ)
    if added and sys.orig_argv[1:]:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **added})
