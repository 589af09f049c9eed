"""Split strings: `train`, `train[:40000]`, `train[40000:]`, `train[-10%:]`, as in TFDS.

A split string names one contiguous slice of one whole split, so that what it denotes is a view on the
packed store. Joins (`train+test`) are therefore refused, in words.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from alexnet_jax.errors import ConfigError

_BOUND = r"\s*(-?\d+(?:\.\d+)?%|-?\d+)?\s*"
_PATTERN = re.compile(rf"\s*([A-Za-z0-9_][A-Za-z0-9_.\-]*)\s*(?:\[{_BOUND}:{_BOUND}\])?\s*")


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
    if "+" in text:
        raise ConfigError(f"'{text}': joins are not supported; name one slice, e.g. train[:40000]")
    match = _PATTERN.fullmatch(text)
    if not match:
        raise ConfigError(f"'{text}' is not a split; write e.g. train, train[:40000] or train[-20%:]")
    return Slice(text, *match.groups())


def describe(name: str, sizes: Mapping[str, int | None]) -> str:
    """'cifar10 has train (50000 images), test (10000 images)', for messages."""
    if not sizes:
        return f"{name} has no split here"
    parts = [split if n is None else f"{split} ({n} images)" for split, n in sizes.items()]
    return f"{name} has {', '.join(parts)}"
