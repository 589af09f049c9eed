"""Common helpers of the data room's tests: a config.data, small images, and trees and archives of them."""

import io
import os
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import config


def data_config(store, **fields):
    """config.data with its store in `store`; the data dir is empty unless given."""
    data = config.default().data
    with data.unlocked():
        data.update(
            {"store": str(store), "size": 8, **{k: str(v) if k == "dir" else v for k, v in fields.items()}}
        )
    return data


def real_data(folder: str) -> pathlib.Path:
    """<ALEXNET_DATA_DIR>/<folder>; skips the test, saying why, where that is absent."""
    given = os.environ.get("ALEXNET_DATA_DIR", "")
    if not given:
        pytest.skip(f"ALEXNET_DATA_DIR is not set: no real {folder} here")
    if not (pathlib.Path(given) / folder).is_dir():
        pytest.skip(f"{given} holds no {folder}")
    return pathlib.Path(given) / folder


def pixels(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    """uint8 [height, width, 3]: smooth, so that JPEG changes little."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR))


def encoded(image: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def write_tree(root: pathlib.Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_tar(path: pathlib.Path, files: dict[str, bytes]) -> None:
    """An archive of the files in the order of the dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
