"""Statistics over a few seeds: means, paired differences, power, and corrections for many comparisons.

All intervals are two-sided and assume normal noise between seeds (Student's t). Units are the caller's: reports pass
percent for error rates and percentage points for differences.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.80
MOST_SEEDS = 100_000  # beyond this "how many seeds" isn't a useful answer


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds. `sd` needs two seeds; the interval needs two that differ (see `estimate`)."""

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None  # of "the mean is zero", two-sided t test

    def __neg__(self) -> Estimate:
        """The estimate for the negated values."""
        return dataclasses.replace(
            self, mean=None if self.mean is None else -self.mean, low=None if self.high is None else -self.high,
            high=None if self.low is None else -self.low)

    @property
    def half(self) -> float | None:
        """Half the interval's width, or None."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean, standard deviation and t-interval of one value per seed.

    There is no interval for one seed, nor for identical values: error rates are multiples of 1/images, so two seeds can
    agree exactly by chance, and a deviation of zero would look like certainty.
    """
    x = np.asarray(list(values), dtype=float)
    if x.size == 0:
        return Estimate(0)
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(1, mean)
    sd = float(x.std(ddof=1))
    # Not `sd == 0`: rounding leaves a deviation near 1e-16 for identical values.
    if sd <= 1e-12 * max(1.0, abs(mean)):
        return Estimate(x.size, mean, 0.0)
    error = sd / math.sqrt(x.size)
    low, high = stats.t.interval(confidence, x.size - 1, loc=mean, scale=error)
    p = 2 * stats.t.sf(abs(mean) / error, x.size - 1)
    return Estimate(x.size, mean, sd, float(low), float(high), float(p))


def paired_difference(arm: Mapping[int, float], baseline: Mapping[int, float],
                      confidence: float = CONFIDENCE) -> Estimate:
    """The mean of `arm[seed] − baseline[seed]` over the seeds that both have.

    Two runs with one seed see the same images in the same order with the same crops, so part of the noise cancels.
    """
    return estimate([arm[seed] - baseline[seed] for seed in sorted(set(arm) & set(baseline))], confidence)


@dataclasses.dataclass(frozen=True)
class OverImages:
    """How a paired difference varies with the choice of reported images (`over_images`); in the errors' unit."""

    images: int
    standard_error: float | None  # of the mean difference, from the choice of images alone
    low: float | None  # of the interval over seeds and images
    high: float | None

    def __neg__(self) -> OverImages:
        """The values for the negated difference."""
        return dataclasses.replace(self, low=None if self.high is None else -self.high,
                                   high=None if self.low is None else -self.low)


def over_images(arm: np.ndarray, baseline: np.ndarray, scale: float = 1.0, confidence: float = CONFIDENCE
                ) -> OverImages | None:
    """The noise in a paired difference from sampling the reported images, and an interval over seeds and images.

    The hypothetical repetition draws other evaluation images for the same networks; the training images stay.

    An image's difference, averaged over seeds, varies between images because of the arms (which counts here) and
    because of each seed (which `estimate` already covers). A two-way analysis of variance without replication separates
    them: with MS_images = seeds · var(image means) and the residual MS_rest, the overall mean's variance from images is
    (MS_images − MS_rest) / (seeds · images), or zero if that is negative. Half the interval is the root of the sum of
    two squares: half of the seeds' interval (Student's t, as seeds are few), and the normal quantile times the images'
    standard error (the "MOVER" of Zou and Donner, 2008, for sums of estimates of unequal precision). It is never
    narrower than the seeds' interval.

    Args:
      arm, baseline: the errors, [seeds, images], of the same seeds and images; numbers, or bool for wrong.
      scale: factor for the errors, 100 for points.

    Returns:
      None for fewer than two seeds or images.
    """
    # One byte per image for bool: there may be hundreds of seeds of 50,000 images.
    counted = arm.dtype == baseline.dtype == bool
    d = np.subtract(arm, baseline, dtype=np.int8 if counted else float)
    seeds, images = d.shape
    if seeds < 2 or images < 2:
        return None
    by_seed, by_image = d.mean(axis=1), d.mean(axis=0)
    squares = float(np.count_nonzero(d) if counted else np.vdot(d, d)) - d.size * float(by_seed.mean())**2
    ms_images = seeds * float(by_image.var(ddof=1))
    ms_rest = (squares - d.size * float(by_seed.var() + by_image.var())) / ((seeds - 1) * (images - 1))
    error = scale * math.sqrt(max(0.0, ms_images - ms_rest) / (seeds * images))
    own = estimate(list(scale * by_seed), confidence)
    if own.mean is None or own.half is None:
        return OverImages(images, error, None, None)
    half = math.hypot(own.half, float(stats.norm.isf((1 - confidence) / 2)) * error)
    return OverImages(images, error, own.mean - half, own.mean + half)


def power(effect: float, sd: float, n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """The probability that the interval of `n` seeds excludes zero, on either side."""
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else 0.0
    critical = float(stats.t.isf(alpha / 2, n - 1))
    centre = math.sqrt(n) * abs(effect) / sd
    # scipy's series fails at both ends; these limits are exact to eight digits.
    if centre > 100 * critical:
        return 1.0
    if centre < 1e-4:
        return alpha
    # |t| > c is t² > c², and a squared noncentral t is a noncentral F; scipy's noncentral t gives NaN for large
    # effects.
    return float(stats.ncf.sf(critical**2, 1, n - 1, centre**2))


def seeds_needed(effect: float, sd: float, wanted: float = POWER,
                 alpha: float = 1 - CONFIDENCE) -> int | None:
    """The smallest number of seeds with that power; None for no effect, or if it exceeds MOST_SEEDS."""
    if effect == 0 or not math.isfinite(effect):
        return None
    low, high = 1, 2
    while power(effect, sd, high, alpha) < wanted:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:  # power grows with n: bisect
        middle = (low + high) // 2
        if power(effect, sd, middle, alpha) < wanted:
            low = middle
        else:
            high = middle
    return high


def holm(p_values: Sequence[float | None], tests: int | None = None) -> list[float | None]:
    """Holm's step-down adjustment for several arms compared at once; None (no test) stays None.

    Args:
      tests: number of comparisons, if some have no p value yet; default: those that have one.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, i) in enumerate(order):
        floor = max(floor, min(1.0, p * ((len(order) if tests is None else tests) - rank)))
        adjusted[i] = floor
    return adjusted


def binomial_standard_error(rate: float, images: int) -> float:
    """Standard error of an error rate (a fraction) counted on `images` images: the evaluation's noise."""
    return math.sqrt(rate * (1 - rate) / images)


def pooled_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation between seeds within groups, pooled over groups; None if no group has two seeds."""
    usable = [np.asarray(g, dtype=float) for g in groups if len(g) > 1]
    freedom = sum(g.size - 1 for g in usable)
    return math.sqrt(sum(float(g.var(ddof=1)) * (g.size - 1) for g in usable) / freedom) if freedom else None


def equivalence_power(margin: float, sd: float, n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """The probability that the interval of `n` seeds lies within ±margin if there is no difference.

    That is P(|mean| + t·s/√n < margin), integrated over the sample's deviation s.
    """
    if n < 2 or sd <= 0:
        return float(n >= 2 and margin > 0)
    # s² = sd²·χ²/(n−1) at evenly spaced quantiles; the mean is independent of it.
    chi2 = stats.chi2.ppf((np.arange(400) + 0.5) / 400, n - 1)
    room = margin - stats.t.isf(alpha / 2, n - 1) * sd * np.sqrt(chi2 / (n - 1) / n)
    inside = 2 * stats.norm.cdf(room * math.sqrt(n) / sd) - 1
    return float(np.where(room > 0, inside, 0.0).mean())


def seeds_for_none(margin: float, sd: float, wanted: float = POWER) -> int | None:
    """The smallest number of seeds whose interval lies within ±margin with that probability, without a difference."""
    n = bisect.bisect_left(range(10_000), wanted, lo=2, key=lambda n: equivalence_power(margin, sd, n))
    return n if n < 10_000 else None
