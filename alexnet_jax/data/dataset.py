"""What a dataset is: the contract between the readers of images and the packed store.

A reader is a subclass of `Dataset`, created from the config's request (`Asked`). Nothing here imports TFDS or an image
library, nor should a reader before `read`: an existing store is found by the dataset's name and version alone.
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
    """Consecutive images of the split, from `rank` on: uint8 [n, size, size, 3], int32 [n].

    `originals` [n, 2] are (height, width) before scaling, where known.
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
      count: number of images, including those that turn out corrupt.
      classes: display names. class_keys: identifiers (folder names, say). Both in the order of the labels.
      examples: given `done`, bool [count], yields every rank that is not done, in any order; may yield others too. If
        it has a `close`, that is called at the end.
      origin: names the files in messages.
      made_by: what the images depend on besides the dataset's version, e.g. the decoder's: an unfinished store with
        another value is discarded.
      names: the images' names by rank, any text ('<class folder>/<path>'), or a function that returns them.
      left_out: files among the images that are not read, {kind: {class key, or '' for none: number of files}}.
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
        """The rule of a config.data."""
        return cls(data.orientation, data.resize)

    @property
    def suffix(self) -> str:
        """The suffix of the version for another than the default rule, e.g. '-exif'."""
        return "".join(f"-{word}" for word, usual in zip(self, Rule(), strict=True) if word != usual)


class Asked(NamedTuple):
    """The dataset that a config requests.

    Attributes:
      name: config.data.name. rest: the part after its colon.
      folder: the data dir, if one is given. store: the folder of the packed stores (and of downloads).
      rule: how image files become squares.
    """

    name: str
    rest: str = ""
    folder: pathlib.Path | None = None
    store: pathlib.Path = pathlib.Path()
    rule: Rule = Rule()


class Dataset:
    """A dataset. Readers are subclasses, created from an `Asked`.

    Attributes:
      name: config.data.name, for messages.
      key: prefix of its stores' folder names.
      folder: the real path of a folder of images, which stores record.
      embedded: does it need no files?
      class_count: number of classes, if it is known without opening a file.
    """

    name: str
    key: str
    folder: str | None = None
    embedded = False
    class_count: int | None = None

    def __init__(self, asked: Asked):
        """Raises ConfigError: the request doesn't fit the dataset."""

    @property
    def title(self) -> str:
        """`name` in a canonical spelling, for records."""
        return self.name

    def owns(self, meta: dict[str, Any]) -> bool:
        """Does a store with this meta.json belong to this dataset, in any spelling of its name?"""
        return meta["name"] == self.name

    def split_sizes(self) -> dict[str, int | None]:
        """{split: number of images}, None where counting would require reading."""
        raise NotImplementedError

    def version(self, split: str) -> str | None:
        """A string that identifies the split's content; None if its files are missing (a store may still exist)."""
        raise NotImplementedError

    def resolve(self, split: str) -> str:
        """The split that a name refers to, e.g. `validation` for `val`.

        Raises:
          ConfigError: it is ambiguous. DataError: what has that name can't be a split.
        """
        return split

    def class_keys(self, split: str) -> tuple[str, ...] | None:
        """The identifiers of the split's classes, if known without decoding; else None.

        Where all splits share one list, the split may lack images of some classes (`present`).
        """
        return None

    def present(self, split: str, keys: Collection[str]) -> Collection[str]:
        """Those of `keys` of which the split has images, as far as labels can be read without the images."""
        return keys

    def count(self, split: str) -> int | None:
        """Number of images of a split, before decoding; None where counting would require reading an archive."""
        return None

    def fetched(self, split: str) -> str:
        """The address from which the split would be downloaded; '' if it is here or has to be provided."""
        return ""

    def check(self, split: str) -> None:
        """Raises ConfigError or DataError, quickly, if `split` cannot be read from here."""

    def read(self, split: str, size: int, report: Report) -> Reading:
        """The whole split at `size`, ready to be read. Raises DataError or ConfigError."""
        raise NotImplementedError


def safe(text: str) -> str:
    """`text` with only characters that are safe in a folder's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_.") or "_"


def mixed(name: str) -> bytes:
    """A sorting key that shuffles images: a hash of the name ('<class>/<path>')."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def ends(archive: pathlib.Path) -> bytes:
    """Identifies an archive without reading all of it: its size and both ends. Raises OSError.

    The end of a gzip file has the checksum of its content.
    """
    size = archive.stat().st_size
    with archive.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(0, size - _ENDS))
        return b"%d\n%s%s" % (size, head, file.read(_ENDS))
