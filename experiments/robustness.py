"""How robust a claim's row is to other choices of seeds, tests, views, quantities, baselines, devices and images.

    python -m experiments.robustness decay pca           # claims by id (experiments.claims.registry)
    python -m experiments.robustness --images            # also the images of the plan's regime, and of regime H

For each measure of a claim, in its own regime: every pair; the sign test; the results without any one seed, and the
seeds without which the verdict would get a star; the other quantities; the arm against all runs of its baseline on the
same kind of device, unpaired (Welch), and against that device's where a pair was made on another; ±x over seeds, and
over seeds and images; the centre crop; the result without other records' pairs; the plan's other regimes, and their
distance from the first on the same data; runs made on two kinds of device. It only prints: the verdict is that of the
table of claims.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from alexnet_jax import commands, text
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.training import views
from experiments.analysis import compare, protocol, statistics
from experiments.analysis.text import interval, p_text, signed, span
from experiments.analysis.workdirs import Run, Sweep, field, read_sweep
from experiments.claims.judging import Judgement, judged
from experiments.claims.record import Claim
from experiments.claims.regimes import PAPER_LIKE_30, SECOND_IMAGES
from experiments.claims.registry import CLAIMS

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
_ALIKE = ("data.name", "model.conv1.features", "model.conv3.features", "train.epochs")
_OTHERS = ("error", "gap", "fit", "running", "first", "early")


def of_claim(claim: Claim, sweeps: Mapping[str, Sweep]) -> Iterator[str]:
    """Lines about a claim's measures, each in the first of its recorded regimes. `sweeps`: by folder."""
    for what in claim.measures:
        in_regimes = (judged(claim, what, regime, sweeps) for regime in what.regimes)
        judgement = next((one for one in in_regimes if one is not None), None)
        if judgement is not None and judgement.ratio is None:
            yield from ("", f"{claim.id}: {'; '.join(filter(None, (claim.claim, what.part)))}")
            yield from (f"  {line}" for line in _of_measure(judgement, sweeps))
            yield from (f"  {line}" for line in _elsewhere(judgement, sweeps))


def _of_measure(judgement: Judgement, sweeps: Mapping[str, Sweep]) -> Iterator[str]:
    c, what = judgement.comparison, judgement.measure
    sign = -1 if what.turned else 1
    each = {seed: sign * value for seed, value in zip(c.pairs, c.each, strict=True)}
    yield (f"{compare.QUANTITIES[c.quantity]}, {judgement.regime.name}: {interval(judgement.difference)}, "
           f"{len(each)} seeds; "
           f"{judgement.verdict.word}: {'; '.join(filter(None, (judgement.verdict.why, judgement.remark)))}")
    yield "pairs: " + ", ".join(f"{seed}: {signed(value, 2)}" for seed, value in each.items())
    if len(each) > 2:
        yield from _tests(each, judgement)
    if judgement.p_holm is not None:
        family = judgement.corrected.family
        yield f"Holm's p {p_text(judgement.p_holm)} over {len(family.tests)} tests ({family.name})"
    if not c.arm.views:  # otherwise both sides are the same runs
        others = (compare.compare(c.arm, c.reference, other, c.views) for other in _OTHERS if other != c.quantity)
        texts = [f"{compare.QUANTITIES[one.quantity]} {interval(_turned(one.difference, sign))}"
                 for one in others if one.pairs]
        yield "other quantities: " + "; ".join(dict.fromkeys(texts))
        yield from _other_baselines(judgement, sweeps, sign)
    x, over = judgement.verdict.margin, judgement.over_images
    if x is not None and judgement.difference.low is not None:
        yield f"within ±{x:g} over seeds: {'yes' if judgement.verdict.inside else 'no'}" + (
            "" if over is None or over.low is None or over.high is None else
            f"; over seeds and {over.images:,} images {span(over.low, over.high)}: "
            f"{'yes' if -x < over.low and over.high < x else 'no'}")
    searched = all(what.name in (sweep.search or {}).get("arms", {}) for sweep in judgement.sweeps.values())
    if not c.arm.views and not searched:
        yield "the learning rate is the baseline's: none was searched for this arm"


def _elsewhere(own: Judgement, sweeps: Mapping[str, Sweep]) -> Iterator[str]:
    """The results in the evidence plan's other regimes: other images, other data."""
    for regime in own.measure.regimes:
        other = judged(own.claim, own.measure, regime, sweeps) if regime.seeds and regime is not own.regime else None
        if other is not None:
            yield (f"{regime.name}: {interval(other.difference)}, {other.difference.n} seeds; "
                   f"{other.verdict.word}: {other.verdict.why}")
            yield from _apart(own, other)


def _apart(own: Judgement, other: Judgement) -> Iterator[str]:
    """The effect in another regime minus that in the claim's own, if quantity, dataset, network and epochs agree: the
    seeds' differences, unpaired (Welch)."""
    kinds = [{tuple(str(field(run.config, name)) for name in _ALIKE) for run in one.comparison.reference.runs.values()}
             for one in (own, other)]
    if (min(len(one.comparison.each) for one in (own, other)) < 2 or kinds[0] != kinds[1]
            or own.comparison.quantity != other.comparison.quantity):
        return
    sign = -1 if own.measure.turned else 1
    welch = stats.ttest_ind(other.comparison.each, own.comparison.each, equal_var=False)
    ends = welch.confidence_interval(statistics.CONFIDENCE)
    low, high = sorted((sign * ends.low, sign * ends.high))
    mean = sign * float(np.mean(other.comparison.each) - np.mean(own.comparison.each))
    yield f"  that less this regime's: {signed(mean, 2)} {span(low, high)}, p {p_text(welch.pvalue)}, unpaired"


def _tests(by_seed: Mapping[int, float], judgement: Judgement) -> Iterator[str]:
    """The sign test, and the influence of single seeds."""
    each = list(by_seed.values())
    above, below = sum(value > 0 for value in each), sum(value < 0 for value in each)
    p = stats.binomtest(above, above + below).pvalue if above + below else 1.0
    yield f"signs: {above} above zero, {below} below; sign test p {p_text(p)}"
    less = [statistics.estimate([*each[:i], *each[i + 1:]]) for i in range(len(each))]
    means = [one.mean for one in less if one.mean is not None]
    worst = max((one.p_value for one in less if one.p_value is not None), default=None)
    yield (f"without any one seed: mean {signed(min(means), 2)} to {signed(max(means), 2)}"
           + ("" if worst is None else f", p at most {p_text(worst)}"))
    if judgement.p_holm is not None and judgement.p_holm < 1 - statistics.CONFIDENCE:
        lost = [str(seed) for seed, one in zip(by_seed, less, strict=True) if one.p_value is not None
                and judgement.corrected.if_it_were(judgement.test, one.p_value) >= 1 - statistics.CONFIDENCE]
        yield f"seeds without which the word would have a star: {', '.join(lost) or 'none'}"


def _turned(difference: statistics.Estimate, sign: int) -> statistics.Estimate:
    return difference if sign > 0 else -difference


def _other_baselines(judgement: Judgement, sweeps: Mapping[str, Sweep], sign: int) -> Iterator[str]:
    """The arm against other runs of its reference: all recorded ones on the kind of device that most of the arm's runs
    used; and that kind's runs for the seeds of pairs with another device."""
    c = judgement.comparison
    kinds = collections.Counter(_device(run) for run in c.arm.runs.values())
    kind = kinds.most_common(1)[0][0]
    runs = {seed: run for name in judgement.regime.records if name in sweeps for arm in sweeps[name].arms
            if arm.name == c.reference.name for seed, run in arm.runs.items() if _device(run) == kind}
    mine, all_ = ([value for run in part if (value := compare.value_of(run, c.quantity, c.views)) is not None]
                  for part in ([run for run in c.arm.runs.values() if _device(run) == kind], runs.values()))
    if len(mine) > 1 and len(all_) > len(mine):
        welch = stats.ttest_ind(mine, all_, equal_var=False)
        ends = welch.confidence_interval(statistics.CONFIDENCE)
        low, high = sorted((sign * ends.low, sign * ends.high))
        yield (f"{len(mine)} runs against all {len(all_)} of {c.reference.name} on {kind}, unpaired: "
               f"{signed(sign * float(np.mean(mine) - np.mean(all_)), 2)} {span(low, high)}, p {p_text(welch.pvalue)}")
    elsewhere = [seed for seed in c.pairs if _device(c.reference.runs[seed]) != kind and seed in runs]
    if elsewhere:
        reference = dataclasses.replace(c.reference, runs={**c.reference.runs, **{s: runs[s] for s in elsewhere}})
        other = _turned(compare.compare(c.arm, reference, c.quantity, c.views).difference, sign)
        yield (f"with {kind}'s {c.reference.name} of {'seed' if len(elsewhere) == 1 else 'seeds'} "
               f"{', '.join(map(str, elsewhere))} too, which mixes devices in a pair: {interval(other)}"
               + ("" if other.p_value is None else f", p {p_text(other.p_value)}")
               + ("" if other.p_value is None or judgement.p_holm is None else
                  f", Holm's {p_text(judgement.corrected.if_it_were(judgement.test, other.p_value))}"))


def _device(run: Run) -> str:
    return str((run.about.get("device") or {}).get("kind") or protocol.platform(run.about) or "an unknown device")


def twice(sweeps: Mapping[str, Sweep]) -> Iterator[str]:
    """Runs made on two kinds of device: the differences of their errors, in points."""
    made: dict[str, dict[str, Run]] = {}  # by id and device: two records may share a run
    for run in (run for sweep in sweeps.values() for run in sweep.runs.values() if run.state == "finished"):
        made.setdefault(run.id, {}).setdefault(_device(run), run)
    errors: list[float] = []
    for id_, runs in made.items():
        for first, second in itertools.combinations(runs.values(), 2):
            a, b = (compare.value_of(run, "error", views.TEN) for run in (first, second))
            if a is not None and b is not None:
                errors.append(b - a)
                yield (f"  {first.about.get('name', id_)} seed {first.seed}: {_device(first)} {a:.2f}%, "
                       f"{_device(second)} {b:.2f}% ({signed(b - a, 2)})")
    if errors:
        spread = float(np.sqrt(np.mean(np.square(errors))))
        yield f"  root mean square {spread:.2f} points of top-1 error by ten views, {len(errors)} pairs"
        groups = collections.defaultdict(list)
        for runs in made.values():
            for device, run in runs.items():
                if (error := compare.value_of(run, "error", views.TEN)) is not None:
                    groups[run.about.get("name"), device].append(error)
        if (sd := statistics.pooled_sd(list(groups.values()))) is not None:
            yield f"  two seeds of an arm on one device lie {2**0.5 * sd:.2f} apart in the same sense"


def of_images(sweep: Sweep) -> Iterator[str]:
    """The class counts of a sweep's baseline, and how many reported images are training images too."""
    from alexnet_jax.data import duplicates, open_splits

    config = config_lib.from_json(next(iter(sweep.arm(sweep.baseline).runs.values())).config)
    splits = open_splits(config_lib.override(config, {"data.dir": "", "data.store": ""}).data)
    learnt, reported = splits["train_split"], splits["eval_split"]
    for name, split in (("learnt from", learnt), ("reported on", reported)):
        counts = split.per_class
        p = stats.chisquare(counts).pvalue
        yield (f"  {name}: {split.split}, {len(split):,} images; of a class {min(counts):,} to {max(counts):,} "
               f"(equal shares: p {p_text(p)}): " + ", ".join(map(str, counts)))
    yield f"  reported images that were learnt from too, by their bytes: {duplicates.between(learnt, reported)}"
    yield f"  images that stand twice among those learnt from: {duplicates.within(learnt)}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = commands.Parser("experiments.robustness", __doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="names of claims; default: those whose own regime "
                        "is the evidence plan's")
    parser.add_argument("--images", action="store_true", help="describe the regimes' images too; needs the data")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="the folder of recorded results")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.claims if name not in CLAIMS]:
        raise ConfigError(f"{unknown[0]}: no claim of that name; there is {text.listed(list(CLAIMS), len(CLAIMS))}")
    if not options.results.is_dir():
        raise ConfigError(f"--results={options.results}: no such folder; recorded results are in experiments/results")
    chosen = options.claims or [name for name, claim in CLAIMS.items()
                                if any(what.regimes[0].seeds for what in claim.measures)]
    sweeps = {path.parent.name: read_sweep(path.parent) for path in sorted(options.results.glob("*/plan.json"))}
    lines = [line for name in chosen for line in of_claim(CLAIMS[name], sweeps)]
    regime = {name: sweeps[name] for name in PAPER_LIKE_30.records if name in sweeps}
    print("\n".join(lines or ["nothing is recorded of these claims in their own regimes"]))
    if not options.claims:
        print("\n".join(["", "the same run on two kinds of device:", *twice(regime)]))
    for one in (PAPER_LIKE_30, SECOND_IMAGES) if options.images else ():
        if name := next((name for name in one.records if name in sweeps), ""):
            print("\n".join(["", f"images, {one.name}:", *of_images(sweeps[name])]))


if __name__ == "__main__":
    commands.run_main(main)
