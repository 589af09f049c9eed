"""Selects the runs for a tool: run folders, or a sweep and an arm. Also the tools' common arguments and output."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from alexnet_jax import commands, run_files
from alexnet_jax.errors import CheckpointError, ConfigError, WorkdirError
from experiments.analysis import packed
from experiments.analysis.workdirs import Arm, Run, Sweep, read_run, read_sweep


def parser(module: str, doc: str | None) -> commands.Parser:
    """A parser with the arguments that name runs."""
    made = commands.Parser(module, doc)
    made.add_argument("runs", nargs="*", type=pathlib.Path, metavar="RUN", help="folders of runs, or a sweep's")
    made.add_argument("--workdir", type=pathlib.Path, metavar="RUN", help="the same as RUN, for one folder")
    made.add_argument("--arm", help="of the sweep (default: the baseline)")
    made.add_argument("--record", type=pathlib.Path, help="folder that gets the numbers and figures; default: none, "
                      "and what is drawn goes into the run's or sweep's folder, of several runs into the current one")
    return made


def sweep_of(options: argparse.Namespace) -> Sweep:
    """The runs named by the options, as a sweep; run folders become a sweep with a single arm, named after the run, or
    '3 runs'.

    Raises:
      ConfigError: no runs, or both kinds of arguments. WorkdirError: a folder is not a run's. CheckpointError: a
        record, which has no checkpoints.
    """
    if bool(options.runs) == (options.workdir is not None):
        raise ConfigError("name the runs' folders, or a sweep with --workdir=FOLDER")
    folders = options.runs
    if len(folders) == 1 and (packed.is_packed(folders[0])
                              or any((folders[0] / name).exists() for name in ("plan.json", "run.json"))):
        options.workdir = folders[0]
    if options.workdir is not None:
        if packed.is_packed(options.workdir):
            raise CheckpointError(f"{options.workdir}: no checkpoint there; recorded results keep none")
        if (options.workdir / "plan.json").exists() or not (options.workdir / "run.json").exists():
            return read_sweep(options.workdir)
        folders = [options.workdir]
    for folder in folders:
        if not (folder / "run.json").exists():
            raise WorkdirError(f"{folder}: not a run of alexnet_jax.main or experiments.run (no run.json)")
    runs = [read_run(folder) for folder in folders]
    if len({run.id for run in runs}) < len(runs):
        raise ConfigError("the same run is named twice")
    name = folders[0].absolute().name if len(runs) == 1 else f"{len(runs)} runs"
    # Not keyed by seed: runs of several configs may share one.
    return Sweep(name, "", name, [Arm(name, "", {}, dict(enumerate(runs)))])


def arm_of(sweep: Sweep, name: str | None) -> Arm:
    """The named arm, or the baseline for None. Raises ConfigError."""
    names = [arm.name for arm in sweep.arms]
    if name is not None and name not in names:
        raise ConfigError(f"--arm={name}: " + (f"no such arm; there is {', '.join(names)}" if sweep.config else
                                               "only a sweep has arms, and these are folders of runs; leave it out"))
    return sweep.arm(name or sweep.baseline)


def only(sweep: Sweep, arm: Arm, runs: Sequence[Run]) -> Sweep:
    """The sweep reduced to some runs of one arm, for a protocol."""
    kept = {seed: run for seed, run in arm.runs.items() if run.id in {r.id for r in runs}}
    return Sweep(sweep.name, sweep.config, arm.name, [Arm(arm.name, arm.ablation, arm.overrides, kept)])


def finished(arm: Arm) -> list[Run]:
    """Its finished runs, by seed. Raises WorkdirError if there is none."""
    runs = [run for _, run in sorted(arm.runs.items()) if run.state in run_files.USABLE]
    if not runs:
        raise WorkdirError(f"{arm.name}: no finished run (of {len(arm.runs)}); the command that started them resumes")
    return runs


def place(options: argparse.Namespace) -> pathlib.Path:
    """The folder for the tool's files. Raises WorkdirError, before any work, if it isn't writable."""
    folder = options.record or options.workdir or pathlib.Path()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise WorkdirError(f"{folder}: this user may not write there; --record=FOLDER names a place for the files")
    return folder


def command(module: str, argv: Sequence[str] | None) -> list[str]:
    return ["python", "-m", module, *(sys.argv[1:] if argv is None else argv)]
