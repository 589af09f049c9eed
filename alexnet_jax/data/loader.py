"""Batches of uint8 images from an open split, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from alexnet_jax.data.split import Split
from alexnet_jax.errors import ConfigError

_AHEAD = 2  # batches that are read before they are asked for


class Batch(NamedTuple):
    """Some rows of a training batch: uint8 [rows, size, size, 3], int32 [rows], int32 [rows].

    `index` is each row's position in the global batch, 0 … batch_size − 1.
    """

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody needs


class Named(Protocol):
    """Some images under a split string, opened or not."""

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
                     rows: Any = None, put: Callable[[Batch], Any] = lambda batch: batch
                     ) -> Generator[Any, None, None]:
    """The batches of the steps first_step … last_step − 1, read ahead by a thread.

    What an epoch has beyond its whole batches is left out; the order being another one, these are other images
    each time.

    Args:
      rows: the positions of the global batch that this process needs, a slice or an integer array; all
        by default.
      put: makes of a batch what is handed out, in the reading thread.
    """
    index = np.arange(course.batch_size, dtype=np.int32)[slice(None) if rows is None else rows]

    def produce() -> Generator[Any, None, None]:
        order, order_epoch = np.empty(0, np.int64), -1
        for step in range(first_step, last_step):
            split, (epoch, place) = course.split(step), course.place(step)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(len(split), seed, epoch), epoch
            chosen = order[place * course.batch_size + index]
            yield put(Batch(split.read(chosen), split.labels[chosen], index))

    return _read_ahead(produce)


def evaluation_batches(split: Split, batch_size: int, rows: slice | None = None
                       ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every image once, in order: (images, labels, weight float32 [batch_size]).

    The last batch is filled up with black images of label 0 and weight 0; all others weigh 1.

    Args:
      rows: the positions of the global batch that this process needs; all by default.
    """
    begin, end, _ = (rows or slice(None)).indices(batch_size)

    def produce() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for first in range(0, len(split), batch_size):
            images = np.array(split.images[first + begin : first + end])
            labels = np.array(split.labels[first + begin : first + end])
            weight = np.ones(len(labels), np.float32)
            if len(labels) < end - begin:
                fill = end - begin - len(labels)
                images = np.concatenate([images, np.zeros((fill, *images.shape[1:]), np.uint8)])
                labels = np.concatenate([labels, np.zeros(fill, np.int32)])
                weight = np.concatenate([weight, np.zeros(fill, np.float32)])
            yield images, labels, weight

    return _read_ahead(produce)


class _Failure(NamedTuple):
    error: BaseException


_END = object()


def _read_ahead(produce: Callable[[], Iterator[Any]]) -> Generator[Any, None, None]:
    """Runs `produce()` in a thread, a few items ahead; its exceptions come out here.

    Closing the iterator (or dropping it) ends the thread.
    """
    # Not the items themselves but one slot more: the thread holds one in its hands while it waits.
    items: queue.Queue = queue.Queue(maxsize=max(1, _AHEAD - 1))
    stopped = threading.Event()

    def offer(item: Any) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                items.put(item, timeout=0.1)
                return True
        return False

    def run() -> None:
        try:
            for item in produce():
                if not offer(item):
                    return
            offer(_END)
        except BaseException as error:
            offer(_Failure(error))

    thread = threading.Thread(target=run, name="batches", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stopped.set()
        with contextlib.suppress(queue.Empty):
            items.get_nowait()  # wakes a thread that waits for room
        thread.join()
