"""Nearest neighbours of images by a distance, and how often they are of the same class.

The paper's section 6.1: images whose last hidden layers are close (Euclidean) are alike to the eye, though far apart
in pixels.
"""

from __future__ import annotations

import numpy as np

_ROWS = 512  # queries at a time: the distances of all at once would not fit


def nearest(queries: np.ndarray, gallery: np.ndarray, count: int) -> np.ndarray:
    """Rows of the `count` nearest of `gallery` [images, values] to each of `queries`, the nearest first.

    Ties go to the lower row. int [queries, count].
    """
    gallery = np.asarray(gallery, np.float32)
    squares = (gallery.astype(np.float64) ** 2).sum(axis=1)
    found = []
    for first in range(0, len(queries), _ROWS):
        part = np.asarray(queries[first : first + _ROWS], np.float32)
        # |q − g|² without |q|², which is the same for all of a query's distances.
        distances = squares - 2 * (part @ gallery.T).astype(np.float64)
        found.append(np.argsort(distances, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def same_class(labels: np.ndarray, gallery_labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """For each query the fraction of its neighbours `found` that are of its own class: [queries]."""
    return (gallery_labels[found] == labels[:, None]).mean(axis=1)


def chance(labels: np.ndarray, gallery_labels: np.ndarray) -> float:
    """The fraction that neighbours drawn at random would give."""
    return float(np.mean([np.mean(gallery_labels == label) for label in labels]))
