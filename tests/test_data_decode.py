"""From image files to the squares of the store."""

import zlib

import numpy as np
import pytest
from data_files import encoded, pixels
from PIL import Image

from alexnet_jax.data.readers import decode


def modes():
    grey = Image.fromarray(pixels(5)).convert("L")
    colour = Image.fromarray(pixels(5))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    rgb, repeated = np.asarray(colour), np.stack([np.asarray(grey)] * 3, -1)
    alpha = colour.copy()
    alpha.putalpha(grey)
    palette = colour.quantize(200)
    see_through = palette.copy()
    return {
        "grey JPEG": (encoded(grey, "JPEG", quality=98), repeated, 4),
        "grey PNG": (encoded(grey), repeated, 0),
        "16 bit": (encoded(sixteen), repeated, 0),
        "alpha": (encoded(alpha), rgb, 0),
        "grey alpha": (encoded(alpha.convert("LA")), repeated, 0),
        "palette": (encoded(palette), np.asarray(palette.convert("RGB")), 0),
        "see-through": (
            encoded(see_through, transparency=bytes(range(200))),
            np.asarray(palette.convert("RGB")),
            0,
        ),
        "black and white": (
            encoded(grey.convert("1")),
            np.stack([np.asarray(grey.convert("1")) * np.uint8(255)] * 3, -1),
            0,
        ),
        "CMYK": (encoded(colour.convert("CMYK"), "JPEG", quality=98, subsampling=0), rgb, 8),
        "RGB JPEG": (encoded(colour, "JPEG", quality=98, subsampling=0), rgb, 6),
    }


@pytest.mark.parametrize("mode", list(modes()))
@pytest.mark.filterwarnings(
    "ignore:Palette images with Transparency:UserWarning"
)  # builds set this themselves
def test_every_mode_becomes_rgb(mode):
    content, expected, tolerance = modes()[mode]
    found = decode.decode(content, 10)
    assert found.shape == (10, 10, 3)
    assert np.abs(found.astype(int) - expected[1:11].astype(int)).max() <= tolerance


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)]


def cmyk(colour):
    """(c, m, y, k) in bytes, with some black taken out: colour = (1 - c)(1 - k)."""
    black = 255 - max(colour)
    return (*(round(255 - 255 * value / (255 - black)) if black < 255 else 0 for value in colour), black)


@pytest.mark.parametrize("colour", COLOURS)
def test_cmyk_jpegs_are_stored_inverted(colour):
    # As Adobe does, and as all do since; Pillow writes and reads them so.
    content = encoded(Image.new("CMYK", (16, 16), cmyk(colour)), "JPEG", quality=100)
    assert content[content.index(b"Adobe") + 11] == 0
    assert np.abs(decode.decode(content, 16).astype(int) - colour).max() <= 3


@pytest.mark.parametrize("colour", COLOURS)
def test_ycck_jpegs(colour):
    # The same with c, m, y turned into YCbCr, which the last byte of Adobe's marker says. Pillow doesn't write
    # it: the four channels are put together here and the byte is set.
    *cmy, k = cmyk(colour)
    # Stored inverted, c is 255 - c; YCCK keeps 255 minus that, as if it were red.
    y, cb, cr = Image.new("RGB", (1, 1), tuple(cmy)).convert("YCbCr").getpixel((0, 0))
    given = Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, k))  # which Pillow inverts
    content = bytearray(encoded(given, "JPEG", quality=100))
    content[content.index(b"Adobe") + 11] = 2
    assert np.abs(decode.decode(bytes(content), 16).astype(int) - colour).max() <= 4


def test_the_shorter_side_is_rescaled_and_the_centre_cut_out():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (16, 64, 3))
    found = decode.decode(encoded(ramp), 8)  # 64×16 → 32×8 → its columns 12 … 19
    expected = Image.fromarray(ramp).resize((32, 8), Image.Resampling.BILINEAR).crop((12, 0, 20, 8))
    np.testing.assert_array_equal(found, np.asarray(expected))
    upright = decode.decode(encoded(ramp.transpose(1, 0, 2)), 8)
    np.testing.assert_array_equal(upright, found.transpose(1, 0, 2))
    assert decode.decode(encoded(pixels(1, 5, 3)), 20).shape == (20, 20, 3)
    assert decode.decode(encoded(pixels(1, 1, 3000)), 8).shape == (8, 8, 3)
    same = pixels(2, 8, 8)
    np.testing.assert_array_equal(decode.decode(encoded(same), 8), same)


def test_exif_orientation_is_ignored():
    image = Image.fromarray(pixels(1, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(decode.decode(encoded(image, exif=exif), 8), np.asarray(image))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (333, 499), (500, 331), (257, 256), (64, 64)])
def test_torchvision_s_resizing_and_crop(width, height):
    # transforms/functional.py: the longer side is int(size · long / short), an offset int(round((side − crop) / 2.0)).
    image = Image.fromarray(pixels(3, height, width))
    long = int(256 * max(width, height) / min(width, height))
    sides = (long, 256) if width > height else (256, long)
    resized = image if image.size == sides else image.resize(sides, Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2.0) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    content = encoded(pixels(3, height, width))
    found = decode.decode(content, 256, resize="torchvision")
    np.testing.assert_array_equal(found[16:240, 16:240], expected)


def test_the_rules_of_resizing_differ_where_they_should():
    # 333 × 499 at 256: the longer side is 383.6, an odd number of pixels is left over of 383.
    content = encoded(pixels(3, 333, 499))
    ours, theirs = (decode.decode(content, 256, resize=rule) for rule in ("shorter", "torchvision"))
    assert (ours != theirs).any()
    warped = decode.decode(content, 256, resize="warp")
    np.testing.assert_array_equal(warped, Image.fromarray(pixels(3, 333, 499)).resize(
        (256, 256), Image.Resampling.BILINEAR))
    long = decode.decode(encoded(pixels(3, 10, 400)), 16, resize="warp")  # nothing is cut off
    np.testing.assert_array_equal(long, Image.fromarray(pixels(3, 10, 400)).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode.square_array(pixels(3, 10, 400), 16, "warp"), long)


def test_the_rule_of_stores_of_before_stands_for_these_pixels():
    image = encoded(Image.fromarray(pixels(5).repeat(3, 0).repeat(2, 1)))
    found = {resize: zlib.crc32(decode.decode(image, 16, resize=resize)) for resize in ("shorter", "warp")}
    assert (decode.RULE, found) == ("595e33b5", {"shorter": 843511299, "warp": 1936998915})
