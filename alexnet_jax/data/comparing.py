"""How the reported images relate to the training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data import classes, duplicates
from alexnet_jax.data.split import Split


def about_data(learnt: Sequence[Split], reported: Split) -> dict[str, Any]:
    """What would make an error misleading, for result.json and reports; {} if nothing does.

    Args:
      learnt: the training splits. reported: the reported split, labelled by the same classes.

    Returns:
      "classes": `classes.uneven`. "seen": reported images that were learnt from too, the same rows of the dataset
      or the same pixels again; counted once each.
    """
    found: dict[str, Any] = {}
    per_class = np.sum([split.per_class for split in learnt], axis=0)
    if uneven := classes.uneven(per_class, reported.per_class, reported.class_keys):
        found["classes"] = uneven
    if seen := learnt_too(learnt, reported):
        found["seen"] = seen
    return found


def learnt_too(learnt: Sequence[Split], reported: Split) -> int:
    """How many images of `reported` are in `learnt` too: the same rows of the dataset, or the same pixels."""
    return len({int(place) for split in learnt for place in duplicates.shared(split, reported)[:, 1]})


def about_data_words(found: Mapping[str, Any]) -> list[str]:
    """`about_data` as sentences, for a log or below a table."""
    lines = classes.words(found.get("classes", {}))
    if n := found.get("seen"):
        lines.append(f"{n:,} of the images that the error is reported on {'was' if n == 1 else 'were'} learnt from too "
                     "(the same pixels)")
    return lines
