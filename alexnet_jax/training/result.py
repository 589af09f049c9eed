"""A run's result: the content of result.json, and the last line of its log."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import run_files
from alexnet_jax.data import Split
from alexnet_jax.data.comparing import about_data_words
from alexnet_jax.errors import WorkdirError
from alexnet_jax.text import percent
from alexnet_jax.training import learning
from alexnet_jax.training import views as views_lib


def result(name: str, id_: str, config: ConfigDict, splits: tuple[Split, Split], steps: int,
           rows: Sequence[Mapping[str, Any]], diverged: str | None, counts: Mapping[str, dict | None],
           about: Mapping[str, Any],
           stopped: tuple[int, str] | None = None) -> dict[str, Any]:
    """The content of result.json, as alexnet_jax.run_files describes it.

    Args:
      name: of the run's arm. id_: the run's. splits: training, reported. steps: the config's, or those done by a run
        that stopped early. rows: of metrics.csv.
      diverged: why the run was given up, or None.
      counts: otherwise the final COUNTS, by their names in result.json; None for those not taken.
      about: `data.comparing.about_data` of the splits.
      stopped: (epochs, reason) of a run that ended before its config's epochs.
    """
    d, (train, reported), last = config.data, splits, (rows or [{}])[-1]
    return {
        "schema": run_files.SCHEMA, "name": name, "id": id_,
        "seed": config.seed, "status": "diverged" if diverged else "finished",
        "message": diverged or _message((train, reported), counts, rows, about),
        "epochs": stopped[0] if stopped else config.train.epochs, "steps": steps,
        **({"stopped": f"after epoch {stopped[0]} of {config.train.epochs}: {stopped[1]}"} if stopped else {}),
        "train": {"loss": last.get("train_loss"), "top1_error": last.get("train_top1_error")},
        "data": {"name": d.name, "version": train.version, "size": d.size, "crop": d.crop,
                 "train_split": d.train_split, "train_images": len(train), "eval_split": d.eval_split,
                 "eval_images": len(reported), "corrupt": train.corrupt + reported.corrupt, **about},
        "eval": None if diverged else {name: found for name, found in counts.items() if found is not None}}


def _message(splits: tuple[Split, Split], counts: Mapping[str, dict | None], rows: Sequence[Mapping[str, Any]],
             about: Mapping[str, Any]) -> str:
    """`learning.judge` of what the run learnt, by its headline and its last row."""
    def learnt(row: Mapping[str, Any]) -> learning.Errors:
        return learning.Errors(round(row["train_top1_error"] * len(train)), len(train), chance)

    train, reported = splits
    reported_counts = counts[views_lib.headline(counts)]
    assert reported_counts is not None
    chance = learning.chance(train.labels)
    best, blind = min(rows, key=lambda row: row["train_top1_error"]), learning.blind_loss(train.labels)
    return learning.judge(
        learnt(rows[-1]),
        learning.Errors(reported_counts["top1_wrong"], reported_counts["total"], learning.chance(reported.labels)),
        loss=rows[-1]["train_loss"] / blind if blind else math.inf, best=(best["epoch"], learnt(best)),
        unseen=about.get("classes", {}).get("not_learnt_images", 0), split=reported.split)


def in_words(views: str, counts: Mapping[str, Any], classes: int | None) -> str:
    """'centre crop 21.4% top-1, 4.0% top-5 (2140 and 400 of 10000 wrong)'. `classes`: of `run_files.tells_top5`."""
    top1, top5 = run_files.error_rates(counts)
    if not run_files.tells_top5(classes):
        return f"{views_lib.NAMES[views]} {percent(top1)} ({counts['top1_wrong']} of {counts['total']} wrong)"
    return (f"{views_lib.NAMES[views]} {percent(top1)} top-1, {percent(top5)} top-5 ({counts['top1_wrong']} and "
            f"{counts['top5_wrong']} of {counts['total']} wrong)")


def last_words(result: Mapping[str, Any], classes: int | None = None) -> str:
    """One line for the log: the centre crop's error and the headline. `classes`: of `run_files.classes_of`."""
    if result["status"] != "finished":
        return f"given up: {result['message']}"
    counts = result["eval"]
    parts = [in_words(views, counts[views], classes)
             for views in dict.fromkeys((views_lib.CENTRE, views_lib.headline(counts)))]
    warning = f"; WARNING: {result['message']}" if result["message"] else ""
    notes = "".join(f"; note: {line}" for line in about_data_words(result.get("data") or {}))
    early = f" {result['stopped']}" if "stopped" in result else ""
    return f"finished{early}: error {'; '.join(parts)}{notes}{warning}"


def add_five_views(folder: pathlib.Path, counts: Mapping[str, dict], outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """Adds five views to the result of a finished run that was made before they were counted; returns what was done.

    Args:
      counts, outcomes: of all views, by the run's checkpoint (`evaluate.evaluate`, `run_files.packed_outcomes`).

    Raises:
      WorkdirError: the run has not finished, or its result has other counts of the views that it has: the checkpoint
        isn't the one that it was counted by, or this machine rounds otherwise.
    """
    result = run_files.read_json(folder / "result.json") or {}
    if result.get("status") != "finished":
        raise WorkdirError(f"{folder}: has no finished result to add to; the command that started the run resumes it")
    if views_lib.FIVE not in counts or result["eval"].get(views_lib.FIVE):
        return "has nothing to add: " + ("its training mirrors" if views_lib.FIVE not in counts else "it is there")
    for views, there in result["eval"].items():
        here = counts.get(views, there)
        if here["top1_wrong"] != there["top1_wrong"] or here["total"] != there["total"]:
            raise WorkdirError(f"{folder / 'result.json'}: {views_lib.NAMES[views]} {there['top1_wrong']} of "
                               f"{there['total']} wrong there and {here['top1_wrong']} of {here['total']} by this "
                               "checkpoint on this machine; nothing is added")
    kept = run_files.read_json(folder / run_files.OUTCOMES)
    if kept is not None:
        old = {views: kept[views] for views in views_lib.NAMES if views in kept}
        run_files.write_outcomes(folder, kept["images"], {**old, views_lib.FIVE: outcomes[views_lib.FIVE]})
    known = {**result["eval"], views_lib.FIVE: counts[views_lib.FIVE]}
    order = [*(views for views in counts if views in known), *(name for name in known if name not in counts)]
    run_files.write_json(folder / "result.json", {**result, "eval": {name: known[name] for name in order}})
    return "has five views now"
