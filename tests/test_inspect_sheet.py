"""`prepare --sheet`: a picture of what the network will see."""

import drawn_text
import numpy as np
import pytest
from data_files import encoded, pixels, write_tree
from PIL import Image

from alexnet_jax import config, paths
from alexnet_jax.data import open_splits
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect import sheet


def opened(tmp_path, classes=("a", "b", "c"), each=3, **fields):
    """(a resolved config on images of 12 pixels, of which crops are 8, its training images)."""
    write_tree(tmp_path, {f"data/toy/train/{name}/{i}.png": encoded(pixels(100 * c + i, 12, 12))
                          for c, name in enumerate(classes) for i in range(each)})
    c = config.default()
    c.data.update({"name": "image_folder:toy", "dir": str(tmp_path / "data"), "store": str(tmp_path / "store"),
                   "size": 12, "crop": 8, "eval_split": "train"})
    with c.unlocked():
        for name, value in fields.items():
            part, _, field = name.rpartition("__")
            place = c
            for step in part.split("__"):
                place = place[step]
            place[field] = value
    return c, open_splits(c.data, report=lambda line: None)["train_split"]


def crops(image):
    """Every crop of 8 pixels and its mirror."""
    found = [image[y:y + 8, x:x + 8] for y in range(5) for x in range(5)]
    return found + [crop[:, ::-1] for crop in found]


@pytest.mark.parametrize("divide", [(), (64.0,), (2.0, 50.0, 100.0)])
def test_a_view_is_a_crop(tmp_path, divide):
    """Without noise and with one mean for all pixels nothing but the crop and the mirror is left."""
    c, split = opened(tmp_path, augment__mean="channel", augment__pca__amount=0.0, augment__divide=divide)
    places = np.arange(len(split))
    seen = sheet.views(c, split, places, number=6)
    assert seen.shape == (9, 6, 8, 8, 3)
    used = set()
    for image, views in zip(split.images, seen, strict=True):
        for view in views:
            errors = [np.abs(view.astype(int) - crop).max() for crop in crops(image)]
            assert min(errors) <= 1
            used.add(int(np.argmin(errors)))
    assert len(used) > 10
    assert any(i < 25 for i in used)
    assert any(i >= 25 for i in used)


def test_grey(tmp_path):
    c, split = opened(tmp_path, augment__mean="scalar", augment__pca__amount=0.0, augment__grey=True,
                      augment__mirror=False, augment__crop_offsets=1, augment__divide=(64.0,))
    seen = sheet.views(c, split, np.arange(3), number=2)
    expected = np.round(split.images[:3, 2:10, 2:10] @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(seen[..., 0].astype(int) - expected[:, None]).max() <= 1
    sheet.draw(c, split, tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as picture:
        colours = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(colours, axis=-1) > 30).any()  # the images as they are stored
    assert (np.ptp(colours, axis=-1) == 0).mean() > 0.8


def test_noise_is_seen(tmp_path):
    """A shift of the colours, one for all pixels of a view, along the components; the mean image of each pixel."""
    c, split = opened(tmp_path, augment__mean="pixel", augment__pca__amount=0.1, augment__mirror=False,
                      augment__pca__by="deviation", augment__crop_offsets=1)
    seen = sheet.views(c, split, np.arange(9), number=4).astype(float)
    statistics = split.statistics()
    plain = (split.images - statistics.mean)[:, 2:10, 2:10] + statistics.mean.mean(axis=(0, 1))
    shifts = (seen - plain[:, None])
    inside = ((seen > 0) & (seen < 255)).all(axis=-1)
    amounts = []
    for shift, shown in zip(shifts.reshape(-1, 64, 3), inside.reshape(-1, 64), strict=True):
        if shown.sum() > 10:
            assert np.ptp(shift[shown], axis=0).max() <= 1.01
            amounts.append(statistics.eigenvectors.T @ shift[shown].mean(axis=0) / np.sqrt(statistics.eigenvalues))
    assert len(amounts) > 10
    assert 0.05 < np.std(np.array(amounts)[:, 0]) < 0.2


def test_images_of_as_many_classes_as_there_are(tmp_path):
    _, split = opened(tmp_path, each=3)
    places = sheet.chosen(split, 5)
    assert sorted(split.labels[places]) == list(split.labels[places])
    assert sorted(np.bincount(split.labels[places])) == [1, 2, 2]
    assert len(set(places)) == 5
    assert len(sheet.chosen(split, 50)) == 9
    for count in (1, 2, 3):
        assert len(set(split.labels[sheet.chosen(split, count)])) == count


def test_the_picture_shows_the_images_and_any_name(tmp_path):
    names = ("q$x^$|y", "[bold]a", "鳥" * 60, "new\nline", "back\\slash {0} %s")
    c, split = opened(tmp_path, classes=names, each=1, augment__mean="channel", augment__pca__amount=0.0)
    for ending in (".png", ".svg"):
        sheet.draw(c, split, tmp_path / f"sheet{ending}")
        assert (tmp_path / f"sheet{ending}").stat().st_size > 10_000
    with Image.open(tmp_path / "sheet.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    for image in split.images:  # each of its colours stands somewhere
        for pixel in (image[0, 0], image[6, 6], image[11, 11]):
            assert (np.abs(picture - pixel).max(axis=-1) <= 1).any()
    text = (tmp_path / "sheet.svg").read_text(encoding="utf-8")
    assert text.count("<image") == 5 * (1 + sheet.VIEWS)


@pytest.mark.parametrize(("classes", "each"), [(("a" * 60, "b" * 60), 1), (("鳥" * 60, "b"), 15), (("a",), 1)])
def test_no_text_leaves_the_picture_or_overlaps(tmp_path, monkeypatch, classes, each):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self))
    c, split = opened(tmp_path, classes=(*classes, "c")[:max(2, len(classes))], each=each)
    sheet.draw(c, split, tmp_path / "a.png")
    assert len(drawn) == 1
    assert drawn_text.faults(drawn[0]) == []


@pytest.mark.parametrize(("name", "words"), [
    ("sheet.jpg", r"the name has to end in .svg, .png, .pdf$"), ("sheet", "the name has to end in"),
    ("absent/sheet.png", "there is no folder"), ("folder.png", "may not be written")])
def test_a_place_that_will_not_do(tmp_path, name, words):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigError, match=rf"^--sheet=.*{name}: {words}"):
        paths.output(str(tmp_path / name), "--sheet")
