"""What is measured for a claim: a quantity of a run, the arms that are compared, and how the difference is judged.

All quantities are in percent and taken from a run's records; differences are paired by seed.

    error   the reported error (`training.views.shared`: ten views, five where no run's training mirrors), top-1
    gap     overfitting: the error on reported images less that on images that were learnt from (data.fit_split), both
            by centre crops and the last weights, without dropout and augmentation
    fit     that error on images that were learnt from; where a run has none, the running training error of its last
            epoch, which has dropout and augmentation on in both arms
    early   the reported error (centre crop) after the first epoch
    epochs  until the plateau rule ended the run (optim.plateau.stop); not a percentage, so arms are compared by the
            ratio of their epochs, and a run that its last epoch ended first gives a lower bound
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from alexnet_jax.training import learning
from alexnet_jax.training import views as views_lib
from experiments import paper
from experiments.analysis import image_noise, speed, statistics
from experiments.analysis.workdirs import Arm, Run, Sweep, default_views, field

QUANTITIES = {
    "error": "top-1 error", "gap": "overfitting (error on reported images − error on images learnt from)",
    "fit": "error on images learnt from", "running": "running training error", "early": "error after one epoch",
    "epochs": "epochs until the error stops improving"}


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a claim is measured in a sweep.

    Attributes:
      id: of experiments.paper.CLAIMS, or 'log-' and a run of the logs.
      ablation, arm: of the catalogue: the arm that is compared with its reference.
      quantity: of QUANTITIES.
      turned: the claim speaks of what the arm takes away, so the difference is reference − arm (the ratio reference ÷
        arm).
      sign: of arm − reference, where the claim has a sign and no size.
      ratio: that the claim gives, of a quantity that is compared by ratio.
      margin: points within which "makes no difference" holds.
      part: what a claim of several arms is about in this one.
      in_kind: not the claim itself but something near it: no row where it isn't measured.
    """

    id: str
    ablation: str
    arm: str
    quantity: str = "error"
    turned: bool = False
    sign: int = 0
    ratio: float = 0.0
    margin: float = 0.0
    part: str = ""
    in_kind: bool = False

    @property
    def local(self) -> bool:
        """About cuda-convnet's conv-local networks? The paper's 13% and 11% are."""
        return self.id == "lrn-cifar"

    @property
    def spec(self) -> str:
        """The arm for `experiments.run --ablations=`."""
        return f"{self.ablation}.{self.arm}"


MEASURES: tuple[Measure, ...] = (
    Measure("relu", "activation", "tanh", sign=1, part="in kind: tanh (biases of 0) − ReLU after the same epochs",
            in_kind=True),
    Measure("columns", "columns", "one_column", turned=True),
    Measure("lrn", "lrn", "no_lrn", turned=True),
    Measure("lrn-cifar", "lrn", "no_lrn", turned=True, part="the 11% network, with its norms − without"),
    Measure("lrn-cifar", "lrn", "conv_local_13", turned=True, part="the two networks as released, 11% − 13%"),
    Measure("overlap", "pooling", "nonoverlapping", turned=True),
    Measure("overlap-fit", "pooling", "nonoverlapping", "gap", sign=1, part="2/2 − 3/2"),
    Measure("crops", "views", "centre", turned=True),
    Measure("pca", "pca", "no_pca", turned=True),
    Measure("crop-flip", "augmentation", "no_augmentation", "gap", sign=1, part="without − with"),
    Measure("dropout", "dropout", "no_dropout", "gap", sign=1, part="without − with"),
    Measure("dropout", "dropout", "no_dropout", "epochs", turned=True, ratio=2.0, part="iterations, with ÷ without"),
    *(Measure("depth", "depth", f"no_{layer}", part=f"without {layer}") for layer in ("conv3", "conv4", "conv5")),
    Measure("decay", "decay", "no_decay", "fit", sign=1, part="without − with"),
    Measure("bias-init", "bias_init", "zero_bias", "early", sign=1, part="biases 0 − 1"),
    Measure("log-150", "columns", "no_exchange"),
    Measure("log-132", "columns", "exchange_conv4", sign=1),
    Measure("log-127", "columns", "no_exchange_conv3", sign=1),
    Measure("log-166", "lrn", "lrn_before_relu"),
    # Half of the 1.37 points that both norms together are worth, run 148 against 145.
    Measure("log-167", "lrn", "lrn_first", margin=0.7),
)


@dataclasses.dataclass(frozen=True)
class Found:
    """A measure in a sweep. `runs` are all that count; `quantity` is what was measured, maybe 'running' for 'fit'."""

    difference: statistics.Estimate  # as the claim has it; of the logarithms where there is a ratio
    top5: statistics.Estimate | None
    quantity: str
    verdict: statistics.Verdict
    runs: tuple[Run, ...]
    p_value: float | None
    ratio: speed.Ratio | None = None
    words: str = ""  # what there is to say besides
    error: statistics.Estimate | None = None  # the difference in error, where another quantity is measured
    over_images: statistics.OverImages | None = None  # of a difference in error, where the runs kept each image's
    views: str = views_lib.TEN  # of the reported errors


def value_of(run: Run, quantity: str, views: str, key: str = "top1") -> float | None:
    """The quantity of a run in percent; None where it isn't finished or its records don't have it."""
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
        error, fit = percent("centre"), percent("fit")
        return None if error is None or fit is None else error - fit
    if quantity == "running":
        error = (run.result or {}).get("train", {}).get("top1_error")
        return None if error is None else 100 * error
    first = next((row for row in run.rows if row["epoch"] == 1), None)
    return None if first is None or first.get("eval_top1_error") is None else 100 * first["eval_top1_error"]


def measure(sweep: Sweep, what: Measure) -> Found | None:
    """What a recorded sweep says of a claim; None where it has no pair of runs for it."""
    pair = _pair(sweep, what)
    if pair is None:
        return None
    arm, reference, views = pair
    if what.quantity == "epochs":
        return _converged(what, arm, reference)
    for quantity in ("fit", "running") if what.quantity == "fit" else (what.quantity,):
        mine, theirs = (_by_seed(part, quantity, v) for part, v in zip((arm, reference), views, strict=True))
        seeds = sorted(set(mine) & set(theirs))
        if seeds:
            break
    else:
        return None
    if what.turned:
        mine, theirs = theirs, mine
    difference = statistics.paired_difference(mine, theirs)
    top5 = error = over = None
    if quantity in ("gap", "fit", "running"):  # less overfitting isn't fewer errors
        error = statistics.paired_difference(_by_seed(arm, "error", views[0]), _by_seed(reference, "error", views[1]))
    if quantity == "error":
        if all(run.tells_top5 for part in (arm, reference) for run in part.runs.values()):
            fives = [_by_seed(part, quantity, v, "top5") for part, v in zip((arm, reference), views, strict=True)]
            top5 = statistics.paired_difference(*(reversed(fives) if what.turned else fives))
        sides = ((arm, views[0]), (reference, views[1]))
        (first, seen), (second, also) = reversed(sides) if what.turned else sides
        over = image_noise.between(first, second, (seen, also), seeds)
    runs = {run.id: run for part in (arm, reference) for seed, run in part.runs.items() if seed in seeds}
    p = statistics.equivalence_p(difference, what.margin) if what.margin else difference.p_value
    word = _judge(sweep, what, difference, runs)
    if over is not None and over.low is not None and word.word in ("reproduced", "contradicted"):
        wider = _judge(sweep, what, dataclasses.replace(difference, low=over.low, high=over.high), runs)
        if wider.word != word.word:
            word = dataclasses.replace(word, why=f"{word.why}; with the noise of the images unresolved")
    return Found(difference, top5, quantity, word, tuple(runs.values()), p, error=error, over_images=over,
                 views=views[1])


def _converged(what: Measure, arm: Arm, reference: Arm) -> Found | None:
    """The ratio of the epochs that two arms took until they no longer improved; None without such runs."""
    mine, theirs = ({seed: taken for seed, run in sorted(part.runs.items()) if (taken := _taken(run)) is not None}
                    for part in (arm, reference))
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        return None
    parts = [(arm.name, mine), (reference.name, theirs)]
    (_, fast), (_, slow) = parts if what.turned else parts[::-1]
    ratio = speed.ratio(fast, slow)
    words = "; ".join(speed.in_words(name, (by[seed] for seed in seeds)) for name, by in parts[::-1])
    runs = {run.id: run for part in (arm, reference) for seed, run in part.runs.items() if seed in seeds}
    verdict = _stalled(runs.values()) or speed.verdict(ratio, what.ratio)
    return Found(ratio.log, None, what.quantity, verdict, tuple(runs.values()),
                 None if ratio.bound else ratio.log.p_value, ratio, words)


def _taken(run: Run) -> speed.Arrival | None:
    """The epochs of a finished run that the plateau rule was to end."""
    if run.state != "finished" or not field(run.config, "optim.plateau.stop"):
        return None
    done = (run.result or {})["epochs"]
    return speed.Arrival(done, done < field(run.config, "train.epochs"))


def _by_seed(arm: Arm, quantity: str, views: str, key: str = "top1") -> dict[int, float]:
    found = {seed: value_of(run, quantity, views, key) for seed, run in sorted(arm.runs.items())}
    return {seed: v for seed, v in found.items() if v is not None}


def _pair(sweep: Sweep, what: Measure) -> tuple[Arm, Arm, tuple[str, str]] | None:
    """(arm, what it is compared with, the views of each); None if the sweep isn't about this claim."""
    baseline = sweep.arm(sweep.baseline)
    config = next(iter(baseline.runs.values())).config if baseline.runs else {}
    views = default_views(sweep.runs.values())
    if what.ablation == "views":  # any sweep has both views of its baseline
        whole = field(config, "data.size") == field(config, "data.crop")
        if whole or views != views_lib.TEN or not views_lib.mirrors(config):
            return None
        return baseline, baseline, (views_lib.CENTRE, views_lib.TEN)
    if what.ablation == "lrn" and sweep.local != what.local:
        return None
    arm = next((a for a in sweep.arms if _is(a, what, sweep.local)), None)
    return None if arm is None or arm.views else (arm, sweep.reference(arm), (views, views))


def _is(arm: Arm, what: Measure, local: bool) -> bool:
    found = paper.effect(arm.ablation, arm.name, local)
    return found is not None and found is paper.effect(what.ablation, what.arm, local)


def _stalled(runs: Iterable[Run]) -> statistics.Verdict | None:
    why = learning.why(run.message for run in runs)
    return statistics.Verdict("not comparable", why) if why else None


def _judge(sweep: Sweep, what: Measure, difference: statistics.Estimate,
           runs: Mapping[str, Run]) -> statistics.Verdict:
    if stalled := _stalled(runs.values()):
        return stalled
    if what.id == "relu" and what.arm not in (sweep.search or {}).get("arms", {}):
        return statistics.Verdict("not comparable", "tanh ran at ReLU's learning rate; the claim is about rates chosen "
                                  "separately")
    if what.margin:
        found = statistics.equivalence(difference, what.margin)
        return dataclasses.replace(found, why=f"{found.why}, half of what both norms are worth in the log")
    if what.sign:
        return statistics.sign_verdict(difference, what.sign)
    claimed, whose = claimed_of(what)
    assert claimed is not None
    return statistics.verdict(difference, claimed, whose)


def claimed_of(what: Measure) -> tuple[float | None, str]:
    """(the claimed top-1 difference in points, as the claim has it, or None; whose it is)."""
    claim = paper.CLAIMS.get(what.id)
    if claim is not None:
        return (claim.paper.top1 if claim.paper else None), "the paper's"
    effect = paper.effect(what.ablation, what.arm, what.local)
    return (effect.log.top1 if effect and effect.log else None), "the log's"
