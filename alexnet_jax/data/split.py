"""The images that a split string denotes: rows of a packed store, with labels by the classes of a run."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from typing import Any

import numpy as np

from alexnet_jax.data import store as store_lib
from alexnet_jax.data.classes import Classes, check
from alexnet_jax.data.statistics import Statistics, cached


class Images:
    """Rows of a store's images as an array: uint8 [n, size, size, 3], read when indexed."""

    def __init__(self, store: store_lib.Store, rows: np.ndarray):
        self._store, self._rows = store, rows
        self.shape = (len(rows), *store.images.shape[1:])
        self.dtype = np.dtype(np.uint8)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        chosen = self._rows[first]
        images = self._store.images[chosen] if np.ndim(chosen) == 0 else self._store.read(chosen)
        return images[(*(() if np.ndim(chosen) == 0 else (slice(None),)), *rest)] if rest else images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class Split:
    """The images that a split string such as 'train[:40000]' denotes.

    Attributes:
      rows: int64 [n], the row of each image in the store; a `range` if they are consecutive.
      images: uint8 [n, size, size, 3], read-only: a view on a memory map, or `Images`.
      labels: int32 [n], read-only, positions in `class_keys`.
      class_keys, classes: the identifiers of the run's classes in the dataset, and their display names.
      name: config.data.name. version: of the dataset's content. split: the split string. size: in pixels.
      whole: the name of the whole split. corrupt: its images that could not be read and were left out.
    """

    def __init__(self, store: store_lib.Store, text: str, rows: range | np.ndarray, classes: Classes | None = None):
        """`classes`: the run's; by default the store's own. Raises DataError: an image is of another class."""
        own = Classes(tuple(store.meta["class_keys"]), tuple(store.meta["classes"]))
        self.store, self.split, self.rows = store, text, rows
        self.known = own if classes is None else classes
        self._lookup = None if classes is None or classes.keys == own.keys else classes.places(own.keys)
        if isinstance(rows, range):
            self.images: Any = store.images[rows.start:rows.stop]
            labels = store.labels[rows.start:rows.stop]
        else:
            self.images, labels = Images(store, rows), store.labels[rows]
        self.labels: np.ndarray = self.mapped(labels)
        if len(self.labels) and self.labels.min() < 0:
            check(self.class_keys, store.meta["name"], [own.keys[i] for i in np.unique(labels[self.labels < 0])], text)
        self.labels.flags.writeable = False
        self.name: str = store.meta["name"]
        self.version: str = store.meta["version"]
        self.whole: str = store.meta["split"]
        self.size: int = store.meta["size"]
        self.corrupt: int = store.corrupt
        self._statistics: Statistics | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.known.names

    @property
    def class_keys(self) -> tuple[str, ...]:
        return self.known.keys

    def __len__(self) -> int:
        return len(self.rows)

    def mapped(self, labels: np.ndarray) -> np.ndarray:
        """The store's labels → the run's; -1: not one of its classes."""
        return labels if self._lookup is None else self._lookup[labels]

    def places(self, index: np.ndarray) -> np.ndarray:
        """Positions in the split → rows of the store."""
        return self.rows.start + index if isinstance(self.rows, range) else self.rows[index]

    def names_of(self, index: np.ndarray) -> list[str]:
        """The files of the images at these positions; '' where the dataset has none."""
        kept = self.store.names
        return [""] * len(index) if kept is None else [kept[row] for row in self.places(index).tolist()]

    @property
    def span(self) -> tuple[int, int]:
        """The store's rows that hold all of the images: the first, and one past the last."""
        rows = self.rows
        return (rows.start, rows.stop) if isinstance(rows, range) else (int(rows.min()), int(rows.max()) + 1)

    def of(self, classes: Classes) -> Split:
        """The same images labelled by these classes. Raises DataError: an image is of another class."""
        return Split(self.store, self.split, self.rows, classes)

    def part(self, index: Any) -> Split:
        """Some of its images: `index` is a slice of positions without a step, or an array of them."""
        rows = self.rows[index] if isinstance(index, slice) else np.asarray(self.rows)[index]
        text = f"{self.whole}[{rows.start}:{rows.stop}]" if isinstance(rows, range) else f"{len(rows)} of {self.split}"
        return Split(self.store, text, rows, self.known)

    def overlap(self, other: Split) -> int:
        """How many images the two have in common."""
        if self.store.folder != other.store.folder:
            return 0
        return common(self.rows, other.rows)

    def read(self, index: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`images[index]`, into `out` where that is given, as `Store.read`. Raises DataError."""
        return self.store.read(self.places(index), out)

    def statistics(self) -> Statistics:
        """Mean image and RGB components of exactly these images; computed once and cached in the store."""
        if self._statistics is None:
            # In the store's order: the sums are exact, and the disk is read front to back.
            images: Any = self.images if isinstance(self.rows, range) else Images(self.store, np.sort(self.rows))
            self._statistics = cached(images, self.statistics_file)
        return self._statistics

    @property
    def statistics_file(self) -> pathlib.Path:
        first, last = self.span
        if last - first == len(self.rows):  # in any order
            which = f"{first}-{last}"
        else:
            which = hashlib.blake2b(np.sort(self.rows).astype("<i8"), digest_size=8).hexdigest()
        return self.store.folder / f"statistics-{which}.npz"

    @functools.cached_property
    def per_class(self) -> np.ndarray:
        """int64 [classes]: images of each."""
        return np.bincount(self.labels, minlength=len(self.known))


def common(mine: range | np.ndarray, theirs: range | np.ndarray) -> int:
    """How many rows two splits of one store share."""
    if isinstance(mine, range) and isinstance(theirs, range):
        return max(0, min(mine.stop, theirs.stop) - max(mine.start, theirs.start))
    return len(np.intersect1d(np.asarray(mine), np.asarray(theirs), assume_unique=True))
