"""The device that JAX sees, its memory, and the software versions."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from typing import Any

import jax

from alexnet_jax import numerics, provenance
from alexnet_jax.errors import UserError
from benchmarks.accelerator.context import Context
from experiments.executors import cards, devices, local


def run(context: Context) -> None:
    context.step("device", device)


def device() -> dict[str, Any]:
    taken = _taken()
    try:
        first = jax.devices()[0]
    except AssertionError as error:  # has no message
        asked = os.environ.get("JAX_PLATFORMS")
        raise RuntimeError(f"no devices for JAX_PLATFORMS={asked}; unset it" if asked else "no devices") from error
    memory = first.memory_stats() or {}
    return {"platform": first.platform, "kind": provenance.device_name(first), "count": len(jax.devices()),
            "memory": memory.get("bytes_limit"), "taken": taken, "cores": len(provenance.cores()),
            "driver": _driver(first.platform), "versions": provenance.versions() | _plugins(),
            "environment": numerics.asked(first.platform), "git": provenance.git_state()}


def _taken() -> int | None:
    """Bytes of the first NVIDIA card's memory that other processes hold; None if unknown. Before JAX starts."""
    try:
        card, = cards.look(local.accelerators(os.environ)[:1])
    except (UserError, ValueError):
        return None
    return card.total - card.free


def _plugins() -> dict[str, str]:
    """The versions of PyTorch and of JAX's accelerator plugins."""
    names = {name.lower() for dist in importlib.metadata.distributions() if (name := dist.metadata["Name"])}
    plugins = ("jax-cuda", "jax-rocm", "nvidia-cudnn", "nvidia-cublas")
    return {name: importlib.metadata.version(name) for name in sorted(names)
            if name in ("torch", "libtpu") or name.startswith(plugins)}


def _driver(platform: str) -> str | None:
    """The NVIDIA driver's version; None elsewhere, or if unknown."""
    if platform in ("cpu", "tpu"):
        return None
    try:
        return next(iter(devices.nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")), None)
    except (OSError, subprocess.SubprocessError):
        return None
