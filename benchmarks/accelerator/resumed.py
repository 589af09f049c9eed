"""Checks that a killed and resumed run equals the uninterrupted one bit for bit, with XLA's deterministic flags.

`python -m benchmarks.accelerator.resumed FOLDER WORKDIR SIZE [kill]` is one of its processes: it trains to the end, or
with `kill` sends itself SIGKILL in the middle of an epoch, after writing a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

from alexnet_jax import environment, provenance, run_files

# These exclude operations with a nondeterministic order of sums, and autotuning.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_FILES = ("metrics.csv", "outcomes.json", "result.json", "digest")
_KILLED_AT = 3  # checkpoints


def same_when_resumed(folder: pathlib.Path, size: str, gpu: bool) -> dict[str, Any]:
    """Starts three processes: a whole run, one that is killed, and one that resumes it.

    Args:
      size: 'small' or 'tiny'. gpu: does JAX use a GPU?
    """
    env = dict(os.environ)
    if gpu:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    shutil.rmtree(folder, ignore_errors=True)  # left by a command that was cut off
    folder.mkdir(parents=True)

    def train(workdir: str, *more: str) -> int:
        return subprocess.run([sys.executable, "-m", "benchmarks.accelerator.resumed", str(folder),
                               str(folder / workdir), size, *more], env=env, check=False).returncode

    codes = [train("whole"), train("killed", "kill")]
    steps = sorted(int(path.name) for path in (folder / "killed" / "checkpoints").iterdir() if path.name.isdecimal())
    finished = (folder / "killed" / "result.json").exists()
    codes.append(train("killed"))
    if codes != [0, -signal.SIGKILL, 0] or finished or not steps:
        raise RuntimeError(f"the three processes ended with {codes}, and not 0, -9, 0, or the second had finished")
    where = provenance.stretches(run_files.read_json(folder / "killed" / "run.json") or {})
    if gpu and any(stretch["device"]["platform"] == "cpu" for stretch in where):
        raise RuntimeError("a process of the three computed on the CPU; see right.log")
    differ = [name for name in _FILES
              if (folder / "whole" / name).read_bytes() != (folder / "killed" / name).read_bytes()]
    return {"right": not differ, "files_that_differ": differ, "killed_after_step": steps[-1],
            "flags": DETERMINISTIC if gpu else ""}


def main(folder: str, workdir: str, size: str, kill: str = "") -> None:
    environment.prepare()
    import jax
    import numpy as np

    from alexnet_jax.training import loop
    from alexnet_jax.training.resume import Saves
    from benchmarks import networks, synthetic

    images, root = 20 * (batch := 16 if size == "tiny" else 128), pathlib.Path(folder)
    for split in ("train", "val"):
        synthetic.make(root, split, images, 32, classes=10)
    config = networks.config_of("alexnet32", batch, shrink=size == "tiny", changes=synthetic.fields(root, 32) | {
        "data.eval_split": "val", "train.epochs": 2, "checkpoint.every_seconds": 0.0, "mesh.data": "1",
        "mesh.column": "1"})
    save, saved = Saves.save, []

    def watched(self, state, sums, standing):
        save(self, state, sums, standing)
        saved.append(standing.step)
        with jax.transfer_guard("allow"):
            arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((state, sums))]
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        (pathlib.Path(workdir) / "digest").write_text(f"{standing.step} {digest}\n", encoding="utf-8")
        if kill and len(saved) >= _KILLED_AT and standing.step % 20:
            self.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    Saves.save = watched  # type: ignore[method-assign]
    loop.train(config, pathlib.Path(workdir), show=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
