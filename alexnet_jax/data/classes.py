"""The classes of a run: those of its training split, by name. Every other split is mapped to them, or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from alexnet_jax import paths
from alexnet_jax.data import text
from alexnet_jax.errors import ConfigError, DataError, describe_os_error


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a run, in the order of its labels: what identifies them in the dataset, and how they are shown."""

    keys: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def shown(self, names: Mapping[str, str]) -> Classes:
        """The same classes under the given names, {key: name}."""
        return Classes(self.keys, tuple(names.get(k, n) for k, n in zip(self.keys, self.names, strict=True)))

    def extended(self, other: Classes) -> Classes:
        """These classes, and behind them those of `other` that aren't among them."""
        known = set(self.keys)
        new = [(k, n) for k, n in zip(other.keys, other.names, strict=True) if k not in known]
        return Classes(self.keys + tuple(k for k, _ in new), self.names + tuple(n for _, n in new))


def check_outputs(outputs: int, classes: int, name: str) -> None:
    """Raises ConfigError: `outputs` (config.model.classes; 0: as many as there are) are too few for the classes."""
    if outputs and outputs < classes:
        raise ConfigError(f"config.model.classes: {outputs} outputs for the {classes} classes of {name}; 0 takes as "
                          "many as there are")


def named(keys: Iterable[str]) -> str:
    """'cat, dog and 3 more', for messages."""
    return text.listed(list(keys))


def read_names(path: str) -> dict[str, str]:
    """{id: name} of a file of lines `id<tab>name`, as labels.txt of Tiny-ImageNet has them.

    Raises:
      ConfigError: the file is absent or a line is of another form; an id has two names.
    """
    file = paths.given(path, "config.data.names")
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"config.data.names: {describe_os_error(error)}") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, name = (part.strip() for part in line.partition("\t")[::2])
        if not key or not name:
            raise ConfigError(f"config.data.names: {file}, line {number}: {line.strip()[:40]!r} is not of the form "
                              "id, tab, name")
        if names.setdefault(key, name) != name:
            raise ConfigError(f"config.data.names: {file}, line {number}: a second name for {key!r}, {name!r} beside "
                              f"{names[key]!r}")
    return names


def check(training: Collection[str], where: str, keys: Iterable[str], split: str) -> None:
    """Raises DataError if a split has images of classes, given by their keys, that training lacks."""
    known = set(training)
    strange = [key for key in keys if key not in known]
    if strange:
        raise DataError(f"{where}, {split}: classes that training does not have: {named(strange)}; training has "
                        f"{named(training)}")


def check_several(training: Collection[str], where: str) -> None:
    """Raises DataError if there is nothing to tell apart."""
    if len(training) < 2:
        raise DataError(f"{where}: one class only ({named(training)}), and nothing to tell it from; each class "
                        "needs a folder of its own, and config.data.train_split the folder that holds them")


def uneven(learnt: np.ndarray, reported: np.ndarray) -> dict[str, int]:
    """What is amiss between the images learnt from and those reported on, {} if nothing is.

    Args:
      learnt, reported: int [classes], images of each class.

    Returns:
      Of `not_learnt` (classes that are reported on and of which there is no training image), `not_learnt_images` (the
      reported images of those), `not_reported` (classes that are learnt and never reported on) and `empty` (classes
      without any image in either) those that are not 0.
    """
    not_learnt = (learnt == 0) & (reported > 0)
    found = {"not_learnt": int(not_learnt.sum()), "not_learnt_images": int(reported[not_learnt].sum()),
             "not_reported": int(((learnt > 0) & (reported == 0)).sum()),
             "empty": int(((learnt == 0) & (reported == 0)).sum())}
    return {key: number for key, number in found.items() if number}


def words(found: Mapping[str, Any]) -> list[str]:
    """`uneven` as sentences, for a log or below a table."""
    lines = []
    if n := found.get("not_learnt"):
        lines.append(f"{_classes(n)} that the error is reported on {'has' if n == 1 else 'have'} no training image "
                     f"({found['not_learnt_images']:,} images that can only be wrong)")
    if n := found.get("not_reported"):
        lines.append(f"{_classes(n)} that training has {'is' if n == 1 else 'are'} not among the images that the error "
                     "is reported on")
    if n := found.get("empty"):
        lines.append(f"{_classes(n)} of the dataset {'has' if n == 1 else 'have'} no image in either split")
    return lines


def _classes(number: int) -> str:
    return f"{number:,} class" if number == 1 else f"{number:,} classes"
