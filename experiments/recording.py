"""Records measurements in `experiments/results`: compact records of sweeps, and claim files.

    python -m experiments.recording --workdir=runs/claims_cifar10 --record=experiments/results/claims_cifar10
    python -m experiments.recording --record=experiments/results/claims_cifar10 --unpack=runs/claims_cifar10

The first command writes a sweep into a few files (`experiments.analysis.packed`), without checkpoints, logs and machine
paths, together with its report; run again, it updates them. `--name=NAME` declares that runs started by flags alone are
those of configs/sweeps/NAME.py, which determines command, regime and family in reports. The second command turns a
record into a workdir, to which the sweep's command adds arms and seeds without repeating finished runs.

A claim file `<tool>.json` has one measured claim of the paper: `{"schema": 1, "claim": id in experiments.claims,
"measured": {"text", "value", "low", "high" (numbers or null), "unit": "ratio", "points" or "fraction", "n"},
"verdict": {"word" (one of experiments.analysis.verdicts.WORDS), "why", "contains_paper": bool or null}, "protocol":
{"dataset", "train_split", "eval_split", "resolution", "seeds", "epochs", "device", "revision", "command"},
"cost_core_hours": number or null}`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax import commands, files, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments.analysis import packed, verdicts, workdirs
from experiments.analysis.protocol import protocol
from experiments.analysis.workdirs import Arm, Run, Sweep
from experiments.sweep import plan as plan_lib

SCHEMA = 1
UNITS = ("ratio", "points", "fraction")
_SMALL = (*packed.TREES.values(), run_files.OUTCOMES, *packed.TABLES)  # the recorded files of a run
SEARCH = pathlib.PurePath("search.json")  # of experiments.sweep.search; its sweep is in search/


@dataclasses.dataclass(frozen=True)
class Measured:
    """A number with its 95% interval, in `unit`, from `n` independent repetitions. `text`: as shown in tables."""

    text: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    n: int


def claim_file(claim: str, measured: Measured, verdict: verdicts.Verdict, about: dict[str, Any],
               core_hours: float | None) -> dict[str, Any]:
    """The content of a claim file.

    Args:
      claim: its id in `experiments.claims`. about: from `about`.
    """
    if measured.unit not in UNITS or verdict.word not in verdicts.WORDS:
        raise ValueError(f"{measured.unit!r} or {verdict.word!r} is not in the claim file's schema")
    return {"schema": SCHEMA, "claim": claim, "measured": dataclasses.asdict(measured),
            "verdict": {key: getattr(verdict, key) for key in ("word", "why", "contains_paper")}, "protocol": about,
            "cost_core_hours": None if core_hours is None else round(core_hours, 2)}


def write_claim(folder: pathlib.Path, tool: str, *args: Any) -> pathlib.Path:
    """Writes `<tool>.json` into `folder`, created if missing; returns its path. args: as for `claim_file`."""
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
    """Wraps runs without a sweep as a single arm; their seeds may repeat."""
    return Sweep(name, "", name, [Arm(name, "", {}, dict(enumerate(runs)))])


def copy_sweep(workdir: pathlib.Path, destination: pathlib.Path, name: str = "") -> None:
    """Writes a sweep's plan and its runs' small files as a record, without checkpoints, logs and machine paths.

    The search of its learning rates, if any, is copied too. Of arms without a begun run only the names are kept, under
    "not_begun". A recorded run is kept if the workdir hasn't begun or finished it.

    Args:
      workdir: a workdir or a record.
      name: the record's name; '' keeps its present one, else takes the workdir's.

    Raises:
      WorkdirError: there is no plan, or a damaged result; the destination is another sweep's, or has runs that this one
        doesn't plan.
    """
    tree, runs = _planned(workdir)
    if tree is None:
        raise WorkdirError(f"{workdir}: no plan.json, so nothing to record")
    if more := [path for path in destination.glob("runs/*/*") if path.name not in _SMALL]:
        raise WorkdirError(f"{destination}: a workdir ({more[0].relative_to(destination)} is in no record); choose "
                           "another folder")
    known, there = _planned(destination)
    if there and not there.keys() & runs.keys():
        raise WorkdirError(f"{destination}: holds the records of another sweep, {(known or {}).get('name')}; choose "
                           "another folder")
    if lost := [run.dir for id_, run in there.items() if id_ not in runs and _begun(run)]:
        raise WorkdirError(f"{destination}: has runs that {workdir} does not plan ({', '.join(lost[:3])}); add them "
                           "there (--unpack makes a workdir of a record), or choose another folder")
    for run in runs.values():
        read = workdirs.read_files(run.files)
        if read.state == "unreadable":
            raise WorkdirError(f"{read.folder}: {read.message}; run the sweep's own command again to repair it")
    for id_, recorded in there.items():
        if id_ in runs and any(recorded.files.has(name) and not runs[id_].files.has(name)
                               for name in packed.TREES.values()):
            runs[id_] = recorded
    # Including the names in an earlier record, which a workdir unpacked from it lacks.
    arms = dict.fromkeys([*(arm["name"] for arm in tree["arms"]), *(tree.get("not_begun") or ()),
                          *((known or {}).get("not_begun") or ())])
    tree = _with_begun(tree, runs)
    kept = {id_ for arm in tree["arms"] for id_ in arm["runs"].values()}
    tree["name"] = name or (known or tree)["name"]
    tree["config"] = without_path(tree["config"])
    tree["not_begun"] = [name for name in arms if name not in {arm["name"] for arm in tree["arms"]}]
    packed.write(destination, tree, [
        dataclasses.replace(run, config=_without_places(run.config), files=_Clean(run.files))
        for id_, run in runs.items() if id_ in kept])
    shutil.rmtree(destination / "runs", ignore_errors=True)  # from an old record in a workdir's form
    if (workdir / SEARCH).exists():
        if workdir != destination:
            shutil.copyfile(workdir / SEARCH, destination / SEARCH)
        copy_sweep(workdir / SEARCH.stem, destination / SEARCH.stem)


def unpack(record: pathlib.Path, workdir: pathlib.Path) -> None:
    """Turns a record into a workdir, without its report: the same plan and the same small files of every run.

    Raises:
      WorkdirError: it isn't a record, or the workdir is not empty.
    """
    if not packed.is_packed(record):
        raise WorkdirError(f"{record}: no record of a sweep (no {packed.RUNS})")
    if workdir.exists() and any(workdir.iterdir()):
        raise WorkdirError(f"{workdir}: not empty; choose a new folder")
    kept = packed.Record(record)
    workdir.mkdir(parents=True, exist_ok=True)
    for run in kept.runs.values():
        folder, content = workdir / run.dir, run.files
        names = [name for name in _SMALL if content.has(name)]
        if names:
            folder.mkdir(parents=True)
        for name in names:
            if name in packed.TABLES:
                files.write_text(folder / name, "\n".join(content.lines(name)) + "\n")
            else:
                run_files.write_json(folder / name, content.tree(name) or {})
    if (record / SEARCH).exists():
        shutil.copyfile(record / SEARCH, workdir / SEARCH)
        unpack(record / SEARCH.stem, workdir / SEARCH.stem)
    runs = {run.id: {"dir": run.dir, "seed": run.seed, "config": run.config} for run in kept.runs.values()}
    plan = {**kept.plan, "runs": runs, "not_begun": kept.plan.get("not_begun") or []}
    run_files.write_json(workdir / "plan.json", plan)  # last: an interrupted copy isn't a workdir


def _planned(folder: pathlib.Path) -> tuple[dict[str, Any] | None, dict[str, packed.Planned]]:
    """(plan.json without its runs, the runs by id) of a workdir or a record; (None, {}) if it is neither."""
    if packed.is_packed(folder):
        record = packed.Record(folder)
        return dict(record.plan), dict(record.runs)
    plan = plan_lib.read(folder)  # checked
    tree = run_files.read_json(folder / "plan.json")
    if plan is None or tree is None:
        return None, {}
    return ({key: value for key, value in tree.items() if key != "runs"},
            {run.id: run for run in workdirs.planned(folder, tree)})


def _begun(run: packed.Planned) -> bool:
    return run.files.has("run.json")


def _with_begun(tree: Mapping[str, Any], runs: Mapping[str, packed.Planned]) -> dict[str, Any]:
    """The plan reduced to its baseline, the arms that have begun, and their references."""
    first, *others = tree["arms"]
    begun = [arm for arm in others if any(_begun(runs[id_]) for id_ in arm["runs"].values())]
    kept = {first["name"], *(arm["name"] for arm in begun), *(arm.get("against", "") for arm in begun)}
    return {**tree, "arms": [arm for arm in tree["arms"] if arm["name"] in kept]}


@dataclasses.dataclass(frozen=True)
class _Clean:
    """A run's files for a record: run.json without the machine's folders."""

    raw: packed.RunFiles

    @property
    def folder(self) -> pathlib.Path:
        return self.raw.folder

    def has(self, name: str) -> bool:
        return self.raw.has(name)

    def lines(self, name: str) -> list[str]:
        return self.raw.lines(name)

    def tree(self, name: str) -> dict[str, Any] | None:
        tree = self.raw.tree(name)
        if name != "run.json" or not self.has(name):
            return tree
        tree = dict(tree or {})
        tree["config"] = _without_places(tree.get("config") or {})
        tree["command"] = [without_path(part) for part in tree.get("command") or []]
        if isinstance(tree.get("environment"), dict):
            tree["environment"] = {name: without_path(text) for name, text in tree["environment"].items()}
        return tree


def _without_places(config: Any) -> dict[str, Any]:
    config = dict(config)
    config["data"] = {**config.get("data", {}), "dir": "", "store": ""}
    return config


def without_path(argument: str) -> str:
    """`--workdir=/somewhere/one` → `--workdir=runs/one`, `--sweep=/somewhere/mine.py` → `--sweep=mine.py`.

    Records don't name the machine's folders. Workdirs are in runs/, as in all commands that this project prints.
    """
    name, equals, value = argument.rpartition("=")
    if not (pathlib.PurePath(value).is_absolute() or value.startswith("~")):
        return argument
    return name + equals + ("runs/" if name == "--workdir" else "") + pathlib.PurePath(value).name


def main(argv: Sequence[str] | None = None) -> None:
    from experiments import report  # imports pandas and matplotlib

    parser = commands.Parser("experiments.recording", __doc__)
    parser.add_argument("--workdir", type=pathlib.Path, help="the sweep's folder")
    parser.add_argument("--record", type=pathlib.Path, required=True, help="the folder of the record, made if absent")
    parser.add_argument("--name", default="", help="of the sweep file whose runs these are; default: the name that the "
                        "record has, else the workdir's")
    parser.add_argument("--unpack", type=pathlib.Path, metavar="WORKDIR", help="instead of --workdir: a new workdir "
                        "that gets what is recorded")
    options = parser.parse_args(argv)
    if (options.workdir is None) == (options.unpack is None):
        raise ConfigError("--workdir=FOLDER is needed, the sweep to record; or --unpack=FOLDER, a new workdir for the "
                          "record")
    other = options.workdir or options.unpack
    if other.absolute() == options.record.absolute():
        raise ConfigError(f"--record={options.record}: the workdir itself; choose another folder")
    if options.unpack is not None:
        unpack(options.record, options.unpack)
        print(f"{options.unpack}: a workdir with {len(packed.Record(options.record).runs)} planned runs; the sweep's "
              "command resumes there")
        return
    copy_sweep(options.workdir, options.record, options.name)
    report.write_report(options.record)
    print(f"recorded in {options.record}; `make claims` takes it into experiments/CLAIMS.md")


if __name__ == "__main__":
    commands.run_main(main)
