"""The same runs made twice: the effect of another revision, machine or number of cores, compared with that of seeds.

    python -m experiments.repeats runs/before runs/after --record=experiments/results/repeats
    python -m experiments.repeats --results=experiments/results/repeats       # prints what is recorded

Runs with the same id (config and seed) anywhere in both folders are paired. If results should agree up to rounding, the
mean difference should be zero, and its standard deviation over √2 is the effect of rounding on one run. If seeds had no
effect beyond that, two runs of one seed would be no more alike than runs of different seeds: their correlation within
arms would be zero. Each arm's difference from the baseline is given for each folder's runs and for their averages, to
show how repeats affect a conclusion.
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
    """{id: finished run}, for all below a folder. Raises ConfigError: no such folder, or no run in it."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    runs = {run.id: run for run in runs_below(folder) if run.state == "finished" and run.result is not None}
    if not runs:
        raise ConfigError(f"{folder}: no finished run in it")
    return runs


def pairs(before: dict[str, Run], after: dict[str, Run]) -> dict[str, Any]:
    """The content of repeats.json: the protocol, and for each common id name, seed, revisions, top-1 errors in percent.

    Raises ConfigError: no run is in both.
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
    parser.add_argument("--results", type=pathlib.Path, help="print this folder of records, and read nothing else")
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
