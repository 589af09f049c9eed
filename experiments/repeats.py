"""The same runs made twice: what another revision, machine or number of cores changes, beside what another seed does.

    python -m experiments.repeats runs/before runs/after --record=experiments/results/repeats
    python -m experiments.repeats --results=experiments/results/repeats       # prints what is recorded

Runs of one id (the same config and seed) in both folders are paired, wherever in them they lie. Where results are to be
the same up to rounding, the mean of the differences should be zero; their standard deviation, over √2, is what rounding
alone does to one run in the end. Were that all that a seed does too, two runs of one seed would be no more alike than
those of two: their correlation, within arms, would be zero. Each arm's difference from the baseline is given by either
folder's runs and by both, averaged run by run: what such repeats do to a conclusion.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import commands, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from alexnet_jax.training import views as views_lib
from experiments import recording
from experiments.analysis import protocol, statistics
from experiments.analysis.text import interval
from experiments.analysis.workdirs import Run, default_views, runs_below

BASELINE = "baseline"
SIDES = ("before", "after")
SCHEMA = 1
FILE = "repeats.json"


def finished(folder: pathlib.Path) -> dict[str, Run]:
    """The finished runs anywhere below a folder, by id. Raises ConfigError: no such folder, or none in it."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    found = {run.id: run for run in runs_below(folder) if run.state == "finished" and run.result is not None}
    if not found:
        raise ConfigError(f"{folder}: no finished run in it")
    return found


def pairs(before: dict[str, Run], after: dict[str, Run]) -> dict[str, Any]:
    """The content of repeats.json: the protocol; of each id in both name, seed, revisions, top-1 errors in percent.

    Raises:
      ConfigError: no run is in both.
    """
    ids = sorted(set(before) & set(after), key=lambda i: (_name(after[i]), after[i].seed))
    if not ids:
        raise ConfigError("no run of one folder is in the other: a run's id is that of its config and seed")
    views = default_views([runs[i] for runs in (before, after) for i in ids])
    rows = []
    for i in ids:
        row: dict[str, Any] = {"name": _name(after[i]), "seed": after[i].seed, "id": i}
        for side, run in zip(SIDES, (before[i], after[i]), strict=True):
            counts = run.counts(views)
            assert counts is not None
            row[side] = 100 * counts["top1_wrong"] / counts["total"]
            row[f"{side}_revision"] = " then ".join(protocol.revisions(run.about)) or None
        rows.append(row)
    about, _ = recording.about(recording.as_sweep([runs[i] for runs in (before, after) for i in ids]), [], views)
    return {"schema": SCHEMA, "views": views, "protocol": {**about, "seeds": sorted({row["seed"] for row in rows})},
            "rows": rows}


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `pairs` gave, as recorded in a folder. Raises WorkdirError: it isn't there, or can't be read."""
    tree = run_files.read_json(folder / FILE)
    if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
        raise WorkdirError(f"{folder / FILE}: not there, damaged or of another schema")
    return tree


def _name(run: Run) -> str:
    return str(run.about.get("name") or run.folder.name)


def text(tree: dict[str, Any]) -> str:
    """A line an arm, and what all pairs together say."""
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
    """How far seeds of an arm lie apart in either folder, and how much of that they have in common."""
    groups = {side: [[row[side] for row in mine] for mine in by.values() if len(mine) > 1] for side in SIDES}
    spread = [statistics.pooled_sd(groups[side]) for side in SIDES]
    if spread[0] is None or spread[1] is None:
        return ""
    centred = [np.concatenate([np.asarray(group) - np.mean(group) for group in groups[side]]) for side in SIDES]
    told = f", that between seeds {spread[0]:.2f} before and {spread[1]:.2f} after"
    if 0 in spread:
        return told
    return f"{told}; the two runs of a seed correlate by {np.corrcoef(centred)[0, 1]:+.2f} within arms"


def _differences(by: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line an arm: its difference from the baseline by the first runs, by the second, and by the means of both."""
    error = {name: {side: {row["seed"]: row[side] for row in mine} for side in SIDES} for name, mine in by.items()}
    for sides in error.values():
        sides["both"] = {seed: (sides["before"][seed] + sides["after"][seed]) / 2 for seed in sides["before"]}
    others = [name for name in by if name != BASELINE]
    if BASELINE not in by or not others:
        return ["no differences from a baseline: no run of that name, or none but it, is in both folders"]
    lines = [f"{'arm less baseline':<22} seeds   {'before':<21}  {'after':<21}  means of both"]
    for name in others:
        found = [statistics.paired_difference(error[name][side], error[BASELINE][side]) for side in (*SIDES, "both")]
        lines.append(f"{name:<22} {found[0].n:5d}   " + "  ".join(f"{interval(one):<21}" for one in found).rstrip())
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser("experiments.repeats", __doc__)
    parser.add_argument("folders", nargs="*", type=pathlib.Path, help="two folders with runs: before, after")
    parser.add_argument("--record", type=pathlib.Path, help="folder that gets the pairs, made if absent")
    parser.add_argument("--results", type=pathlib.Path, help="folder of records: printed, nothing is read but it")
    options = parser.parse_args(argv)
    if options.results is not None:
        print(text(read(options.results)))
        return 0
    if len(options.folders) != 2:
        raise ConfigError("name two folders with runs, before and after, or --results=FOLDER")
    before, after = options.folders
    tree = pairs(finished(before), finished(after))
    print(text(tree))
    if options.record is not None:
        options.record.mkdir(parents=True, exist_ok=True)
        run_files.write_json(options.record / FILE, tree)
        print(options.record / FILE)
    return 0


if __name__ == "__main__":
    commands.run_main(main)
