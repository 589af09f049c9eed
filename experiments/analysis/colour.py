"""How much of a first-layer kernel is colour, and whether one column has more of it than expected by chance.

The paper's section 6.1: the kernels of one GPU are "largely color-agnostic", the other's "largely color-specific", in
every run. One of two columns is always the more colourful, so the gap between them is compared with the gaps under
random assignments of the same kernels to the columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from experiments.analysis import statistics

SHUFFLES = 10_000


def colour_shares(kernels: np.ndarray) -> np.ndarray:
    """[column, kernel]: the fraction of each kernel's energy Σ w² that a grey kernel couldn't have.

    0 if the weights of red, green and blue are equal everywhere; 1 if the three sum to zero everywhere (the kernel
    doesn't respond to grey); 2/3 is expected for independent random weights, such as the initial ones.

    Args:
      kernels: [column, height, width, 3, kernel].
    """
    k = np.asarray(kernels, np.float64)
    energy = (k**2).sum(axis=(1, 2, 3))
    grey = 3 * (k.mean(axis=3) ** 2).sum(axis=(1, 2))
    return 1 - np.divide(grey, energy, out=np.full_like(grey, 1.0), where=energy > 0)


def smoothness(kernels: np.ndarray) -> float:
    """Correlation of neighbouring weights, mean over kernels: 0 for random weights, 1 for constant ones.

    Args:
      kernels: [column, height, width, 3, kernel].
    """
    k = np.asarray(kernels, np.float64)
    products = np.stack([(k[:, 1:] * k[:, :-1]).mean(axis=(1, 2, 3)),
                         (k[:, :, 1:] * k[:, :, :-1]).mean(axis=(1, 2, 3))])
    power = (k**2).mean(axis=(1, 2, 3))
    return float(np.mean(products / np.where(power > 0, power, 1.0)))


@dataclasses.dataclass(frozen=True)
class Separation:
    """One run: each column's mean colour share, and the gap between the highest and the lowest.

    `chance`: the mean gap under shuffling. `p_value`: the fraction of shuffles with a gap at least as large.
    `smooth`: `smoothness` of its kernels.
    """

    columns: tuple[float, ...]
    gap: float
    chance: float
    p_value: float
    smooth: float = 1.0

    @property
    def excess(self) -> float:
        return self.gap - self.chance


def measure(kernels: np.ndarray, seed: int = 0) -> Separation:
    """The separation of one run's kernels, [column, height, width, 3, kernel]."""
    return dataclasses.replace(separation(colour_shares(kernels), seed=seed), smooth=smoothness(kernels))


def separation(shares: np.ndarray, shuffles: int = SHUFFLES, seed: int = 0) -> Separation:
    """Permutation test over the kernels' column labels. `shares`: [column, kernel]."""
    rng = np.random.default_rng(seed)
    means = shares.mean(axis=1)
    flat = np.tile(shares.ravel(), (shuffles, 1))
    dealt = rng.permuted(flat, axis=1).reshape(shuffles, *shares.shape).mean(axis=2)
    gaps = dealt.max(axis=1) - dealt.min(axis=1)
    gap = float(means.max() - means.min())
    # The observed arrangement is one of the permutations; the tolerance keeps rounding from excluding it.
    p = (1 + int((gaps >= gap - 1e-12).sum())) / (1 + shuffles)
    return Separation(tuple(map(float, means)), gap, float(gaps.mean()), p)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Over an arm's runs: the gap beyond chance, the number of runs with p < 0.05, Fisher's combined p, smoothness."""

    excess: statistics.Estimate
    significant: int
    combined_p: float
    smooth: float


def answer(separations: Sequence[Separation]) -> Answer:
    return Answer(statistics.estimate([s.excess for s in separations]), sum(s.p_value < 0.05 for s in separations),
                  float(stats.combine_pvalues([s.p_value for s in separations], method="fisher").pvalue),
                  float(np.mean([s.smooth for s in separations])))
