"""What a run's folder keeps so that its network can be used without its training images: `input.npz`.

What is subtracted from images (`mean`) and the directions of colour noise (`colour`), as `augment.Constants` has them,
and the classes in the order of the outputs (`classes`, a JSON of keys and names, in bytes). The rest of an image's
preprocessing is in run.json's config: data.size and crop, augment.mean, grey and divide.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import files
from alexnet_jax.data import Classes
from alexnet_jax.training.augment import Constants

FILE = "input.npz"
_MOST = 1 << 28  # bytes of its arrays; far more than a mean image has


class Inputs(NamedTuple):
    """`consts`: float32 arrays on the host. `known`: the run's classes."""

    consts: Constants
    known: Classes


def write(folder: pathlib.Path, consts: Constants, known: Classes) -> None:
    """Writes the file atomically. Raises OSError."""
    classes = json.dumps({"keys": known.keys, "names": known.names}).encode()
    with files.replacing(folder / FILE) as temporary, temporary.open("wb") as out:
        np.savez(out, mean=np.asarray(consts.mean, np.float32), colour=np.asarray(consts.colour, np.float32),
                 classes=np.frombuffer(classes, np.uint8))


def keep(folder: pathlib.Path, consts: Constants, known: Classes, config: ConfigDict) -> None:
    """Writes the file if there is none yet and the folder is writable."""
    if read(folder, config) is None:
        with contextlib.suppress(OSError):
            write(folder, consts, known)


def read(folder: pathlib.Path, config: ConfigDict) -> Inputs | None:
    """What the file holds; None if it is absent, damaged, or made for another size of images than `config`'s."""
    try:
        with zipfile.ZipFile(folder / FILE) as packed:
            if sum(part.file_size for part in packed.infolist()) > _MOST:
                return None
        with (folder / FILE).open("rb") as file, np.load(file, allow_pickle=False) as found:
            mean, colour = found["mean"], found["colour"]
            classes = json.loads(found["classes"].tobytes())
        known = Classes(tuple(classes["keys"]), tuple(classes["names"]))
    except Exception:  # of many kinds, for damaged files
        return None
    fits = (mean.shape in shapes(config) and colour.shape == (3, 3) and known.whole()
            and all(array.dtype == np.float32 and np.isfinite(array).all() for array in (mean, colour)))
    return Inputs(Constants(mean, colour), known) if fits else None


def shapes(config: ConfigDict) -> list[tuple[int, ...]]:
    """What shape the mean may have: by augment.mean, and by channels."""
    side = {"pixel": config.data.size, "centre": config.data.crop}.get(config.augment.mean, 1)
    channels = 1 if config.augment.grey else 3
    return [(side, side, 1), (side, side, channels)] if side == 1 else [(side, side, channels)]
