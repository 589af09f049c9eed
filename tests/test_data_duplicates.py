"""Duplicate images, compared with an all-pairs comparison."""

import zlib

import numpy as np
import pytest
from data_files import data_config, encoded, pixels, write_tree

from alexnet_jax.data import duplicates, open_split
from alexnet_jax.data import store as store_lib


def opened(tmp_path, name, split, seeds, size=8):
    """A split of images that are equal where their seeds are: uint8 [n, size, size, 3] as PNG, in two classes."""
    write_tree(tmp_path, {f"{name}/{split}/{'ab'[i % 2]}/{i}.png": encoded(pixels(seed, size, size))
                          for i, seed in enumerate(seeds)})
    data = data_config(tmp_path / "store", dir=tmp_path, name=f"image_folder:{name}", size=size)
    return open_split(data, split, report=lambda line: None)


def by_hand(a, b):
    """[(first place in a, place in b)], all compared with all."""
    return [(hits[0], j) for j, image in enumerate(b)
            if (hits := [i for i, other in enumerate(a) if (other == image).all()])]


@pytest.mark.parametrize("seeds", [range(9), [1, 2, 1, 3, 2, 1, 4], [7] * 8])
def test_within(tmp_path, seeds):
    split = opened(tmp_path, "x", "train", seeds)
    expected = [(i, j) for i, j in by_hand(split.images, split.images) if i < j]
    assert duplicates.repeats(split).tolist() == [list(pair) for pair in expected]
    assert duplicates.within(split) == len(seeds) - len(set(seeds))


def test_between_splits_and_datasets(tmp_path):
    train = opened(tmp_path, "x", "train", [1, 2, 3, 2, 4])
    for name, split, seeds in (("x", "val", [5, 2, 6, 1, 2]), ("y", "train", [3, 3, 9, 8])):
        other = opened(tmp_path, name, split, seeds)
        pairs = duplicates.shared(train, other)
        assert pairs.tolist() == [list(pair) for pair in by_hand(train.images, other.images)]
        assert duplicates.between(train, other) == len(pairs) == sum(seed in (1, 2, 3, 4) for seed in seeds)
    larger = opened(tmp_path, "z", "train", [1, 2, 3], size=10)
    assert duplicates.between(train, larger) == 0


def test_slices_are_seen_alone(tmp_path):
    train = opened(tmp_path, "x", "train", [1, 1, 1, 2, 3, 4])
    data = data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x")
    first, last = (open_split(data, f"train[{part}]", report=lambda line: None) for part in (":3", "3:"))
    expected = by_hand(first.images, last.images)
    assert duplicates.shared(first, last).tolist() == [list(pair) for pair in expected]
    for part in (first, last):
        assert duplicates.within(part) == sum(i < j for i, j in by_hand(part.images, part.images))
    assert duplicates.within(train) == 2


def test_equal_checksums_alone_are_no_duplicate(tmp_path, monkeypatch):
    """The bytes decide: here all images have one checksum."""
    seeds = [1, 2, 1, 3]
    split = opened(tmp_path, "x", "train", seeds)
    monkeypatch.setattr(split.store, "checksums", np.zeros(len(seeds), np.uint32))
    assert duplicates.within(split) == 1
    other = opened(tmp_path, "y", "train", [3, 4])
    monkeypatch.setattr(other.store, "checksums", np.zeros(2, np.uint32))
    assert duplicates.between(split, other) == 1


def test_only_candidates_are_read(tmp_path, monkeypatch):
    split, other = (opened(tmp_path, name, "train", seeds) for name, seeds in (("x", range(9)), ("y", range(20, 25))))
    for opened_split in (split, other):
        monkeypatch.setattr(opened_split.store, "images", None)
    assert duplicates.within(split) == duplicates.between(split, other) == 0


def test_a_store_has_the_checksum_of_each_image(tmp_path):
    store = store_lib.open_store(opened(tmp_path, "x", "train", range(3)).store.folder)
    assert store.checksums.tolist() == [zlib.crc32(image) for image in store.images]
    assert not store.checksums.flags.writeable
