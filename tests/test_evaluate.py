"""Error counts: the ten views, and ties, NaN and padding by rule."""

import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import Killed, kill

from alexnet_jax import data, evaluate, program
from alexnet_jax import train as train_lib
from alexnet_jax.data import augment
from alexnet_jax.mesh import make_mesh

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny


def test_ten_views_are_averages_of_probabilities(tiny):
    c = tiny()
    built = train_lib.Program(c, 10, make_mesh(c))
    params = built.init(np.uint32(3)).params
    params = jax.tree.map(lambda leaf: leaf * 20, params)  # so that the views disagree
    train, test = (data.open_split(c.data, name) for name in ("train[:64]", "test"))
    consts = augment.constants(c, train.statistics())
    counts = evaluate.evaluate(built, params, consts, test, "ten_view")

    images = np.concatenate([test.images, np.zeros((2, 16, 16, 3), np.uint8)])
    views = [np.concatenate([np.asarray(built.view_log_probs(params, images[i:i + 16], view, consts))
                             for i in (0, 16)])[:30] for view in augment.ten_views(c)]
    assert len(views) == 10
    mean = np.exp(np.asarray(views, np.float64)).mean(axis=0)
    own = mean[np.arange(30), test.labels]
    rank = (mean > own[:, None]).sum(axis=1)
    assert counts["top1_wrong"] == (rank >= 1).sum()
    assert counts["top5_wrong"] == (rank >= 5).sum()
    assert counts["total"] == 30
    assert counts["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    centre = evaluate.evaluate(built, params, consts, test, "centre")
    assert centre["loss"] != counts["loss"]


def test_an_evaluation_can_be_stopped(tiny):
    c = tiny()
    built = train_lib.Program(c, 10, make_mesh(c))
    train = data.open_split(c.data, "train[:64]")
    with pytest.raises(Killed):
        evaluate.evaluate(built, built.init(np.uint32(0)).params, augment.constants(c, train.statistics()), train,
                          check=kill)


def test_ties_nan_and_padding_are_counted_by_rule():
    nan, inf = float("nan"), float("inf")
    rows = [
        ([-1, -2, -3, -4, -5, -6], 0, 1, (0, 0)),  # right
        ([-1, -2, -3, -4, -5, -6], 4, 1, (1, 0)),  # fifth
        ([-1, -2, -3, -4, -5, -6], 5, 1, (1, 1)),  # sixth
        ([-1, -1, -1, -1, -1, -1], 0, 1, (0, 0)),  # of equals the lower class is named first
        ([-1, -1, -1, -1, -1, -1], 4, 1, (1, 0)),
        ([-1, -1, -1, -1, -1, -1], 5, 1, (1, 1)),
        ([nan, nan, nan, nan, nan, nan], 0, 1, (1, 1)),
        ([-inf, -1, -1, -1, -1, -1], 0, 1, (1, 1)),
        ([-6, -5, -4, -3, -2, -1], 0, 0, (0, 0)),  # padding
        ([nan, nan, nan, nan, nan, nan], 0, 0, (0, 0)),
    ]
    for scores, label, weight, expected in rows:
        counts = program.count(np.asarray([scores], np.float32), np.asarray([label]), np.asarray([weight]))
        assert (int(counts.top1_wrong), int(counts.top5_wrong)) == expected, (scores, label)
        assert int(counts.total) == weight
        assert weight or float(counts.loss) == 0
    together = program.count(*(np.asarray([row[i] for row in rows], kind)
                               for i, kind in ((0, np.float32), (1, np.int32), (2, np.float32))))
    assert [int(together.top1_wrong), int(together.top5_wrong), int(together.total)] == [6, 4, 8]
