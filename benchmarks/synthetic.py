"""Packed stores of any size without a dataset: black images in a sparse file, or a few random ones repeated."""

from __future__ import annotations

import json
import pathlib
import zlib

import numpy as np

from alexnet_jax.data import store as store_lib

NAME = "image_folder:synthetic"  # config.data.name; config.data.dir must be a folder without it
_DISTINCT = 64


def make(root: pathlib.Path, split: str, count: int, size: int, classes: int = 1000, sparse: bool = False
         ) -> pathlib.Path:
    """Writes the store of one whole split into `root`, with statistics, unless it exists; returns its folder.

    Args:
      count: images. size: in pixels. sparse: black images that use no disk space; else 64 random ones, repeated.
    """
    folder = root / store_lib.folder_name("image_folder-synthetic", "1", split, size)
    if folder.exists():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    shape = (size, size, 3)
    distinct = np.zeros((1, *shape), np.uint8) if sparse else rng.integers(0, 256, (_DISTINCT, *shape), np.uint8)
    with (partial / store_lib.IMAGES).open("wb") as file:
        if sparse:
            file.truncate(count * distinct.nbytes)
        else:
            for first in range(0, count, _DISTINCT):
                file.write(distinct[: count - first].tobytes())
    labels = rng.integers(0, classes, count, np.int32)
    sums = np.asarray([zlib.crc32(image) for image in distinct], "<u4")[np.arange(count) % len(distinct)]
    labels.astype("<i4").tofile(partial / store_lib.LABELS)
    sums.tofile(partial / store_lib.CHECKSUMS)
    names = [f"class {i}" for i in range(classes)]
    meta = {"schema": store_lib.SCHEMA, "name": NAME, "version": "1", "split": split, "size": size, "count": count,
            "classes": names, "class_keys": names, "corrupt": [],
            "crc32": {store_lib.LABELS: store_lib.crc32(labels), store_lib.CHECKSUMS: store_lib.crc32(sums)}}
    (partial / store_lib.META).write_text(json.dumps(meta), encoding="utf-8")
    # Without reading 250 GB of zeros for their mean, which isn't to be measured.
    np.savez(partial / f"statistics-0-{count}.npz", mean=np.full(shape, 127.5, np.float32),
             eigenvalues=np.asarray((3.0, 2.0, 1.0)), eigenvectors=np.eye(3))
    partial.rename(folder)
    return folder


def fields(root: pathlib.Path, size: int) -> dict[str, str | int]:
    """Config fields with which a run reads the stores of `make` in `root`."""
    nothing = root / "nothing"
    nothing.mkdir(exist_ok=True)
    return {"data.name": NAME, "data.dir": str(nothing), "data.store": str(root), "data.size": size}
