"""Exact error counts over a split, from the centre crop or from the ten views."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment, loader
from alexnet_jax.mesh import local_rows, put_batch
from alexnet_jax.program import Program

VIEWS = ("centre", "ten_view")


def log_probs(program: Program, params, consts, images, views: str) -> jax.Array:
    """log of the softmax, averaged over the views of a batch uint8 [batch, size, size, 3]: [batch, classes]."""
    config = program.config
    places = augment.ten_views(config) if views == "ten_view" else augment.centre_view(config)
    if config.data.crop == config.data.size:  # the five crops are one: the ten views are two, five times each
        places = np.unique(places, axis=0)
    mean = None
    for place in places:
        one = program.view_log_probs(params, images, place, consts)
        mean = one if mean is None else jnp.logaddexp(mean, one)
    assert mean is not None
    return mean - math.log(len(places))


def evaluate(program: Program, params, consts, split, views: str = "centre",
             check: Callable[[], object] = lambda: None) -> dict:
    """Counts every image of `split` once: {'top1_wrong', 'top5_wrong', 'total', 'loss'}.

    Ten views: the softmax outputs of the four corner crops, the centre crop and their mirrors are averaged (paper,
    section 4.1). `loss` is the mean of −log of the (averaged) probability of the right class.

    Args:
      check: called between batches; may raise to stop.
    """
    config = program.config
    wrong1 = wrong5 = total = 0
    loss = 0.0
    batch = config.train.batch_size
    for arrays in loader.evaluation_batches(split, batch, local_rows(program.mesh, batch)):
        check()
        images, labels, weight = put_batch(program.mesh, arrays, batch)
        counts = program.count(log_probs(program, params, consts, images, views), labels, weight)
        wrong1 += int(counts.top1_wrong)
        wrong5 += int(counts.top5_wrong)
        total += int(counts.total)
        loss += float(np.float64(counts.loss))
    return {"top1_wrong": wrong1, "top5_wrong": wrong5, "total": total, "loss": loss / total}
