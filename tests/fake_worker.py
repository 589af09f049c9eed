"""`experiments.launch.worker` with a training that computes nothing: its files, lock and signals are all there is.

    python tests/fake_worker.py --workdir=W --run=ID

A step takes `checkpoint.every_seconds` and ends as a line in `steps.log`, which is the checkpoint too, so that
no kill can come between the two; a test sees there whether any step was done twice. What the config
asks for beyond that stands in for mishaps: `optim.learning_rate` 9 fails with a UserError, 8 with a
traceback, 7 diverges, 6 kills itself after each second step, 5 kills itself at once; `train.eval_every` 9
ignores signals, 8 waits after the first step for a file `go` in the sweep's workdir.
"""

import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from alexnet_jax import config as config_lib
from alexnet_jax import errors, files, provenance, run_files, signals
from experiments.executors import local
from experiments.launch import worker
from experiments.sweep import plan as plan_lib

STEPS = 4  # an epoch


class InUse(errors.WorkdirError):
    exit_code = worker.IN_USE


def train(config, workdir, *, name="", overrides=None, show=True):
    workdir.mkdir(parents=True, exist_ok=True)
    with files.lock(workdir / ".lock", seconds=0.3) as free:
        if not free:
            raise InUse(f"{workdir}: in use by another process")
        result = run_files.read_json(workdir / "result.json")
        if result and result["status"] in plan_lib.DONE:
            return result
        return _train(config, workdir, name, overrides)


def _train(config, workdir, name, overrides):
    print(f"{name} × {config.seed}")
    with signals.Signals() as stop:
        return _steps(config, workdir, name, overrides, stop)


def _steps(config, workdir, name, overrides, stop):
    rate = config.optim.learning_rate
    if not (workdir / "run.json").exists():
        run_files.write_json(workdir / "run.json", {
            "name": name, "id": config_lib.run_id(config), "seed": config.seed, "overrides": overrides or {},
            "cores": len(local.cores()), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "platforms": os.environ.get("JAX_PLATFORMS"), "resumed": [],
            "device": {"platform": "cpu", "kind": provenance.cpu_name(), "cores": len(local.cores()), "count": 1}})
    else:
        about = run_files.read_json(workdir / "run.json")
        run_files.write_json(workdir / "run.json", {**about, "resumed": [*about["resumed"], run_files.now()]})
    if rate == 9:
        raise errors.DataError("no such data: here is what to do")
    if rate == 8:
        raise RuntimeError("out of luck\nand more")
    if rate == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    log = workdir / "steps.log"
    step = int(log.read_text().split()[-1]) if log.exists() else 0
    metrics = run_files.Rows(workdir / "metrics.csv", run_files.METRICS, step)
    timing = run_files.Rows(workdir / "timing.csv", run_files.TIMING, step)
    steps = STEPS * config.train.epochs
    while step < steps:
        while config.train.eval_every == 8 and step and not stop.count and not (workdir.parents[1] / "go").exists():
            time.sleep(0.05)
        if stop.count and config.train.eval_every != 9:
            raise errors.Interrupted(f"stopped at step {step}")
        time.sleep(config.checkpoint.every_seconds)
        step += 1
        with log.open("a") as file:
            file.write(f"{step}\n")
        if step % STEPS == 0:
            error = (config.seed + len(config.model.lrn.layers)) / 10
            metrics.append({"epoch": step // STEPS, "step": step, "learning_rate": rate, "train_loss": 1.0,
                            "train_top1_error": error, "eval_loss": 1.0, "eval_top1_error": error,
                            "eval_top5_error": 0.0})
            timing.append({"epoch": step // STEPS, "step": step, "train_seconds": 100.0, "eval_seconds": 20.0,
                           "checkpoint_seconds": 0.0, "compile_seconds": 0.0, "images_per_second": 10.0,
                           "elapsed_seconds": 120.0 * step})
        run_files.write_json(workdir / "progress.json", {
            "state": "training", "epoch": step / STEPS, "epochs": config.train.epochs, "step": step,
            "steps": steps, "images_per_second": 10.0, "train_top1_error": 0.5, "eval_top1_error": None,
            "seconds_left": 1, "updated": run_files.now()})
        if rate == 6 and step % 2 == 0 and step < steps:
            os.kill(os.getpid(), signal.SIGKILL)
    metrics.close()
    timing.close()
    wrong = 10 * (config.seed + len(config.model.lrn.layers))
    counts = {"top1_wrong": wrong, "top5_wrong": 0, "total": 100, "loss": 1.0}
    diverged = rate == 7
    result = {"schema": 1, "name": name, "id": config_lib.run_id(config), "seed": config.seed,
              "status": "diverged" if diverged else "finished",
              "message": "the loss was not finite" if diverged else "", "epochs": config.train.epochs,
              "steps": steps, "train": {"loss": 1.0, "top1_error": 0.5},
              "data": {"name": "shapes", "version": "1", "size": 32, "crop": 24, "train_split": "train",
                       "train_images": 100, "eval_split": "test", "eval_images": 100, "corrupt": 0},
              "eval": None if diverged else {"centre": counts, "ten_view": counts}}
    run_files.write_json(workdir / "result.json", result)
    return result


if __name__ == "__main__":
    sys.exit(worker.main(train=train))
