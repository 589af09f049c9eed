"""Which image stands where in a split: as it is stored, or with every class spread evenly; what is held out.

Both are functions of the stored labels alone (and of a seed), so that a split is the same on every machine.
"""

from __future__ import annotations

import heapq

import numpy as np


def spread(labels: np.ndarray) -> np.ndarray:
    """The order in which every class is spread evenly: int64 [n], places in `labels`, int [n].

    Among the first k of n images each class has its share, k · (its images) / n, to within less than one image. So a
    suffix has too, and any other slice to within two. Images of one class keep their order.

    This is the chairman assignment problem, in Tijdeman's solution (Discrete Mathematics 32, 1980): with C classes,
    the j-th image of a class of m may come from the place (j − 1 + δ) n / m on and has to come by (j − δ) n / m, where
    δ = 1 / (2C − 2). Taking the most urgent of those that may come never misses a time, and so bounds the distance from
    the share by 1 − δ.
    """
    labels = np.asarray(labels)
    n = len(labels)
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2:
        return np.arange(n)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    half = 2 * len(present) - 2  # 1 / δ; all times below are whole numbers: places times m · half, compared across m
    sequence = np.empty(n, np.int64)
    waiting = [(_begins(1, m, n, half), c) for c, m in enumerate(counts.tolist())]
    heapq.heapify(waiting)
    ready: list[tuple[int, int]] = []
    taken = [0] * len(present)
    sizes = counts.tolist()
    for place in range(1, n + 1):
        while waiting and waiting[0][0] <= place:
            _, c = heapq.heappop(waiting)
            heapq.heappush(ready, (_ends(taken[c] + 1, sizes[c], n, half), c))
        _, c = heapq.heappop(ready)
        sequence[place - 1] = by_class[c][taken[c]]
        taken[c] += 1
        if taken[c] < sizes[c]:
            heapq.heappush(waiting, (_begins(taken[c] + 1, sizes[c], n, half), c))
    return sequence


def _begins(j: int, m: int, n: int, half: int) -> int:
    """The first place, from 1, of the j-th image of a class of m."""
    return -(-((j - 1) * half + 1) * n // (m * half))


def _ends(j: int, m: int, n: int, half: int) -> int:
    """The last place of the j-th image of a class of m: one further, and its class would be missing an image."""
    return (j * half - 1) * n // (m * half)


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """bool [n]: images that are kept back for validation, of every class its share, at random.

    Of a class of m images ⌊fraction · m + ½⌋ are, but at least one and never all; of a class of one image none.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels)
    wanted = np.floor(fraction * counts + 0.5).astype(np.int64)
    wanted = np.clip(wanted, np.minimum(1, np.maximum(counts - 1, 0)), np.maximum(counts - 1, 0))
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    drawn = drawn[np.argsort(labels[drawn], kind="stable")]
    first = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - first[labels[drawn]]
    out = np.zeros(len(labels), bool)
    out[drawn] = rank < wanted[labels[drawn]]
    return out
