"""The order of the images of a split, stored or with every class spread evenly; and which are held out.

Both depend on the stored labels alone (and a seed), so a split is the same on every machine.
"""

from __future__ import annotations

import functools
import heapq

import numpy as np


def spread(labels: np.ndarray) -> np.ndarray:
    """The order in which every class is spread evenly: int64 [n], positions in `labels`, int [n]; read-only.

    Among the first k of n images each class has its share, k · (its images) / n, to within less than one image. So a
    suffix has too, and any other slice to within two. Images of one class keep their order.

    This is the chairman assignment problem, in Tijdeman's solution (Discrete Mathematics 32, 1980): with C classes,
    the j-th image of a class of m may come from the place (j − 1 + δ) n / m on and has to come by (j − δ) n / m, where
    δ = 1 / (2C − 2). Taking the most urgent of those that may come never misses a time, and so bounds the distance from
    the share by 1 − δ. A class's next image may come only after the last has had to, so each waits for itself alone.
    """
    return _spread(np.ascontiguousarray(labels, np.int64).tobytes())


@functools.lru_cache(maxsize=4)  # a run's splits are slices of the same few: 2 s for ImageNet's 1.28 million
def _spread(labels_: bytes) -> np.ndarray:
    labels = np.frombuffer(labels_, np.int64)
    n = len(labels)
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return _read_only(np.arange(n))
    half = 2 * len(counts) - 2  # 1 / δ
    order = np.argsort(label, kind="stable")
    class_ = label[order]
    m, j = counts[class_], np.arange(n) - (np.cumsum(counts) - counts)[class_]  # j from 0
    if n * n * half >= 1 << 62:
        m, j = m.astype(object), j.astype(object)  # Python's own whole numbers
    begins = (-(-(j * half + 1) * n // (m * half))).astype(np.int64)  # first places, from 1
    ends = (((j + 1) * half - 1) * n // (m * half)).astype(np.int64)  # last places
    by_urgency = np.lexsort((class_, ends))
    rank = np.empty(n, np.int64)
    rank[by_urgency] = np.arange(n)
    first = np.argsort(begins, kind="stable")
    waiting = rank[first].tolist()
    may_come = np.searchsorted(begins[first], np.arange(1, n + 1), side="right").tolist()
    ready: list[int] = []
    sequence, came = [], 0
    push, pop = heapq.heappush, heapq.heappop
    for until in may_come:
        for urgency in waiting[came:until]:
            push(ready, urgency)
        came = until
        sequence.append(pop(ready))
    return _read_only(order[by_urgency[sequence]])


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """bool [n]: images held out for validation, a share of every class, at random.

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
