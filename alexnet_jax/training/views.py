"""Which views of an image errors are counted on: all that a run counts, its headline, and those that runs share.

    centre     the centre crop
    ten_view   the four corner crops, the centre crop and the mirror images of these five (paper, section 4.1)
    five_view  those five crops as they are

Probabilities are averaged over the views. A network whose training never mirrors (`augment.mirror=False`) has not
learnt that an image and its mirror image have the same class, and for digits or letters they have not: half of its ten
views are unlike anything it was trained on. Such a run also counts five views, its headline. This module is the only
place for these rules; reports, tables of claims, pictures and averages of networks use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CENTRE, FIVE, TEN = "centre", "five_view", "ten_view"
NAMES = {FIVE: "five views", TEN: "ten views", CENTRE: "centre crop"}


def mirrors(config: Mapping[str, Any]) -> bool:
    """Does training with this config, a nested dict or a ConfigDict, mirror images? True if the config doesn't say."""
    return bool((config.get("augment") or {}).get("mirror", True))


def counted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The views that a run with this config counts at its end, in the order of result.json."""
    return (CENTRE, TEN) if mirrors(config) else (CENTRE, TEN, FIVE)


def headline(counts: Mapping[str, Any]) -> str:
    """The views of a single run's headline error, given "eval" of its result.json: five if counted, else ten.

    Records from before five views were counted keep their ten views; the centre crop is used if there is nothing else.
    """
    return next((name for name in (FIVE, TEN) if counts.get(name)), CENTRE)


def shared(runs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> str:
    """The views on which all these runs are compared, the same for each, so that the views cause no difference.

    Five views if no run's training mirrors and every finished run counted them. Otherwise ten views, the paper's, if
    every finished run has them: if a single run mirrors, or is a record from before five views were counted, all runs
    are compared on ten. Otherwise the centre crop, which every run has.

    Args:
      runs: (config, "eval" of result.json) of each; None for the latter if the run has not finished. Its config is
        still taken into account, so that the views stay the same while a sweep grows.
    """
    runs = list(runs)
    finished = [counts for _, counts in runs if counts is not None]
    if runs and not any(mirrors(config) for config, _ in runs) and all(counts.get(FIVE) for counts in finished):
        return FIVE
    return TEN if all(counts.get(TEN) for counts in finished) else CENTRE


def lacks_five(config: Mapping[str, Any], counts: Mapping[str, Any] | None) -> bool:
    """Is this the record of a finished run that never mirrored, from before five views were counted?"""
    return counts is not None and not mirrors(config) and not counts.get(FIVE)
