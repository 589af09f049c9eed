"""Photographs for tests that hold a network's outputs against others', from Tiny-ImageNet."""

import functools
import io
import os
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

PHOTOS = pathlib.Path(os.environ.get("ALEXNET_DATA_DIR", "/nowhere")) / "tiny-imagenet-100" / "val.tar.gz"
needs_photos = pytest.mark.skipif(
    not PHOTOS.is_file(), reason="needs tiny-imagenet-100 in the folder that ALEXNET_DATA_DIR names")


@functools.cache
def _jpegs(count):
    found = []
    with tarfile.open(PHOTOS, "r:gz") as archive:
        for number, member in enumerate(m for m in archive if m.isfile()):
            if number % 7 == 0:
                found.append(archive.extractfile(member).read())
            if len(found) == count:
                return found
    return found


def photographs(count, size):
    """uint8 [count, size, size, 3]: images of Tiny-ImageNet, enlarged."""
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB").resize(
        (size, size), Image.Resampling.BICUBIC)) for jpeg in _jpegs(count)])
