"""The families of comparisons that one correction covers: a choice, so it is stated here and named with its results.

There are two kinds. A plan may declare a family before its runs, with comparisons from several sweeps: `Family`. Every
other sweep has one family per quantity, all its arms that are compared with a reference: `of_sweep`. A comparison in
neither is called descriptive: it has the interval of a single comparison, and no correction.

The correction is Holm's, of two-sided t tests of "no difference".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from experiments.analysis import compare, statistics
from experiments.analysis.workdirs import Sweep

Test = tuple[str, str]  # (an arm's name, a quantity of `experiments.analysis.compare`)


@dataclasses.dataclass(frozen=True)
class Family:
    """`name`: which comparisons belong to it, in words. `tests`: the comparisons; none for DESCRIPTIVE."""

    name: str
    tests: tuple[Test, ...] = ()

    def adjusted(self, p_values: Mapping[Test, float | None]) -> dict[Test, float]:
        """Holm's p of the tests with a p value; the others count towards the number of tests."""
        adjusted = statistics.holm([p_values.get(test) for test in self.tests], len(self.tests))
        return {test: p for test, p in zip(self.tests, adjusted, strict=True) if p is not None}


@dataclasses.dataclass(frozen=True)
class Corrected:
    """A family with its tests' p values, raw and Holm-corrected."""

    family: Family
    p_values: Mapping[Test, float | None]

    @functools.cached_property
    def p_holm(self) -> dict[Test, float]:
        return self.family.adjusted(self.p_values)

    def if_it_were(self, test: Test, p: float) -> float:
        """Holm's p of a test if its own p value were `p` and all others unchanged."""
        return self.family.adjusted({**self.p_values, test: p})[test]


DESCRIPTIVE = Family("descriptive: the interval of one comparison")


def of_sweep(sweep: Sweep, quantity: str = "error", views: str | None = None) -> Corrected:
    """The family of all arms of a sweep, in one quantity; `views`: of the error (None: the sweep's)."""
    tests = {(name, comparison.quantity): comparison.p_value for name, comparison in
             compare.of_sweep(sweep, quantity, views).items() if comparison.p_value is not None}
    family = Family(f"all arms of {sweep.name}, {compare.QUANTITIES[quantity]}", tuple(tests))
    return Corrected(family, tests)
