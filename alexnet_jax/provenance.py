"""Where a run's numbers come from: revision, versions, device, and what changed when it was resumed."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from alexnet_jax import programs

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGES = ("alexnet_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml_collections")
# Variables that would point git to another repository than this file's.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
_PARTS = ("git", "versions", "device", "environment")
_SECONDS = 10


def git_state(root: pathlib.Path = ROOT) -> dict[str, Any]:
    """{'revision', 'dirty'} of the project's checkout; {'unknown': why} where that can't be found out."""
    env = {name: text for name, text in os.environ.items() if name not in _ELSEWHERE} | {"LC_ALL": "C"}

    def git(*arguments: str) -> str:
        done = programs.run(["git", "--no-optional-locks", "-C", str(root), *arguments], _SECONDS, env)
        done.check_returncode()
        return done.stdout.strip()

    try:
        # An installed package may lie within another project's checkout.
        git("ls-files", "--error-unmatch", f"{pathlib.Path(__file__).parent.name}/__init__.py")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except FileNotFoundError:
        return {"unknown": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {"unknown": f"git took longer than {_SECONDS} s"}
    except subprocess.CalledProcessError as error:
        return {"unknown": _why(error.stderr)}
    except OSError as error:
        return {"unknown": f"git could not be run ({error.strerror})"}


def _why(said: str) -> str:
    """Git's error message, without paths."""
    if "dubious ownership" in said:
        return "the checkout belongs to another user; git reads it once `safe.directory` names it (git help config)"
    if "not a git repository" in said or "did not match any file" in said:
        return "not a git checkout"
    lines = [line for line in said.splitlines() if line.strip()]
    return f"git: {lines[0].replace(str(ROOT), '…')[:160]}" if lines else "git failed without a message"


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def most_cores(groups: pathlib.Path = pathlib.Path("/sys/fs/cgroup")) -> int | None:
    """How many cores this process's container may keep busy; None: no limit.

    A container may see all cores of its machine (`cores`), and be stopped for the rest of a period once it has used its
    share of it.
    """
    for quota, period in ((_number(groups / "cpu.max"), _number(groups / "cpu.max", 1)),
                          (_number(groups / "cpu/cpu.cfs_quota_us"), _number(groups / "cpu/cpu.cfs_period_us"))):
        if quota > 0 and period > 0:
            return max(1, round(quota / period))
    return None


def free_memory(meminfo: pathlib.Path = pathlib.Path("/proc/meminfo"),
                groups: pathlib.Path = pathlib.Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of main memory that are free, but no more than this process's container may have; None if unknown."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    limits = (_number(groups / "memory.max"), _number(groups / "memory/memory.limit_in_bytes"))
    return int(min([free, *(limit for limit in limits if limit > 0)]))


def _number(path: pathlib.Path, place: int = 0) -> float:
    """A number in a small file; -1 if there is none."""
    try:
        return float(path.read_text(encoding="ascii").split()[place])
    except (OSError, ValueError, IndexError):
        return -1.0


def device_name(device: Any) -> str:
    """The processor's or card's own name, e.g. 'AMD EPYC 7B13' or 'NVIDIA H100 80GB HBM3'."""
    return cpu_name() if device.platform == "cpu" else device.device_kind


def cpu_name() -> str:
    """This machine's processor's own name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "cpu"


def describe(mesh: Any, products: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """{'git', 'versions', 'device', 'environment'} of this process, as in run.json.

    Args:
      mesh: of the run. products: their precision. environment: of `numerics.asked`.
    """
    device = mesh.devices.flat[0]
    return {"git": git_state(), "versions": versions(),
            "device": {"platform": device.platform, "kind": device_name(device), "count": mesh.size,
                       "cores": len(cores()), "mesh": dict(mesh.shape), "products": products},
            "environment": dict(environment)}


def changed(about: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What differs in `now` (from `describe`) from a run.json: {part: its differing entries}, {} if nothing does."""
    found: dict[str, Any] = {}
    for part in _PARTS:
        then = about.get(part) if isinstance(about.get(part), Mapping) else {}
        assert then is not None
        differs = {key: now[part].get(key) for key in (now[part] | then) if then.get(key) != now[part].get(key)}
        if differs:
            found[part] = now[part] if part == "git" else differs
    return found


def stretches(about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """run.json as it would be for each stretch of the run: from its start, then from each resume."""
    yield dict(about)
    for entry in about.get("resumed") or ():
        if isinstance(entry, Mapping):
            parts = {part: entry[part] for part in _PARTS if isinstance(entry.get(part), Mapping)}
            yield {**about, **{part: new if part == "git" else {**(about.get(part) or {}), **new}
                               for part, new in parts.items()}}
        else:
            yield dict(about)
