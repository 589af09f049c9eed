"""Batches: every image where it belongs, in an order that depends on seed and epoch only."""

import gc
import os
import threading
import time

import fake_driver
import jax
import numpy as np
import pytest
from data_files import data_config

from alexnet_jax.data import Split, loader, open_split
from alexnet_jax.data import store as store_lib
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
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


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
    monkeypatch.setattr(store_lib, "_SMALL", 0)
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


@pytest.fixture
def in_pieces(monkeypatch):
    """Images count as large, and each of a batch may be read by another thread."""
    monkeypatch.setattr(store_lib, "_SMALL", 0)
    monkeypatch.setattr(loader, "_PIECE", 1)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [range(7, 97), np.random.default_rng(1).permutation(103)[:90]])
def test_however_many_threads_read_batches_are_the_same(split, in_pieces, threads, rows):
    """As from one array, with rows of a process of several and from a step in the middle of an epoch on."""
    part = Split(split.store, "some", rows)
    c = loader.Course(part, 20, epochs=3)
    order = np.concatenate([np.random.default_rng((4, epoch)).permutation(90)[:80] for epoch in range(3)])
    expected = np.asarray(split.store.images)[np.asarray(rows)[order]].reshape(12, 20, 8, 8, 3)
    labels = part.labels[order].reshape(12, 20)
    for first, mine in ((0, slice(None)), (6, slice(10, 20)), (3, np.array([19, 0, 5]))):
        found = list(loader.training_batches(c, 4, first, c.steps, mine, threads=threads))
        np.testing.assert_array_equal([batch.images for batch in found], expected[first:, mine])
        np.testing.assert_array_equal([batch.labels for batch in found], labels[first:, mine])
    for mine in (slice(0, 20), slice(20, 40)):
        images = np.concatenate([images for images, *_ in loader.evaluation_batches(part, 40, mine)])
        assert len(images) == 60
        places = np.concatenate([np.arange(90)[first:][mine] for first in (0, 40, 80)])
        np.testing.assert_array_equal(images[:len(places)], np.asarray(part.images)[places])
        assert not images[len(places):].any()


def test_images_that_follow_each_other_are_one_request(split, in_pieces, monkeypatch):
    requests, real = [], os.preadv

    def few(descriptor, parts, offset):  # as a system may that is interrupted
        requests.append((offset // 192, offset % 192))
        return real(descriptor, [part[:500] for part in parts], offset)

    monkeypatch.setattr(os, "preadv", few)
    rows = np.array([9, 4, 5, 6, 6, 7, 0, 102, 3])
    np.testing.assert_array_equal(split.store.read(rows), np.asarray(split.store.images)[rows])
    assert requests == [(0, 0), (3, 0), (4, 0), (6, 116), (6, 0), (9, 0), (102, 0)]
    assert split.store.read(rows[:0]).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("small", [True, False])
def test_a_row_that_is_not_there_is_no_other_image(split, small, monkeypatch):
    monkeypatch.setattr(store_lib, "_SMALL", 1 << 15 if small else 0)
    for row in (-1, len(split.store)):
        for out in (None, np.zeros((2, 8, 8, 3), np.uint8)):
            with pytest.raises(IndexError, match=f"of {len(split.store)} images"):
                split.store.read(np.array([0, row]), out)


def test_several_requests_are_under_way_at_once(split, in_pieces, monkeypatch):
    meeting, read = threading.Barrier(3, timeout=fake_driver.LONG), Split.read

    def met(self, index, out):
        meeting.wait()  # comes to an end only if three threads are here
        return read(self, index, out)

    monkeypatch.setattr(Split, "read", met)
    batches = loader.training_batches(course(split, 12), 0, 0, 6, threads=3)  # six pieces each
    assert len(list(batches)) == 6


def test_memory_is_used_again_only_when_nothing_refers_to_it():
    buffers = loader.Buffers((4, 8, 8, 3))
    first = buffers.take()
    first[:] = 7
    part, place = first[1:][:2].reshape(-1)[::5], first.ctypes.data
    assert place % loader._ALIGNED == 0
    del first
    assert buffers.take().ctypes.data != place
    assert (part == 7).all()
    del part
    assert {buffers.take().ctypes.data for _ in range(3)} <= {place, buffers.take().ctypes.data}
    mine = buffers.take()
    mine[:] = 5
    on_device = jax.device_put(mine[1:])  # on a CPU maybe no copy
    del mine
    buffers.take()[:] = 6
    assert (np.asarray(on_device) == 5).all()


def test_a_batch_allocates_nothing(split, in_pieces, monkeypatch):
    monkeypatch.setattr(loader, "_MOST", 2)
    made = []
    monkeypatch.setattr(loader, "bytearray", lambda size: made.append(size) or bytearray(size), raising=False)
    for _ in loader.training_batches(course(split, 10), 0, 0, 60):
        pass
    assert 0 < len(made) <= 5  # two ahead, one in the loop's hands, one that is begun, and one just let go


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
    assert rest == batches[5:13], "a resume on either side of the change continues alike"


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
    assert threads() > 0
    batches.close()
    assert threads() == 0
    batches = loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=10**9)
    next(batches)
    del batches
    gc.collect()
    assert threads() == 0


def test_only_a_few_batches_are_read_ahead(split, monkeypatch):
    read = []
    take = Split.read
    monkeypatch.setattr(Split, "read", lambda split, index, out: read.append(0) or take(split, index, out))
    for most, expected in ((loader._MOST, loader._MOST + 1), (2, 3)):
        monkeypatch.setattr(loader, "_MOST", most)
        read.clear()
        batches = loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=50)
        next(batches)
        fake_driver.wait(lambda expected=expected: len(read) >= expected)
        time.sleep(0.1)  # more would follow
        assert len(read) == expected
        batches.close()


def test_an_error_in_the_thread_comes_out(split, monkeypatch):
    def fail(split, index, out):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Split, "read", fail)
    with pytest.raises(OSError, match=r"Input/output error"):
        next(loader.training_batches(course(split, 10), seed=0, first_step=0, last_step=5))
    assert threads() == 0
