"""A sweep as a list of runs: plan.json, the order of the runs, and the state of each on disk.

plan.json: `{"schema": 1, "name", "config" (file and recipe as given), "baseline", "seeds": […], "arms":
[{"name", "ablation", "overrides": {dotted: value}, "runs": {"<seed>": "<id>"}}, …], "runs": {"<id>": {"dir",
"seed", "config" (nested, resolved)}}}`. An arm that isn't compared with the baseline has "against", one that
is evaluated differently "views" (experiments.sweep.arms). The first arm is the baseline. Equal configs are one
run with one folder, `runs/<first arm's name>-<id>`. A later command on the same workdir may add arms and seeds (the
file is merged), never change the base.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import files, run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from alexnet_jax.models import geometry
from alexnet_jax.text import and_more
from alexnet_jax.training import initial_weights
from experiments.sweep.arms import BASELINE, Arm, check_arms

SCHEMA = 1
DONE = ("finished", "diverged")
AGAIN = "delete it and give the sweep's command again (its runs are kept)"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: its folder (relative to the workdir), its seed, its resolved config as a nested dict."""

    id: str
    dir: str
    seed: int
    config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedArm:
    """An arm with its run of each seed."""

    name: str
    ablation: str
    overrides: Mapping[str, Any]
    runs: Mapping[int, str]
    against: str = ""  # as in experiments.sweep.arms.Arm
    views: str = ""

    def to_json(self) -> dict[str, Any]:
        extra = {key: value for key in ("against", "views") if (value := getattr(self, key))}
        return {"name": self.name, "ablation": self.ablation, "overrides": dict(self.overrides), **extra,
                "runs": {str(seed): run for seed, run in self.runs.items()}}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The content of plan.json."""

    name: str
    config: str
    seeds: tuple[int, ...]
    arms: tuple[PlannedArm, ...]
    runs: Mapping[str, Run]

    def order(self, by: str = "seeds") -> list[str]:
        """The runs, each once.

        Args:
          by: 'seeds', seed by seed, so that unfinished sweeps can be compared between arms; 'arms', arm by arm, so
            that the first arms have all their seeds, and so an interval, early.
        """
        pairs = [(s, arm) for s in self.seeds for arm in self.arms]
        if by == "arms":
            pairs = [(s, arm) for arm in self.arms for s in self.seeds]
        return list(dict.fromkeys(arm.runs[s] for s, arm in pairs if s in arm.runs))

    @functools.cached_property
    def _first_arm(self) -> dict[str, PlannedArm]:
        return {run: arm for arm in reversed(self.arms) for run in arm.runs.values()}

    def arm_of(self, run: str) -> PlannedArm:
        """The first arm that this run belongs to."""
        return self._first_arm[run]

    def label(self, run: str) -> str:
        """'no_lrn seed 2'."""
        return f"{self.arm_of(run).name} seed {self.runs[run].seed}"

    def aliases(self) -> dict[str, str]:
        """Arms whose every run is another arm's: {'no_lrn': 'baseline'}."""
        seen: dict[tuple, str] = {}
        out = {}
        for arm in self.arms:
            first = seen.setdefault(tuple(sorted(arm.runs.items())), arm.name)
            if first != arm.name:
                out[arm.name] = first
        return out

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "name": self.name, "config": self.config, "baseline": BASELINE,
            "seeds": list(self.seeds),
            "arms": [arm.to_json() for arm in self.arms],
            "runs": {r.id: {"dir": r.dir, "seed": r.seed, "config": r.config} for r in self.runs.values()}}


def build(base: ConfigDict, config: str, name: str, arms: Iterable[Arm], seeds: Sequence[int]) -> Plan:
    """The plan of a sweep; every arm's fields and shapes are checked here, before anything starts.

    Args:
      base: the resolved base config.
      config: where it comes from, FILE or FILE:recipe.
      arms: in any order, with or without the baseline.

    Raises:
      ConfigError: an unknown field, impossible shapes, two arms of one name.
    """
    planned, runs = [], {}
    for arm in check_arms(list(arms)):
        if "seed" in arm.overrides:
            raise ConfigError(f"arm {arm.name}: config.seed: every arm gets the sweep's seeds; leave it out")
        try:
            resolved = initial_weights.filled(config_lib.resolve(config_lib.override(base, arm.overrides)), verify=True)
            geometry.layers(resolved)
        except ConfigError as error:
            raise ConfigError(str(error) if arm.name == BASELINE else f"arm {arm.name}: {error}") from error
        flat, nested = config_lib.flatten(resolved), config_lib.to_json(resolved)
        ids = config_lib.run_ids(resolved, seeds)
        for seed, run in ids.items():
            if run not in runs:
                runs[run] = Run(run, f"runs/{arm.name}-{run}", seed, {**nested, "seed": seed})
        planned.append(PlannedArm(arm.name, arm.ablation, {key: flat[key] for key in arm.overrides}, ids,
                                  arm.against, arm.views))
    return Plan(name, config, tuple(seeds), tuple(planned), runs)


def read(workdir: pathlib.Path) -> Plan | None:
    """The plan of a workdir; None where there is none.

    Raises:
      WorkdirError: plan.json cannot be understood.
    """
    path = workdir / "plan.json"
    tree = run_files.read_json(path, shared=True)
    if tree is None:
        if not path.exists():
            return None
        raise WorkdirError(f"{path}: damaged; {AGAIN}")
    if "runs" not in tree and (workdir / "runs.jsonl").exists():
        raise WorkdirError(f"{workdir}: the record of a sweep; `python -m experiments.recording --record={workdir} "
                           "--unpack=FOLDER` makes a workdir of it")
    if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
        raise WorkdirError(f"{path}: not a plan of this version (schema {SCHEMA}); choose another --workdir")
    try:
        arms = tuple(PlannedArm(a["name"], a["ablation"], a["overrides"],
                                {int(seed): run for seed, run in a["runs"].items()},
                                a.get("against", ""), a.get("views", "")) for a in tree["arms"])
        runs = {id_: Run(id_, r["dir"], r["seed"], r["config"]) for id_, r in tree["runs"].items()}
        return Plan(tree["name"], tree["config"], tuple(tree["seeds"]), arms, runs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkdirError(f"{path}: damaged or misspelt (at {error}); {AGAIN}") from error


def merge(old: Plan | None, new: Plan, workdir: pathlib.Path) -> tuple[Plan, Plan]:
    """(the merged plan for plan.json, the new plan with the existing folders of its runs).

    Raises:
      WorkdirError: the workdir is another base config's, or an arm's name stands for something else there.
    """
    folders = {run.id: run.dir for run in old.runs.values()} if old else {}
    begun = sorted((workdir / "runs").iterdir()) if (workdir / "runs").is_dir() else []
    for folder in begun:  # also those that a lost plan.json knew, so that nothing is computed again
        folders.setdefault(folder.name.rpartition("-")[2], f"runs/{folder.name}")
    ids = _older_spellings(new, folders, workdir)
    named = [dataclasses.replace(run, id=ids.get(run.id, run.id)) for run in new.runs.values()]
    new = dataclasses.replace(
        new, runs={r.id: dataclasses.replace(r, dir=folders.get(r.id, r.dir)) for r in named},
        arms=tuple(dataclasses.replace(arm, runs={s: ids.get(i, i) for s, i in arm.runs.items()}) for arm in new.arms))
    if old is None or not begun:  # a plan without started runs may be replaced
        return new, new
    _check_same_base(old, new, workdir)
    arms = {arm.name: arm for arm in old.arms}
    for arm in new.arms:
        known = arms.get(arm.name)
        if known is not None and not _is_same(known, old, arm, new):
            there, here = _short(known.overrides), _short(arm.overrides)
            raise WorkdirError(f"{workdir}: its arm {arm.name} has other overrides ({there} there, {here} "
                               "here); rename the arm or choose another --workdir")
        runs = {**known.runs, **arm.runs} if known else arm.runs
        arms[arm.name] = dataclasses.replace(arm, runs=dict(sorted(runs.items())))
    # Fields outside a run's identity, such as data.dir, may change between commands: the newest counts.
    kept = {run for arm in arms.values() for run in arm.runs.values()}
    runs_of_all = {run: about for run, about in {**old.runs, **new.runs}.items() if run in kept}
    return dataclasses.replace(old, seeds=tuple(sorted({*old.seeds, *new.seeds})), arms=tuple(arms.values()),
                               runs=runs_of_all), new


def _older_spellings(new: Plan, folders: Mapping[str, str], workdir: pathlib.Path) -> dict[str, str]:
    """{id in `new`: the id under which the same run was begun here, by a version that spelt its config otherwise}.

    Args:
      folders: those of the runs that are planned or there, by id.
    """
    wanted, found = new.runs.keys() - folders.keys(), dict[str, str]()
    for id_ in sorted(folders.keys() - new.runs.keys()) if wanted else ():
        run = run_files.read_json(workdir / folders[id_] / "run.json") or {}
        now = config_lib.recorded_id(run["config"]) if isinstance(run.get("config"), dict) else None
        if now in wanted and run.get("id") == id_:
            found.setdefault(now, id_)
    return found


def _is_same(known: PlannedArm, old: Plan, arm: PlannedArm, new: Plan) -> bool:
    """Do two arms of one name stand for the same, perhaps in two spellings?"""
    def network(plan: Plan, runs: Mapping[int, str]) -> str | None:
        return config_lib.recorded_id({**plan.runs[next(iter(runs.values()))].config, "seed": 0})

    if _plain(known.overrides) == _plain(arm.overrides):
        return True
    return (known.overrides.keys() == arm.overrides.keys() and bool(known.runs and arm.runs)
            and network(old, known.runs) == network(new, arm.runs))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(overrides: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {_plain(v)!r}" for k, v in overrides.items()) or "none"


def _check_same_base(old: Plan, new: Plan, workdir: pathlib.Path) -> None:
    def base(plan: Plan) -> ConfigDict:
        return config_lib.from_json(plan.runs[next(iter(plan.arms[0].runs.values()))].config)

    try:
        theirs, mine = base(old), base(new)
    except (ConfigError, KeyError, IndexError, StopIteration) as error:
        raise WorkdirError(f"{workdir / 'plan.json'}: not understood ({error}); choose another --workdir"
                           ) from error
    there, here = config_lib.flatten(theirs), config_lib.flatten(mine)
    changed = [f"config.{name}: {there[name]!r} there, {here[name]!r} here"
               for name, field in config_lib.FIELDS.items()
               if field.identity and name != "seed" and there[name] != here[name]]
    if changed:
        raise WorkdirError(f"{workdir}: belongs to another base config ({and_more(changed[:3], len(changed), '; ')}); "
                           "choose another --workdir, or the same base and the change as an arm")


def write(plan: Plan, workdir: pathlib.Path) -> None:
    """Writes plan.json in one move, a run a line: json indents ten thousand configs in seconds."""
    tree = plan.to_json()
    lines = (f"  {json.dumps(id_)}: {json.dumps(run, ensure_ascii=False)}" for id_, run in tree["runs"].items())
    joined = ",\n".join(lines)
    text = json.dumps({**tree, "runs": {}}, indent=1, ensure_ascii=False).removesuffix("{}\n}")
    run_files.write_text(workdir / "plan.json", f"{text}{{\n{joined}\n }}\n}}\n")


# The state on disk.

def result_of(folder: pathlib.Path) -> dict[str, Any] | None:
    """result.json, if it is there and whole."""
    result = run_files.read_json(folder / "result.json")
    return result if isinstance(result, dict) and "status" in result else None


def state_of(folder: pathlib.Path) -> str:
    """'finished', 'diverged', 'failed' (is tried again), 'partial' (resumes) or 'waiting'."""
    result = result_of(folder)
    if result is not None:
        return str(result["status"])
    return "partial" if (folder / "run.json").exists() else "waiting"


def in_use(folder: pathlib.Path) -> bool:
    """Is another process training this run now? False if unknown: the run's own lock decides then."""
    return bool(files.held(folder / ".lock"))


def measured(folder: pathlib.Path) -> tuple[int, float]:
    """(epochs done, seconds they took) of a run, over all resumes; (0, 0.0) before its first evaluation."""
    try:
        rows = run_files.read_rows(folder / "timing.csv")
        if rows:
            return int(rows[-1]["epoch"]), sum(row[part] or 0.0 for row in rows for part in run_files.SECONDS)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # half a line, at worst: an estimate can do without
    return 0, 0.0
