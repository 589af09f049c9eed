"""Batches of uint8 images from an open split, in an order that is a pure function of (seed, epoch).

A few threads read ahead, each some images of a batch, into reused memory.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from alexnet_jax import provenance
from alexnet_jax.data.split import Split
from alexnet_jax.errors import ConfigError

_THREADS_A_CORE, _MOST_THREADS = 4, 16  # more than cores, as threads wait for the disk
_LEAST, _MOST, _AHEAD_BYTES = 2, 8, 1 << 27  # batches that are read ahead: about _AHEAD_BYTES
_PIECE = 1 << 20  # bytes that are worth handing to a thread
_ALIGNED = 64  # bytes: JAX on a CPU uses arrays aligned so without a copy


class Batch(NamedTuple):
    """Some rows of a training batch: uint8 [rows, size, size, 3], int32 [rows], int32 [rows].

    `index` is each row's position in the global batch, 0 … batch_size − 1.
    """

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which isn't needed


class Named(Protocol):
    """A split, opened or not: its split string and length."""

    @property
    def split(self) -> str: ...

    def __len__(self) -> int: ...


def steps_per_epoch(split: Named, batch_size: int) -> int:
    """Whole batches in the split. Raises ConfigError if there is none."""
    steps = len(split) // batch_size
    if steps == 0:
        raise ConfigError(f"config.train.batch_size: {batch_size} is more than the {len(split)} images of "
                          f"'{split.split}'")
    return steps


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [count]: the order in which an epoch sees the images."""
    return np.random.Generator(np.random.PCG64((seed, epoch))).permutation(count)


class Course:
    """Which images a run learns from, epoch by epoch, and the steps that these epochs take.

    All epochs read the first split, or those from `fold_at` on read the second: cuda-convnet's CIFAR-10 networks
    end with the validation images folded into the training set.

    Args:
      epochs: of the whole run. fold_at: the first epoch, from 0, that reads `folded`.

    Attributes:
      steps: of the whole run.

    Raises:
      ConfigError: a split is smaller than a batch.
    """

    def __init__(self, split: Split, batch_size: int, epochs: int, folded: Split | None = None, fold_at: int = 0):
        self.batch_size, self.epochs = batch_size, epochs
        self._splits = (split, folded if folded is not None else split)
        self._fold_at = fold_at if folded is not None else epochs
        self._per_epoch = tuple(steps_per_epoch(s, batch_size) for s in self._splits)
        self._fold_step = self._fold_at * self._per_epoch[0]
        self.steps = self._fold_step + (epochs - self._fold_at) * self._per_epoch[1]

    def _part(self, step: int) -> int:
        return int(step >= self._fold_step)

    def split(self, step: int) -> Split:
        """What step `step` (from 0) reads."""
        return self._splits[self._part(step)]

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, steps done in it) after `step` steps."""
        if not self._part(step):
            return divmod(step, self._per_epoch[0])
        epoch, place = divmod(step - self._fold_step, self._per_epoch[1])
        return self._fold_at + epoch, place

    @property
    def splits(self) -> tuple[Split, Split]:
        """What the epochs read, before and after the folding; twice the same where nothing is folded in."""
        return self._splits

    def left_in_epoch(self, step: int) -> int:
        """Steps from `step` to the end of its epoch, at least one."""
        return self._per_epoch[self._part(step)] - self.place(step)[1]

    def epochs_done(self, step: int) -> float:
        """Passes over the training images after `step` steps, with the fraction."""
        if not self._part(step):
            return step / self._per_epoch[0]
        return self._fold_at + (step - self._fold_step) / self._per_epoch[1]


def training_batches(course: Course, seed: int, first_step: int, last_step: int,
                     rows: Any = None, put: Callable[[Batch], Any] = lambda batch: batch, threads: int = 0
                     ) -> Generator[Any, None, None]:
    """The batches of the steps first_step … last_step − 1, read ahead by threads.

    The incomplete last batch of an epoch is dropped; as the order changes, these are other images each time.

    Args:
      rows: the positions of the global batch that this process needs, a slice or an integer array; all by default.
      put: applied to each batch, in one of the threads.
      threads: how many read; 0: by the number of cores.
    """
    index = np.arange(course.batch_size, dtype=np.int32)[slice(None) if rows is None else rows]

    def wanted() -> Iterator[tuple[Split, np.ndarray]]:
        order, order_epoch = np.empty(0, np.int64), -1
        for step in range(first_step, last_step):
            split, (epoch, place) = course.split(step), course.place(step)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(len(split), seed, epoch), epoch
            yield split, order[place * course.batch_size + index]

    def batch(split: Split, chosen: np.ndarray, images: np.ndarray) -> Any:
        return put(Batch(images, split.labels[chosen], index))

    return _read_ahead((len(index), *course.splits[0].images.shape[1:]), wanted(), batch, threads)


def evaluation_batches(split: Split, batch_size: int, rows: slice | None = None
                       ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every image once, in order: (images, labels, weight float32 [batch_size]).

    The last batch is padded with black images of label 0 and weight 0; all others have weight 1.

    Args:
      rows: the positions of the global batch that this process needs; all by default.
    """
    begin, end, _ = (rows or slice(None)).indices(batch_size)

    def wanted() -> Iterator[tuple[Split, np.ndarray]]:
        for first in range(0, len(split), batch_size):
            yield split, np.arange(first + begin, min(first + end, len(split)))

    def batch(split: Split, chosen: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fill = (0, len(images) - len(chosen))
        images[len(chosen):] = 0
        return images, np.pad(split.labels[chosen], fill), np.pad(np.ones(len(chosen), np.float32), fill)

    return _read_ahead((end - begin, *split.images.shape[1:]), wanted(), batch)


class Buffers:
    """Reused memory for arrays of one shape: mapping fresh pages costs as much as filling them.

    An array from `take` is reused once nothing refers to it: neither its user, nor a view of it, nor JAX, which keeps
    arrays that it is still copying from or that back an array of its own.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape, self._bytes = shape, math.prod(shape)
        self._free: list[bytearray] = []

    def take(self) -> np.ndarray:
        """uint8 of the shape, uninitialised."""
        # A bytearray, not an array: views of an array would refer to that directly, bypassing the finalizer below.
        memory = self._free.pop() if self._free else bytearray(self._bytes + _ALIGNED)
        begin = -np.frombuffer(memory, np.uint8).ctypes.data % _ALIGNED
        array = np.ndarray(self._shape, np.uint8, memory, begin)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array


def _read_ahead(shape: tuple[int, ...], wanted: Iterator[tuple[Split, np.ndarray]],
                batch: Callable[[Split, np.ndarray, np.ndarray], Any], threads: int = 0) -> Generator[Any, None, None]:
    """Batches in the order of `wanted`, while threads read the next few; their exceptions are raised here.

    Closing the generator (or dropping it) ends the threads.

    Args:
      shape: of a batch's images. wanted: (split, positions in it) of each batch; of the last maybe fewer.
      batch: (split, positions, images) → the batch; called in one of the threads, not always in order.
    """
    threads = threads or min(_THREADS_A_CORE * len(provenance.cores()), _MOST_THREADS)
    size, buffers, under_way = math.prod(shape), Buffers(shape), deque[Future]()
    ahead = max(_LEAST, min(_AHEAD_BYTES // size, _MOST))
    pieces = max(1, min(size // _PIECE, 2 * threads))

    def start(split: Split, chosen: np.ndarray) -> Future:
        images = buffers.take()
        reading = [pool.submit(split.read, some, out) for some, out in zip(
            np.array_split(chosen, pieces), np.array_split(images[:len(chosen)], pieces), strict=True)]
        return pool.submit(finish, reading, split, chosen, images)

    def finish(reading: list[Future], *arguments: Any) -> Any:
        for piece in reading:  # all were begun before this: the pool takes what it is given in order
            piece.result()
        return batch(*arguments)

    with ThreadPoolExecutor(threads, "batches") as pool:
        try:
            for split, chosen in wanted:
                under_way.append(start(split, chosen))
                if len(under_way) > ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
