"""The classes of a run: those of its training split, by name. Every other split is mapped to them, or refused."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import paths, text
from alexnet_jax.errors import ConfigError, DataError, describe_os_error

_NAMED = 5  # classes named in a message


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a run, in the order of its labels: their identifiers in the dataset, and their display names."""

    keys: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def whole(self) -> bool:
        """Are they what a run writes: as many names as keys, all of them texts, no key twice?"""
        return (len(self.names) == len(self.keys) and all(isinstance(text, str) for text in (*self.keys, *self.names))
                and len(set(map(same, self.keys))) == len(self.keys))

    def shown(self, names: Mapping[str, str]) -> Classes:
        """The same classes under the given names, {key: name}."""
        names = {same(key): name for key, name in names.items()}
        return Classes(self.keys, tuple(names.get(same(k), n) for k, n in zip(self.keys, self.names, strict=True)))

    def told_apart(self) -> list[str]:
        """Display names, with the identifier where two classes share a name (ImageNet has two kinds of crane)."""
        times = collections.Counter(self.names)
        return [name if times[name] == 1 else f"{name} ({key})"
                for key, name in zip(self.keys, self.names, strict=True)]

    def extended(self, other: Classes) -> Classes:
        """These classes, followed by those of `other` that aren't among them."""
        new = [label for label, place in enumerate(self.places(other.keys)) if place < 0]
        return Classes(self.keys + tuple(other.keys[label] for label in new),
                       self.names + tuple(other.names[label] for label in new))

    def places(self, keys: Iterable[str]) -> np.ndarray:
        """int32: the label that each of `keys` has here, −1 for one that isn't among these."""
        place = {same(key): label for label, key in enumerate(self.keys)} | {
            key: label for label, key in enumerate(self.keys)}
        return np.array([place.get(key, place.get(same(key), -1)) for key in keys], np.int32)


def same(key: str) -> str:
    """A name in Unicode's composed form: macOS writes accents as separate characters, other systems don't."""
    return unicodedata.normalize("NFC", key)


def missing(training: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Those of `keys` that aren't among `training`."""
    known = {same(key) for key in training}
    return [key for key in keys if same(key) not in known]


def check_outputs(outputs: int, classes: int, name: str) -> None:
    """Raises ConfigError: `outputs` (config.model.classes; 0: as many as there are) are too few for the classes."""
    if outputs and outputs < classes:
        raise ConfigError(f"config.model.classes: {outputs} outputs for the {classes} classes of {name}; set it to 0 "
                          "for one output per class")


def named(keys: Iterable[str]) -> str:
    """'cat, dog and 3 more', for messages."""
    return text.listed(list(keys))


def read_names(path: str) -> dict[str, str]:
    """{id: name} of a file of lines `id<tab>name`, as labels.txt of Tiny-ImageNet has them.

    Raises:
      ConfigError: the file is absent, or no text; a line is of another form; an id has two names.
    """
    file = paths.given(path, "config.data.names")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"config.data.names: {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config.data.names: {file}: not UTF-8 text (at byte {error.start:,}); save it as "
                          "UTF-8") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, name = (part.strip() for part in line.partition("\t")[::2])
        if not key or not name:
            raise ConfigError(f"config.data.names: {file}, line {number}: {line.strip()[:40]!r} is not of the form "
                              "id, tab, name")
        if names.setdefault(key, name) != name:
            raise ConfigError(f"config.data.names: {file}, line {number}: two names for {key!r}, {names[key]!r} and "
                              f"{name!r}; keep one")
    return names


def check(training: Collection[str], where: str, keys: Iterable[str], split: str) -> None:
    """Raises DataError if a split has images of classes, given by their keys, that training lacks."""
    strange = missing(training, keys)
    if strange:
        raise DataError(f"{where}, {split}: classes that training does not have: {named(strange)}; training has "
                        f"{named(training)}")


def check_several(training: Collection[str], where: str) -> None:
    """Raises DataError if there is nothing to tell apart."""
    if len(training) < 2:
        raise DataError(f"{where}: only one class ({named(training)}), and a classifier needs two; give each class a "
                        "folder of its own, and set config.data.train_split to the folder that holds them")


def uneven(learnt: np.ndarray, reported: np.ndarray, keys: Sequence[str]) -> dict[str, Any]:
    """What is amiss between the images learnt from and those reported on, {} if nothing is.

    Args:
      learnt, reported: int [classes], images of each class. keys: of the classes.

    Returns:
      Of `not_learnt` (classes that are reported on and of which there is no training image), `not_learnt_images` (the
      reported images of those), `not_reported` (classes that are learnt and never reported on) and `empty` (classes
      without any image in either) those that are not 0; and `not_learnt_keys` and so on, the first of these classes.
    """
    kinds = {"not_learnt": (learnt == 0) & (reported > 0), "not_reported": (learnt > 0) & (reported == 0),
             "empty": (learnt == 0) & (reported == 0)}
    found: dict[str, Any] = {}
    for kind, which in kinds.items():
        if which.any():
            found[kind] = int(which.sum())
            found[f"{kind}_keys"] = [keys[label] for label in np.flatnonzero(which)[:_NAMED]]
    if kinds["not_learnt"].any():
        found["not_learnt_images"] = int(reported[kinds["not_learnt"]].sum())
    return found


def words(found: Mapping[str, Any]) -> list[str]:
    """`uneven` as sentences, for a log or below a table."""
    def some(kind: str, of: str) -> str:
        """'2 classes that training has (cat, dog)'."""
        number, keys = found[kind], found.get(f"{kind}_keys") or []
        which = f" ({text.listed(keys, _NAMED, number)})" if keys else ""
        return f"{number:,} class{'' if number == 1 else 'es'} {of}{which}"

    lines = []
    if n := found.get("not_learnt"):
        images = found.get("not_learnt_images", 0)
        lines.append(f"{some('not_learnt', 'that the error is reported on')} {'has' if n == 1 else 'have'} no training "
                     f"image ({text.count(images, 'image')} that can only be wrong)")
    if n := found.get("not_reported"):
        lines.append(f"{some('not_reported', 'that training has')} {'is' if n == 1 else 'are'} not among the images "
                     "that the error is reported on")
    if n := found.get("empty"):
        lines.append(f"{some('empty', 'of the dataset')} {'has' if n == 1 else 'have'} no image in either split")
    return lines
