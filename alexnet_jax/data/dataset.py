"""What a dataset is: the contract between the readers of images and the packed store.

A reader is a class of its own below `Dataset`, made from what a config asks for (`Asked`). Nothing here imports TFDS or
an image library, nor should a reader before `read`: to find a store that exists, a dataset is only asked for its name
and version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Report = Callable[[str], Any]
_ENDS = 1 << 16  # bytes of an archive's beginning and end that go into its fingerprint


class Block(NamedTuple):
    """Images that follow each other in the split, from `rank` on: uint8 [n, size, size, 3], int32 [n].

    `originals` [n, 2] are (height, width) of what the images were made from, where that is known.
    """

    rank: int
    images: np.ndarray
    labels: np.ndarray
    originals: np.ndarray | None = None


class Corrupt(NamedTuple):
    """An image that cannot be read, and why."""

    rank: int
    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """A whole split about to be read.

    Attributes:
      count: its images, those that turn out corrupt included.
      classes: their names for display. class_keys: what identifies them (names of folders, say). Both in the order of
        the labels.
      examples: takes `done`, bool [count], and gives every rank below `count` that is not done, in any order; it may
        give others too. Where it has a `close`, that is called at the end.
      origin: names the files in messages.
      made_by: what the images depend on besides the dataset's version, the decoder's, say: an unfinished store that
        was made by something else is discarded.
      names: those of the images by rank, any text ('<class folder>/<path>'), or what gives them.
      left_out: files that lie among the images and are not read, {kind: {class key, '' for none: files}}.
    """

    count: int
    classes: tuple[str, ...]
    class_keys: tuple[str, ...]
    examples: Callable[[np.ndarray], Iterable[Block | Corrupt]]
    origin: str
    made_by: str
    names: Sequence[str] | Callable[[], Sequence[str]] | None = None
    left_out: Mapping[str, Mapping[str, int]] | None = None


class Rule(NamedTuple):
    """How image files become squares: `config.data.orientation` and `config.data.resize` (`decode.square`)."""

    orientation: str = "stored"
    resize: str = "shorter"

    @classmethod
    def of(cls, data: Any) -> Rule:
        """That of a config.data."""
        return cls(data.orientation, data.resize)

    @property
    def suffix(self) -> str:
        """What stands behind the version of images that are not made by the default rule, e.g. '-exif'."""
        return "".join(f"-{word}" for word, usual in zip(self, Rule(), strict=True) if word != usual)


class Asked(NamedTuple):
    """What a config asks for.

    Attributes:
      name: config.data.name. rest: what stands behind its colon.
      folder: the data dir, if one is given. store: the folder of the packed stores (downloads go there too).
      rule: how image files become squares.
    """

    name: str
    rest: str = ""
    folder: pathlib.Path | None = None
    store: pathlib.Path = pathlib.Path()
    rule: Rule = Rule()


class Dataset:
    """A dataset. Readers are subclasses; what makes one is an `Asked`.

    Attributes:
      name: config.data.name, for messages.
      key: begins its stores' folder names.
      folder: the real path of a folder of images, whatever it was called: stores remember it.
      embedded: does it need no files?
      class_count: how many classes it has, where no file need be opened to know.
    """

    name: str
    key: str
    folder: str | None = None
    embedded = False
    class_count: int | None = None

    def __init__(self, asked: Asked):
        """Raises ConfigError: it cannot be read as asked."""

    @property
    def title(self) -> str:
        """`name` in one spelling, for what is written."""
        return self.name

    def owns(self, meta: dict[str, Any]) -> bool:
        """Is a store with this meta.json of this dataset, under whichever spelling of its name?"""
        return meta["name"] == self.name

    def split_sizes(self) -> dict[str, int | None]:
        """The splits to choose from and their sizes, None where counting would mean reading."""
        raise NotImplementedError

    def version(self, split: str) -> str | None:
        """What identifies the split's content; None if its files aren't here (a store still may be)."""
        raise NotImplementedError

    def resolve(self, split: str) -> str:
        """The split that a name means, where it may be another's usual name (`val` for `validation`).

        Raises:
          ConfigError: it may mean several. DataError: what has that name can't be a split.
        """
        return split

    def class_keys(self, split: str) -> tuple[str, ...] | None:
        """What identifies the split's classes, where that is known without decoding any; None where only reading tells.

        It may have no image of one of them where all splits of a dataset share one list (`present`).
        """
        return None

    def present(self, split: str, keys: Collection[str]) -> Collection[str]:
        """Those of some `class_keys` that the split has images of, as far as labels can be read by themselves."""
        return keys

    def count(self, split: str) -> int | None:
        """Images of a split that is here, before any is decoded; None where counting would mean reading an archive."""
        return None

    def fetched(self, split: str) -> str:
        """From where the split would be downloaded before it is read; '' if it is here, or has to be brought here."""
        return ""

    def check(self, split: str) -> None:
        """Raises ConfigError or DataError, quickly, if `split` cannot be read from here."""

    def read(self, split: str, size: int, report: Report) -> Reading:
        """The whole split at `size`, ready to be read. Raises DataError or ConfigError."""
        raise NotImplementedError


def safe(text: str) -> str:
    """`text` fit for a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_.") or "_"


def mixed(name: str) -> bytes:
    """A sorting key that is a pure function of an image's name ('<class>/<path>') and has nothing to do with it."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def ends(archive: pathlib.Path) -> bytes:
    """What tells an archive from others without reading it: its size and both ends. Raises OSError.

    A gzip file's end holds the checksum of its content.
    """
    size = archive.stat().st_size
    with archive.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(0, size - _ENDS))
        return b"%d\n%s%s" % (size, head, file.read(_ENDS))
