"""What a run came to: the content of result.json, and the last line of its log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import records
from alexnet_jax.data import Split
from alexnet_jax.data.comparing import about_data_words
from alexnet_jax.progress import percent


def result(name: str, id_: str, config: ConfigDict, splits: tuple[Split, Split], steps: int,
           rows: Sequence[Mapping[str, Any]], diverged: str | None, counts: Mapping[str, dict | None],
           about: Mapping[str, Any],
           stopped: tuple[int, str] | None = None) -> dict[str, Any]:
    """The content of result.json, as alexnet_jax.records describes it.

    Args:
      name: of the run's arm. id_: the run's. splits: learnt from, reported on. steps: of the config, or those done of
        a run that stopped early. rows: of metrics.csv.
      diverged: why the run was given up, or None.
      counts: the last COUNTS of a run that was not, by their names in result.json; None for those not taken.
      about: `data.comparing.about_data` of the splits.
      stopped: epochs and reason, of a run that ended before its config's epochs.
    """
    d, (train, reported), last = config.data, splits, (rows or [{}])[-1]
    return {
        "schema": records.SCHEMA, "name": name, "id": id_,
        "seed": config.seed, "status": "diverged" if diverged else "finished",
        "message": diverged or _stuck(reported, counts["centre"], rows),
        "epochs": stopped[0] if stopped else config.train.epochs, "steps": steps,
        **({"stopped": f"after epoch {stopped[0]} of {config.train.epochs}: {stopped[1]}"} if stopped else {}),
        "train": {"loss": last.get("train_loss"), "top1_error": last.get("train_top1_error")},
        "data": {"name": d.name, "version": train.version, "size": d.size, "crop": d.crop,
                 "train_split": d.train_split, "train_images": len(train), "eval_split": d.eval_split,
                 "eval_images": len(reported), "corrupt": train.corrupt + reported.corrupt, **about},
        "eval": None if diverged else {name: found for name, found in counts.items() if found is not None}}


def _stuck(reported: Split, centre: dict | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """'' or that the network never did better than naming the commonest class, beyond the noise of the count."""
    assert centre is not None
    total = centre["total"]
    chance = 1 - np.bincount(reported.labels).max() / total
    noise = math.sqrt(chance * (1 - chance) / total)
    best = min(row["eval_top1_error"] for row in rows)
    if best > chance - 3 * noise:
        return (f"never left chance: its best error is {percent(best)}, naming one class always gives "
                f"{percent(chance)}; more epochs, another config.optim.learning_rate or a larger init_std may help")
    return ""


def last_words(result: Mapping[str, Any]) -> str:
    """One line for the log."""
    if result["status"] != "finished":
        return f"given up: {result['message']}"
    parts = []
    for views, label in (("centre", "centre crop"), ("ten_view", "ten views")):
        counts = result["eval"][views]
        top1, top5 = records.error_rates(counts)
        parts.append(f"{label} {percent(top1)} top-1, {percent(top5)} top-5 ({counts['top1_wrong']} and "
                     f"{counts['top5_wrong']} of {counts['total']} wrong)")
    warning = f"; WARNING: {result['message']}" if result["message"] else ""
    notes = "".join(f"; note: {line}" for line in about_data_words(result.get("data") or {}))
    early = f" {result['stopped']}" if "stopped" in result else ""
    return f"finished{early}: error {'; '.join(parts)}{notes}{warning}"
