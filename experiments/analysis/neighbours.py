"""Nearest neighbours of images by a distance, and how often they are of the same class.

The paper's section 6.1: images whose last hidden layers are close (Euclidean distance) look alike, though they are far
apart in pixels.
"""

from __future__ import annotations

import numpy as np

_ROWS = 512  # queries at a time: all distances at once would not fit in memory


def nearest(queries: np.ndarray, gallery: np.ndarray, count: int) -> np.ndarray:
    """int [queries, count]: rows of `gallery` [images, values] nearest to each of `queries`, nearest first.

    Ties go to the lower row.
    """
    gallery = np.asarray(gallery, np.float32)
    squares = (gallery.astype(np.float64) ** 2).sum(axis=1)
    found = []
    for first in range(0, len(queries), _ROWS):
        part = np.asarray(queries[first : first + _ROWS], np.float32)
        # |q − g|² without |q|², which is constant for a query.
        distances = squares - 2 * (part @ gallery.T).astype(np.float64)
        found.append(np.argsort(distances, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def same_class(labels: np.ndarray, gallery_labels: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """[queries]: the fraction of each query's `neighbours` that are of its own class."""
    return (gallery_labels[neighbours] == labels[:, None]).mean(axis=1)


def chance(labels: np.ndarray, gallery_labels: np.ndarray) -> float:
    """The fraction expected for random neighbours."""
    return float(np.mean([np.mean(gallery_labels == label) for label in labels]))
