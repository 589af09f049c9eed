"""`experiments.launch.worker` with a training whose error falls along a known curve: 0.9 · exp(−k · epochs).

k is largest at a best rate: 0.002 for ReLU, where 25% is reached after 6 epochs, and 0.0005 for tanh, where it takes
six times as long; a factor of two away k is three quarters of that, 0.016 diverges. A seed changes k by a hundredth.
"""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from alexnet_jax import config as config_lib
from alexnet_jax import run_files
from experiments.launch import worker

BEST = {"relu": 0.002, "tanh": 0.0005}
EPOCHS = {"relu": 6.0, "tanh": 36.0}
DIVERGES = 0.016


def speed(config):
    activation = config.model.activation
    away = abs(math.log2(config.optim.learning_rate / BEST[activation]))
    return math.log(0.9 / 0.25) / EPOCHS[activation] * 0.75**away * (1 + 0.01 * config.seed)


def train(config, workdir, *, name="", overrides=None, show=True):
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "starts.log").open("a") as file:
        file.write("started\n")
    assert math.isclose(config.optim.bias_learning_rate, 2 * config.optim.learning_rate, rel_tol=0.01)
    run_files.write_json(workdir / "run.json", {
        "name": name, "id": config_lib.run_id(config), "seed": config.seed, "overrides": overrides or {},
        "config": config_lib.to_json(config), "command": ["worker.py", f"--workdir={workdir}"],
        "device": {"platform": "cpu", "kind": "Imaginary 9000", "count": 1, "cores": 1}})
    diverged = config.optim.learning_rate >= DIVERGES
    metrics = run_files.Rows(workdir / "metrics.csv", run_files.METRICS, 0)
    timing = run_files.Rows(workdir / "timing.csv", run_files.TIMING, 0)
    for epoch in range(1, 1 + (0 if diverged else config.train.epochs)):
        error = round(50_000 * 0.9 * math.exp(-speed(config) * epoch)) / 50_000
        metrics.append({"epoch": epoch, "step": epoch, "learning_rate": config.optim.learning_rate, "train_loss": 1.0,
                        "train_top1_error": error, "eval_loss": 1.0, "eval_top1_error": error,
                        "eval_top5_error": 0.0})
        timing.append({"epoch": epoch, "step": epoch, "train_seconds": 36.0, "eval_seconds": 0.0,
                       "checkpoint_seconds": 0.0, "compile_seconds": 0.0, "images_per_second": 1.0,
                       "elapsed_seconds": 36.0 * epoch})
        if error <= config.train.stop_at_error:
            break
    metrics.close()
    timing.close()
    counts = {"top1_wrong": 12_500, "top5_wrong": 0, "total": 50_000, "loss": 1.0}
    d = config.data
    run_files.write_json(workdir / "result.json", {
        "schema": 1, "name": name, "id": config_lib.run_id(config), "seed": config.seed,
        "status": "diverged" if diverged else "finished", "message": "not finite" if diverged else "",
        "epochs": 1, "steps": 1, "train": {"loss": 1.0, "top1_error": 0.5},
        "data": {"name": d.name, "version": "1", "size": d.size, "crop": d.crop, "train_split": d.train_split,
                 "train_images": 50_000, "eval_split": d.eval_split, "eval_images": 50_000, "corrupt": 0},
        "eval": None if diverged else {"centre": counts, "ten_view": counts}})


if __name__ == "__main__":
    sys.exit(worker.main(train=train))
