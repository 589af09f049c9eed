"""Synthetic sweeps with known effects, written as experiments.run and alexnet_jax.training.loop would write them."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from experiments.sweep import ablations

# name → (ablation, overrides, true difference from the baseline in points, top-1 and top-5)
ARMS: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "baseline": ("", {}, 0.0, 0.0),
    "no_lrn": ("lrn", {"model.lrn.layers": ()}, 1.4, 1.2),
    "nonoverlapping": ("pooling", {"model.pool.window": 2}, 0.4, 0.3),
    "tanh": ("activation", {"model.activation": "tanh"}, 6.0, 3.0),
}


def base_config(epochs: int = 10, name: str = "shapes"):
    config = config_lib.override(config_lib.default(), {
        "data.name": name, "data.size": 32, "data.crop": 24, "train.epochs": epochs,
        "optim.schedule": "constant", "model.conv1.features": 32, "model.conv2.features": 48,
        "model.conv3.features": 64, "model.conv4.features": 64, "model.conv5.features": 48,
        "model.fc6.features": 512, "model.fc7.features": 512})
    return config_lib.resolve(config)


def arms_of(**effects: float) -> dict[str, tuple[str, dict[str, Any], float, float]]:
    """Arms as ARMS, from the catalogue's: {'lrn.no_lrn': effect on top-1 in points}, with '__' for the dot."""
    out: dict[str, tuple[str, dict[str, Any], float, float]] = {"baseline": ("", {}, 0.0, 0.0)}
    base = config_lib.resolve(cli.load_config("configs/shapes.py"))  # of the same shape as `base_config`'s
    for name, effect in effects.items():
        for arm in ablations.arms_of([name.replace("__", ".")], base):
            if arm.overrides and arm.name == name.partition("__")[2]:
                out[arm.name] = (arm.ablation, dict(arm.overrides), effect, effect / 2)
    return out


def write_sweep(workdir: pathlib.Path, seeds: Sequence[int] = (0, 1, 2),
                arms: Mapping[str, tuple[str, dict[str, Any], float, float]] = ARMS,
                states: Mapping[tuple[str, int], str] | None = None, error: float = 20.0,
                seed_sd: float = 0.5, pair_sd: float = 0.3, eval_images: int = 10_000, epochs: int = 10,
                name: str = "shapes", train_images: int = 20_000, corrupt: int = 0,
                rng_seed: int = 0, gaps: Mapping[str, float] | None = None,
                base_overrides: Mapping[str, Any] | None = None, outcomes: bool = False,
                old: Collection[tuple[str, int]] = (), classes: int | None = None) -> pathlib.Path:
    """Writes plan.json and the runs; returns the workdir.

    Args:
      arms: as ARMS; two arms with equal overrides share their runs.
      states: (arm, seed) → "finished" (default), "diverged", "failed", "unfinished", "not started",
        "truncated" (result.json cut short) or "chance".
      error: the baseline's true top-1 error, percent; top-5 is a fifth of it.
      seed_sd: noise of a seed that all arms share; pair_sd: an arm's own, so that paired differences have a
        standard deviation of √2 · pair_sd, all in points.
      gaps: arm → how much lower the error on images learnt from is than the centre crop's, points; None: runs have no
        such error.
      outcomes: runs keep which images were wrong: the hardest, but for a noise of each run's own.
      old: (arm, seed) of runs from before five views were counted.
      classes: that run.json says were learnt; None: it says nothing, as older ones.
    """
    base, rng = base_config(epochs, name), np.random.default_rng(rng_seed)
    base = config_lib.override(base, {"data.fit_split": "train[:1000]"} if gaps else {})
    base = config_lib.resolve(config_lib.override(base, base_overrides or {}))
    shared = {seed: float(rng.normal(0, seed_sd)) for seed in seeds}
    plan: dict[str, Any] = {"schema": 1, "name": "three", "config": "configs/shapes.py:released",
                            "baseline": next(iter(arms)), "seeds": list(seeds), "arms": [], "runs": {}}
    for arm, (ablation, overrides, top1, top5) in arms.items():
        entry: dict[str, Any] = {"name": arm, "ablation": ablation, "overrides": overrides, "runs": {}}
        for seed in seeds:
            config = config_lib.override(base, {**overrides, "seed": seed})
            run_id = config_lib.run_id(config)
            entry["runs"][str(seed)] = run_id
            noise = [shared[seed] + float(x) for x in rng.normal(0, pair_sd, 2)]
            if run_id in plan["runs"]:
                continue
            folder = f"runs/{arm}-{run_id}"
            plan["runs"][run_id] = {"dir": folder, "seed": seed, "config": config_lib.to_json(config)}
            write_run(workdir / folder, config, name=arm, top1=error + top1 + noise[0],
                      top5=error / 5 + top5 + noise[1] / 5, eval_images=eval_images,
                      train_images=train_images, corrupt=corrupt,
                      gap=None if gaps is None else gaps.get(arm, 1.0) + float(rng.normal(0, pair_sd)),
                      outcomes=outcomes, five=(arm, seed) not in old, classes=classes,
                      state=(states or {}).get((arm, seed), "finished"))
        plan["arms"].append(entry)
    workdir.mkdir(parents=True, exist_ok=True)
    run_files.write_json(workdir / "plan.json", plan)
    return workdir


def write_run(folder: pathlib.Path, config, name: str = "baseline", top1: float = 20.0, top5: float = 4.0,
              eval_images: int = 10_000, train_images: int = 20_000, state: str = "finished",
              corrupt: int = 0, gap: float | None = None, outcomes: bool = False, five: bool = True,
              classes: int | None = None) -> None:
    """One run's folder that ends at the given errors (percent); where training never mirrors, a point better by five
    views."""
    if state == "not started":
        return
    folder.mkdir(parents=True)
    run_id, epochs = config_lib.run_id(config), config.train.epochs
    steps = math.ceil(train_images / config.train.batch_size)
    run_files.write_json(folder / "run.json", {
        "schema": run_files.SCHEMA, "name": name, "id": run_id, "seed": config.seed,
        "config": config_lib.to_json(config), "overrides": {}, "command": ["main.py"],
        "git": {"revision": "0123456789abcdef", "dirty": False},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "device": {"platform": "cpu", "kind": "Imaginary 9000", "count": 1, "cores": 1,
                   "mesh": {"data": 1, "column": 1}}, "started": "2020-01-01T00:00:00+00:00", "resumed": []})
    if classes is not None:
        images = {"version": "1.0.0", "images": train_images, "classes": classes}
        run_files.write_json(folder / "run.json", {**(run_files.read_json(folder / "run.json") or {}),
                                                 "images": {"train_split": images}})
    metrics = run_files.Rows(folder / "metrics.csv", run_files.METRICS, 0)
    timing = run_files.Rows(folder / "timing.csv", run_files.TIMING, 0)
    reached = {"unfinished": max(1, epochs // 2), "diverged": max(1, epochs // 3),
               "failed": max(1, epochs // 3)}.get(state, epochs)
    rng = np.random.default_rng(int(run_id, 16))
    for epoch in range(1, reached + 1):
        fall = math.exp(-4.5 * (epoch / epochs)) - math.exp(-4.5)
        wiggle = float(rng.normal(0, 0.008 * (1 - epoch / epochs) + 1e-9))
        error = 0.9 if state == "chance" else min(1.0, top1 / 100 + (0.8 - top1 / 100) * fall + wiggle)
        train = min(1.0, 0.9 * top1 / 100 + 0.75 * fall * (1 + 0.05 * float(rng.normal())))
        metrics.append({"epoch": epoch, "step": epoch * steps, "learning_rate": config.optim.learning_rate,
                        "train_loss": 2.3 * train, "train_top1_error": train, "eval_loss": 2.3 * error,
                        "eval_top1_error": error, "eval_top5_error": error / 5})
        timing.append({"epoch": epoch, "step": epoch * steps, "train_seconds": 5.0, "eval_seconds": 0.5,
                       "checkpoint_seconds": 0.1, "compile_seconds": 0.0, "images_per_second": 4000.0,
                       "elapsed_seconds": 6.0 * epoch})
    metrics.close()
    timing.close()
    if state == "unfinished":
        return
    message = {"diverged": "the loss was not finite at step 40 of 1570; try a smaller rate",
               "failed": "DataError: the store is truncated",
               "chance": "never left chance: its best error is 90.0%, naming one class always gives 90.0%"}
    counts = None
    if state in ("finished", "truncated", "chance"):
        rates = (90.0, 50.0) if state == "chance" else (top1, top5)
        wrong = [min(eval_images, max(0, round(rate / 100 * eval_images))) for rate in rates]
        centre = [min(eval_images, w + eval_images // 200) for w in wrong]
        counts = {views: {"top1_wrong": n[0], "top5_wrong": n[1], "total": eval_images, "loss": 1.0}
                  for views, n in (("centre", centre), ("ten_view", wrong))}
        if five and not config.augment.mirror:
            better = [max(0, w - eval_images // 100) for w in wrong]
            counts["five_view"] = {**counts["ten_view"], "top1_wrong": better[0], "top5_wrong": better[1]}
        if gap is not None:
            fit = max(0, round((100 * centre[0] / eval_images - gap) / 100 * 10_000))
            counts["fit"] = {"top1_wrong": fit, "top5_wrong": 0, "total": 10_000, "loss": 1.0}
    if counts and outcomes:
        easiness = np.random.default_rng(0).normal(size=eval_images) + rng.normal(size=eval_images)
        rank = np.argsort(np.argsort(easiness))
        run_files.write_outcomes(folder, eval_images, {views: run_files.packed_outcomes(
            (rank < n["top1_wrong"]).astype(int) + (rank < n["top5_wrong"]))
            for views, n in counts.items() if views != "fit"})
    run_files.write_json(folder / "result.json", {
        "schema": run_files.SCHEMA, "name": name, "id": run_id, "seed": config.seed,
        "status": state if state in run_files.STATUSES else "finished", "message": message.get(state, ""),
        "epochs": epochs, "steps": steps * epochs,
        "train": {"loss": 1.0, "top1_error": 0.9 if state == "chance" else 0.2},
        "data": {"name": config.data.name, "version": "1.0.0", "size": config.data.size,
                 "crop": config.data.crop, "train_split": config.data.train_split,
                 "train_images": train_images, "eval_split": config.data.eval_split,
                 "eval_images": eval_images, "corrupt": corrupt},
        "eval": counts})
    if state == "truncated":
        path = folder / "result.json"
        path.write_text(path.read_text()[:60])


def plan_of(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "plan.json").read_text())


def folder_of(workdir: pathlib.Path, arm: str, seed: int) -> pathlib.Path:
    """The folder of one run of a sweep."""
    plan = plan_of(workdir)
    run_id = next(a for a in plan["arms"] if a["name"] == arm)["runs"][str(seed)]
    return workdir / plan["runs"][run_id]["dir"]


def read_outcomes(folder: pathlib.Path, views: str, counts: Mapping[str, Any], key: str = "top1") -> np.ndarray | None:
    """`run_files.wrong_images` of a run's folder."""
    return run_files.wrong_images(run_files.read_json(folder / run_files.OUTCOMES), views, counts, key)
