"""Lists, sizes and tables as lines of text, whatever names are in them (alexnet_jax.names)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alexnet_jax.names import short

WIDTH = 60  # signs of a name


def listed(names: Sequence[str], most: int = 5) -> str:
    """'cat, dog and 3 more'."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short(name, WIDTH) for name in names[:most]) + more


def size(count: int) -> str:
    """'1.5 GB' of bytes."""
    unit, name = next(((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if count >= u), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """The rows as lines, each column as wide as its widest cell. Nothing is cut off or wrapped."""
    from rich.cells import cell_len

    rows = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]
