"""What is it good for? The unfinished sweeps of docs/evidence-plan.md, as far as time allows.

Each is an ordinary `experiments.run` in FOLDER/what_for/work/NAME, stopped with checkpoints before the time is up.
Meanwhile FOLDER/what_for/records.tar.gz is kept up to date with the records of all of them, in the form of
`experiments/results`. Without workdirs, on another machine, the sweeps continue from that file, else from
`experiments/results`: finished runs aren't repeated.
"""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any, NamedTuple

from alexnet_jax import files
from alexnet_jax.errors import Interrupted, UserError
from alexnet_jax.models import geometry
from benchmarks import command
from benchmarks.accelerator import record as records
from benchmarks.accelerator.context import Context, Unfinished
from experiments import recording
from experiments.analysis import packed, workdirs
from experiments.executors import devices
from experiments.sweep import plan as plan_lib


class Evidence(NamedTuple):
    """A part of the plan. name: its folder in experiments/results. arguments: for `experiments.run`."""

    part: str
    name: str
    seeds: tuple[int, ...]
    arguments: tuple[str, ...]


def _sweep(part: str, name: str, seeds: int, file: str = "", *fields: str) -> Evidence:
    return Evidence(part, name, tuple(range(1, seeds + 1)), (f"--sweep=configs/sweeps/{file or name}.py", *fields))


OPEN = (
    _sweep("B1", "tiny_imagenet_paper_like", 5),
    _sweep("E, whole", "conv_local_whole", 3, "conv_local_quarter", "--config.train.epochs=520",
           "--config.train.eval_every=104"),
    _sweep("H", "paper_like_second_images", 5),
    _sweep("C", "dropout_by_images", 5),
    _sweep("F", "dropout_iterations", 10),
)
QUICK = (Evidence("a rehearsal", "shapes", (1,), (
    "--config=configs/shapes.py", "--ablations=lrn.no_lrn", "--config.data.train_split=train[:128]",
    "--config.data.eval_split=test[:64]", "--config.train.epochs=1",
    *(f"--config.model.{layer}.features=8" for layer in (*geometry.CONVS, *geometry.DENSE)))),)
RESULTS = command.ROOT / "experiments" / "results"
DRIVER = (sys.executable, "-m", "experiments.run")
STOP = 60.0  # seconds before the part's end: stopping ten runs took 45 seconds for their checkpoints
WORTH = 90.0  # minimal seconds of work for which a sweep is started
_PACK_EVERY = 20.0  # seconds


def run(context: Context) -> None:
    revision = records.revision()
    if not revision or revision.endswith("+"):
        context.say("what_for: the project has uncommitted changes, and the records of these runs will say so")
    work, archive = context.folder / "work", context.folder / "records.tar.gz"
    unpack(archive, work)
    stop, worth = (20.0, 0.0) if context.quick else (STOP, WORTH)
    for evidence in QUICK if context.quick else OPEN:
        context.step(f"{evidence.part}: {evidence.name}",
                     functools.partial(_carry_on, evidence, context, work, archive, stop), seconds=stop + worth)


def seeds_left(evidence: Evidence, kind: str) -> tuple[int, ...]:
    """The seeds for this kind of device: those without a run of another kind in experiments/results.

    All runs of a seed are made on one kind of device.
    """
    folder = RESULTS / evidence.name
    if not folder.is_dir():
        return evidence.seeds
    others = {seed for arm in workdirs.read_sweep(folder).arms for seed, run in arm.runs.items()
              if run.about and {device.kind for device in devices.all_of(run.about)} != {kind}}
    return tuple(seed for seed in evidence.seeds if seed not in others)


def _carry_on(evidence: Evidence, context: Context, work: pathlib.Path, archive: pathlib.Path, stop: float
              ) -> dict[str, Any]:
    """Runs the sweep to its end: {'finished', 'runs'}; or raises Unfinished."""
    seeds = seeds_left(evidence, context.device["kind"])
    if not seeds:
        return {"recorded": "experiments/results has runs of all its seeds, by another kind of device"}
    _adopt(RESULTS / evidence.name, work)
    workdir, log = work / evidence.name, context.folder / f"{evidence.name}.log"
    begin = log.stat().st_size if log.exists() else 0
    # Each seed with a comma: a single number would be the number of seeds.
    given = (f"--workdir={workdir.absolute()}", "--seeds=" + "".join(f"{seed}," for seed in seeds))
    with log.open("ab") as out:
        driver = subprocess.Popen([*DRIVER, *evidence.arguments, *given], cwd=command.ROOT, stdin=subprocess.DEVNULL,
                                  stdout=out, stderr=subprocess.STDOUT)
    stopped, packed, at = False, counts(workdir)["finished"], -_PACK_EVERY
    try:
        while driver.poll() is None:
            if not stopped and context.left() < stop:
                driver.terminate()  # like SIGINT, which may be ignored
                stopped = True
            found = counts(workdir)
            if found["finished"] > packed and time.monotonic() - at > _PACK_EVERY:
                _pack(work, archive, context)
                context.note(**found)
                packed, at = found["finished"], time.monotonic()
            time.sleep(0.5)
    finally:
        if driver.poll() is None:
            driver.terminate()
    _pack(work, archive, context)
    found = counts(workdir)
    context.note(**found)
    context.say(f"what_for: {evidence.name}: {found['finished']} of {found['runs']} runs finished")
    if driver.returncode == 0:
        return found
    if stopped or driver.returncode == Interrupted.exit_code:
        raise Unfinished
    with log.open("rb") as file:
        file.seek(begin)
        said = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.startswith("error: ")]
    why = said[-1].removeprefix("error: ") if said else f"exit code {driver.returncode}, see {log.name}"
    if said and not found["begun"]:  # most likely missing images, not a fault of the device
        context.note(**found, left_out=why)
        context.say(f"what_for: {evidence.name} is left out: {why}")
        raise Unfinished
    raise UserError(why)


def counts(workdir: pathlib.Path) -> dict[str, int]:
    """{'finished' (including diverged), 'begun', 'runs'} of a sweep's workdir."""
    planned = plan_lib.read(workdir) if workdir.exists() else None
    states = [plan_lib.state_of(workdir / run.dir) for run in planned.runs.values()] if planned else []
    return {"finished": sum(state in plan_lib.DONE for state in states),
            "begun": sum(state != "waiting" for state in states), "runs": len(states)}


def _pack(work: pathlib.Path, archive: pathlib.Path, context: Context) -> None:
    try:
        pack(work, archive)
    except (UserError, OSError) as error:  # must not stop the runs; the next attempt follows soon
        context.say(f"what_for: records.tar.gz is unchanged: {error}")


def pack(work: pathlib.Path, archive: pathlib.Path) -> None:
    """Writes the records of all workdirs in `work` atomically. Raises WorkdirError as `recording.copy_sweep`."""
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "records"
        made.mkdir()
        for plan in sorted(work.glob("*/plan.json")):
            recording.copy_sweep(plan.parent, made / plan.parent.name)
        with files.replacing(archive) as temporary, tarfile.open(temporary, "w:gz") as tar:
            tar.add(made, made.name)


def unpack(archive: pathlib.Path, work: pathlib.Path) -> None:
    """Turns the records into workdirs, unless they exist. Unfinished runs start again."""
    work.mkdir(exist_ok=True)
    if not archive.exists():
        return
    with tempfile.TemporaryDirectory(dir=work, prefix=".") as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        for record in sorted(pathlib.Path(folder, "records").iterdir()):
            _adopt(record, work)


def _adopt(record: pathlib.Path, work: pathlib.Path) -> None:
    """Turns a record, if there is one, into a workdir, unless that exists."""
    if (work / record.name).exists() or not packed.is_packed(record):
        return
    with tempfile.TemporaryDirectory(dir=work, prefix=".") as folder:
        made = pathlib.Path(folder, record.name)
        recording.unpack(record, made)
        for run in made.glob("runs/*"):
            if plan_lib.state_of(run) not in plan_lib.DONE:
                shutil.rmtree(run)
        made.rename(work / record.name)
