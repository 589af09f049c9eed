"""The embedded dataset."""


import numpy as np
import pytest

from alexnet_jax.data.readers import shapes


def test_an_image_depends_on_its_split_and_index_only():
    images, labels = shapes.draw("train", np.arange(40), 32)
    assert images.shape == (40, 32, 32, 3)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    some, some_labels = shapes.draw("train", np.array([33, 7]), 32)
    np.testing.assert_array_equal(some, images[[33, 7]])
    np.testing.assert_array_equal(some_labels, labels[[33, 7]])
    assert not np.array_equal(shapes.draw("test", np.arange(40), 32)[0], images)
    assert len({image.tobytes() for image in images}) == 40


def test_any_size_shows_the_same_scene(monkeypatch):
    monkeypatch.setattr(shapes, "NOISE", (0.0, 0.0))
    small = shapes.draw("test", np.arange(10), 32)[0].astype(float)
    large = shapes.draw("test", np.arange(10), 96)[0].astype(float)
    assert np.abs(large.reshape(10, 32, 3, 32, 3, 3).mean(axis=(2, 4)) - small).mean() < 6
    assert shapes.draw("test", np.arange(1), 7)[0].shape == (1, 7, 7, 3)


def test_every_class_fills_a_fair_part_of_the_image():
    n = 50
    axis = np.linspace(-1, 1, 64, dtype=np.float32)
    numbers = shapes._Numbers(np.random.default_rng(0).random((n, 64), dtype=np.float32))
    for label, name in enumerate(shapes.CLASSES):
        numbers._used = 0
        mask = shapes._shape(numbers, np.full(n, label), axis[None, None, :], axis[None, :, None])
        assert 0.04 < mask.mean() < 0.5, name
        assert mask.max(axis=(1, 2)).min() == 1, name


def test_labels_are_balanced():
    _, labels = shapes.draw("train", np.arange(1000), 8)
    assert (np.bincount(labels) == 100).all()


def test_colour_alone_does_not_tell_the_class():
    """The nearest class mean of the mean colours stays far above the 5% that would make the task pointless."""
    images, labels = shapes.draw("train", np.arange(2000), 16)
    colours = images[:, 4:12, 4:12].mean(axis=(1, 2))
    centres = np.stack([colours[labels == label].mean(axis=0) for label in range(10)])
    guess = np.argmin(((colours[:, None] - centres) ** 2).sum(axis=2), axis=1)
    assert 0.4 < (guess != labels).mean() < 0.88


def test_numbers_suffice():
    # `_Numbers` would silently hand out too few columns at the end of its table.
    numbers = []

    class Counted(shapes._Numbers):
        def __init__(self, table):
            super().__init__(table)
            numbers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "_Numbers", Counted)
        shapes.draw("train", np.arange(2), 8)
    assert numbers[0]._used <= shapes._NUMBERS


def test_the_version_follows_the_knobs(monkeypatch):
    before = shapes.version()
    assert before == shapes.version()
    monkeypatch.setattr(shapes, "CONTRAST", (0.1, 0.2))
    assert shapes.version() != before
