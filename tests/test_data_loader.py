"""Batches: every image where it belongs, in an order that depends on seed and epoch only."""

import gc
import threading
import time

import numpy as np
import pytest
from data_files import data_config

from alexnet_jax.data import Split, loader, open_split
from alexnet_jax.data import split as split_lib
from alexnet_jax.data.readers import shapes
from alexnet_jax.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "COUNTS", {"train": 103, "test": 50})
        data = data_config(tmp_path_factory.mktemp("store"))
        return open_split(data, "train", report=lambda line: None)


def course(split, batch_size):
    return loader.Course(split, batch_size, epochs=10**8)


def threads():
    return sum(thread.name == "batches" for thread in threading.enumerate())


def positions(split, images):
    """Where in the split each image is (they all differ)."""
    known = {image.tobytes(): i for i, image in enumerate(split.images)}
    return [known[image.tobytes()] for image in images]


def test_an_epoch_sees_each_image_once_but_for_the_remainder(split):
    assert loader.steps_per_epoch(split, 10) == 10
    batches = list(loader.training_batches(course(split, 10), seed=3, first_step=0, last_step=20))
    assert len(batches) == 20
    epochs = [[p for b in part for p in positions(split, b.images)] for part in (batches[:10], batches[10:])]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 100
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) != set(epochs[1])  # what is left out differs
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, split.labels[positions(split, batch.images)])
        np.testing.assert_array_equal(batch.index, np.arange(10))
    assert (batches[0].images.dtype, batches[0].labels.dtype, batches[0].index.dtype) == (
        np.uint8,
        np.int32,
        np.int32,
    )


def test_the_order_is_the_permutation_of_seed_and_epoch(split):
    [batch] = loader.training_batches(course(split, 10), seed=3, first_step=25, last_step=26)
    order = np.random.default_rng((3, 2)).permutation(103)
    assert positions(split, batch.images) == list(order[50:60])


def test_large_images_are_those_of_the_map_and_a_file_cut_short_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", {"train": 12, "test": 4})
    monkeypatch.setattr(split_lib, "_SMALL", 0)
    split = open_split(data_config(tmp_path), "train[2:]", report=lambda line: None)
    [batch] = loader.training_batches(course(split, 8), seed=3, first_step=0, last_step=1)
    order = np.random.default_rng((3, 0)).permutation(10)[:8]
    np.testing.assert_array_equal(batch.images, split.images[order])
    np.testing.assert_array_equal(batch.labels, split.labels[order])
    file = split.store.folder / "images.u8"
    with file.open("r+b") as opened:
        opened.truncate(11 * split.images[0].nbytes + 5)
    np.testing.assert_array_equal(split.read(np.array([8])), split.images[8:9])
    with pytest.raises(DataError, match=r"images\.u8: cut short; delete the folder"):
        split.read(np.array([0, 9]))


def test_any_step_can_be_the_first(split):
    whole = list(loader.training_batches(course(split, 16), seed=1, first_step=0, last_step=14))
    rest = list(loader.training_batches(course(split, 16), seed=1, first_step=5, last_step=14))
    assert len(rest) == 9
    for a, b in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    other = next(loader.training_batches(course(split, 16), seed=2, first_step=0, last_step=1))
    assert not np.array_equal(other.images, whole[0].images)


def test_images_are_folded_in_at_an_epoch(split):
    first = Split(split.store, "train[:60]", range(60))
    c = loader.Course(first, 16, epochs=5, folded=split, fold_at=2)  # 3 steps an epoch, then 6
    assert c.steps == 2 * 3 + 3 * 6
    assert [c.place(s) for s in (0, 2, 3, 5, 6, 11, 12, 24)] == [
        (0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 5), (3, 0), (5, 0)]
    np.testing.assert_allclose([c.epochs_done(s) for s in (0, 1, 6, 9, 24)], [0, 1 / 3, 2, 2.5, 5])
    batches = [positions(split, b.images) for b in loader.training_batches(c, seed=7, first_step=0, last_step=c.steps)]
    assert len(batches) == 24
    assert max(p for b in batches[:6] for p in b) < 60
    for epoch, steps in enumerate((range(0, 3), range(3, 6), range(6, 12), range(12, 18), range(18, 24))):
        order = np.random.default_rng((7, epoch)).permutation(60 if epoch < 2 else 103)
        assert [p for s in steps for p in batches[s]] == list(order[:16 * len(steps)])
    rest = [positions(split, b.images) for b in loader.training_batches(c, seed=7, first_step=5, last_step=13)]
    assert rest == batches[5:13], "a resume on either side of the change goes on the same"


@pytest.mark.parametrize("rows", [slice(4, 8), np.array([9, 0, 5]), [2]])
def test_rows_of_the_global_batch(split, rows):
    whole = list(loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=12))
    some = list(loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=12, rows=rows))
    for a, b in zip(whole, some, strict=True):
        np.testing.assert_array_equal(a.images[rows], b.images)
        np.testing.assert_array_equal(a.labels[rows], b.labels)
        np.testing.assert_array_equal(a.index[rows], b.index)


def test_evaluation_counts_every_image_once(split):
    batches = list(loader.evaluation_batches(split, 25))
    images, labels, weight = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert images.shape == (125, 8, 8, 3)
    assert (weight.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(weight, [1.0] * 103 + [0.0] * 22)
    np.testing.assert_array_equal(images[:103], split.images)
    np.testing.assert_array_equal(labels[:103], split.labels)
    assert not images[103:].any()
    assert len(list(loader.evaluation_batches(split, 103))) == 1
    assert len(list(loader.evaluation_batches(split, 500))) == 1


def test_a_batch_too_large(split):
    with pytest.raises(
        ConfigError, match=r"config.train.batch_size: 104 is more than the 103 images of 'train'"
    ):
        course(split, 104)


def test_stopping_early_ends_the_thread(split):
    batches = loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=10**9)
    next(batches)
    assert threads() == 1
    batches.close()
    assert threads() == 0
    batches = loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=10**9)
    next(batches)
    del batches
    gc.collect()
    assert threads() == 0


def test_only_a_few_batches_are_read_ahead(split, monkeypatch):
    read = []
    take = split_lib.take
    monkeypatch.setattr(split_lib, "take", lambda store, rows: read.append(0) or take(store, rows))
    batches = loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=50)
    next(batches)
    time.sleep(0.1)
    assert len(read) == 3
    batches.close()


def test_an_error_in_the_thread_comes_out(split, monkeypatch):
    def fail(images, chosen):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(split_lib, "take", fail)
    with pytest.raises(OSError, match=r"Input/output error"):
        next(loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=5))
    assert threads() == 0
