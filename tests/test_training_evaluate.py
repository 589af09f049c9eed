"""Error counts: the ten views against plain NumPy; rules for ties, NaN and padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from data_files import real_data
from tiny_run import Killed, kill

from alexnet_jax import data
from alexnet_jax.data import statistics
from alexnet_jax.data.readers import cifar10, shapes
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import augment, evaluate, program
from alexnet_jax.training import loop as train_lib

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


@dataclasses.dataclass
class Images:
    """As much of a split as an evaluation reads."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def read(self, index, out):
        out[:] = self.images[index]


TOTAL = 43  # two batches of 16 and 11 of a third


def _generated():
    images, labels = shapes.draw("test", np.arange(TOTAL), 16)
    return Images(images, labels), 11  # 5 pixels of room: the centre crop stands at 2


def _cifar10():
    records = np.fromfile(real_data(cifar10.FOLDER) / "data_batch_5.bin", np.uint8, TOTAL * cifar10.RECORD)
    records = records.reshape(TOTAL, cifar10.RECORD)
    images = records[:, 1:].reshape(TOTAL, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), records[:, 0].astype(np.int32)), 24


def _numpy_views(images, crop, kind):
    """The ten views by the text: four corners and the centre, then their mirrors, less the mean by recipe."""
    mean = (images.astype(np.float64).sum(axis=0) / len(images)).astype(np.float32)
    room = images.shape[1] - crop
    middle = room // 2
    views = []
    for mirrored in (False, True):
        for y, x in ((0, 0), (0, room), (room, 0), (room, room), (middle, middle)):
            view = images[:, y:y + crop, x:x + crop].astype(np.float32)
            below = {"pixel": mean[y:y + crop, x:x + crop],  # cropped and mirrored like the image
                     "centre": mean[middle:middle + crop, middle:middle + crop],  # neither
                     "channel": mean.mean(axis=(0, 1))}[kind]
            if mirrored:
                view = view[:, :, ::-1]
                below = below[:, ::-1] if kind == "pixel" else below
            views.append(view - below)
    return np.stack(views)


def _softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _numpy_counts(probabilities, labels):
    """{'top1_wrong', 'top5_wrong', 'total', 'loss', 'outcomes'} from one probability per image and class."""
    best = np.argsort(-probabilities, axis=1)
    wrong = [best[:, 0] != labels, (best[:, :5] != labels[:, None]).all(axis=1)]
    return {"top1_wrong": int(np.sum(wrong[0])), "top5_wrong": int(np.sum(wrong[1])), "total": len(labels),
            "outcomes": np.sum(wrong, axis=0),
            "loss": float(np.mean(-np.log(probabilities[np.arange(len(labels)), labels])))}


class TenViews:
    """A random network in float64, so that its rounding decides nothing, and its logits of the NumPy views."""

    def __init__(self, tiny, split, crop, mean):
        c = tiny(train__precision="float64", augment__mean=mean, data__size=split.images.shape[1], data__crop=crop,
                 model__conv1__features=8, model__conv2__features=8, model__fc6__features=64)
        self.crop, self.split, self.mean = crop, split, mean
        self.built = program.Program(c, 10, make_mesh(c))
        rng = np.random.default_rng(3)

        def weights(leaf):
            """No biases, and signals that keep their size from layer to layer."""
            if leaf.ndim <= 2:
                return np.zeros(leaf.shape)
            return rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[1:-1]))

        self.params = jax.tree.map(weights, jax.eval_shape(self.built.init, np.uint32(0)).params)
        self.consts = augment.constants(c, statistics.compute(split.images))
        self.forward = jax.jit(lambda params, views: self.built.model(params)(views))
        # Each class's logits around 0 and with a deviation of 3: else one class would win throughout.
        logits, fc8 = self.logits(), self.params["fc8"]
        scale = 3 / logits.std(axis=(0, 1))
        fc8["kernel"], fc8["bias"] = fc8["kernel"] * scale, -scale * logits.mean(axis=(0, 1))

    def logits(self, mean=None):
        """[10, image, class]."""
        views = _numpy_views(self.split.images, self.crop, mean or self.mean)
        flat = self.forward(self.params, jnp.asarray(views.reshape(-1, *views.shape[2:])))
        return np.asarray(flat).reshape(10, TOTAL, 10)

    def evaluate(self, labels):
        outcomes = []
        counts = evaluate.evaluate(self.built, self.params, self.consts, Images(self.split.images, labels), "ten_view",
                                   outcomes=outcomes.append)
        return counts | {"outcomes": np.concatenate(outcomes)}


def _same(ours, expected):
    assert {k: ours[k] for k in ("top1_wrong", "top5_wrong", "total")} == {
        k: expected[k] for k in ("top1_wrong", "top5_wrong", "total")}
    assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-10)
    np.testing.assert_array_equal(ours["outcomes"], expected["outcomes"])


@pytest.mark.parametrize(("source", "mean"), [
    (_generated, "pixel"), (_generated, "centre"), (_generated, "channel"), (_cifar10, "centre")],
    ids=lambda x: x if isinstance(x, str) else x.__name__[1:])
def test_ten_views_are_the_texts(tiny, source, mean):
    split, crop = source()
    with jax.enable_x64(True):
        ten = TenViews(tiny, split, crop, mean)
        logits = ten.logits()
        expected = _numpy_counts(_softmax(logits).mean(axis=0), split.labels)
        _same(ten.evaluate(split.labels), expected)
        # What else one might compute is something else here, by far more than the two may differ.
        others = {"logits": _softmax(logits.mean(axis=0)), "no mirrors": _softmax(logits[:5]).mean(axis=0),
                  "no centre": _softmax(logits[[0, 1, 2, 3, 5, 6, 7, 8]]).mean(axis=0),
                  "no corners": _softmax(logits[[4, 9]]).mean(axis=0)}
        for kind in {"pixel", "centre", "channel"} - {mean}:
            others[kind] = _softmax(ten.logits(kind)).mean(axis=0)
        for name, probabilities in others.items():
            assert abs(_numpy_counts(probabilities, split.labels)["loss"] / expected["loss"] - 1) > 1e-4, name


def test_counts_are_those_of_averaged_probabilities_not_of_averaged_logits(tiny):
    split, crop = _generated()
    with jax.enable_x64(True):
        ten = TenViews(tiny, split, crop, "centre")
        logits = ten.logits()
        right, other = _softmax(logits).mean(axis=0), _softmax(logits.mean(axis=0))
        for guesses, key in ((1, "top1_wrong"), (5, "top5_wrong")):
            # Labels that one average names within so many guesses and the other doesn't, where there are such.
            labels, apart = split.labels.copy(), 0
            for i in range(TOTAL):
                named = [set(np.argsort(-p[i])[:guesses].tolist()) for p in (right, other)]
                if only := named[0] - named[1]:
                    labels[i], apart = min(only), apart + 1
            assert apart >= 3
            expected = _numpy_counts(right, labels)
            assert _numpy_counts(other, labels)[key] == expected[key] + apart
            _same(ten.evaluate(labels), expected)


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
        counts = program.count_mistakes(np.asarray([scores], np.float32), np.asarray([label]), np.asarray([weight]))
        assert (int(counts.top1_wrong), int(counts.top5_wrong)) == expected, (scores, label)
        assert int(counts.total) == weight
        assert weight or float(counts.loss) == 0
    together = program.count_mistakes(*(np.asarray([row[i] for row in rows], kind)
                               for i, kind in ((0, np.float32), (1, np.int32), (2, np.float32))))
    assert [int(together.top1_wrong), int(together.top5_wrong), int(together.total)] == [6, 4, 8]
    assert together.outcome.tolist() == [sum(expected) if weight else -1 for *_, weight, expected in rows]
