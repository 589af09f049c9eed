"""Runs programs on emulated CPU devices, each in its own process."""

import json
import os
import pathlib
import subprocess
import sys
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"
# To compile rather than to run: not optimised, and by XLA's older emitter of loops, which is through in a third of the
# time (jaxlib 0.11 has no flag for it, and XLA ends the process on a flag that it doesn't know).
_OLDER = metadata.version("jaxlib").startswith("0.10.")
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" + (
    " --xla_cpu_use_fusion_emitters=false" if _OLDER else "")
# Options of jax.jit: as a user's programs are compiled, whatever XLA_FLAGS says.
USUAL = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False} | (
    {"xla_cpu_use_fusion_emitters": True} if _OLDER else {})
# These flags alone: what is inherited depends on the tests that ran before in this process, and the counts of
# operations depend on the flags. Collectives on the CPU backend end the process when one participant is late, as on a
# busy machine: hence the patience.
_FLAGS = QUICK + "".join(
    f" --xla_cpu_collective_{what}_seconds=240"
    for what in ("timeout", "call_warn_stuck_timeout", "call_terminate_timeout"))


def run(program, devices, *arguments, x64=False):
    """What the last line that a file of tests/programs prints says, as JSON."""
    env = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(devices), JAX_ENABLE_X64=str(int(x64)),
               XLA_FLAGS=_FLAGS,
               PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    done = subprocess.run([sys.executable, PROGRAMS / program, *map(str, arguments)], env=env, cwd=ROOT,
                          capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
