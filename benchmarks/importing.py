"""What importing another project's full network costs: the command's peak memory and processor time, by kind of file.

    python -m benchmarks.importing --out=benchmarks/results/importing.json

`python -m alexnet_jax.weights import` in a process of its own: of a full network, and of a tiny one from a file of the
same kind, which shows what any such process needs. The files hold random weights. tests/weights_files.py writes them,
so this needs a clone, PyTorch, and some 1 GB of disk for a while.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

from alexnet_jax.errors import UserError
from benchmarks import command, contenders, rounds

_MAKER = command.ROOT / "tests" / "weights_files.py"
KINDS = {"torchvision.safetensors": "torchvision", "torchvision.pth": "torchvision",
         "bvlc_alexnet.caffemodel": "bvlc_alexnet", "cuda-convnet": "imagenet_released"}  # {kind of file: config}
# A process's peak includes that of the process that started it, so a small one starts it.
_MEASURE = """
import json, os, sys
command = [sys.executable, *sys.argv[1:]]
process = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""


class Sizes(NamedTuple):
    """Kernels of conv1 to conv5, units of fc6 and fc7, classes."""

    convolutions: tuple[int, ...]
    dense: int
    classes: int


TINY = Sizes((8, 16, 16, 16, 8), 24, 12)
_FULL = Sizes((96, 256, 384, 384, 256), 4096, 1000)


class Cost(NamedTuple):
    peak: int  # bytes, the most that was resident
    seconds: float  # of the processor, user and system


def sizes(kind: str) -> Sizes:
    """Of the full network that files of this kind hold."""
    return Sizes((64, 192, 384, 256, 256), *_FULL[1:]) if KINDS[kind] == "torchvision" else _FULL


def make(path: pathlib.Path, kind: str, of: Sizes) -> None:
    """Writes a weights file, in a process of its own. Raises UserError."""
    if not _MAKER.exists():
        raise UserError(f"{_MAKER}: missing, and it makes the files to import; run this in a clone")
    _run([str(_MAKER), str(path), kind, json.dumps(of)])


def measure(path: pathlib.Path, kind: str, of: Sizes, workdir: pathlib.Path) -> Cost:
    """Imports the file into the run's folder `workdir`. Raises UserError."""
    fields = {f"conv{i}.features": n for i, n in enumerate(of.convolutions, 1)}
    fields |= {"fc6.features": of.dense, "fc7.features": of.dense, "classes": of.classes}
    arguments = ["-m", "alexnet_jax.weights", "import", f"--from={path}", f"--workdir={workdir}",
                 f"--config=configs/{KINDS[kind]}.py", "--mean=123,117,104",
                 *(f"--config.model.{name}={value}" for name, value in fields.items())]
    done = _run(["-S", "-c", _MEASURE.strip(), *arguments])
    code, peak, seconds = json.loads(done.stdout)
    if code:
        raise _failed(arguments, done)
    return Cost(peak * (1 if sys.platform == "darwin" else 1024), seconds)


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(command.ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path}, encoding="utf-8",
                          errors="replace", capture_output=True, check=False)
    if done.returncode:
        raise _failed(arguments, done)
    return done


def _failed(arguments: list[str], done: subprocess.CompletedProcess[str]) -> UserError:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return UserError(f"{sys.executable} {' '.join(arguments)}: failed: {last}")


def main(args) -> None:
    result = command.begin("importing", args)
    cores = contenders.cores(args.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # of the processes that are started, too
    with contenders.Contender("ours", cores) as ours, contenders.Contender("torch", cores) as torch:
        command.device(result, (ours, torch), cores)
    result["rows"] = [_row(kind, args) for kind in KINDS]
    command.finish(result, args, table)


def _row(kind: str, args) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        found: dict[str, list[Cost]] = {"tiny": [], "full": []}
        for which, of in (("tiny", TINY), ("full", TINY if args.quick else sizes(kind))):
            path = folder / which
            make(path, kind, of)
            for number in range(args.rounds):
                with tempfile.TemporaryDirectory(dir=folder) as run:
                    found[which].append(measure(path, kind, of, pathlib.Path(run) / "run"))
                command.say(f"{kind}, {which}, round {number + 1} of {args.rounds}: {found[which][-1]}")
        return {"file": kind, "config": f"configs/{KINDS[kind]}.py", "bytes": (folder / "full").stat().st_size,
                "peak": rounds.summary([cost.peak for cost in found["full"]]),
                "tiny": rounds.summary([cost.peak for cost in found["tiny"]]),
                "seconds": rounds.summary([cost.seconds for cost in found["full"]])}


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    rows = []
    for row in result["rows"]:
        peak, tiny = row["peak"]["median"], row["tiny"]["median"]
        rows.append([row["file"], f"{row['bytes'] / 1e6:.0f} MB", f"{peak / 1e6:.0f} MB", f"{tiny / 1e6:.0f} MB",
                     f"{(peak - tiny) / row['bytes']:.1f}", f"{row['seconds']['median']:.1f}"])
    return command.markdown(["file", "size", "peak", "of a tiny network", "beyond it, times the size",
                             "processor seconds"], rows)


if __name__ == "__main__":
    command.run(main, command.parser("importing", __doc__, rounds=3))
