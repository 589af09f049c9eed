"""How the choice of reported images adds noise to a sweep's differences, from the outcomes that its runs kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexnet_jax import config
from experiments.analysis import statistics
from experiments.analysis.workdirs import Arm, Run, field

_SAME = ("name", "version", "eval_split", "corrupt")
_CONFIG = ("data.order", "data.val_fraction", "data.val_seed")  # these also determine a split's images and their order


def between(arm: Arm, reference: Arm, views: tuple[str, str], seeds: Sequence[int]) -> statistics.OverImages | None:
    """`statistics.over_images` of the top-1 errors of two arms, in points.

    Args:
      views: of each arm. seeds: those of which both have finished runs.

    Returns:
      None if one of the runs didn't keep its outcomes, or they are not of the same images.
    """
    if len(seeds) < 2:
        return None
    wrong: list[list[np.ndarray]] = []
    for part, seen in zip((arm, reference), views, strict=True):
        outcomes = [part.runs[seed].wrong(seen) for seed in seeds]
        if any(one is None for one in outcomes):
            return None
        wrong.append([one for one in outcomes if one is not None])
    runs = [part.runs[seed] for part in (arm, reference) for seed in seeds]

    def value(run: Run, name: str) -> object:
        there = field(run.config, name)  # older runs lack newer fields
        return config.FIELDS[name].default if there is None else there

    images = {(len(one), *(((run.result or {}).get("data") or {}).get(name) for name in _SAME),
               *(value(run, name) for name in _CONFIG))
              for one, run in zip([*wrong[0], *wrong[1]], runs, strict=True)}
    if len(images) > 1:
        return None
    return statistics.over_images(np.stack(wrong[0]), np.stack(wrong[1]), scale=100)
