"""The principal components of RGB against NumPy's covariance and eigenvectors of all pixels, in float64."""

import numpy as np
import pytest
from data_files import real_data

from alexnet_jax.data import statistics
from alexnet_jax.data.readers import cifar10, shapes

ROUNDING = 2.0**-53


def _generated():
    return shapes.draw("train", np.arange(900), 24)[0]


def _cifar10():
    """3,999 images: not a whole number of blocks."""
    records = np.fromfile(real_data(cifar10.FOLDER) / "data_batch_1.bin", np.uint8, 3999 * cifar10.RECORD)
    pixels = records.reshape(3999, cifar10.RECORD)[:, 1:].reshape(3999, 3, 32, 32)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("source", [_generated, _cifar10], ids=["generated", "cifar10"])
def test_components_of_many_blocks_are_numpys_of_all_pixels(source):
    images = source()
    pixels = images.reshape(-1, 3).astype(np.float64)
    assert len(pixels) > 7 * statistics._BLOCK
    assert len(pixels) % statistics._BLOCK
    found = statistics.compute(images)

    # Sums of whole numbers are exact below 2⁵³. What is rounded are numbers up to 255²: E[xy], a product of two means
    # and the difference; and each mean, that of the pixels' own means, which are rounded once and summed in pairs
    # (of 128 at the bottom, in eight lanes): 1 + log2(pixels) + 16 and the division.
    exact = np.empty((3, 3))
    whole, count = images.reshape(-1, 3).astype(np.int64), len(pixels)
    for i in range(3):
        for j in range(3):
            products, sums = int(whole[:, i] @ whole[:, j]), int(whole[:, i].sum()) * int(whole[:, j].sum())
            exact[i, j] = (count * products - sums) / count**2  # integers, divided once
    entry = (3 + 2 * (18 + np.log2(images[0, ..., 0].size))) * ROUNDING * 255**2
    rebuilt = (found.eigenvectors * found.eigenvalues) @ found.eigenvectors.T
    # A decomposition is that of a matrix so near: 3² roundings of the largest eigenvalue, and putting it together again
    # three products of three factors.
    decomposition = (9 + 3 * 3) * ROUNDING * found.eigenvalues[0]
    assert np.abs(rebuilt - exact).max() <= entry + decomposition

    # NumPy's own: its mean is summed in pairs and its products by blocks, n roundings at the very worst.
    theirs = np.cov(pixels.T, bias=True)
    worst = count * ROUNDING * np.sqrt(np.outer(theirs.diagonal(), theirs.diagonal()))
    assert (np.abs(rebuilt - theirs) <= worst + entry + decomposition).all()
    assert worst.max() < 1e-5
    values, vectors = np.linalg.eigh(exact)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Weyl: eigenvalues move by no more than the matrix, whose norm is at most three times its largest entry.
    moved = 3 * entry + 2 * decomposition
    assert np.abs(found.eigenvalues - values).max() <= moved
    gaps = np.min(-np.diff(values))
    assert gaps > 1, "eigenvectors are not determined"
    # Davis and Kahan: the sine of the angle between eigenvectors is at most twice that over the gap.
    signs = np.sign((vectors * found.eigenvectors).sum(axis=0))
    assert np.abs(vectors * signs - found.eigenvectors).max() <= 2 * np.sqrt(2) * moved / gaps
    _check_conventions(found)


def _check_conventions(found):
    """Descending, none negative; columns of length 1, at right angles; the largest component positive."""
    assert found.eigenvalues.dtype == found.eigenvectors.dtype == np.float64
    assert (np.diff(found.eigenvalues) <= 0).all()
    assert (found.eigenvalues >= 0).all()
    np.testing.assert_allclose(found.eigenvectors.T @ found.eigenvectors, np.eye(3), atol=1e-14)
    largest = np.abs(found.eigenvectors).argmax(axis=0)
    assert (found.eigenvectors[largest, range(3)] > 0).all()


def test_components_that_are_known_beforehand():
    # 100 ± 30 times (2, −1, 0), ± 9 in blue, in all four combinations.
    a, b = np.meshgrid([-30, 30], [-9, 9])
    pixels = np.stack([100 + 2 * a, 100 - a, 100 + b], axis=-1).astype(np.uint8)
    found = statistics.compute(np.tile(pixels[None], (3, 1, 1, 1)))
    np.testing.assert_allclose(found.eigenvalues, [5 * 900, 81, 0], atol=1e-10)
    expected = np.array([[2, -1, 0], [0, 0, 1], [1, 2, 0]]).T / np.sqrt([5, 1, 5])
    np.testing.assert_allclose(found.eigenvectors, expected, atol=1e-12)
    _check_conventions(found)


@pytest.mark.parametrize("grey", [False, True], ids=["constant", "grey"])
def test_images_without_three_components(grey):
    rng = np.random.default_rng(0)
    images = np.full((5, 4, 4, 3), 253, np.uint8)
    if grey:
        images[:] = rng.integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    found = statistics.compute(images)
    variance = images[..., 0].astype(np.float64).var()
    np.testing.assert_allclose(found.eigenvalues, [3 * variance, 0, 0], atol=1e-9)
    if grey:
        np.testing.assert_allclose(found.eigenvectors[:, 0], np.sqrt([1 / 3] * 3), rtol=1e-12)
    _check_conventions(found)
