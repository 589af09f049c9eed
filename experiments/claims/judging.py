"""Judges claims by recorded runs: a comparison, with the claim's sign, its verdict and its family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.training import views as views_lib
from experiments.analysis import compare as compare_lib
from experiments.analysis import families, speed, verdicts
from experiments.analysis.compare import Comparison, compare
from experiments.analysis.statistics import Estimate, OverImages
from experiments.analysis.text import interval
from experiments.analysis.workdirs import Arm, Sweep, default_views, field
from experiments.claims.record import Claim, Measure, OfArm, Regime


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The measured value of a claim in a regime.

    Attributes:
      sweeps: the regime's sweeps that have pairs, by folder name.
      comparison: arm − reference; all other attributes have the claim's own sign.
      difference: of the logarithms if there is a `ratio` (of epochs).
      ten, centre: the differences in the reported error, by its own views and by the centre crop.
      remark: what else a reader must know: where other views or other records disagree.
      corrected: the family of its correction.
    """

    claim: Claim
    measure: Measure
    regime: Regime
    sweeps: Mapping[str, Sweep]
    comparison: Comparison
    difference: Estimate
    ratio: speed.Ratio | None
    top5: Estimate | None
    over_images: OverImages | None
    ten: Estimate | None
    centre: Estimate | None
    verdict: verdicts.Verdict
    remark: str
    corrected: families.Corrected

    @property
    def test(self) -> families.Test:
        return self.comparison.arm.name, self.comparison.quantity

    @property
    def p_holm(self) -> float | None:
        return self.corrected.p_holm.get(self.test)

    @property
    def sweep(self) -> Sweep:
        """The first sweep."""
        return next(iter(self.sweeps.values()))

    def only(self) -> Sweep:
        """A sweep of the compared runs only, for their protocol."""
        c = self.comparison
        arms = {part.name: dataclasses.replace(part, runs={s: part.runs[s] for s in c.pairs})
                for part in (c.reference, c.arm)}
        return dataclasses.replace(self.sweep, baseline=c.reference.name, arms=list(arms.values()))


def judged(claim: Claim, what: Measure, regime: Regime, sweeps: Mapping[str, Sweep]) -> Judgement | None:
    """A measure of a claim in a regime, from the regime's records; None if they have no pair of runs for it.

    Args:
      sweeps: the recorded sweeps, by folder.
    """
    here = {name: sweep for name in regime.records if (sweep := sweeps.get(name)) is not None}
    views = default_views(run for sweep in here.values() for run in sweep.runs.values())
    parts = {name: pair for name, sweep in here.items() if (pair := _pair(sweep, what, views)) is not None}
    if not parts:
        return None
    arm, reference, taken = compare_lib.together(list(parts.values()), what.quantity, views)
    c = compare(arm, reference, what.quantity, views)
    if not c.pairs:
        return None
    used = {name: here[name] for name, seeds in zip(parts, taken, strict=True) if seeds}
    claimed = claim.claimed(what)
    over = _turned(c.over_images, what)
    ten, centre = (None if arm.views else _error(c, what, by) for by in (views, views_lib.CENTRE))
    ratio, difference, verdict = _held(c, what, claimed, regime.seeds)
    if ratio is None:
        verdict = _with_images(verdict, difference, over, claimed)
    remarks = [_by_the_centre(c, claimed, ten, centre, regime, here),
               _without(what, c, claimed, regime, parts, taken, here)]
    if c.stalled:
        verdict = verdicts.Verdict(verdicts.NOT_COMPARABLE, c.stalled)
    elif what.own_rate and not all(what.name in (sweep.search or {}).get("arms", {}) for sweep in used.values()):
        verdict = verdicts.Verdict(verdicts.NOT_COMPARABLE, what.own_rate)
    return Judgement(claim, what, regime, used, c, difference, ratio, _turned(c.top5, what), over, ten, centre, verdict,
                 "; ".join(filter(None, remarks)), corrected(regime, here, c.quantity, views))


def _held(c: Comparison, what: Measure, claimed: verdicts.Claimed, planned: int = 0
          ) -> tuple[speed.Ratio | None, Estimate, verdicts.Verdict]:
    """(the ratio, if the quantity is compared by ratio; the difference with the claim's sign; the verdict on it)."""
    difference = _turned(c.difference, what)
    if c.quantity != compare_lib.EPOCHS:
        return None, difference, verdicts.judge(difference, claimed, planned)
    fast, slow = (c.arm, c.reference) if what.turned else (c.reference, c.arm)
    ratio = speed.ratio(compare_lib.arrivals(fast), compare_lib.arrivals(slow))
    return ratio, difference, verdicts.ratio(ratio, what.ratio, planned)


def corrected(regime: Regime, sweeps: Mapping[str, Sweep], quantity: str = "error", views: str | None = None,
              own: Sweep | None = None) -> families.Corrected:
    """The family of a regime's comparisons with Holm's p values: the declared one, else all arms of its sweep.

    Args:
      own: a sweep whose arms are compared within it, without other records' pairs.
    """
    if regime.family is None:
        return families.of_sweep(next(iter(sweeps.values())), quantity, views)
    views = views or default_views(run for sweep in sweeps.values() for run in sweep.runs.values())
    p_values: dict[families.Test, float | None] = {}
    for name, of in regime.family.tests:
        alone = own is not None and any(arm.name == name for arm in own.arms)
        parts = [(arm, sweep.reference(arm)) for sweep in sweeps.values() if not alone or sweep is own
                 for arm in sweep.arms if arm.name == name]
        if parts:
            arm, reference, _ = compare_lib.together(parts, of, views)
            p_values[name, of] = compare(arm, reference, of, views).p_value
    return families.Corrected(regime.family, p_values)


def of_the_arm(about: OfArm | None, c: Comparison, planned: int = 0) -> verdicts.Verdict | None:
    """A report's verdict on an arm's difference in error, arm − reference; None if there is no claim about it."""
    if about is None or (claimed := about.claimed) is None:
        return None
    if c.stalled:
        return verdicts.Verdict(verdicts.NOT_COMPARABLE, f"{c.stalled}; see the notes")
    return _with_images(verdicts.judge(c.difference, claimed, planned), c.difference, c.over_images, claimed)


def _pair(sweep: Sweep, what: Measure, views: str) -> tuple[Arm, Arm] | None:
    """(arm, reference); None if the sweep doesn't have this measure."""
    baseline = sweep.arm(sweep.baseline)
    if what.ablation == "views":  # every sweep has both views of its baseline
        config = next((run.config for run in baseline.runs.values()), {})
        whole = field(config, "data.size") == field(config, "data.crop")
        if whole or views != views_lib.TEN or not views_lib.mirrors(config):
            return None
        return dataclasses.replace(baseline, name=what.name, views=what.name), baseline
    arm = next((arm for arm in sweep.arms if what.is_of(arm.ablation, arm.name, sweep.local)), None)
    return None if arm is None or arm.views else (arm, sweep.reference(arm))


def _turned(value: Any, what: Measure) -> Any:
    return -value if what.turned and value is not None else value


def _error(c: Comparison, what: Measure, views: str) -> Estimate | None:
    difference = c.of_error(views).difference
    return _turned(difference, what) if difference.n else None


def _with_images(verdict: verdicts.Verdict, value: Estimate, over: OverImages | None, claimed: verdicts.Claimed
                 ) -> verdicts.Verdict:
    """The verdict, with the effect of the noise from the reported images added."""
    if over is None or over.low is None or verdict.word not in (verdicts.REPRODUCED, verdicts.CONTRADICTED):
        return verdict
    wider = verdicts.judge(dataclasses.replace(value, low=over.low, high=over.high), claimed)
    return verdict if wider.word == verdict.word else dataclasses.replace(
        verdict, why=f"{verdict.why}; with the noise of the images {wider.word}")


def _by_the_centre(c: Comparison, claimed: verdicts.Claimed, ten: Estimate | None, centre: Estimate | None,
                   regime: Regime, sweeps: Mapping[str, Sweep]) -> str:
    """Where the centre crop disagrees with the ten views: another word or star, or another side of zero."""
    if ten is None or centre is None or c.stalled or len(c.pairs) < regime.seeds:
        return ""
    if c.quantity == "error":
        words = [_word(verdicts.judge(one, claimed, regime.seeds), c, corrected(regime, sweeps, "error", views))
                 for one, views in ((ten, c.views), (centre, views_lib.CENTRE))]
        return "" if words[0] == words[1] else f"by the centre crop {words[1]}"
    signs = [verdicts.judge(one, verdicts.Claimed(1)).sign for one in (ten, centre)]
    lies = {1: "above zero", -1: "below zero", 0: "on both sides of zero", None: "nowhere"}
    return "" if signs[0] == signs[1] else (
        f"the error's interval is {lies[signs[0]]} by {views_lib.NAMES[c.views]}, {lies[signs[1]]} by the centre crop")


def _without(what: Measure, c: Comparison, claimed: verdicts.Claimed, regime: Regime,
             parts: Mapping[str, tuple[Arm, Arm]], taken: Sequence[tuple[int, ...]], sweeps: Mapping[str, Sweep]
             ) -> str:
    """The effect of pairs from records other than the first: the difference without them; its word, if different."""
    gave = {name: seeds for name, seeds in zip(parts, taken, strict=True) if seeds}
    first, *others = gave
    if not others:
        return ""
    alone = compare(*parts[first], c.quantity, c.views)
    kept = {name: sweep for name, sweep in sweeps.items() if name not in others}
    ratio, difference, verdict = _held(alone, what, claimed)
    words = [_word(_held(c, what, claimed)[2], c, corrected(regime, sweeps, c.quantity, c.views)),
             _word(verdict, alone, corrected(regime, kept, c.quantity, c.views))]
    added = ", ".join(f"{'seed' if len(gave[name]) == 1 else 'seeds'} {', '.join(map(str, gave[name]))} of {name}"
                      for name in others)
    return (f"without {added}: {ratio.text if ratio else interval(difference)}, {difference.n} seeds"
            + (f", {words[1]}" if words[0] != words[1] and len(c.pairs) >= regime.seeds else ""))


def _word(verdict: verdicts.Verdict, c: Comparison, of: families.Corrected) -> str:
    """The verdict's word, with its star if it has one."""
    star = verdicts.starred(verdict.word, verdict.by_sign, of.p_holm.get((c.arm.name, c.quantity)))
    return f"{verdict.word}{'*' if star else ''}"
