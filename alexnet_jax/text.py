"""Numbers, lists and tables as people read them, whatever names are in them (alexnet_jax.names)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alexnet_jax.names import short

WIDTH = 60  # signs of a name


def duration(seconds: float | None) -> str:
    """'1 h 05 min', '4 min 10 s', '12 s'; '?' for None."""
    if seconds is None:
        return "?"
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def cost(seconds: float, of: str = "") -> str:
    """'12 core-s', '3.4 core-min', '2.5 core-h': an amount that was used up, in one unit, as records give it.

    Args:
      of: what goes before the unit, e.g. 'core-'.
    """
    if seconds < 60:
        return f"{seconds:.0f} {of}s"
    return f"{seconds / 60:.1f} {of}min" if seconds < 3600 else f"{seconds / 3600:.1f} {of}h"


def percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def listed(names: Sequence[str], most: int = 5) -> str:
    """'cat, dog and 3 more'."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short(name, WIDTH) for name in names[:most]) + more


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
