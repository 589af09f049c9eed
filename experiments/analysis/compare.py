"""An arm against its reference, paired by seed: the one place where two arms are compared.

Reports, the table of claims, the figures and the notebook take every difference from `compare`. All quantities are of
finished runs, in percent (except `epochs`); a difference is always arm − reference, in points.

    error    the reported error, top-1 (`training.views.shared`: ten views, five where no run's training mirrors)
    gap      overfitting: the error on reported images minus that on training images (data.fit_split), both
             by centre crops and the last weights, without dropout and augmentation
    fit      that error on training images
    running  the running training error of the last epoch, which has dropout and augmentation on in both arms
    first    the running training error over the first epoch
    early    the reported error (centre crop) after the first epoch
    epochs   until the plateau rule ended the run (optim.plateau.stop): arms are compared by the ratio of their epochs;
             a run that reached its last epoch first gives a lower bound
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from alexnet_jax.training import learning
from alexnet_jax.training import views as views_lib
from experiments.analysis import image_noise, speed, statistics
from experiments.analysis.workdirs import Arm, Run, Sweep, default_views, field

QUANTITIES = {
    "error": "top-1 error", "gap": "overfitting (error on reported images − error on images learnt from)",
    "fit": "error on images learnt from", "running": "running training error",
    "first": "training error over the first epoch", "early": "error after one epoch",
    "epochs": "epochs until the error stops improving"}
EPOCHS = "epochs"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A result of `compare`. `pairs`: the seeds; `each`: arm − reference of each; `difference`: of logarithms if the
    quantity is compared by ratio."""

    arm: Arm
    reference: Arm
    quantity: str
    views: str  # of the reported errors; an arm may have its own
    pairs: tuple[int, ...]
    each: tuple[float, ...]
    difference: statistics.Estimate
    top5: statistics.Estimate | None = None  # None also if it is meaningless
    bound: str = ""  # for a ratio: see `experiments.analysis.speed.Ratio`

    @property
    def runs(self) -> tuple[Run, ...]:
        """The compared runs, each once."""
        by_id = {run.id: run for part in (self.arm, self.reference)
                 for seed, run in part.runs.items() if seed in self.pairs}
        return tuple(by_id.values())

    @property
    def stalled(self) -> str:
        """Why its runs show no effect (some never learnt), or ''."""
        return learning.why(run.message for run in self.runs) or ""

    @property
    def p_value(self) -> float | None:
        """The p value of "no difference", for a correction; None without a meaningful test."""
        return None if self.bound or self.stalled else self.difference.p_value

    @functools.cached_property
    def over_images(self) -> statistics.OverImages | None:
        """The noise over images of a difference in the reported error, if the runs kept each image's outcome."""
        if self.quantity != "error":
            return None
        views = (self.arm.views or self.views, self.reference.views or self.views)
        return image_noise.between(self.arm, self.reference, views, self.pairs)

    def of_error(self, views: str) -> Comparison:
        """The same pairs' difference in the reported error, with other views."""
        def alone(part: Arm) -> Arm:
            return dataclasses.replace(part, runs={seed: part.runs[seed] for seed in self.pairs}, views="")

        return compare(alone(self.arm), alone(self.reference), "error", views)


def compare(arm: Arm, reference: Arm, quantity: str = "error", views: str = views_lib.TEN) -> Comparison:
    """The difference arm − reference in a quantity, over the seeds for which both have a finished run that has it.

    Args:
      quantity: one of QUANTITIES; `fit` falls back to `running` if no pair of runs has an error on training images.
      views: of the reported errors; an arm with its own views uses those.
    """
    if quantity == EPOCHS:
        took, others = arrivals(arm), arrivals(reference)
        ratio = speed.ratio(others, took)
        return Comparison(arm, reference, quantity, views, tuple(sorted(set(took) & set(others))), (), ratio.log,
                          bound=ratio.bound)
    mine, theirs = by_seed(arm, quantity, views), by_seed(reference, quantity, views)
    pairs = sorted(set(mine) & set(theirs))
    if quantity == "fit" and not pairs:
        return compare(arm, reference, "running", views)
    top5 = None
    if quantity == "error" and all(run.tells_top5 for part in (arm, reference) for run in part.runs.values()):
        top5 = statistics.paired_difference(by_seed(arm, quantity, views, "top5"),
                                            by_seed(reference, quantity, views, "top5"))
    return Comparison(arm, reference, quantity, views, tuple(pairs), tuple(mine[seed] - theirs[seed] for seed in pairs),
                      statistics.paired_difference(mine, theirs), top5)


def by_seed(arm: Arm, quantity: str = "error", views: str = views_lib.TEN, key: str = "top1") -> dict[int, float]:
    """{seed: quantity in percent}, for the arm's runs that have it."""
    values = {seed: value_of(run, quantity, arm.views or views, key) for seed, run in sorted(arm.runs.items())}
    return {seed: value for seed, value in values.items() if value is not None}


def value_of(run: Run, quantity: str = "error", views: str = views_lib.TEN, key: str = "top1") -> float | None:
    """The quantity of a run in percent; None if it isn't finished or its records lack it."""
    def percent(name: str) -> float | None:
        counts = run.counts(name)
        return None if counts is None else 100 * counts[f"{key}_wrong"] / counts["total"]

    if run.state != "finished":
        return None
    if quantity == "error":
        return percent(views)
    if quantity == "fit":
        return percent("fit")
    if quantity == "gap":
        error, fit = percent(views_lib.CENTRE), percent("fit")
        return None if error is None or fit is None else error - fit
    if quantity == "running":
        error = (run.result or {}).get("train", {}).get("top1_error")
        return None if error is None else 100 * error
    column = {"first": "train_top1_error", "early": "eval_top1_error"}[quantity]
    row: Mapping = next((row for row in run.rows if row["epoch"] == 1), {})
    return None if row.get(column) is None else 100 * row[column]


def arrivals(arm: Arm) -> dict[int, speed.Arrival]:
    """The epochs of the finished runs with a plateau rule for stopping."""
    return {seed: speed.Arrival(done := (run.result or {})["epochs"], done < field(run.config, "train.epochs"))
            for seed, run in sorted(arm.runs.items())
            if run.state == "finished" and field(run.config, "optim.plateau.stop")}


def of_sweep(sweep: Sweep, quantity: str = "error", views: str | None = None) -> dict[str, Comparison]:
    """{name: comparison with its reference}, for each arm of a sweep that isn't its own reference.

    Args:
      views: of the reported errors; None: those of `training.views.shared`.
    """
    views = views or default_views(sweep.runs.values())
    return {arm.name: compare(arm, against, quantity, views) for arm in sweep.arms
            if (against := sweep.reference(arm)).name != arm.name and arm.views != views}


def together(parts: Sequence[tuple[Arm, Arm]], quantity: str, views: str) -> tuple[Arm, Arm, list[tuple[int, ...]]]:
    """Merges several records: (arm, reference, the seeds from each part). A pair's runs come from one record (hence
    from one kind of machine), the first that has both."""
    taken: list[tuple[int, ...]] = []
    for arm, reference in parts:
        known = {seed for seeds in taken for seed in seeds}
        taken.append(tuple(seed for seed in compare(arm, reference, quantity, views).pairs if seed not in known))
    arm, reference = (dataclasses.replace(parts[0][side], runs={seed: part[side].runs[seed] for part, seeds in zip(
        parts, taken, strict=True) for seed in seeds}) for side in (0, 1))
    return arm, reference, taken
