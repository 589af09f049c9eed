"""Split strings: `train`, `train[:40000]`, `train[40000:]`, `train[-10%:]`, as in TFDS.

A split string names one contiguous slice of one split, so it is a view on the packed store. Joins (`train+test`) are
therefore refused, unless a split has that name.

A split may have any name that a folder may have: `old photos[:80%]`. A name with a bracket needs a slice, even if of
everything: `scans [2019][:]`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from alexnet_jax.errors import ConfigError

ALL = "all"  # the split of a folder without splits
_ROLES = {  # the usual names of splits, as letters alone
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
_FILLING = ("", "set", "split", "images", "image", "imgs", "img", "data", "dataset", "labels", "label", "annotations",
            "list", "lists", "files", "gt")  # words that are combined with these

_BOUND = r"\s*(-?\d+(?:\.\d+)?%|-?\d+)?\s*"
_SLICE = re.compile(rf"(.*)\[{_BOUND}:{_BOUND}\]\s*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Slice:
    """A parsed split string: the whole split's `name` and the two ends as written (None: open)."""

    text: str
    name: str
    start: str | None
    stop: str | None

    def bounds(self, count: int, sizes: str) -> tuple[int, int]:
        """(first, one past the last) of a split of `count` images.

        Args:
          count: images in the whole split.
          sizes: the splits that there are, for the message (see `describe`).

        Raises:
          ConfigError: the slice is empty or reaches beyond the split.
        """
        start = 0 if self.start is None else _index(self.start, count)
        stop = count if self.stop is None else _index(self.stop, count)
        if not (0 <= start <= count and 0 <= stop <= count):
            raise ConfigError(f"'{self.text}' reaches beyond {self.name}; {sizes}")
        if start >= stop:
            raise ConfigError(f"'{self.text}' is empty (from {start} to {stop}); {sizes}")
        return start, stop


def _index(bound: str, count: int) -> int:
    if bound.endswith("%"):
        # TFDS's rule, the nearest image: `train[:80%]` and `train[80%:]` never overlap.
        percent = abs(float(bound[:-1]))
        index = round(percent * count / 100) if percent <= 100 else count + 1
        return count - index if bound.startswith("-") else index
    index = int(bound)
    return count + index if bound.startswith("-") else index


def parse(text: str) -> Slice:
    """The slice that `text` denotes. Raises ConfigError for anything but `name` or `name[a:b]`."""
    match = _SLICE.fullmatch(text)
    name, start, stop = match.groups() if match else (text, None, None)
    name = name.strip()
    if re.search(r"\]\s*\+", name):
        raise join(text)
    if name in ("", ".", "..") or "/" in name or "\0" in name or (not match and "[" in name):
        hint = f"; a split whose name has a bracket is written with a slice, e.g. {name}[:]" if "[" in name else ""
        raise ConfigError(f"'{text}' is not a split; write e.g. train, train[:40000] or train[-20%:]{hint}")
    return Slice(text, name, start, stop)


def join(text: str) -> ConfigError:
    """The error for 'train+test', where no split has that name."""
    return ConfigError(f"'{text}': joins are not supported; name one slice, e.g. train[:40000]")


def describe(name: str, sizes: Mapping[str, int | None]) -> str:
    """'cifar10 has train (50000 images), test (10000 images)', for messages."""
    if not sizes:
        return f"{name} has no split here"
    parts = [split if n is None else f"{split} ({n} images)" for split, n in sizes.items()]
    return f"{name} has {', '.join(parts)}"


def role(name: str, plain: bool = False) -> str | None:
    """Which of train, val and test a split's name means, in any spelling: `Training Set`, `seg_train`.

    Args:
      plain: only if the name has no other words.
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    for what in _ROLES:
        if _means("".join(words), what):
            return what
    meant = {what for word in words for what in _ROLES if _means(word, what)}
    return meant.pop() if len(meant) == 1 and not plain else None


def _means(word: str, what: str) -> bool:
    return any(word in (name + more, more + name) for name in _ROLES[what] for more in _FILLING)


def resolve(asked: str, splits: Iterable[str]) -> list[str]:
    """The splits that a name means: that of this name, else those of its role, else the only one for `all`."""
    names = list(splits)
    if asked in names:
        return [asked]
    what = role(asked, plain=True)
    if what is not None:
        return [n for n in names if role(n, plain=True) == what] or [n for n in names if role(n) == what]
    return names if asked == ALL and len(names) == 1 and role(names[0]) in (None, "train") else []
