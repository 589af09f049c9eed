"""Kinds of devices: beside its config, what decides how long a run takes."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from alexnet_jax import programs, provenance
from alexnet_jax.text import count

_SECONDS = 30.0  # for nvidia-smi's answer
DEV = pathlib.Path("/dev")


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device by its own name, and what a run has of it: cores of a CPU, otherwise whole devices."""

    kind: str
    cores: int  # 0 of anything but a CPU
    count: int = 1

    def __str__(self) -> str:
        if self.cores:
            return f"{self.kind}, {count(self.cores, 'core')} a run"
        return self.kind if self.count == 1 else f"{self.count} × {self.kind} a run"


def all_of(about: Mapping[str, Any]) -> list[Device]:
    """Those that a run was made on, in the order of its stretches; of run.json. [] where it doesn't say."""
    found = []
    for part in provenance.stretches(about):
        device = part.get("device")
        if isinstance(device, Mapping) and device.get("kind"):
            cpu = device.get("platform") == "cpu"  # whose devices are emulated, and share its cores
            found.append(Device(str(device["kind"]), int(device.get("cores") or 0) if cpu else 0,
                                1 if cpu else int(device.get("count") or 1)))
    return list(dict.fromkeys(found))


def another_make(env: Mapping[str, str]) -> bool:
    """Does JAX have an accelerator here that isn't NVIDIA's?"""
    if env.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return False
    if importlib.util.find_spec("libtpu") and (any(DEV.glob("accel*")) or any(DEV.glob("vfio/[0-9]*"))):
        return True
    plugins = [entry.name for entry in metadata.entry_points(group="jax_plugins")]
    return any(not name.startswith(("xla_cuda", "xla_rocm")) for name in plugins) or (
        any(name.startswith("xla_rocm") for name in plugins) and (DEV / "kfd").exists())


def of_a_cpu(env: Mapping[str, str]) -> int | None:
    """How many devices JAX sees where it has no accelerator; None where it may have one of another make."""
    others = importlib.util.find_spec("libtpu") or list(metadata.entry_points(group="jax_plugins"))
    if (others and env.get("JAX_PLATFORMS") != "cpu") or "host_platform_device_count" in env.get("XLA_FLAGS", ""):
        return None
    emulated = env.get("JAX_NUM_CPU_DEVICES", "")
    return int(emulated) if emulated.isdecimal() and int(emulated) else 1


def nvidia_smi(*arguments: str) -> list[str]:
    """The lines that NVIDIA's nvidia-smi prints.

    Raises:
      OSError, subprocess.SubprocessError: it isn't there, fails, or doesn't answer.
    """
    done = programs.run(["nvidia-smi", *arguments], _SECONDS)
    done.check_returncode()
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def here(cores: int, gpus: Sequence[str]) -> Device | None:
    """What a run gets on this machine; None where that can't be told without starting JAX.

    Args:
      gpus: as for CUDA_VISIBLE_DEVICES, a run has one; [] for the CPU. cores: that a run has of the latter.
    """
    if not gpus:
        return Device(provenance.cpu_name(), cores)
    try:
        kinds = set(nvidia_smi("--query-gpu=name", "--format=csv,noheader", f"--id={','.join(gpus)}"))
    except (OSError, subprocess.SubprocessError):
        return None
    return Device(kinds.pop(), 0) if len(kinds) == 1 else None
