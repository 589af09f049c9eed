"""The families of comparisons that one correction covers: a choice, so it is written down, and named where it counts.

There are two kinds. A plan may have declared a family before its runs, whose comparisons may come from several sweeps:
`Family`. Every other sweep has one family a quantity: all its arms that are compared with a reference, `of_sweep`. What
is in neither is called descriptive: it has the interval of one comparison, and no correction.

The correction is Holm's, of two-sided t tests of "no difference".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from experiments.analysis import compare, statistics
from experiments.analysis.workdirs import Sweep

Test = tuple[str, str]  # an arm's name, and a quantity of `experiments.analysis.compare`


@dataclasses.dataclass(frozen=True)
class Family:
    """`name`: which comparisons belong, in words. `tests`: these; none for what is descriptive."""

    name: str
    tests: tuple[Test, ...] = ()

    def adjusted(self, p_values: Mapping[Test, float | None]) -> dict[Test, float]:
        """Holm's p of the tests that have a p value; the others count towards the number of tests."""
        found = statistics.holm([p_values.get(test) for test in self.tests], len(self.tests))
        return {test: p for test, p in zip(self.tests, found, strict=True) if p is not None}


@dataclasses.dataclass(frozen=True)
class Corrected:
    """A family with the p values of its tests, their own and Holm's."""

    family: Family
    p_values: Mapping[Test, float | None]

    @functools.cached_property
    def p_holm(self) -> dict[Test, float]:
        return self.family.adjusted(self.p_values)

    def if_it_were(self, test: Test, p: float) -> float:
        """Holm's p of a test if its own p were this one, and the others' stayed."""
        return self.family.adjusted({**self.p_values, test: p})[test]


DESCRIPTIVE = Family("descriptive: the interval of one comparison")


def of_sweep(sweep: Sweep, quantity: str = "error", views: str | None = None) -> Corrected:
    """All arms of a sweep, in one quantity; of the error by those views (None: the sweep's)."""
    tests = {(name, found.quantity): found.p_value for name, found in
             compare.of_sweep(sweep, quantity, views).items() if found.p_value is not None}
    family = Family(f"all arms of {sweep.name}, {compare.QUANTITIES[quantity]}", tuple(tests))
    return Corrected(family, tests)
