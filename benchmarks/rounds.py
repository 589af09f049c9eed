"""Measurements that take turns, and their statistics: medians, and the spread of the per-round ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def alternate(run: Mapping[str, Callable[[], float]], rounds: int,
              say: Callable[[str], None] = lambda line: None, unit: str = "s") -> dict[str, list[float]]:
    """{name: [value in each round]}: every round calls each of `run` once, starting with a different one."""
    names = list(run)
    out: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            out[name].append(run[name]())
        say(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {out[name][-1]:.4g} {unit}" for name in names))
    return out


def summary(values: Sequence[float]) -> dict[str, Any]:
    """{'median', 'low', 'high' (quartiles), 'least', 'most', 'all'}."""
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "low": quarters[0], "high": quarters[2], "least": min(values),
            "most": max(values), "all": list(values)}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """`summary` of above / below, round by round: what slows down a whole round cancels."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def spread(found: Mapping[str, Any], digits: int = 2) -> str:
    """'1.52 [1.48, 1.60]': median and quartiles."""
    return f"{found['median']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def enough(seconds: float, wanted: float) -> int:
    """How many steps of about `seconds` fill a round of `wanted` seconds; at least 1."""
    return max(1, round(wanted / max(seconds, 1e-9)))
