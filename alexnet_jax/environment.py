"""What has to be set before JAX starts: the compilation cache and XLA's flags. Imports no JAX."""

from __future__ import annotations

import os
import pathlib
from importlib import metadata


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
