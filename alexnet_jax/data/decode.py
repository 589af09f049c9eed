"""From the bytes of an image file to the square of the packed store.

The paper's rule (section 2): the shorter side is rescaled to `size`, then the central `size` × `size` square
is cut out. Rescaling is bilinear, antialiased when it shrinks (the triangle filter widened by the factor, as
Pillow does), and plain bilinear when it enlarges. Every image becomes RGB: greyscale is repeated, palettes
are looked up, transparency is dropped (what lies beneath shows), CMYK is converted (JPEGs are taken to hold it
inverted, as Adobe's do, plain or as YCCK), 16-bit greyscale keeps its eight high bits. The EXIF orientation is
ignored: pixels are taken as they are stored.
"""

from __future__ import annotations

import concurrent.futures
import io
import os
import pathlib
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from alexnet_jax.data.sources import Block, Corrupt

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB\x60\x82"
_LONGEST = 8  # sides' ratio beyond which the far ends are cut off before rescaling, to bound the memory


class Job(NamedTuple):
    """One image to decode: place in the split, name for messages, label, and its bytes, or what reads them."""

    rank: int
    name: str
    label: int
    content: bytes | Callable[[], bytes]


def made_by() -> str:
    """What the pixels depend on besides the image's bytes: the versions of the decoder and of this file."""
    jpeg = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    rule = zlib.crc32(pathlib.Path(__file__).read_bytes())
    return f"Pillow {Image.__version__}, libjpeg {jpeg}, rule {rule:08x}"


def is_image(head: bytes) -> bool:
    """Does a file that begins with these bytes (8 suffice) claim to be a JPEG or a PNG?"""
    return head.startswith((JPEG, PNG))


def decode(content: bytes, size: int) -> np.ndarray:
    """The image as uint8 [size, size, 3].

    Raises:
      ValueError: with the reason, if it isn't a whole JPEG or PNG.
    """
    return decode_sized(content, size)[0]


def decode_sized(content: bytes, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The same, and the (height, width) that it has in the file."""
    if not content:
        raise ValueError("the file is empty")
    if not is_image(content):
        raise ValueError("neither a JPEG nor a PNG")
    if content.startswith(PNG) and _PNG_END not in content:
        raise ValueError("truncated: the PNG has no end")  # Pillow minds missing pixels only
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            image.load()
            return square(image, size), (image.height, image.width)
    except UnidentifiedImageError as error:
        raise ValueError("its beginning is damaged") from error
    except Exception as error:  # Pillow raises many kinds, SyntaxError and struct.error among them
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """uint8 [size, size, 3] of any Pillow image: RGB, shorter side rescaled to `size`, the centre cut out."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode != "RGB":
        image = image.convert("RGB")
    if max(image.size) > _LONGEST * min(image.size):
        image = _centre(image, *(min(side, _LONGEST * min(image.size)) for side in image.size))
    width, height = image.size
    short = min(width, height)
    if short != size:
        image = image.resize(
            (max(size, round(width * size / short)), max(size, round(height * size / short))),
            Image.Resampling.BILINEAR,
        )
    return np.asarray(_centre(image, size, size))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if (left, top) == (0, 0) and image.size == (width, height):
        return image
    return image.crop((left, top, left + width, top + height))


def square_array(image: np.ndarray, size: int) -> np.ndarray:
    """The same for an array, uint8 [height, width], [height, width, 1] or [height, width, 3]."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"an array of {image.dtype} {list(image.shape)} is not an image of bytes")
    if image.shape == (size, size, 3):
        return image
    return square(Image.fromarray(image), size)


def decode_all(jobs: Iterable[Job], size: int) -> Generator[Block | Corrupt, None, None]:
    """Decodes on all cores, in the order of `jobs`, holding only a few images at a time."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def work(job: Job) -> Block | Corrupt:
        try:
            content = job.content if isinstance(job.content, bytes) else job.content()
            image, original = decode_sized(content, size)
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
