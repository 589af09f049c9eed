"""By which views of an image errors are told: what a run counts, its headline, and by what runs are compared.

    centre     the centre crop
    ten_view   the four corner crops, the centre crop and the mirror images of these five (paper, section 4.1)
    five_view  those five crops as they are

Probabilities are averaged over the views. A network whose training never mirrors (`augment.mirror=False`) has not
learnt that an image and its mirror image are of one class, and for digits or letters they are not: half of its ten
views are images of another kind. Such a run counts five views too, and they are its headline. The rules are written
here alone; reports, tables of claims, pictures and averages of networks take them from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CENTRE, FIVE, TEN = "centre", "five_view", "ten_view"
NAMES = {FIVE: "five views", TEN: "ten views", CENTRE: "centre crop"}


def mirrors(config: Mapping[str, Any]) -> bool:
    """Does training by this config, nested (records) or a ConfigDict, mirror images? Yes where it doesn't say."""
    return bool((config.get("augment") or {}).get("mirror", True))


def counted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The views that a run of this config counts at its end, in the order of result.json."""
    return (CENTRE, TEN) if mirrors(config) else (CENTRE, TEN, FIVE)


def headline(counts: Mapping[str, Any]) -> str:
    """The views that a single run is told by, given "eval" of its result.json: five where counted, else ten.

    Records that were made before five views were counted keep their ten views; the centre crop stands where there is
    nothing else.
    """
    return next((name for name in (FIVE, TEN) if counts.get(name)), CENTRE)


def shared(runs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> str:
    """The views that all these runs are compared by: one kind for all of them, so that no difference is the views'.

    Five views where no run's training mirrors and every finished one counted them. Else ten views, the paper's, where
    every finished run has them: one run that mirrors, or one record from before five views were counted, and all are
    told by ten. Else the centre crop, which every run has.

    Args:
      runs: (config, "eval" of result.json) of each; None for the latter where a run has not finished: its config
        counts, so that the views stay the same while a sweep grows.
    """
    runs = list(runs)
    finished = [counts for _, counts in runs if counts is not None]
    if runs and not any(mirrors(config) for config, _ in runs) and all(counts.get(FIVE) for counts in finished):
        return FIVE
    return TEN if all(counts.get(TEN) for counts in finished) else CENTRE


def lacks_five(config: Mapping[str, Any], counts: Mapping[str, Any] | None) -> bool:
    """Is this the record of a finished run that never mirrored, from before five views were counted?"""
    return counts is not None and not mirrors(config) and not counts.get(FIVE)
