"""A grid of values of one setting, each a factor apart from the next: the best of them, and where the grid grows."""

from __future__ import annotations

import math
from collections.abc import Mapping


def best(errors: Mapping[float, float]) -> float | None:
    """The value with the lowest error; of equal ones that nearest to the grid's middle, as they say nothing.

    Args:
      errors: value (positive) → error; infinite where the run diverged.

    Returns:
      None where all diverged.
    """
    finite = {value: error for value, error in errors.items() if math.isfinite(error)}
    middle = math.sqrt(min(errors) * max(errors))
    return min(finite, key=lambda value: (finite[value], abs(math.log(value / middle)), value), default=None)


def beyond(errors: Mapping[float, float], factor: float) -> float | None:
    """The value to try next: beyond the edge at which the best one lies, downwards if all diverged; None inside."""
    chosen = best(errors)
    if chosen is None or chosen == min(errors):
        return rounded(min(errors) / factor)
    return rounded(chosen * factor) if chosen == max(errors) else None


def rounded(value: float) -> float:
    """Four digits: 0.01 · 0.3 is 0.003, despite rounding. A rate is part of a run's name."""
    return float(f"{value:.4g}")
