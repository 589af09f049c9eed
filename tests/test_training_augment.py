"""Crops, mirrors, colour noise and the ten views against plain NumPy."""

import functools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import config as config_lib
from alexnet_jax.data import statistics
from alexnet_jax.training import augment
from configs import recipes

SIZE, CROP, BATCH = 9, 5, 64


def _config(recipe="paper", **overrides):
    c = config_lib.default()
    c.data.size, c.data.crop, c.train.batch_size = SIZE, CROP, BATCH
    recipes.apply(c, recipe)
    c.data.tune_split = "train[:100]"
    return config_lib.resolve(config_lib.override(c, {k.replace("__", "."): v for k, v in overrides.items()}))


def _images():
    """uint8 [BATCH, SIZE, SIZE, 3] in which a pixel tells where it stands (channel 0) and whose it is (channel 2)."""
    images = np.zeros((BATCH, SIZE, SIZE, 3), np.uint8)
    images[..., 0] = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    images[..., 1] = np.random.default_rng(0).integers(0, 256, images.shape[:3])
    images[..., 2] = np.arange(BATCH)[:, None, None]
    return images


def _constants(config, mean=None, colour=None):
    side = {"pixel": SIZE, "centre": CROP, "channel": 1, "scalar": 1}[config.augment.mean]
    mean = np.zeros((side, side, 3), np.float32) if mean is None else np.asarray(mean, np.float32)
    return augment.Constants(mean, np.zeros((3, 3), np.float32) if colour is None else np.asarray(colour, np.float32))


@functools.cache
def _compiled(config):
    config = config_lib.from_json(json.loads(config))
    return jax.jit(lambda *a: augment.training_views(*a, config))


def _views(config, images, consts, noise=0.0, rows=None, seed=0):
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    call = _compiled(json.dumps(config_lib.to_json(config), sort_keys=True))
    return np.asarray(call(images, jax.random.key(seed), rows.astype(np.int32), np.float32(noise), consts))


def _where(view):
    """(y, x, mirrored) of a view of `_images()` without mean and noise."""
    mirrored = view[0, 1, 0] < view[0, 0, 0]
    y, x = divmod(int(view[0, -1 if mirrored else 0, 0]), SIZE)
    return y, x, int(mirrored)


def _cut(image, y, x, mirrored):
    view = image[y:y + CROP, x:x + CROP]
    return view[:, ::-1] if mirrored else view


def test_centre_crop_without_mirror_is_exact():
    images = _images()
    c = _config(augment__crop_offsets=1, augment__mirror=False)
    np.testing.assert_array_equal(_views(c, images, _constants(c)), images[:, 2:7, 2:7].astype(np.float32))


@pytest.mark.parametrize(("recipe", "count", "chunk"), [("paper", 4, 1), ("released", 5, 32)])
def test_each_view_is_a_crop_and_the_recipes_offsets_all_occur(recipe, count, chunk):
    images, c = _images(), _config(recipe)
    assert augment.offsets(c) == (0, count)
    consts, seen = _constants(c), set()
    for seed in range(16 if recipe == "released" else 3):
        views = _views(c, images, consts, seed=seed)
        places = [_where(view) for view in views]
        for view, image, place in zip(views, images, places, strict=True):
            np.testing.assert_array_equal(view, _cut(image, *place).astype(np.float32))
        for first in range(0, BATCH, chunk):
            assert len(set(places[first:first + chunk])) == 1
        seen.update(places)
    for axis in (0, 1):
        assert {place[axis] for place in seen} == set(range(count))
    assert {place[2] for place in seen} == {0, 1}


def test_offsets_and_mirror_are_drawn_apart():
    # 4 × 4 offsets × 2. A number of offsets that is a power of two is what would show the bits that draws share.
    images, c = _images(), _config("paper")
    places = [_where(view) for seed in range(8) for view in _views(c, images, _constants(c), seed=seed)]
    assert len(set(places)) == 32, "some pairs of a crop and a mirror never occur"
    y, x, mirrored = np.asarray(places).T
    assert np.abs(np.corrcoef([y % 2, x % 2, y // 2, x // 2, mirrored]) - np.eye(5)).max() < 5 / np.sqrt(len(places))


def test_a_256_pixel_image_has_32_offsets_in_the_paper_and_33_in_the_released_code():
    for recipe, count in (("paper", 32), ("released", 33)):
        c = config_lib.default()
        recipes.apply(c, recipe)
        assert augment.offsets(c) == (0, count)
    c.augment.crop_offsets = 1
    assert augment.offsets(c) == (16, 1)


@pytest.mark.parametrize("mean", ["pixel", "centre", "channel", "scalar"])
def test_the_mean_is_subtracted_where_the_recipe_says(mean):
    images = _images()
    c = _config("paper", augment__mean=mean)
    places = [_where(view) for view in _views(c, images, _constants(c))]
    statistics = types.SimpleNamespace(mean=np.random.default_rng(1).uniform(0, 255, (SIZE, SIZE, 3)),
                                       eigenvalues=np.ones(3), eigenvectors=np.eye(3))
    consts = augment.constants(c, statistics)
    whole = statistics.mean.astype(np.float32)
    views = _views(c, images, consts)
    for view, image, place in zip(views, images.astype(np.float32), places, strict=True):
        if mean == "pixel":  # cropped and mirrored with the image
            expected = _cut(image - whole, *place)
        elif mean == "centre":  # the same for every crop, mirrored or not
            expected = _cut(image, *place) - whole[2:7, 2:7]
        elif mean == "channel":
            expected = _cut(image, *place) - whole.mean(axis=(0, 1))
        else:
            expected = _cut(image, *place) - whole.mean()
        np.testing.assert_allclose(view, expected, atol=1e-4)


def test_ilsvrcs_components_in_grey_levels():
    statistics = types.SimpleNamespace(mean=np.zeros((SIZE, SIZE, 3)), eigenvalues=None, eigenvectors=None)
    for by, first in (("eigenvalue", 5.8), ("deviation", 12.2)):
        c = _config(augment__pca__by=by, augment__pca__statistics="ilsvrc2012")
        colour = augment.constants(c, statistics).colour
        lengths = 0.1 * np.linalg.norm(colour, axis=0)
        assert lengths.max() == pytest.approx(first, abs=0.05)
        first_component = colour[:, np.argmax(lengths)] / np.linalg.norm(colour[:, np.argmax(lengths)])
        np.testing.assert_allclose(first_component, [-.56351, -.57618, -.59200], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(colour, axis=0), [19.72, 37.09, 121.78], rtol=1e-4)


def test_measured_components_are_scaled_like_the_authors():
    vectors = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))[0]
    statistics = types.SimpleNamespace(mean=np.zeros((SIZE, SIZE, 3)), eigenvalues=np.asarray([-1e-9, 400.0, 8100.0]),
                                       eigenvectors=vectors)
    colour = {by: augment.constants(_config(augment__pca__by=by), statistics).colour
              for by in ("eigenvalue", "deviation")}
    np.testing.assert_allclose(colour["eigenvalue"], vectors * [0, 400 / 255, 8100 / 255], atol=1e-5)
    np.testing.assert_allclose(colour["deviation"], vectors * [0, 20, 90], atol=1e-5)


def test_grey_images_and_a_divisor():
    images = _images()
    statistics = types.SimpleNamespace(mean=np.random.default_rng(1).uniform(0, 255, (SIZE, SIZE, 3)),
                                       eigenvalues=np.ones(3), eigenvectors=np.eye(3))
    c = _config(augment__crop_offsets=1, augment__mirror=False, augment__pca__amount=0.0, augment__grey=True,
                augment__divide=(50.0,))
    consts = augment.constants(c, statistics)
    grey = (images[:, 2:7, 2:7] - statistics.mean[2:7, 2:7]) @ [0.299, 0.587, 0.114] / 50
    np.testing.assert_allclose(_views(c, images, consts), grey[..., None], atol=1e-4)
    centre = augment.test_view(images, augment.centre_view(c)[0], consts, c)
    np.testing.assert_allclose(centre, grey[..., None], atol=1e-4)
    each = _config(augment__crop_offsets=1, augment__mirror=False, augment__pca__amount=0.0,
                   augment__divide=(1.0, 2.0, 4.0))
    plain = _config(augment__crop_offsets=1, augment__mirror=False, augment__pca__amount=0.0)
    whole = _views(plain, images, _constants(plain))
    np.testing.assert_allclose(_views(each, images, _constants(each)), whole / [1, 2, 4], rtol=1e-6)


def test_a_large_batch_draws_as_its_parts_do():
    # jaxlib 0.10.2 gave batches of more than 455 images a few shifts in common (a miscompiled reduction).
    images = np.tile(_images(), (8, 1, 1, 1))
    c = _config(augment__crop_offsets=1, augment__mirror=False)
    consts = _constants(c, colour=np.eye(3) * 100)
    whole = _views(c, images, consts, noise=0.1)
    assert len(np.unique(whole[:, 0, 0, 0])) > 500
    for first in range(0, 512, BATCH):
        rows = np.arange(first, first + BATCH)
        np.testing.assert_allclose(_views(c, images[rows], consts, noise=0.1, rows=rows), whole[rows], atol=1e-4)


def test_colour_noise_is_one_shift_an_image_along_the_components():
    images = _images()
    c = _config(augment__crop_offsets=1, augment__mirror=False)
    colour = np.asarray(augment.ILSVRC2012_VECTORS) * np.square(augment.ILSVRC2012_DEVIATIONS) / 255
    consts = _constants(c, colour=colour)
    shifts = []
    for seed in range(16):
        shift = _views(c, images, consts, noise=0.1, seed=seed) - images[:, 2:7, 2:7]
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1], shift.shape), atol=1e-3)
        shifts.append(shift[:, 0, 0])
    alpha = np.concatenate(shifts) @ np.linalg.inv(colour).T  # 1,024 draws of three numbers
    assert np.abs(alpha.mean(axis=0)).max() < 5 * 0.1 / 32
    np.testing.assert_allclose(alpha.std(axis=0), 0.1, rtol=0.12)  # five standard errors
    assert np.abs(np.corrcoef(alpha.T) - np.eye(3)).max() < 0.16
    along_first = np.concatenate(shifts) @ np.asarray(augment.ILSVRC2012_VECTORS)[:, 2]
    assert along_first.std() == pytest.approx(5.8, rel=0.12)
    assert not np.allclose(shifts[0], shifts[1])
    assert len(np.unique(shifts[0], axis=0)) == BATCH


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a form for CPUs")
def test_colour_noise_is_drawn_once_an_image_and_not_for_each_pixel():
    # XLA for CPUs draws it again wherever it fuses the draw with the pixels: an eighth of a small network's step.
    c = _config()
    compiled = jax.jit(lambda images, noise: augment.training_views(
        images, jax.random.key(0), jnp.arange(BATCH, dtype=jnp.int32), noise, _constants(c, colour=np.eye(3)), c)
    ).lower(_images(), np.float32(0.1)).compile().as_text()
    fused = [part for part in compiled.split("\n\n")
             if part.startswith("%fused") and f"f32[{BATCH},{CROP},{CROP},3]" in part]
    assert fused
    # The draw, a polynomial, multiplies; a view is pixels less the mean plus the shift, and divided.
    assert "multiply(" in compiled
    assert not any("multiply(" in part for part in fused)


@pytest.mark.parametrize("by", ["eigenvalue", "deviation"])
def test_the_covariance_of_colour_noise(by):
    # amount² V diag(λ²) Vᵀ, with V and λ of pixels whose channels go together to unlike degrees.
    draws, amount = 300 * BATCH, 0.3
    mix = np.array([[30.0, 0, 0], [-40, 15, 0], [20, -25, 50]])
    pixels = (128 + np.random.default_rng(5).standard_normal((40, SIZE, SIZE, 3)) @ mix.T).clip(0, 255).astype(np.uint8)
    c = _config(augment__pca__by=by, augment__pca__amount=amount, augment__crop_offsets=1, augment__mirror=False)
    consts = augment.constants(c, statistics.compute(pixels))
    black, shift = np.zeros((BATCH, SIZE, SIZE, 3), np.uint8), []
    for first in range(0, draws, BATCH):
        views = _views(c, black, consts, noise=c.augment.pca.amount, rows=range(first, first + BATCH))
        shift.append(views[:, 0, 0] + consts.mean[2, 2])  # one shift an image: any pixel will do
    shift = np.concatenate(shift).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(pixels.reshape(-1, 3).astype(np.float64).T, bias=True))
    scale = {"eigenvalue": values / 255, "deviation": np.sqrt(values)}

    def covariance(vectors, scale):
        return amount**2 * vectors @ np.diag(scale**2) @ vectors.T

    expected = covariance(vectors, scale[by])
    found = shift.T @ shift / draws  # around 0, the mean that the noise should have
    # Of normal numbers: var(found_ij) = (Σ_ii Σ_jj + Σ_ij²) / draws. Five standard errors.
    variances = expected.diagonal()
    bound = 5 * np.sqrt((np.outer(variances, variances) + expected**2) / draws)
    assert (np.abs(found - expected) <= bound).all()
    assert (np.abs(shift.mean(axis=0)) <= 5 * np.sqrt(variances / draws)).all()
    other = scale["deviation" if by == "eigenvalue" else "eigenvalue"]
    for wrong in (covariance(vectors, other), covariance(vectors.T, scale[by]), covariance(vectors, scale[by][::-1])):
        assert (np.abs(found - wrong) > bound).any()


def test_the_division_is_for_training_while_there_is_noise():
    images = _images()
    c = _config(augment__crop_offsets=1, augment__mirror=False, augment__pca__divide_by=1.1)
    consts = _constants(c)  # no components: the division is all that noise does
    centre = images[:, 2:7, 2:7].astype(np.float32)
    np.testing.assert_allclose(_views(c, images, consts, noise=0.1), centre / 1.1, rtol=1e-6)
    np.testing.assert_array_equal(_views(c, images, consts, noise=0.0), centre)
    np.testing.assert_array_equal(augment.test_view(images, augment.centre_view(c)[0], consts, c), centre)
    none = _config(augment__crop_offsets=1, augment__mirror=False, augment__pca__divide_by=1.1,
                   augment__pca__amount=0.0)
    np.testing.assert_array_equal(_views(none, images, consts, noise=0.0), centre)


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_an_image_depends_on_its_row_alone(recipe):
    images, c = _images(), _config(recipe)
    consts = _constants(c, colour=np.eye(3) * 100)
    whole = _views(c, images, consts, noise=0.1)
    some = np.asarray([40, 3, 63])
    np.testing.assert_array_equal(_views(c, images[some], consts, noise=0.1, rows=some), whole[some])


@pytest.mark.parametrize("mean", ["pixel", "centre", "channel"])
def test_ten_views_in_the_released_order(mean):
    images = _images()
    c = _config("released", augment__mean=mean)
    d = SIZE - CROP
    views = augment.ten_views(c)
    np.testing.assert_array_equal(views[:, :2], [(0, 0), (0, d), (d // 2, d // 2), (d, 0), (d, d)] * 2)
    np.testing.assert_array_equal(views[:, 2], [0] * 5 + [1] * 5)
    np.testing.assert_array_equal(augment.centre_view(c), [[2, 2, 0]])
    full = np.random.default_rng(3).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    stored = {"pixel": full, "centre": full[2:7, 2:7], "channel": full[:1, :1]}[mean]
    call = jax.jit(lambda view: augment.test_view(jnp.asarray(images), view, _constants(c, stored), c))
    for view in views:
        if mean == "pixel":
            expected = np.stack([_cut(image - full, *view) for image in images.astype(np.float32)])
        else:
            expected = np.stack([_cut(image, *view) - stored for image in images.astype(np.float32)])
        np.testing.assert_allclose(call(view), expected, atol=1e-4)


def test_imagenets_ten_views():
    np.testing.assert_array_equal(
        augment.ten_views(config_lib.default())[:5], [(0, 0, 0), (0, 32, 0), (16, 16, 0), (32, 0, 0), (32, 32, 0)])
