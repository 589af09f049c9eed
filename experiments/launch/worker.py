"""One run of a sweep, in a process of its own: `python -m experiments.launch.worker --workdir=W --run=ID`.

The executor starts it; a person may too, to see one run fail alone. What it prints goes to the run's log.txt
there, the traceback of an error included. Its exit code says what became of the run (`DONE` … `INTERRUPTED`);
any other means that the process died, and the run can be resumed from its last checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax import config as config_lib
from alexnet_jax import environment, run_files, streams
from alexnet_jax.errors import ConfigError, Interrupted, UserError, describe_os_error
from alexnet_jax.signals import Signals
from experiments.sweep import plan as plan_lib

DONE = 0  # finished or diverged: result.json says which
FAILED = 1  # recorded in result.json
USAGE = ConfigError.exit_code  # failed by its config; recorded too
IN_USE = 75  # another process trains this run (alexnet_jax.training.workdir.WorkdirInUse)
INTERRUPTED = Interrupted.exit_code  # a checkpoint is saved

_MOST = 500  # characters of a message


def main(argv: Sequence[str] | None = None, train: Callable[..., dict[str, Any]] | None = None) -> int:
    """Runs one run; returns its exit code. `train` stands in for alexnet_jax.training.loop.train in tests."""
    parser = argparse.ArgumentParser(prog="python -m experiments.launch.worker", description="one run of a sweep")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="the sweep's, with plan.json")
    parser.add_argument("--run", required=True, help="its id in plan.json")
    parser.add_argument("--cores", default="", help="e.g. 0,1: the only ones to use")
    parser.add_argument("--parent", type=int, default=0, help="end when this process does")
    args = parser.parse_args(argv)
    # Its parent stops it by SIGTERM, even if signals are ignored in its environment.
    always = (signal.SIGTERM,) if args.parent else ()
    with streams.of_process(), Signals(_end_at_once, always):
        if args.parent and not _end_with(args.parent):
            return INTERRUPTED
        return _main(args, train)


def _main(args: argparse.Namespace, train: Callable[..., dict[str, Any]] | None) -> int:
    # Before JAX starts: it makes as many threads as it then sees cores.
    if args.cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {int(core) for core in args.cores.split(",")})
    try:
        plan = plan_lib.read(args.workdir)
        if plan is None or args.run not in plan.runs:
            raise ConfigError(f"--run={args.run}: not in {args.workdir / 'plan.json'}")
        environment.prepare(plan.runs[args.run].config["train"].get("precision", "float32"))
    except UserError as error:
        return _say(error)
    run, arm = plan.runs[args.run], plan.arm_of(args.run)
    folder = args.workdir / run.dir
    try:
        return _train(run, arm, folder, train)
    except UserError as error:
        code = _say(error)
        if code not in (IN_USE, INTERRUPTED):
            record_failure(folder, run, arm.name, str(error))
            return USAGE if code == USAGE else FAILED
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        message = one_line(describe_os_error(error) if isinstance(error, OSError) else message)
        print(f"error: {message}", file=sys.stderr)
        record_failure(folder, run, arm.name, f"{message} (the traceback is in log.txt)")
        return FAILED


def _train(run: plan_lib.Run, arm: plan_lib.PlannedArm, folder: pathlib.Path, train: Callable | None) -> int:
    result = plan_lib.result_of(folder)
    if result is not None and result["status"] == "failed":
        (folder / "result.json").unlink(missing_ok=True)  # tried again: until it ends, it has no result
    if train is None:
        from alexnet_jax.training.loop import train  # JAX starts here
    assert train is not None
    train(config_lib.from_json(run.config), folder, name=arm.name, overrides=dict(arm.overrides), show=False)
    return DONE


def _say(error: UserError) -> int:
    print(f"{'' if isinstance(error, Interrupted) else 'error: '}{error}", file=sys.stderr)
    return error.exit_code


def one_line(text: str) -> str:
    """Some libraries' messages are pages long."""
    text = " ".join(text.split())
    return text if len(text) <= _MOST else text[:_MOST] + " …"


def record_failure(folder: pathlib.Path, run: plan_lib.Run, name: str, message: str) -> None:
    """Writes result.json with status 'failed', for the report to say so; not over a result that is there."""
    with contextlib.suppress(OSError):  # a full disk may be why it failed; the sweep still says so at its end
        result = plan_lib.result_of(folder)
        if result is not None and result["status"] in plan_lib.DONE:
            return
        last = (run_files.read_rows(folder / "metrics.csv") or [{}])[-1]
        data = run.config["data"]
        run_files.write_json(folder / "result.json", {
            "schema": run_files.SCHEMA, "name": name, "id": run.id, "seed": run.seed, "status": "failed",
            "message": message, "epochs": last.get("epoch") or 0, "steps": last.get("step") or 0,
            "train": {"loss": last.get("train_loss"), "top1_error": last.get("train_top1_error")},
            "data": {"name": data["name"], "version": None, "size": data["size"], "crop": data["crop"],
                     "train_split": data["train_split"], "train_images": None,
                     "eval_split": data["eval_split"], "eval_images": None, "corrupt": 0},
            "eval": None})


def _end_at_once(_signals: Signals) -> None:
    """A signal while there is nothing to save; training puts its own handler in place meanwhile.

    Not by an exception: those that are raised in a callback of JAX's are printed and forgotten.
    """
    os._exit(INTERRUPTED)


def _end_with(parent: int) -> bool:
    """SIGTERM to this process when `parent` dies, so that nothing runs unseen. False: it is dead already."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    return os.getppid() == parent


def end(code: int) -> None:
    """Ends this process at once: nothing is left to save, and JAX takes most of a second to end in order."""
    with streams.of_process():
        pass  # flushes them
    os._exit(code)


if __name__ == "__main__":
    end(main())
