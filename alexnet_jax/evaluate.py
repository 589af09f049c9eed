"""Exact error counts over a split, from the centre crop or from the ten views."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable, Iterator

import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.feed import Feed, streamed_evaluation
from alexnet_jax.program import Counts, Program

VIEWS = ("centre", "ten_view")
_LAG = 2  # batches that may be under way before the host looks at a result


def evaluate(program: Program, params, consts, split, views: str = "centre",
             check: Callable[[], object] = lambda: None, feed: Feed | None = None) -> dict:
    """Counts every image of `split` once: {'top1_wrong', 'top5_wrong', 'total', 'loss'}.

    Ten views: the softmax outputs of the four corner crops, the centre crop and their mirrors are averaged (paper,
    section 4.1). `loss` is the mean of −log of the (averaged) probability of the right class.

    Args:
      check: called between batches; may raise to stop.
      feed: where the images are; without it they are streamed from the split.
    """
    places = augment.ten_views(program.config) if views == "ten_view" else augment.centre_view(program.config)
    if program.config.data.crop == program.config.data.size:  # the five crops are one: the ten views are two, 5 × each
        places = np.unique(places, axis=0)
    found: Iterator[Counts] | None = feed.evaluation(split, params, consts, places) if feed else None
    if found is None:
        batches = feed.evaluation_batches(split) if feed else streamed_evaluation(program, split)
        found = _one_by_one(program, params, consts, places, batches)
    wrong1 = wrong5 = total = 0
    loss = 0.0
    for counts in _settled(found, check):
        wrong1 += int(np.sum(counts.top1_wrong))
        wrong5 += int(np.sum(counts.top5_wrong))
        total += int(np.sum(counts.total))
        for one in np.atleast_1d(np.asarray(counts.loss, np.float64)):  # one by one: the same sum from every feed
            loss += float(one)
    return {"top1_wrong": wrong1, "top5_wrong": wrong5, "total": total, "loss": loss / total}


def _one_by_one(program: Program, params, consts, places: np.ndarray, batches: Iterable) -> Iterator[Counts]:
    for images, labels, weight in batches:
        log_probs = None
        for place in places:
            one = program.view_log_probs(params, images, place, consts)
            log_probs = one if log_probs is None else jnp.logaddexp(log_probs, one)
        assert log_probs is not None
        yield program.count(log_probs - math.log(len(places)), labels, weight)


def _settled(counts: Iterator[Counts], check: Callable[[], object]) -> Iterator[Counts]:
    """The counts, each when it is there, while the next are under way."""
    pending: collections.deque[Counts] = collections.deque()
    check()
    for one in counts:
        pending.append(one)
        if len(pending) > _LAG:
            yield pending.popleft()
        check()
    yield from pending
