"""Training error against reported error: by arm, and the effect of dropout by number of training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from alexnet_jax.training import views as views_lib
from experiments.analysis import protocol, statistics
from experiments.analysis.compare import by_seed, compare
from experiments.analysis.statistics import Estimate
from experiments.analysis.workdirs import Sweep, default_views

NO_DROPOUT = {"model.dropout": 0.0}


@dataclasses.dataclass(frozen=True)
class Point:
    """An arm's errors in percent on training images and on reported ones, both by centre crops and the last weights,
    over the seeds that have both."""

    name: str
    learnt: Estimate
    reported: Estimate
    baseline: bool = False


@dataclasses.dataclass(frozen=True)
class Worth:
    """An arm without dropout minus one with it, on `images` training images; in points, paired by seed."""

    images: int
    splits: str  # learnt from and reported on
    seeds: tuple[int, ...]
    device: str
    reported: Estimate  # with dropout, in percent, by the views of both
    error: Estimate  # reported, by the views of both
    centre: Estimate  # reported, by the centre crop
    gap: Estimate  # reported, by the centre crop, minus that on training images


def points(sweeps: Sequence[Sweep]) -> list[Point]:
    """The arms of one regime's records, in their order; if two records have a seed, the first record's run counts."""
    arms: dict[str, tuple[dict[int, float], dict[int, float]]] = {}
    for sweep in sweeps:
        for arm in sweep.arms:
            if not arm.views:
                learnt, reported = arms.setdefault(arm.name, ({}, {}))
                mine = by_seed(arm, "error", views_lib.CENTRE)
                for seed, value in by_seed(arm, "fit").items():
                    if seed in mine and seed not in learnt:
                        learnt[seed], reported[seed] = value, mine[seed]
    return [Point(name, statistics.estimate(list(learnt.values())), statistics.estimate(list(reported.values())),
                  name == sweeps[0].baseline) for name, (learnt, reported) in arms.items() if learnt]


def worth_of_dropout(sweeps: Iterable[Sweep]) -> list[Worth]:
    """By increasing number of images; of two records with the same number the first counts."""
    by_count: dict[int, Worth] = {}
    for sweep in sweeps:
        views = default_views(sweep.runs.values())
        for arm in sweep.arms:
            against = sweep.reference(arm)
            if arm.overrides != {**against.overrides, **NO_DROPOUT} or arm.overrides == against.overrides:
                continue
            error, centre, gap = (compare(arm, against, quantity, by) for quantity, by in (
                ("error", views), ("error", views_lib.CENTRE), ("gap", views)))
            images = {int(((run.result or {}).get("data") or {}).get("train_images") or 0) for run in error.runs}
            if error.pairs and gap.pairs and len(images) == 1 and 0 not in images:
                count = images.pop()
                reported, data = by_seed(against, "error", views), against.runs[error.pairs[0]].config["data"]
                by_count.setdefault(count, Worth(
                    count, f"`{data['train_split']}` → `{data['eval_split']}`", error.pairs,
                    " or ".join(protocol.devices(error.runs)), statistics.estimate([reported[s] for s in error.pairs]),
                    error.difference, centre.difference, gap.difference))
    return [by_count[count] for count in sorted(by_count)]
