"""Formats by content, EXIF orientation, and store versions that depend on the supported formats."""

import hashlib
import io

import numpy as np
import pytest
from data_files import data_config, encoded, pixels, write_tar, write_tree
from PIL import Image, ImageOps, features

from alexnet_jax.data import dataset, open_split, registry
from alexnet_jax.data.readers import decode, formats, image_folder, trees
from alexnet_jax.errors import ConfigError

FORMS = {"JPEG": {"quality": 98}, "PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "GIF": {}, "PPM": {},
         "AVIF": {"quality": 100}, "JPEG2000": {}}
MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")


def skip_without(form):
    feature = {"AVIF": "avif", "JPEG2000": "jpg_2000"}.get(form)
    if feature and feature not in features.get_supported():
        pytest.skip(f"this Pillow reads no {form}")


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_read_in_every_mode_and_known_by_its_content(form):
    skip_without(form)
    colour, seen = Image.fromarray(pixels(5, 24, 24)), 0
    for mode in MODES:
        try:
            content = encoded(colour.convert(mode), form, **FORMS[form])
        except (OSError, ValueError):
            continue  # what the format can't hold
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decode.decode(content, 24), expected)
        assert formats.PILLOW[formats.kind(content[:formats.HEAD], "odd.txt")] == form
        for cut in (len(content) // 2, 30):
            with pytest.raises(ValueError, match=r"\w"):
                decode.decode(content[:cut], 24)
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize("largest", [15, 255, 1000, 65535])
def test_ppm_of_any_depth(largest):
    values = np.arange(8 * 8 * 3).reshape(8, 8, 3) * largest // 191
    raw = values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    found = decode.decode(b"P6\n# a comment\n8 8\n%d\n" % largest + raw, 8)
    np.testing.assert_array_equal(found, np.round(values * 255 / largest).astype(np.uint8))


def test_sixteen_bits_and_numbers_without_a_white():
    grey = np.asarray(Image.fromarray(pixels(5)).convert("L"))
    deep = encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF")
    np.testing.assert_array_equal(decode.decode(deep, 10), np.stack([grey[1:11]] * 3, -1))
    for kind in (np.float32, np.int32):
        with pytest.raises(ValueError, match=r"without a defined white; convert it to 8 or 16 bits"):
            decode.decode(encoded(Image.fromarray(grey.astype(kind)), "TIFF"), 10)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_taken(form):
    frames = [Image.fromarray(pixels(i)).convert("L") for i in range(3)]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode.decode(content, 10)[..., 0], np.asarray(frames[0])[1:11])


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_huge_images_are_refused_in_words(form, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="too large to be read: more than 400 pixels; make it smaller"):
        decode.decode(encoded(pixels(1, 30, 30), form), 8)


@pytest.mark.parametrize(("head", "name", "kind"), [
    (b"%!PS-Adobe-3.0 EPSF", "a.jpg", "EPS"), (b"8BPS\0\1", "a.png", "PSD"), (b"\xd7\xcd\xc6\x9a", "a.wmf", "WMF"),
    (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "IMG.jpg", "HEIC"), (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "a", "AVIF"),
    (b"\0\0\0\x1cftypisom\0\0\0\0isommp41", "a", "video"), (b"II*\0\x10\0\0\0CR\2\0", "a.cr2", "camera raw"),
    (b"II*\0\x08\0\0\0", "a.NEF", "camera raw"), (b"II*\0\x08\0\0\0", "a.tif", "TIFF"), (b"BMW, a car", "a", "text"),
    (b"P5 is a name, 3 of 4", "a.txt", "text"), (b"<html>", "a.jpg", formats.UNKNOWN), (b"", "a.jpg", formats.UNKNOWN),
    (b"", "a.txt", "empty"), (b"\1\2\3\0", "a.dat", ".dat"), (b"\1\2\3\0", "a", "other")])
def test_what_a_file_is(head, name, kind):
    assert formats.kind(head, name) == kind


# --- EXIF ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("number", [1, 3, 6, 7, 8])
def test_photographs_are_rotated_by_exif_if_requested(form, number):
    stored, exif = Image.fromarray(pixels(3, 16, 10)), Image.Exif()
    exif[0x0112] = number
    content = encoded(stored, form, exif=exif, **FORMS[form])
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    turned, size = decode.decode_sized(content, 10, "exif")
    np.testing.assert_array_equal(turned, decode.square(upright, 10))
    assert size == (upright.height, upright.width)
    if form == "JPEG":
        with Image.open(io.BytesIO(content)) as image:
            stored = image.convert("RGB")
    np.testing.assert_array_equal(decode.decode(content, 10), decode.square(stored, 10))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # builds set this themselves
def test_damaged_exif_turns_nothing():
    content = encoded(pixels(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(9), quality=98)
    np.testing.assert_array_equal(decode.decode(content, 10, "exif"), decode.decode(content, 10))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return data_config(tmp_path / "store", name="image_folder:x", dir=tmp_path / "data")


def opened(data, split="train", **fields):
    with data.unlocked():
        data.update(fields)
    return open_split(data, split, report=lambda line: None)


def test_each_orientation_has_a_store_of_its_own(data, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_tree(tmp_path / "data" / "x", {f"train/{name}/1.png": encoded(pixels(i, 8, 8), exif=exif)
                                         for i, name in enumerate("ab")})
    stored, turned = opened(data), opened(data, orientation="exif")
    assert turned.version == f"{stored.version}-exif"
    for a, b in zip(stored.images, turned.images, strict=True):
        np.testing.assert_array_equal(np.rot90(a, -1), b)
    assert "orientation exif" in decode.made_by("exif")
    (tmp_path / "data" / "x").rename(tmp_path / "gone")  # and neither stands in for the other
    assert opened(data).version == turned.version
    assert opened(data, orientation="stored").version == stored.version


def test_ilsvrc_stays_as_its_authors_read_it(data, tmp_path):
    with data.unlocked():
        data.name, data.orientation = "imagenet", "exif"
    with pytest.raises(ConfigError, match=r"config.data.orientation: imagenet is read as its authors read it"):
        registry.find(data, tmp_path)


# --- versions -----------------------------------------------------------------------------------------------

JPEG, PNG = b"\xff\xd8\xff" + b"y" * 30, b"\x89PNG\r\n\x1a\n" + b"x" * 20
OLD = {"train/b/1.png": PNG, "train/b/2.jpg": JPEG, "train/a/x/3.JPEG": JPEG, "train/a/odd": PNG,
       "train/a/note.txt": b"hello", "train/a/empty.jpg": b"", "train/a/page.jpg": b"<html>",
       "val/a/1.png": PNG, "val/b/2.jpg": JPEG, "labels.txt": b"a\tapple\n"}
# As they were when only JPEG and PNG were read, in folders of classes and tar archives of them.
VERSIONS = {"folder": {"train": "e527dd9396", "val": "6d4a17c2e7"},
            "domains": {"photo": "e309b9404a", "sketch": "03188a6cef"}, "tar": {"train": "f8c5c4f99c"},
            "tar with train/": {"train": "51966bb99d"}, "tar with w/train/": {"train": "78d64c7eba"}}


def of_old(root, what, files):
    if what == "folder":
        write_tree(root, files)
    elif what == "domains":
        write_tree(root, {k.replace("train/", "photo/").replace("val/", "sketch/"): v for k, v in files.items()
                          if "/" in k})
    else:
        prefix = what.partition("with ")[2]
        write_tar(root / "train.tar", {prefix + k[6:]: v for k, v in files.items() if k.startswith("train/")})


def versions(root, store):
    source = image_folder.ImageFolder(dataset.Asked("image_folder:x", "x", root, store))
    return {split: source.version(split) for split in source.split_sizes()}


@pytest.mark.parametrize("what", VERSIONS)
def test_stores_of_jpeg_and_png_keep_their_names(tmp_path, what):
    of_old(tmp_path / "x", what, OLD)
    assert versions(tmp_path, tmp_path / "store") == VERSIONS[what]


@pytest.mark.parametrize("what", VERSIONS)
@pytest.mark.parametrize(("name", "content", "changes"), [
    ("train/a/empty.jpg", b"RIFF\0\0\0\0WEBP", True),  # was listed and counted as corrupt
    ("train/a/odd2", b"GIF89a", True), ("train/a/img.jpg", b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", None),
    ("train/a/more.txt", b"text", False), ("train/a/Thumbs.db", b"x", False)])
def test_what_is_newly_read_makes_another_store(tmp_path, what, name, content, changes):
    of_old(tmp_path / "x", what, OLD | {name: content})
    found = versions(tmp_path, tmp_path / "store")
    if "tar" in what:  # whose bytes are others now in any case: by the ends alone, or by what is in it too
        ends = hashlib.sha256(dataset.ends(tmp_path / "x" / "train.tar")).hexdigest()
        alone = hashlib.sha256(f"mixed {ends}  00000000".encode()).hexdigest()[:10]
        assert (found["train"] != alone) == (changes is not False)
    else:
        first = next(iter(found))
        # A HEIC called .jpg was not there in OLD: named, it was listed, and now it is left out.
        assert (found[first] != VERSIONS[what][first]) == bool(changes)


def test_a_store_that_listed_webp_as_corrupt_is_built_again(data, tmp_path):
    files = {f"train/{n}/{i}.jpg": encoded(pixels(10 * i + (n == "b")), "WEBP" if i else "JPEG")
             for n in "ab" for i in range(2)}
    write_tree(tmp_path / "data" / "x", files)
    entries = sorted(((k[6:], len(v)) for k, v in files.items()), key=lambda e: dataset.mixed(e[0]))
    own = hashlib.sha256("".join(f"{name}\0{size}\n" for name, size in entries).encode()).hexdigest()
    before = hashlib.sha256(f"mixed {own}  00000000".encode()).hexdigest()[:10]
    split = opened(data)
    assert split.version != before
    assert (len(split), split.corrupt) == (4, 0)


def test_what_archives_and_large_folders_hold_is_looked_at_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "LARGE", 0)
    monkeypatch.setattr(trees, "_MANY", 1)
    images = {f"{n}/{i}.png": encoded(pixels(10 * i + (n == "b"))) for n in "ab" for i in range(2)}
    images["a/odd.jpg"] = encoded(pixels(77), "WEBP")
    write_tree(tmp_path / "data" / "x" / "train", images)
    write_tar(tmp_path / "data" / "x" / "val.tar.gz", images)
    first = {split: opened(data, split) for split in ("train", "val")}
    assert [len(split) for split in first.values()] == [5, 5]
    monkeypatch.setattr(trees.Tar, "_members", None)
    monkeypatch.setattr(formats, "kind", None)
    assert all(opened(data, name).store.folder == split.store.folder for name, split in first.items())
