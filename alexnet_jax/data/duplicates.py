"""Duplicate images: within a split, and between two splits of the same or of different datasets.

The stores' checksums give the candidates and the images' bytes decide, so only candidates are read: seconds for
1.28 million images against 50,000. Stored pixels are compared, not labels or files: two files that are equal once
decoded and scaled are one image; a crop or a mirrored copy is another.
"""

from __future__ import annotations

import functools

import numpy as np

from alexnet_jax.data.split import Split


def within(split: Split) -> int:
    """How many images of `split` repeat an earlier one."""
    return len(repeats(split))


def between(a: Split, b: Split) -> int:
    """How many images of `b` are in `a` too; 0 for different image sizes."""
    return len(shared(a, b))


def repeats(split: Split) -> np.ndarray:
    """int64 [n, 2]: (the first place of an image within `split`, a later place of the same image), by the later."""
    images = _Images(split)
    order = np.argsort(images.checksums, kind="stable")
    ordered = images.checksums[order]
    same = ordered[1:] == ordered[:-1]
    candidates = np.union1d(order[1:][same], order[:-1][same])
    known: dict[int, list[int]] = {}
    found = []
    for place in candidates.tolist():
        first = images.first(known, images, place)
        if first is None:
            known.setdefault(int(images.checksums[place]), []).append(place)
        else:
            found.append((first, place))
    return _pairs(found)


def shared(a: Split, b: Split) -> np.ndarray:
    """int64 [n, 2]: (the first place within `a` of an image of `b`, its place within `b`), by the second."""
    if a.size != b.size:
        return _pairs([])
    of_a, of_b = _Images(a), _Images(b)
    known: dict[int, list[int]] = {}
    for place in np.flatnonzero(np.isin(of_a.checksums, of_b.checksums)).tolist():
        known.setdefault(int(of_a.checksums[place]), []).append(place)
    places = np.flatnonzero(np.isin(of_b.checksums, of_a.checksums)).tolist()
    found = [(of_a.first(known, of_b, place), place) for place in places]
    return _pairs([(first, place) for first, place in found if first is not None])


class _Images:
    """The images of a split in its order, with their checksums: uint32 [n]."""

    def __init__(self, split: Split):
        self._store, self._rows = split.store, np.asarray(split.rows)
        self.checksums = self._store.checksums[self._rows]

    def __getitem__(self, place: int) -> np.ndarray:
        return self._store.images[self._rows[place]]

    def first(self, known: dict[int, list[int]], others: _Images, place: int) -> int | None:
        """The first of the places `known` here, by checksum, that has the bytes of image `place` of `others`."""
        image = functools.cache(lambda: others[place])
        one_store = self._store.folder == others._store.folder
        for here in known.get(int(others.checksums[place]), ()):
            if one_store and self._rows[here] == others._rows[place]:  # nothing has to be read for that
                return here
            if np.array_equal(self[here], image()):
                return here
        return None


def _pairs(found: list[tuple[int, int]]) -> np.ndarray:
    return np.array(found, np.int64).reshape(-1, 2)
