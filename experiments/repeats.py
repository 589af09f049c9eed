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

from alexnet_jax import commands, run_files
from alexnet_jax.errors import ConfigError
from experiments import recording
from experiments.analysis import protocol
from experiments.analysis.repeats import FILE, SCHEMA, SIDES, read, text
from experiments.analysis.workdirs import Run, default_views, runs_below


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


def _name(run: Run) -> str:
    return str(run.about.get("name") or run.folder.name)


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
