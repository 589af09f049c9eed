"""Exact error counts over a split, from the centre crop or from the ten views."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment, loader
from alexnet_jax.mesh import local_rows, put_batch
from alexnet_jax.program import Program

VIEWS = ("centre", "ten_view")


def evaluate(program: Program, params, consts, split, views: str = "centre",
             check: Callable[[], object] = lambda: None) -> dict:
    """Counts every image of `split` once: {'top1_wrong', 'top5_wrong', 'total', 'loss'}.

    Ten views: the softmax outputs of the four corner crops, the centre crop and their mirrors are averaged (paper,
    section 4.1). `loss` is the mean of −log of the (averaged) probability of the right class.

    Args:
      check: called between batches; may raise to stop.
    """
    config = program.config
    places = augment.ten_views(config) if views == "ten_view" else augment.centre_view(config)
    if config.data.crop == config.data.size:  # the five crops are one: the ten views are two, five times each
        places = np.unique(places, axis=0)
    wrong1 = wrong5 = total = 0
    loss = 0.0
    batch = config.train.batch_size
    for arrays in loader.evaluation_batches(split, batch, local_rows(program.mesh, batch)):
        check()
        images, labels, weight = put_batch(program.mesh, arrays, batch)
        log_probs = None
        for place in places:
            one = program.view_log_probs(params, images, place, consts)
            log_probs = one if log_probs is None else jnp.logaddexp(log_probs, one)
        assert log_probs is not None
        counts = program.count(log_probs - math.log(len(places)), labels, weight)
        wrong1 += int(counts.top1_wrong)
        wrong5 += int(counts.top5_wrong)
        total += int(counts.total)
        loss += float(np.float64(counts.loss))
    return {"top1_wrong": wrong1, "top5_wrong": wrong5, "total": total, "loss": loss / total}
