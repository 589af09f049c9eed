"""Numbers and tables as text: signs, intervals, p values, Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from experiments.analysis.statistics import Estimate


def signed(value: float, digits: int) -> str:
    """+1.40, −0.30, 0.00: a true minus sign, and no sign if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    """[−2.01, −0.79]; '' without an interval."""
    return "" if low is None or high is None else f"[{signed(low, 2)}, {signed(high, 2)}]"


def with_span(mean: float, low: float | None, high: float | None, n: int) -> str:
    """−1.40 [−2.01, −0.79]; a mean without an interval is followed by the reason."""
    return f"{signed(mean, 2)} {span(low, high) or ('(one seed)' if n == 1 else '(no interval)')}"


def interval(e: Estimate) -> str:
    """`with_span` of an estimate; '' without a mean."""
    return "" if e.mean is None else with_span(e.mean, e.low, e.high, e.n)


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (), *,
                   padded: bool = True) -> list[str]:
    """Markdown with padded cells, readable in a terminal too; text aligned left, numbers right.

    `left`: the columns of text, by default the first and the last. Without padding a long table stays small.
    """
    # Names are escaped already (names.markdown).
    rows = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in rows) if padded else 0 for i in range(len(head))]
    left = set(left) or {0, len(head) - 1}

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(widths[i]) if i in left else c.rjust(widths[i]) for i, c in enumerate(row)]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * w or "---") if i in left else ("-" * (w - 1) or "---") + ":" for i, w in enumerate(widths)]
    return [line(rows[0]), line(rule), *map(line, rows[1:])]
