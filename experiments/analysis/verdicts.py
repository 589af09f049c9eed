"""All rules for verdicts, and the rule for a star.

A verdict on a difference consists of three separate facts, and a word that follows from them.

    sign      the side of zero on which the 95% interval lies (Student's t over seeds): +1, −1, or 0 if it contains zero
    inside    does the interval lie within ±x? This is two one-sided tests at 2.5%; x is in the claim's record
    size      does the interval contain the claimed size, or exclude it?

`judge` chooses the word. For a claim with a sign (and possibly a size):

    reproduced               the interval excludes zero, with the claim's sign
    contradicted             it excludes zero, with the opposite sign
    no effect larger than ±x it contains zero, and lies within ±x
    smaller than claimed     it contains zero, extends beyond ±x, and excludes the claimed size
    unresolved               none of these, or there is no interval

For a claim of no difference:

    reproduced               the interval lies within ±x
    contradicted             it doesn't, and excludes zero
    unresolved               neither

For any claim: *preliminary* until the planned seeds are complete, *not comparable* if the runs can't show it.

A star (`starred`) means that the word is based on the sign, and that the sign's p value (two-sided t test) is not below
0.05 after Holm's correction over a named family of comparisons (`experiments.analysis.families`). Words based on ±x or
on a size use the 95% interval of a single comparison, without correction.

The other rules are for results other than one difference: `ratio` (of epochs), `averages` (of networks), `neighbours`,
`kernels` (both of several runs) and `counted` (the network's size).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.analysis import statistics
from experiments.analysis.statistics import Estimate

if TYPE_CHECKING:
    from experiments.analysis.colour import Answer
    from experiments.analysis.speed import Ratio

SMALLEST = 0.5  # points: the smallest effect of interest, unless a claim's record has another
REPRODUCED, CONTRADICTED, UNRESOLVED = "reproduced", "contradicted", "unresolved"
SMALLER, PRELIMINARY, NOT_COMPARABLE = "smaller than claimed", "preliminary", "not comparable"
NO_EFFECT = "no effect larger than"  # … ±x
WORDS = (REPRODUCED, CONTRADICTED, SMALLER, UNRESOLVED)  # allowed in a claim file
NEAR = 0.02  # relative tolerance for a round number
RANDOM = 0.1  # first-layer kernels of less smoothness (`colour.smoothness`) are still like their random initial values
LITTLE = 0.1  # a smaller gap beyond chance, on a scale from 0 to 1, isn't what the paper describes


@dataclasses.dataclass(frozen=True)
class Claimed:
    """The claim about a difference, in the difference's unit.

    Attributes:
      sign: +1 or −1; 0 for the claim of no difference.
      size: the claimed difference, signed, or None.
      margin: x of ±x, or None.
      whose: whose size it is.
    """

    sign: int
    size: float | None = None
    margin: float | None = SMALLEST
    whose: str = "the paper's"

    def turned(self) -> Claimed:
        """The claim about reference − arm instead of arm − reference."""
        return dataclasses.replace(self, sign=-self.sign, size=None if self.size is None else -self.size)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`word`, `why` (a clause for the reader) and the facts; a fact is None if unknown."""

    word: str
    why: str
    contains_paper: bool | None = None  # does the interval contain the claimed size?
    seeds_needed: int | None = None  # for the claimed effect, at 80% power, given the measured noise
    sign: int | None = None  # +1, −1; 0: the interval contains zero
    inside: bool | None = None  # does the interval lie within ±margin?
    margin: float | None = None
    by_sign: bool = False  # is the word based on the sign? Then Holm's correction applies.


def starred(word: str, by_sign: bool, p_holm: float | None) -> bool:
    """Does the verdict fail Holm's correction? See the module's docstring."""
    return word in (REPRODUCED, CONTRADICTED) and by_sign and p_holm is not None and p_holm >= 1 - statistics.CONFIDENCE


def judge(difference: Estimate, claimed: Claimed, planned: int = 0) -> Verdict:
    """Judges a paired difference against a claim, by the rule in the module's docstring.

    Args:
      planned: number of planned seeds; with fewer the verdict is preliminary.
    """
    if difference.low is None or difference.high is None:
        why = {0: "no pair of finished runs", 1: "one seed has no interval"}
        no_noise = "the same difference at every seed: no measure of the noise"
        verdict = Verdict(UNRESOLVED, why.get(difference.n, no_noise))
    else:
        verdict = _of_interval(difference, claimed)
    return _once_planned(verdict, difference.n, planned)


def _once_planned(verdict: Verdict, seeds: int, planned: int) -> Verdict:
    """The verdict, or a preliminary one until the planned seeds are complete."""
    return verdict if seeds >= planned else dataclasses.replace(
        verdict, word=PRELIMINARY, why=f"{seeds} of {planned} seeds", seeds_needed=None)


def _of_interval(difference: Estimate, claimed: Claimed) -> Verdict:
    low, high, x, whose = difference.low, difference.high, claimed.margin, claimed.whose
    assert low is not None
    assert high is not None
    sign = (low > 0) - (high < 0)
    inside = None if x is None else -x < low and high < x
    contains = None if claimed.size is None else low <= claimed.size <= high
    facts: dict[str, Any] = {"sign": sign, "inside": inside, "margin": x, "contains_paper": contains}
    within = f"the interval lies within ±{x:g}" if inside else ""
    if not claimed.sign:
        if inside:
            return Verdict(REPRODUCED, within, **facts)
        if sign:
            beyond = x is not None and (low > x or high < -x)
            why = "lies" if beyond else "excludes zero and reaches"
            return Verdict(CONTRADICTED, f"the interval {why} beyond ±{x:g}", by_sign=True, **facts)
        why, n = _seeds_for_none(difference, x)
        return Verdict(UNRESOLVED, why, seeds_needed=n, **facts)
    if sign:
        word = REPRODUCED if sign == claimed.sign else CONTRADICTED
        why = ("opposite sign" if word == CONTRADICTED else "the claim has a sign and no size" if contains is None else
               f"the interval contains {whose} size" if contains else f"the size differs from {whose}")
        return Verdict(word, "; ".join(filter(None, (why, within))), by_sign=True, **facts)
    excluded = f"excludes {whose} size" if contains is False else ""
    if inside:
        return Verdict(f"{NO_EFFECT} ±{x:g}", " and ".join(filter(None, (within, excluded))), **facts)
    if excluded:
        return Verdict(SMALLER, f"the interval holds zero and {excluded}", **facts)
    why, n = _seeds_for_sign(difference, claimed)
    return Verdict(UNRESOLVED, why, seeds_needed=n, **facts)


def _seeds_for_sign(difference: Estimate, claimed: Claimed) -> tuple[str, int | None]:
    """(why, seeds_needed): the seeds needed to show the claimed size, else a difference as large as the measured."""
    assert difference.mean is not None
    assert difference.sd is not None
    size = difference.mean if claimed.size is None else claimed.size
    n = statistics.seeds_needed(size, difference.sd)
    need = f"about {n:,} seeds" if n is not None else f"more than {statistics.MOST_SEEDS:,} seeds"
    if claimed.size is None:
        opposite = ", which has the opposite sign" if difference.mean * claimed.sign < 0 else ""
        return f"{need} would resolve a difference as large as the one measured{opposite}", n
    what = f"{claimed.whose} effect"
    if n is not None and n <= difference.n:
        # There were enough seeds for the claimed effect, yet it didn't show: report the power, not fewer seeds.
        chance = statistics.power(size, difference.sd, difference.n)
        return (f"{difference.n} seeds had a chance of {chance:.0%} of showing {what}, which the interval contains",
                n)
    return f"{need} would resolve {what}, which the interval contains", n


def _seeds_for_none(difference: Estimate, margin: float | None) -> tuple[str, int | None]:
    """(why, seeds_needed): the seeds with which four of five intervals would lie within ±margin."""
    if margin is None or difference.sd is None:
        return "the interval holds zero", None
    n = statistics.seeds_for_none(margin, difference.sd)
    need = f"about {n:,} seeds" if n is not None else "more than 10,000 seeds"
    return f"if there is no difference, {need} would show that nothing larger than {margin:g} is there", n


def ratio(measured: Ratio, claimed: float, planned: int = 0) -> Verdict:
    """A ratio of epochs: `judge` of ln(ratio) against ln(claimed); from a bound only what it can show."""
    return _once_planned(_of_ratio(measured, claimed), measured.log.n, planned)


def _of_ratio(measured: Ratio, claimed: float) -> Verdict:
    if measured.bound == "unknown":
        return Verdict(UNRESOLVED, "runs of both kinds never got there")
    if not measured.bound:
        return judge(measured.log, Claimed(1 if claimed > 1 else -1, math.log(claimed), None))
    edge = measured.low if measured.bound == "at least" else measured.high
    if edge is None:
        return Verdict(UNRESOLVED, "a bound without an interval")
    shown = edge > 1 if measured.bound == "at least" else edge < 1
    if not shown:
        return Verdict(UNRESOLVED, f"{measured.bound} {edge:.2g} times", sign=0)
    if measured.bound == "at most":
        return Verdict(CONTRADICTED, "opposite sign", sign=-1)
    beyond = edge > claimed
    return Verdict(REPRODUCED, "a lower bound, and above the paper's size" if beyond else
                   "a lower bound; the paper's size is not excluded", not beyond, sign=1)


def averages(top1: Estimate, networks: int, claimed: float) -> Verdict:
    """The error of averaged networks minus their mean error, in points, over images: by the sign; size is separate."""
    if top1.low is None or top1.high is None:
        return Verdict(UNRESOLVED, "no measure of the noise")
    contains = top1.low <= claimed <= top1.high
    if top1.low <= 0 <= top1.high:
        return Verdict(UNRESOLVED, "the interval over images contains zero", contains, sign=0)
    sign = 1 if top1.low > 0 else -1
    inside = "contains" if contains else "does not contain"
    size = f"{claimed:g}".replace("-", "−")
    return Verdict(REPRODUCED if sign < 0 else CONTRADICTED,
                   f"in kind: {networks} networks; the interval {inside} the paper's {size} points", contains,
                   sign=sign)


def neighbours(difference: Estimate) -> Verdict:
    """The fraction of same-class neighbours by the hidden layer minus that by pixels: by the sign."""
    if difference.low is None or difference.high is None:
        return Verdict(UNRESOLVED, "no measure of the noise")
    if difference.low > 0:
        return Verdict(REPRODUCED, "more neighbours of the same class than by distance of pixels", sign=1)
    if difference.high < 0:
        return Verdict(CONTRADICTED, "fewer neighbours of the same class than by distance of pixels", sign=-1)
    return Verdict(UNRESOLVED, "not told apart from the distance of pixels", sign=0)


def kernels(of: Answer) -> Verdict:
    """Do the columns specialise in colour and grey?

    reproduced: every run's gap is beyond chance (p < 0.05 each), and so is the mean (its 95% interval excludes zero).
    contradicted: the interval lies below LITTLE, in networks whose kernels are no longer like random initial ones
    (smoothness of at least RANDOM). Else unresolved.
    """
    e = of.excess
    share = f"{of.significant} of {e.n} runs have a gap beyond chance (p < 0.05)"
    if e.low is None or e.high is None:
        return Verdict(UNRESOLVED, f"{share}; {'one run has' if e.n == 1 else 'equal runs have'} no interval")
    if of.significant == e.n and e.low > 0:
        return Verdict(REPRODUCED, "every run's gap is beyond what shuffled columns have (p < 0.05)")
    if of.smooth < RANDOM:
        return Verdict(UNRESOLVED, f"{share}; the kernels are still like random ones (smoothness {of.smooth:.2f})")
    if e.high < LITTLE:
        return Verdict(CONTRADICTED, f"{share}; on average the gap exceeds chance by less than {LITTLE}")
    return Verdict(UNRESOLVED, share)


def counted(numbers: Sequence[float], claimed: Sequence[float]) -> Verdict:
    """Counts: reproduced if all lie within 2% of the paper's round numbers."""
    off = [number / round_number - 1 for number, round_number in zip(numbers, claimed, strict=True)]
    near = all(abs(x) <= NEAR for x in off)
    return Verdict(REPRODUCED if near else CONTRADICTED,
                   f"{' and '.join(f'{x:+.1%}' for x in off)} from the paper's round numbers")
