"""Numbers, lists and tables for people; names in them may be any text (alexnet_jax.names)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from alexnet_jax.names import short

WIDTH = 60  # characters of a name


def duration(seconds: float | None) -> str:
    """'1 h 05 min', '4 min 10 s', '12 s'; '?' for None."""
    if seconds is None:
        return "?"
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def cost(seconds: float, of: str = "") -> str:
    """'12 core-s', '3.4 core-min', '2.5 core-h': an amount that was used, in one unit, as in records.

    Args:
      of: a prefix of the unit, e.g. 'core-'.
    """
    if seconds < 60:
        return f"{seconds:.0f} {of}s"
    return f"{seconds / 60:.1f} {of}min" if seconds < 3600 else f"{seconds / 3600:.1f} {of}h"


def percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def count(number: int, what: str) -> str:
    """'1 run', '2,000 runs'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5, total: int = 0) -> str:
    """'cat, dog and 3 more': names, each cut to WIDTH. `total`: how many there are, where `names` are the first few."""
    return and_more([short(name, WIDTH) for name in names[:most]], total or len(names))


def and_more(shown: Sequence[str], total: int, separator: str = ", ") -> str:
    """'cat, dog and 3 more': the first few of `total`, as they are."""
    return separator.join(shown) + (f" and {total - len(shown):,} more" if total > len(shown) else "")


def did_you_mean(word: str, known: Iterable[object], cutoff: float = 0.6) -> str:
    """' (did you mean relu?)' for a misspelt word; '' where nothing known is close (a ratio of `difflib`)."""
    near = difflib.get_close_matches(word, map(str, known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def size(count: int) -> str:
    """'1.5 GB' of bytes."""
    unit, name = next(((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if count >= u), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"


def table(rows: Iterable[Sequence[str]], right: Sequence[bool] | None = None) -> list[str]:
    """The rows as lines, each column as wide as its widest cell. Nothing is cut off or wrapped.

    Args:
      right: which of the columns are set flush right; None: none of them.
    """
    from rich.cells import cell_len

    rows = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    flush = right or [False] * len(widths)
    lines = []
    for row in rows:
        space = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(gap + cell if last else cell + gap
                               for cell, gap, last in zip(row, space, flush, strict=True)).rstrip())
    return lines
