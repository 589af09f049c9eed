"""Sweeps of fake runs (fake_run.py), started like a user's, and their results."""

import pathlib
import subprocess
import sys
import time

from experiments.sweep import plan as plan_lib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
FAKE = str(HERE / "fake_run.py")
STEPS = 4  # an epoch, of fake_worker.py
ALL = list(range(1, STEPS + 1))
GATE = "--config.train.eval_every=8"  # fake_worker.py: each run waits after its first step, until `go`
LONG = 240.0  # seconds, beyond what a busy machine takes for anything

SWEEP = '''
def get_sweep():
    return {{"config": "configs/shapes.py", "arms": {arms}, "seeds": {seeds}, "jobs": 2,
             "overrides": {{"train.epochs": 1, "checkpoint.every_seconds": {step}}}}}
'''


def sweep(tmp_path, arms=None, seeds=1, step=0.02):
    """--sweep=…, a file of baseline and arms, two at a time, one epoch of `STEPS` steps of `step` seconds."""
    file = tmp_path / "mine.py"
    file.write_text(SWEEP.format(arms=arms if arms is not None else {"no_lrn": {"model.lrn.layers": ()}},
                                 seeds=seeds, step=step))
    return f"--sweep={file}"


def run(*arguments, command=(FAKE,), timeout=LONG, **kwargs):
    return subprocess.run([sys.executable, *command, *arguments], capture_output=True, text=True, cwd=ROOT,
                          timeout=timeout, check=False, **kwargs)


def start(*arguments, before=(), **kwargs):
    """`before`: a command that starts the driver. (No preexec_fn: JAX warns of forks in a process that it runs in.)"""
    return subprocess.Popen([*before, sys.executable, FAKE, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **kwargs)


def wait(condition, seconds=LONG):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def go(workdir):
    """Lets the runs go on that wait at their gate."""
    (workdir / "go").touch()


def steps(workdir):
    """{run's label: the steps that were done, in order}."""
    plan = plan_lib.read(workdir)
    out = {}
    for run in plan.order():
        log = workdir / plan.runs[run].dir / "steps.log"
        out[plan.label(run)] = [int(line) for line in log.read_text().split()] if log.exists() else []
    return out


def states(workdir):
    plan = plan_lib.read(workdir)
    return {plan.label(run): plan_lib.state_of(workdir / plan.runs[run].dir) for run in plan.order()}


def folder(workdir, label):
    plan = plan_lib.read(workdir)
    return next(workdir / run.dir for run in plan.runs.values() if plan.label(run.id) == label)
