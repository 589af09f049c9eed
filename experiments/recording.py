"""What is kept of measurements in `experiments/results`: the records of runs, and claim files.

    python -m experiments.recording --workdir=runs/claims_cifar10 --record=experiments/results/claims_cifar10

copies a sweep without checkpoints, logs and machine paths, and writes its report; again, and it brings it up to date.

A claim file `<tool>.json` is one measured claim of the paper: `{"schema": 1, "claim": id in experiments.claims,
"measured": {"text", "value", "low", "high" (numbers or null), "unit": "ratio", "points" or "fraction", "n"},
"verdict": {"word": reproduced, contradicted or unresolved, "why", "contains_paper": true, false or null}, "protocol":
{"dataset", "train_split", "eval_split", "resolution", "seeds", "epochs", "device", "revision", "command"},
"cost_core_hours": number or null}`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from alexnet_jax import errors, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments.analysis.protocol import protocol
from experiments.analysis.workdirs import Arm, Run, Sweep, read_run
from experiments.sweep import plan as plan_lib

SCHEMA = 1
UNITS = ("ratio", "points", "fraction")
WORDS = ("reproduced", "contradicted", "unresolved")
SEARCH = pathlib.PurePath("search.json")  # of experiments.sweep.search; its sweep is in the folder search/
KEPT = ("metrics.csv", "outcomes.json", "result.json", "timing.csv")  # and run.json, without paths


@dataclasses.dataclass(frozen=True)
class Measured:
    """A number with its 95% interval, in `unit`; `n` independent repetitions. `text` is how a table shows it."""

    text: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    n: int


def claim_file(claim: str, measured: Measured, verdict: tuple[str, str], about: dict[str, Any],
               core_hours: float | None, contains_paper: bool | None = None) -> dict[str, Any]:
    """The content of a claim file.

    Args:
      claim: its id in `experiments.claims`. verdict: (word, why). about: of `about`. contains_paper: does the interval
        contain the paper's number?
    """
    if measured.unit not in UNITS or verdict[0] not in WORDS:
        raise ValueError(f"{measured.unit!r} or {verdict[0]!r} is not in the claim file's schema")
    return {"schema": SCHEMA, "claim": claim, "measured": dataclasses.asdict(measured),
            "verdict": {"word": verdict[0], "why": verdict[1], "contains_paper": contains_paper}, "protocol": about,
            "cost_core_hours": None if core_hours is None else round(core_hours, 2)}


def write_claim(folder: pathlib.Path, tool: str, *args: Any) -> pathlib.Path:
    """Writes `<tool>.json` into `folder`, made if absent; returns its path. The rest is of `claim_file`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{tool}.json"
    run_files.write_json(path, claim_file(*args))
    return path


def about(sweep: Sweep, command: Sequence[str], views: str = "centre") -> tuple[dict[str, Any], float | None]:
    """(the protocol of a claim file, core-hours of the runs or None for accelerators), from a sweep's records."""
    p = protocol(sweep, views)

    def listed(key: str) -> str:
        return " or ".join(str(v) for v in p[key])

    text = {"dataset": " ".join(filter(None, (listed("dataset"), listed("version")))),
            "train_split": listed("train_split"), "eval_split": listed("eval_split"),
            "resolution": f"{listed('size')} px, {listed('crop')} px crops",
            "seeds": sorted({run.seed for run in sweep.runs.values()}),
            "epochs": p["epochs"][0] if len(p["epochs"]) == 1 else listed("epochs"), "device": listed("device"),
            "revision": listed("revision"),
            "command": " ".join(map(without_path, command))}
    known = p["timed_runs"] and p["unit"] == "core"
    return text, p["unit_seconds"] / 3600 if known else None


def as_sweep(runs: Sequence[Run], name: str = "runs") -> Sweep:
    """Runs that no sweep holds together, as one arm of one, whatever their seeds are."""
    return Sweep(name, "", name, [Arm(name, "", {}, dict(enumerate(runs)))])


def copy_sweep(workdir: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies a sweep's plan and each run's small records, without checkpoints, logs and machine paths.

    The search of its learning rates, if there was one, is copied with it; of arms of which no run has begun only the
    names are kept, under "not_begun".

    Raises:
      WorkdirError: it holds no plan or a damaged result, or the destination is another sweep's.
    """
    plan = plan_lib.read(workdir)
    if plan is None:
        raise WorkdirError(f"{workdir}: no plan.json, so nothing to record")
    # Names that an earlier record has, too: a workdir that was copied from it has forgotten them.
    known = run_files.read_json(destination / "plan.json")
    planned_arms = dict.fromkeys([*(arm.name for arm in plan.arms),
                                  *((known.get("not_begun") or ()) if isinstance(known, dict) else ())])
    plan = _begun(plan, workdir)
    there = plan_lib.read(destination)
    if there is not None and not set(there.runs) & set(plan.runs):
        raise WorkdirError(f"{destination}: holds the records of another sweep, {there.name}; choose another folder")
    for planned in plan.runs.values():
        found = read_run(workdir / planned.dir)
        if found.state == "unreadable":
            raise WorkdirError(f"{found.folder}: {found.message}; the sweep's own command mends it")
    destination.mkdir(parents=True, exist_ok=True)
    tree = plan.to_json()
    for run in tree["runs"].values():
        run["config"] = _without_places(run["config"])
    tree["config"] = without_path(plan.config)
    tree["not_begun"] = [name for name in planned_arms if name not in {arm.name for arm in plan.arms}]
    run_files.write_json(destination / "plan.json", tree)
    for run in plan.runs.values():
        if (workdir / run.dir / "run.json").exists():
            copy_run(workdir / run.dir, destination / run.dir)
    if (workdir / SEARCH).exists():
        shutil.copyfile(workdir / SEARCH, destination / SEARCH)
        copy_sweep(workdir / SEARCH.stem, destination / SEARCH.stem)


def _begun(plan: plan_lib.Plan, workdir: pathlib.Path) -> plan_lib.Plan:
    begun = [arm for arm in plan.arms[1:] if any((workdir / plan.runs[run].dir / "run.json").exists()
                                                 for run in arm.runs.values())]
    kept = {plan.arms[0].name, *(arm.name for arm in begun), *(arm.against for arm in begun)}
    arms = tuple(arm for arm in plan.arms if arm.name in kept)
    ids = {run for arm in arms for run in arm.runs.values()}
    return dataclasses.replace(plan, arms=arms, runs={id_: run for id_, run in plan.runs.items() if id_ in ids})


def copy_run(folder: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies one run's small records."""
    destination.mkdir(parents=True, exist_ok=True)
    tree = run_files.read_json(folder / "run.json") or {}
    tree["config"] = _without_places(tree.get("config") or {})
    tree["command"] = [without_path(part) for part in tree.get("command") or []]
    if isinstance(tree.get("environment"), dict):
        tree["environment"] = {name: without_path(text) for name, text in tree["environment"].items()}
    run_files.write_json(destination / "run.json", tree)
    for name in KEPT:
        if (folder / name).exists():
            shutil.copyfile(folder / name, destination / name)


def _without_places(config: Any) -> dict[str, Any]:
    config = dict(config)
    config["data"] = {**config.get("data", {}), "dir": "", "store": ""}
    return config


def without_path(argument: str) -> str:
    """`--workdir=/somewhere/one` → `--workdir=runs/one`, `--sweep=/somewhere/mine.py` → `--sweep=mine.py`.

    Records name no machine's folders. Workdirs are in runs/, as in every command that this project prints.
    """
    name, equals, value = argument.rpartition("=")
    if not (pathlib.PurePath(value).is_absolute() or value.startswith("~")):
        return argument
    return name + equals + ("runs/" if name == "--workdir" else "") + pathlib.PurePath(value).name


def main(argv: Sequence[str] | None = None) -> None:
    from experiments import report  # pandas and matplotlib: not before there is something to show

    parser = errors.Parser("experiments.recording", __doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="the sweep's folder")
    parser.add_argument("--record", type=pathlib.Path, required=True, help="the folder of the records, made if absent")
    options = parser.parse_args(argv)
    if options.workdir.absolute() == options.record.absolute():
        raise ConfigError(f"--record={options.record}: the workdir itself; choose another folder")
    copy_sweep(options.workdir, options.record)
    report.write_report(options.record)
    print(f"recorded in {options.record}; `make claims` takes it into experiments/CLAIMS.md")


if __name__ == "__main__":
    errors.run_main(main)
