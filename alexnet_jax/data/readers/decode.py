"""Decodes image files into the squares of the packed store.

The paper's rule (section 2): the shorter side is rescaled to `size`, then the central `size` × `size` square
is cropped. Rescaling is bilinear, antialiased for downscaling (the triangle filter widened by the factor, as in
Pillow), and plain bilinear for upscaling. Every image becomes RGB: greyscale is repeated, palettes are looked up, alpha
is dropped (keeping the colours beneath), CMYK is converted (assumed inverted in JPEGs, as written by Adobe, plain or as
YCCK), and 16-bit greyscale keeps its eight high bits. Only the first frame or page is used. Pixels are used as stored,
or rotated according to EXIF (`ORIENTATIONS`).
"""

from __future__ import annotations

import concurrent.futures
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from alexnet_jax.data.dataset import Block, Corrupt
from alexnet_jax.data.readers import formats

# Version of the decoding rule, recorded by stores (`made_by`): increase it when any pixel changes
# (tests/test_data_decode.py freezes them).
RULE = "595e33b5"

ORIENTATIONS = ("stored", "exif")
_PNG_END = b"IEND\xaeB\x60\x82"
_JPEG_2000_END = b"\xff\xd9"
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # EXIF's numbers: what makes the stored pixels look as they should
_BACK = _TURNS | {6: _TURNS[8], 8: _TURNS[6]}
_LONGEST = 8  # aspect ratio beyond which the ends are cropped before rescaling, to bound memory


class Job(NamedTuple):
    """One image to decode: rank in the split, name for messages, label, and its bytes or a function that reads them."""

    rank: int
    name: str
    label: int
    content: bytes | Callable[[], bytes]


def made_by(orientation: str = "stored", resize: str = "shorter") -> str:
    """Identifies what pixels depend on besides the file's bytes: the decoder, `RULE`, the options."""
    jpeg = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    turned = "" if orientation == "stored" else f", orientation {orientation}"
    resized = "" if resize == "shorter" else f", resize {resize}"
    return f"Pillow {Image.__version__}, libjpeg {jpeg}, rule {RULE}{turned}{resized}"


def decode(content: bytes, size: int, orientation: str = "stored", resize: str = "shorter") -> np.ndarray:
    """The image as uint8 [size, size, 3].

    Args:
      content: the file's bytes.
      size: side of the result.
      orientation: 'stored', or 'exif' to apply the EXIF orientation; damaged EXIF data is ignored.
      resize: the rule of `square`.

    Raises:
      ValueError: with the reason, if it isn't a complete image in a supported format (`formats.PILLOW`).
    """
    return decode_sized(content, size, orientation, resize)[0]


def decode_sized(content: bytes, size: int, orientation: str = "stored",
                 resize: str = "shorter") -> tuple[np.ndarray, tuple[int, int]]:
    """The same, and the file's (height, width), after the same rotation."""
    if not content:
        raise ValueError("the file is empty")
    kind = formats.kind(content[:formats.HEAD], "")
    if kind not in formats.PILLOW:
        what = "" if kind == "other" else f": {kind}"
        raise ValueError(f"not in a supported image format{what}")
    # Pillow only detects missing pixels, and not even these for JPEG 2000.
    if kind == "PNG" and _PNG_END not in content:
        raise ValueError("truncated: the PNG has no end")
    if kind == "JPEG 2000" and _JPEG_2000_END not in content[-16:]:
        raise ValueError("truncated: the JPEG 2000 has no end")
    try:
        with Image.open(io.BytesIO(content), formats=(formats.PILLOW[kind],)) as image:
            turned = _loaded(image, orientation)
            return square(turned, size, resize), (turned.height, turned.width)
    except UnidentifiedImageError as error:
        if formats.lacking({kind}):
            raise ValueError(f"{kind}, which the installed Pillow can't read") from error
        raise ValueError("damaged or truncated at its beginning") from error
    except Image.DecompressionBombError as error:
        raise ValueError("too large to be read: more than "
                         f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller") from error
    except Exception as error:  # Pillow raises many types, including SyntaxError and struct.error
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _loaded(image: Image.Image, orientation: str) -> Image.Image:
    """Loads an open image's pixels, applying the orientation."""
    tiff = image.format == "TIFF"  # Pillow applies the orientation itself
    if tiff and image.mode == "I":
        raise ValueError("its pixels are 32-bit integers without a defined white; convert it to 8 or 16 "
                         "bits")
    number = _orientation(image) if tiff else 1
    image.load()
    if tiff:
        turn = _BACK.get(number) if orientation == "stored" else None
    else:
        turn = _TURNS.get(_orientation(image)) if orientation == "exif" else None
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data
        return 1


def square(image: Image.Image, size: int, resize: str = "shorter") -> np.ndarray:
    """Any Pillow image as RGB uint8 [size, size, 3].

    Args:
      resize: 'shorter', the paper's: the shorter side is rescaled to `size`, the longer one rounded, and the centre
        cropped. 'torchvision': the longer side is truncated, and the crop starts at half of the rest, rounded half to
        even (torchvision's resize and center_crop). 'warp': both sides to `size` (Caffe).
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a defined white; convert it to 8 "
                         "or 16 bits")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if resize == "warp":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    if max(image.size) > _LONGEST * min(image.size):
        image = _centre(image, *(min(side, _LONGEST * min(image.size)) for side in image.size))
    width, height = image.size
    short = min(width, height)
    if short != size:
        whole = int if resize == "torchvision" else round
        image = image.resize(
            (max(size, whole(width * size / short)), max(size, whole(height * size / short))),
            Image.Resampling.BILINEAR,
        )
    if resize == "torchvision":
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return np.asarray(image.crop((left, top, left + size, top + size)))
    return np.asarray(_centre(image, size, size))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if (left, top) == (0, 0) and image.size == (width, height):
        return image
    return image.crop((left, top, left + width, top + height))


def square_array(image: np.ndarray, size: int, resize: str = "shorter") -> np.ndarray:
    """`square` for an array, uint8 [height, width], [height, width, 1] or [height, width, 3]."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"an array of {image.dtype} {list(image.shape)} is not an image of type uint8")
    if image.shape == (size, size, 3):
        return image
    return square(Image.fromarray(image), size, resize)


def decode_all(jobs: Iterable[Job], size: int, orientation: str = "stored",
               resize: str = "shorter") -> Generator[Block | Corrupt, None, None]:
    """Decodes on all cores, in the order of `jobs`, with only a few images in memory."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def work(job: Job) -> Block | Corrupt:
        try:
            content = job.content if isinstance(job.content, bytes) else job.content()
            image, original = decode_sized(content, size, orientation, resize)
            return Block(job.rank, image[None], np.array([job.label], np.int32), np.array([original]))
        except OSError as error:
            return Corrupt(job.rank, job.name, f"cannot be read ({error.strerror or error})")
        except ValueError as error:
            return Corrupt(job.rank, job.name, str(error))

    pending: deque[concurrent.futures.Future] = deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(work, job))
                if len(pending) > 8 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
