"""Exact error counts over a split, from the centre crop, the ten views or the five."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.parallel.mesh import put_whole
from alexnet_jax.training import augment
from alexnet_jax.training.feed import Feed, streamed_evaluation
from alexnet_jax.training.program import Counts, Program
from alexnet_jax.training.views import CENTRE, FIVE, TEN

_LAG = 2  # batches in flight before the host fetches a result


def places(config: ConfigDict, views: str) -> np.ndarray:
    """int32 [views, 3] of (y, x, mirrored), those of `augment`. `views`: of `alexnet_jax.training.views.NAMES`."""
    found = {CENTRE: augment.centre_view, FIVE: augment.five_views, TEN: augment.ten_views}[views](config)
    if config.data.crop == config.data.size:  # the five crops are one: the ten views are two, five times each
        found = np.unique(found, axis=0)
    return found


def log_probs(program: Program, params, consts, images, views: Sequence | np.ndarray) -> jax.Array:
    """log of the softmax, averaged over the views of a batch uint8 [batch, size, size, 3]: [batch, classes].

    Args:
      views: of `places`, on the host or each on the mesh.
    """
    of_sum = None
    for view in views:
        one = program.in_turn(program.view_log_probs(params, images, view, consts))
        of_sum = one if of_sum is None else jnp.logaddexp(of_sum, one)
    assert of_sum is not None
    return program.mean_log_probs(of_sum, len(views))


def evaluate(program: Program, params, consts, split, views: str = "centre",
             check: Callable[[], object] = lambda: None, feed: Feed | None = None,
             outcomes: Callable[[np.ndarray], object] = lambda some: None,
             answers: Callable[[np.ndarray], object] | None = None) -> dict:
    """Counts every image of `split` once: {'top1_wrong', 'top5_wrong', 'total', 'loss'}.

    Softmax outputs are averaged over the views (paper, section 4.1; `alexnet_jax.training.views` says which). `loss` is
    the mean of −log of the (averaged) probability of the right class.

    Args:
      check: called between batches; may raise to stop.
      feed: provides the images; without it they are streamed from the split.
      outcomes: called with each image's outcome (`program.Counts`), int8, some images at a time in the split's order.
      answers: called with each image's `log_probs`, float32 [some, classes], likewise; only without `feed`.
    """
    assert answers is None or feed is None
    at = places(program.config, views)
    found: Iterator[Counts] | None = feed.evaluation(split, params, consts, at) if feed else None
    if found is None:
        batches = feed.evaluation_batches(split) if feed else streamed_evaluation(program, split)
        found = _one_by_one(program, params, consts, put_whole(program.mesh, list(at)), batches, answers)
    wrong1 = wrong5 = total = 0
    loss = 0.0
    for counts in map(jax.device_get, _settled(found, check)):
        wrong1 += int(np.sum(counts.top1_wrong))
        wrong5 += int(np.sum(counts.top5_wrong))
        total += int(np.sum(counts.total))
        for one in np.atleast_1d(np.asarray(counts.loss, np.float64)):  # one by one: the same sum from every feed
            loss += float(one)
        seen = np.asarray(counts.outcome).reshape(-1)
        outcomes(seen[seen >= 0])
    return {"top1_wrong": wrong1, "top5_wrong": wrong5, "total": total, "loss": loss / total}


def _one_by_one(program: Program, params, consts, views: Sequence, batches: Iterable,
                answers: Callable[[np.ndarray], object] | None) -> Iterator[Counts]:
    for images, labels, weight in batches:
        found = log_probs(program, params, consts, images, views)
        if answers is not None:
            answers(np.asarray(found)[np.asarray(weight) > 0])
        yield program.count_mistakes(found, labels, weight)


def _settled(counts: Iterator[Counts], check: Callable[[], object]) -> Iterator[Counts]:
    """The counts in order, keeping the next few in flight."""
    pending: collections.deque[Counts] = collections.deque()
    check()
    for one in counts:
        pending.append(one)
        if len(pending) > _LAG:
            yield pending.popleft()
        check()
    yield from pending
