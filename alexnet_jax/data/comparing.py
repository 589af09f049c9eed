"""What the images that a number is reported on have to do with those that were learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data import classes, duplicates
from alexnet_jax.data.split import Split


def about_data(learnt: Sequence[Split], reported: Split) -> dict[str, Any]:
    """What would make an error mean less than it says, {} if there is nothing: for result.json and reports.

    Args:
      learnt: the splits that are learnt from. reported: the split that the error is of, by the same classes.

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
    """How many images of `reported` are among those of `learnt`: the same of the dataset, or the same pixels again."""
    return len({int(place) for split in learnt for place in duplicates.shared(split, reported)[:, 1]})


def about_data_words(found: Mapping[str, Any]) -> list[str]:
    """`about_data` as sentences, for a log or below a table."""
    lines = classes.words(found.get("classes", {}))
    if n := found.get("seen"):
        lines.append(f"{n:,} of the images that the error is reported on {'was' if n == 1 else 'were'} learnt from too "
                     "(the same pixels)")
    return lines
