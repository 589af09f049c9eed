"""From stored uint8 images to the network's input, on the device: crops, mirrors, colour noise, test views.

All randomness is a pure function of (key of the step, position of the image within the global batch).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

# The author's principal components of ILSVRC-2012 pixels (cuda-convnet2's meta data), 0–255 scale.
ILSVRC2012_DEVIATIONS = (19.72, 37.09, 121.78)
ILSVRC2012_VECTORS = ((0.41796, -0.71258, -0.56351), (-0.81698, -0.02354, -0.57618), (0.39731, 0.70120, -0.59200))
# Weights of red, green and blue in a grey image (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


class Constants(NamedTuple):
    """Statistics of the training images: `mean` [size or crop or 1, same, channels], `colour` [3, 3] = p·λ.

    Column i of `colour` is principal component i times the λ of the recipe, in grey levels.
    """

    mean: Any
    colour: Any


def constants(config: ConfigDict, statistics) -> Constants:
    """`Constants` from `data.Statistics` of the training split, in float32 on the host."""
    size, crop = config.data.size, config.data.crop
    mean = np.asarray(statistics.mean, np.float32)
    if config.augment.grey:
        mean = (mean * np.asarray(LUMA, np.float32)).sum(axis=-1, keepdims=True)
    if config.augment.mean == "centre":
        first = (size - crop) // 2
        mean = mean[first:first + crop, first:first + crop]
    elif config.augment.mean == "channel":
        mean = mean.mean(axis=(0, 1), keepdims=True)
    elif config.augment.mean == "scalar":
        mean = mean.mean(keepdims=True)
    elif config.augment.mean == "values":
        mean = np.asarray(config.augment.mean_values, np.float32).reshape(1, 1, -1)
    if config.augment.pca.statistics == "ilsvrc2012":
        eigenvalues = np.square(ILSVRC2012_DEVIATIONS)
        vectors = np.asarray(ILSVRC2012_VECTORS)
    else:
        eigenvalues = np.maximum(np.asarray(statistics.eigenvalues), 0.0)
        vectors = np.asarray(statistics.eigenvectors)
    # Eigenvalues of pixels on [0, 1] (eigenvalue / 255²), the noise then × 255; or deviations in grey levels.
    scale = eigenvalues / 255.0 if config.augment.pca.by == "eigenvalue" else np.sqrt(eigenvalues)
    return Constants(mean, (vectors * scale).astype(np.float32))


def offsets(config: ConfigDict) -> tuple[int, int]:
    """(first, count) of the training crop's offsets along a side: 0 … count − 1, or the centre alone."""
    room = config.data.size - config.data.crop + 1
    count = config.augment.crop_offsets or room
    return ((room - 1) // 2, 1) if count == 1 else (0, count)


def _crop(image: jax.Array, y: jax.Array, x: jax.Array, crop: int) -> jax.Array:
    return lax.dynamic_slice(image, (y, x, jnp.zeros_like(y)), (crop, crop, image.shape[-1]))


def _pixels(images: jax.Array, config: ConfigDict) -> jax.Array:
    """uint8 [..., 3] → float32 [..., 3], or [..., 1] where the config wants them grey."""
    x = images.astype(jnp.float32)
    red, green, blue = (x[..., i:i + 1] * weight for i, weight in enumerate(LUMA))
    return red + green + blue if config.augment.grey else x


def _scaled(x: jax.Array, config: ConfigDict) -> jax.Array:
    """Centred pixels divided by `augment.divide`, for networks that expect values of about 1."""
    divide = config.augment.divide
    return x / jnp.asarray(divide, x.dtype).reshape(*[1] * (x.ndim - 1), -1) if divide else x


def _colour_shifts(key: jax.Array, rows: jax.Array, noise: jax.Array, colour: jax.Array) -> jax.Array:
    """[batch, 3]: what colour noise adds to every pixel of each image, Σ colour[:, i]·α_i with α_i ~ N(0, noise²)."""

    def one(row, noise, colour):
        alpha = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, 1), row), (3,))
        alpha = jnp.asarray(noise, alpha.dtype) * alpha
        # Written out. A matrix product may run in reduced precision on an accelerator, and jaxlib 0.10.2 for CPUs
        # miscompiles a reduction here once a batch has more than 455 images: they shared a few shifts.
        return sum(colour[:, i].astype(alpha.dtype) * alpha[i] for i in range(3))

    every = jax.vmap(one, (0, None, None))

    def none(rows, noise, colour):
        dtype = jax.eval_shape(every, rows, noise, colour).dtype
        return rows.astype(dtype)[:, None] * jnp.zeros((1, 3), dtype)  # of rows, for its type under shard_map

    def apart(rows, noise, colour):
        return lax.cond(noise > 0, every, none, rows, noise, colour)

    # XLA for CPUs would draw an image's three numbers anew for each pixel that they are added to. It doesn't fuse what
    # is in a branch with what is outside.
    return lax.platform_dependent(rows, noise, colour, cpu=apart, default=every)


def training_views(images: jax.Array, key: jax.Array, rows: jax.Array, noise: jax.Array, consts: Constants,
                   config: ConfigDict) -> jax.Array:
    """One random crop of each image, mirrored half of the time, centred, with colour noise.

    Paper, section 4.1; the released code shares crop and mirror among `augment.chunk` images in a row, subtracts
    the centre crop of the mean image, and divides the noisy image by 1.1.

    Args:
      images: uint8 [batch, size, size, 3].
      key: of this step's augmentation.
      rows: int32 [batch], each image's position within the global batch.
      noise: scalar, the standard deviation of α (0: none).

    Returns:
      float32 [batch, crop, crop, channels] on the 0–255 scale less the mean, over `augment.divide`.
    """
    crop, augment = config.data.crop, config.augment
    first, count = offsets(config)

    def one(image, row, shift):
        group = row // augment.chunk
        where = jax.random.randint(jax.random.fold_in(jax.random.fold_in(key, 0), group), (2,), first, first + count)
        # A key of its own, not one folded from the crop's: `randint` derives its bits from the same children, and
        # with 2^n offsets the mirror would follow the parity of the crop.
        flip = jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, 2), group), (), jnp.uint32) & 1
        image = _pixels(image, config)
        if augment.mean != "centre":
            image = image - consts.mean
        view = _crop(image, where[0], where[1], crop)
        if augment.mirror:
            view = jnp.where(flip == 1, view[:, ::-1], view)
        if augment.mean == "centre":
            view = view - consts.mean
        if augment.pca.amount:
            view = view.astype(shift.dtype) + shift[None, None, :]
            # "So that the overall scale of the training data doesn't become too different from the test data"
            # (convdata.py): only in training, and only while there is noise.
            view = view / jnp.where(noise > 0, augment.pca.divide_by, 1.0)
        return _scaled(view, config)

    shifts = _colour_shifts(key, rows, noise, consts.colour) if augment.pca.amount else rows  # rows: not used
    if crop < 100:
        return jax.vmap(one)(images, rows, shifts)
    # Large images one by one on a CPU: at once, XLA computes them a second time, serially and in the transposed order
    # that conv1's weight gradient wants.
    return lax.platform_dependent(images, rows, shifts, cpu=lambda *all: lax.map(lambda three: one(*three), all),
                                  default=jax.vmap(one))


def ten_views(config: ConfigDict) -> np.ndarray:
    """int32 [10, 3] of (y, x, mirrored): `five_views`, then their mirror images: the released order."""
    five = five_views(config)
    return np.concatenate([five, five + np.asarray([0, 0, 1], np.int32)])


def five_views(config: ConfigDict) -> np.ndarray:
    """int32 [5, 3] of (y, x, 0): the four corners and the centre, (0,0) (0,d) centre (d,0) (d,d)."""
    d = config.data.size - config.data.crop
    return np.asarray([(y, x, 0) for y, x in ((0, 0), (0, d), (d // 2, d // 2), (d, 0), (d, d))], np.int32)


def centre_view(config: ConfigDict) -> np.ndarray:
    """int32 [1, 3]: the centre crop, not mirrored."""
    d = (config.data.size - config.data.crop) // 2
    return np.asarray([(d, d, 0)], np.int32)


def test_view(images: jax.Array, view: jax.Array, consts: Constants, config: ConfigDict) -> jax.Array:
    """The view (y, x, mirrored) of every image, centred.

    uint8 [batch, size, size, 3] → float32 [batch, crop, crop, channels].
    """
    crop = config.data.crop
    x = _pixels(images, config)
    if config.augment.mean != "centre":
        x = x - consts.mean[None]
    zero = jnp.zeros_like(view[0])
    x = lax.dynamic_slice(x, (zero, view[0], view[1], zero), (x.shape[0], crop, crop, x.shape[-1]))
    x = jnp.where(view[2] == 1, x[:, :, ::-1], x)
    if config.augment.mean == "centre":
        x = x - consts.mean[None]
    return _scaled(x, config)
