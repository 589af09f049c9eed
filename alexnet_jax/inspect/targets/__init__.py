"""Accelerators that a program can be compiled for without having one: XLA's own compilers run on a CPU.

This module says which there are and prepares a process for their compiler; it imports no JAX. `compiling` compiles,
`hlo` reads the result. It is compiled, not run: it shows communication and memory, never a speed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import sys

from alexnet_jax.errors import ConfigError, UserError


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of accelerator.

    Attributes:
      title: its maker's name for it. platform: XLA's. module: Python module that brings the compiler.
      extra: the project's extra that installs it. memory: bytes of the device that are at hand, and `memory_is` what
        that figure is. most: devices that `compiling` knows how to ask for.
    """

    title: str
    platform: str
    module: str
    extra: str
    memory: int
    memory_is: str
    most: int


KINDS = {
    # 84,929,347,584 bytes: device_memory_size in h100.txtpb.
    "h100": Kind("NVIDIA H100 80GB HBM3", "cuda", "jax_cuda12_plugin", "targets-cuda", 84_929_347_584 * 9 // 10,
                 "90% of the 84,929,347,584 bytes of a card (XLA_PYTHON_CLIENT_MEM_FRACTION=.9; JAX takes 75% by "
                 "default)", 1024),
    # What the compiler itself allows: "… of 15.75G hbm".
    "v5e": Kind("TPU v5e", "tpu", "libtpu", "targets-tpu", int(15.75 * 2**30),
                "the 15.75 GiB of a chip that XLA's compiler allows", 256),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """`data` × `column` accelerators of a kind."""

    name: str
    data: int
    column: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def devices(self) -> int:
        return self.data * self.column

    def __str__(self) -> str:
        return f"{self.name}:{self.data}x{self.column}"


def parse(text: str) -> Target:
    """The target of 'h100:4x2': kind, devices along 'data', devices along 'column'.

    Raises:
      ConfigError: not a target; the message lists the valid forms.
    """
    found = re.fullmatch(r"(\w+):([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not found or found[1] not in KINDS:
        forms = ", ".join(f"{name}:DATAxCOLUMN" for name in KINDS)
        raise ConfigError(f"--target={text}: not a target; valid: {forms}, as in h100:1x2 for two H100s with a column "
                          "each, v5e:128x2 for 128 such pairs of TPU v5e")
    target = Target(found[1], int(found[2]), int(found[3]))
    if target.devices > target.kind.most:
        raise ConfigError(f"--target={text}: {target.devices:,} devices; at most {target.kind.most:,} {target.name}")
    return target


def prepare(target: Target) -> None:
    """Sets what XLA's compiler for `target` reads from the environment. Call it before the first `import jax`.

    For a process that compiles for this target and does nothing else: it sees no accelerator of its own machine.

    Raises:
      UserError: the compiler isn't installed.
    """
    if importlib.util.find_spec(target.kind.module) is None:
        raise UserError(f"--target={target}: the compiler for {target.kind.title} is not installed; "
                        f"pip install -c constraints.txt -e '.[{target.kind.extra}]'")
    if "jax" in sys.modules:
        raise RuntimeError("JAX was imported before alexnet_jax.inspect.targets.prepare")
    # Any other platform would look for the device itself.
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Executables for a device that isn't there can be compiled but not loaded.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter on stderr
    if target.kind.platform == "cuda":
        # Autotuning would time kernels on the card.
        os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0").strip()
    else:
        # Otherwise libtpu asks the cloud's metadata service, for minutes, which machine this is; and it locks chips
        # that nobody uses here, so that a second process would fail.
        os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost",
                          ALLOW_MULTIPLE_LIBTPU_LOAD="1")
