"""Evenly spread classes, and validation sets cut off by class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import order


def worst(labels, sequence):
    """How far a class is from its share in any prefix, suffix, and in any other slice."""
    n = len(labels)
    sorted_ = np.asarray(labels)[sequence]
    distance = []
    for c in np.unique(labels):
        seen = np.concatenate([[0], np.cumsum(sorted_ == c)])
        distance.append(seen - np.arange(n + 1) * seen[-1] / n)
    distance = np.array(distance)
    return np.abs(distance).max(), (distance.max(axis=1) - distance.min(axis=1)).max()


@pytest.mark.parametrize("counts", [
    [1], [7], [1, 1], [1, 99], [3, 3, 3], [1] * 50, [100, 1, 1, 1, 50], [5, 4, 3, 2, 1, 0, 9], [400] * 7 + [1] * 30,
    [1000, 999, 1], [2, 3, 5, 7, 11, 13, 17]])
def test_each_class_has_its_share_of_every_slice(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(len(counts)).permutation(labels)
    sequence = order.spread(labels)
    assert sorted(sequence) == list(range(len(labels)))
    ends, slices = worst(labels, sequence)
    assert ends < 1
    assert slices < 2
    for c in np.unique(labels):  # images of a class keep their order
        places = sequence[labels[sequence] == c]
        assert (np.diff(places) > 0).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), st.integers(0, 99))
def test_whatever_the_sizes_of_the_classes(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    ends, slices = worst(labels, order.spread(labels))
    assert ends < 1
    assert slices < 2


def test_a_thousand_classes_of_one_image_and_of_many():
    assert sorted(order.spread(np.arange(1000))) == list(range(1000))
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(1000), np.arange(1000) % 13 + 1))
    ends, _ = worst(labels, order.spread(labels))
    assert ends < 1


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_what_is_held_out_is_each_class_s_share(fraction):
    counts = np.array([1, 2, 3, 10, 0, 57, 400])
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    out = order.held_out(labels, fraction, seed=3)
    kept_back = np.bincount(labels[out], minlength=len(counts))
    assert kept_back[0] == 0  # the only image of its class is learnt from
    assert (np.abs(kept_back - fraction * counts) <= 1).all()
    assert (kept_back[counts > 1] >= 1).all()
    assert (kept_back[counts > 0] < counts[counts > 0]).all()
    assert np.array_equal(out, order.held_out(labels, fraction, seed=3))
    assert not np.array_equal(out, order.held_out(labels, fraction, seed=4))
