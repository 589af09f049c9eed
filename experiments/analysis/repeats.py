"""Summary of repeats.json: the same runs made twice (`experiments.repeats`)."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from alexnet_jax import run_files
from alexnet_jax.errors import WorkdirError
from alexnet_jax.training import views as views_lib
from experiments.analysis import statistics
from experiments.analysis.text import interval

BASELINE = "baseline"
SIDES = ("before", "after")
SCHEMA = 1
FILE = "repeats.json"


def read(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a result of `experiments.repeats.pairs`. Raises WorkdirError: missing or unreadable."""
    tree = run_files.read_json(folder / FILE)
    if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
        raise WorkdirError(f"{folder / FILE}: not there, damaged or of another schema")
    return tree


def text(tree: dict[str, Any]) -> str:
    """One line per arm, and the result of all pairs together."""
    rows, names = tree["rows"], list(dict.fromkeys(row["name"] for row in tree["rows"]))
    by = {name: [row for row in rows if row["name"] == name] for name in names}
    lines = [f"{'arm':<22} seeds   before    after   difference"]
    for name, mine in by.items():
        before, after = (sum(row[side] for row in mine) / len(mine) for side in SIDES)
        own = statistics.estimate([row["after"] - row["before"] for row in mine])
        lines.append(f"{name:<22} {len(mine):5d}  {before:6.2f}%  {after:6.2f}%   {interval(own)}")
    lines += ["", *_differences(by), ""]
    whole = statistics.estimate([row["after"] - row["before"] for row in rows])
    assert whole.mean is not None
    deviation = "" if whole.sd is None else f"; standard deviation {whole.sd:.2f}, over √2 {whole.sd / 2**0.5:.2f}"
    p = tree["protocol"]
    lines.append(f"{p['dataset']}, {p['train_split']} → {p['eval_split']}, {p['resolution']}, {p['epochs']} epochs, "
                 f"seeds {', '.join(map(str, p['seeds']))}; {p['device']}")
    return "\n".join([*lines, f"{len(rows)} pairs: after less before {interval(whole)} points of top-1 "
                      f"error, {views_lib.NAMES[tree['views']]}{deviation}{_seeds(by)}"])


def _seeds(by: dict[str, list[dict[str, Any]]]) -> str:
    """The deviation between seeds of an arm in each folder, and how far the two correlate."""
    groups = {side: [[row[side] for row in mine] for mine in by.values() if len(mine) > 1] for side in SIDES}
    spread = [statistics.pooled_sd(groups[side]) for side in SIDES]
    if spread[0] is None or spread[1] is None:
        return ""
    centred = [np.concatenate([np.asarray(group) - np.mean(group) for group in groups[side]]) for side in SIDES]
    text = f", that between seeds {spread[0]:.2f} before and {spread[1]:.2f} after"
    if 0 in spread:
        return text
    return f"{text}; the two runs of a seed correlate by {np.corrcoef(centred)[0, 1]:+.2f} within arms"


def _differences(by: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line per arm: its difference from the baseline in the first runs, the second, and the means of both."""
    error = {name: {side: {row["seed"]: row[side] for row in mine} for side in SIDES} for name, mine in by.items()}
    for sides in error.values():
        sides["both"] = {seed: (sides["before"][seed] + sides["after"][seed]) / 2 for seed in sides["before"]}
    others = [name for name in by if name != BASELINE]
    if BASELINE not in by or not others:
        return ["no differences from a baseline: its runs and those of another arm have to be in both folders"]
    lines = [f"{'arm less baseline':<22} seeds   {'before':<21}  {'after':<21}  means of both"]
    for name in others:
        all_of = [statistics.paired_difference(error[name][side], error[BASELINE][side]) for side in (*SIDES, "both")]
        lines.append(f"{name:<22} {all_of[0].n:5d}   " + "  ".join(f"{interval(one):<21}" for one in all_of).rstrip())
    return lines
