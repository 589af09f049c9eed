"""The mean image and the principal components of RGB over the images of a slice (paper, section 4.1)."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import zipfile

import numpy as np

from alexnet_jax import files

_BLOCK = 1 << 16  # pixels at a time: their float64 planes stay in the processor's cache


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of exactly the images of a slice, on the 0–255 scale.

    Attributes:
      mean: float32 [size, size, 3], the mean of each pixel and channel.
      eigenvalues: float64 [3], descending, of the covariance of (R, G, B) over all pixels of all images,
        around the mean of each channel, divided by the number of pixels; on the 0–255 scale squared.
      eigenvectors: float64 [3, 3]; column i belongs to eigenvalue i, has length 1, and its largest component
        is positive.
    """

    mean: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


def compute(images: np.ndarray) -> Statistics:
    """Statistics of uint8 [n, size, size, 3], read once in blocks.

    The sums are of whole numbers in float64, exact up to 2⁵³, and so independent of the blocks.
    """
    count, pixels = len(images), images.shape[1] * images.shape[2]
    step = max(1, _BLOCK // pixels)
    total = np.zeros(images.shape[1:], np.float64)
    products = np.zeros((3, 3), np.float64)
    for first in range(0, count, step):
        block = np.asarray(images[first : first + step])
        total += block.sum(axis=0, dtype=np.uint32)
        planes = [block[..., channel].astype(np.float64).ravel() for channel in range(3)]
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
            # Not `@`: BLAS would start threads, which stall for seconds where cores are shared.
            products[i, j] += np.einsum("i,i->", planes[i], planes[j])
    products += np.triu(products, 1).T
    mean = total / count
    channel = mean.reshape(-1, 3).mean(axis=0)
    covariance = products / (count * pixels) - np.outer(channel, channel)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    # Eigenvectors have no sign of their own; PCA colour noise is symmetric, files should still be equal.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])
    return Statistics(mean.astype(np.float32), values, vectors * signs)


def cached(images: np.ndarray, file: pathlib.Path) -> Statistics:
    """`compute(images)`, kept in `file` where that can be written."""
    try:
        with np.load(file, allow_pickle=False) as found:
            known = Statistics(found["mean"], found["eigenvalues"], found["eigenvectors"])
        if known.mean.shape == images.shape[1:]:
            return known
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # absent or damaged: computed again
    result = compute(images)
    # A store may lie on a read-only disk; then the statistics are computed each time.
    with contextlib.suppress(OSError), files.replacing(file) as temporary, temporary.open("wb") as out:
        np.savez(out, **dataclasses.asdict(result))
    return result
