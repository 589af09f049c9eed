"""Image files outside of datasets: found in files and folders that a user names, decoded as in training."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.dataset import Block, Rule
from alexnet_jax.data.readers import decode, formats, trees
from alexnet_jax.errors import DataError


class Found(NamedTuple):
    """Image files, in order; unreadable paths with the reasons; {kind: other files in the folders}."""

    files: list[pathlib.Path]
    refused: list[tuple[str, str]]
    left_out: collections.Counter[str]


class Photographs(NamedTuple):
    """`images`: uint8 [n, size, size, 3]. `names`: the file of each. `refused`: files left out, with the reasons."""

    images: np.ndarray
    names: list[str]
    refused: list[tuple[str, str]]


def find(paths: Iterable[str | os.PathLike[str]]) -> Found:
    """The image files among `paths` and, recursively, in the folders among them, each folder's sorted by path.

    A folder's images are recognised by their first bytes or name, as in a dataset (`formats.kind`); a file named
    directly is always one. Hidden files in folders are ignored.
    """
    found = Found([], [], collections.Counter())
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found.files.extend(_below(path, found))
        elif path.exists() and not path.is_file():
            found.refused.append((str(path), "not a regular file; save its content as one"))
        elif os.path.lexists(path):
            found.files.append(path)
        else:
            pattern = set("*?[") & set(str(path))
            found.refused.append((str(path), "nothing matches it" if pattern else "no such file or folder"))
    return found


def _below(place: pathlib.Path, found: Found) -> list[pathlib.Path]:
    files, seen = [], set()

    def refuse(error: OSError) -> None:
        found.refused.append((str(error.filename), error.strerror or str(error)))

    for folder, below, inside in os.walk(place, followlinks=True, onerror=refuse):
        below[:] = [name for name in below if not trees.junk(name)]
        real = os.path.realpath(folder)
        if real in seen:  # through a link
            below.clear()
            continue
        seen.add(real)
        for name in inside:
            path = pathlib.Path(folder, name)
            kind = "hidden" if trees.junk(name) else _kind(path)
            if formats.readable(kind):
                files.append(path)
            elif kind != "hidden":
                found.left_out[kind] += 1
    return sorted(files, key=lambda path: path.parts)


def _kind(path: pathlib.Path) -> str:
    named = formats.UNKNOWN if formats.looks_like_image(path.name) else "unreadable"  # decoding says why it can't be
    if path.exists() and not path.is_file():
        return "special"
    try:
        with path.open("rb") as file:
            return formats.kind(file.read(formats.HEAD), path.name)
    except OSError:
        return named


def decoded(files: Sequence[pathlib.Path], data: Any) -> Iterator[tuple[str, np.ndarray | str]]:
    """(file, its image uint8 [size, size, 3] or the reason why it can't be read) for each file, in order.

    Args:
      data: config.data of the network that will see them.
    """
    jobs = [decode.Job(rank, str(path), 0, path.read_bytes) for rank, path in enumerate(files)]
    for job, item in zip(jobs, decode.decode_all(jobs, data.size, *Rule.of(data)), strict=True):
        yield job.name, item.images[0] if isinstance(item, Block) else item.reason


def read(paths: Iterable[str | os.PathLike[str]], data: Any) -> Photographs:
    """Decodes all images that `find` finds. Raises DataError: none is readable.

    Args:
      data: config.data of the network that will see them.
    """
    return decode_found(find([paths] if isinstance(paths, (str, os.PathLike)) else paths), data)


def decode_found(found: Found, data: Any) -> Photographs:
    """Like `read`, for the result of `find`."""
    pairs = list(decoded(found.files, data))
    refused = found.refused + [(name, item) for name, item in pairs if isinstance(item, str)]
    images = [(name, item) for name, item in pairs if not isinstance(item, str)]
    if not images:
        raise nothing(found._replace(refused=refused))
    return Photographs(np.stack([image for _, image in images]), [name for name, _ in images], refused)


def nothing(found: Found) -> DataError:
    """The error if no image is left."""
    why = f" ({found.refused[0][0]}: {found.refused[0][1]})" if found.refused else ""
    only = f", only {formats.words(found.left_out)}" if found.left_out else ""
    return DataError(f"no image to look at{only}{why}; name image files, or folders that hold some")
