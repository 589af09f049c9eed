"""Exact error counts over a split, from the centre crop or from the ten views."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import augment
from alexnet_jax.feed import Feed, streamed_evaluation
from alexnet_jax.program import Counts, Program

VIEWS = ("centre", "ten_view")
_LAG = 2  # batches that may be under way before the host looks at a result


def places(config: ConfigDict, views: str) -> np.ndarray:
    """int32 [views, 3] of (y, x, mirrored), those of `augment`. `views`: of `VIEWS`."""
    found = augment.ten_views(config) if views == "ten_view" else augment.centre_view(config)
    if config.data.crop == config.data.size:  # the five crops are one: the ten views are two, five times each
        found = np.unique(found, axis=0)
    return found


def log_probs(program: Program, params, consts, images, views: np.ndarray) -> jax.Array:
    """log of the softmax, averaged over the views of a batch uint8 [batch, size, size, 3]: [batch, classes].

    Args:
      views: of `places`.
    """
    mean = None
    for view in views:
        one = program.in_turn(program.view_log_probs(params, images, view, consts))
        mean = one if mean is None else jnp.logaddexp(mean, one)
    assert mean is not None
    return mean - math.log(len(views))


def evaluate(program: Program, params, consts, split, views: str = "centre",
             check: Callable[[], object] = lambda: None, feed: Feed | None = None,
             outcomes: Callable[[np.ndarray], object] = lambda some: None) -> dict:
    """Counts every image of `split` once: {'top1_wrong', 'top5_wrong', 'total', 'loss'}.

    Ten views: the softmax outputs of the four corner crops, the centre crop and their mirrors are averaged (paper,
    section 4.1). `loss` is the mean of −log of the (averaged) probability of the right class.

    Args:
      check: called between batches; may raise to stop.
      feed: where the images are; without it they are streamed from the split.
      outcomes: gets each image's outcome (`program.Counts`), int8, some images at a time in the split's order.
    """
    at = places(program.config, views)
    found: Iterator[Counts] | None = feed.evaluation(split, params, consts, at) if feed else None
    if found is None:
        batches = feed.evaluation_batches(split) if feed else streamed_evaluation(program, split)
        found = _one_by_one(program, params, consts, at, batches)
    wrong1 = wrong5 = total = 0
    loss = 0.0
    for counts in _settled(found, check):
        wrong1 += int(np.sum(counts.top1_wrong))
        wrong5 += int(np.sum(counts.top5_wrong))
        total += int(np.sum(counts.total))
        for one in np.atleast_1d(np.asarray(counts.loss, np.float64)):  # one by one: the same sum from every feed
            loss += float(one)
        seen = np.asarray(counts.outcome).reshape(-1)
        outcomes(seen[seen >= 0])
    return {"top1_wrong": wrong1, "top5_wrong": wrong5, "total": total, "loss": loss / total}


def _one_by_one(program: Program, params, consts, views: np.ndarray, batches: Iterable) -> Iterator[Counts]:
    for images, labels, weight in batches:
        yield program.count(log_probs(program, params, consts, images, views), labels, weight)


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
