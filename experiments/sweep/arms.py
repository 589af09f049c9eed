"""What a sweep is made of: arms, each the base config with some fields changed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.errors import ConfigError
from alexnet_jax.training import views

BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class Search:
    """A small search that gives an arm its own value of a field, e.g. its learning rate.

    Candidates are the arm's own value of `field` (one of the config's numbers) times each of `factors`.
    """

    field: str = "optim.learning_rate"
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of a sweep: the base config with `overrides`, e.g. `{"model.lrn.layers": ()}`.

    Attributes:
      ablation: filled in by `ablations.arms_of`; '' for the baseline and for arms written out in a sweep file.
      search: a value to choose for this arm before its runs, on held-out training images; None: no search.
      against: the arm that a report compares it with; '' for the baseline.
      views: where the ablation is in the evaluation: a name of `alexnet_jax.training.views`.
    """

    name: str
    overrides: Mapping[str, Any]
    ablation: str = ""
    search: Search | None = None
    against: str = ""
    views: str = ""


def check_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The arms, the baseline first, repeated ones dropped. Raises ConfigError for a bad or ambiguous name."""
    out = {BASELINE: Arm(BASELINE, {})}
    for arm in arms:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", str(arm.name)):
            raise ConfigError(f"arm {arm.name!r}: a name is a folder's too, so it may have letters, digits, '_', '-', "
                              "'+' and '.', at most 64")
        other = out.setdefault(arm.name, arm)
        if dict(other.overrides) != dict(arm.overrides):
            hint = "the base config without overrides" if arm.name == BASELINE else "two different arms"
            raise ConfigError(f"arm {arm.name!r}: this name stands for {hint}; choose another name")
    for arm in out.values():
        if arm.against and arm.against not in out:
            raise ConfigError(f"arm {arm.name!r}: is to be compared with {arm.against!r}, which is not among the arms")
        if arm.views and arm.views not in views.NAMES:
            raise ConfigError(f"arm {arm.name!r}: views {arm.views!r}: not one of {', '.join(views.NAMES)}")
    return list(out.values())
