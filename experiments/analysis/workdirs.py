"""Reads the current state of a sweep from its workdir or record: plan, arms and the state of every run.

A workdir has a folder for each run, a record the few files of `experiments.analysis.packed`.

Runs may be missing, unfinished, failed or diverged, and files truncated: that is part of the state, not an error. Only
an unreadable plan is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import paths, run_files
from alexnet_jax.data.comparing import about_data_words
from alexnet_jax.errors import ConfigError, WorkdirError, describe_os_error
from alexnet_jax.training import learning, views
from experiments.analysis import packed
from experiments.analysis.packed import RunFiles
from experiments.sweep import plan as plan_lib

RECORDED = pathlib.Path(__file__).resolve().parents[1] / "results"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run. `state`: finished, diverged, failed, unfinished, "not started" or unreadable."""

    id: str
    seed: int
    folder: pathlib.Path
    config: dict[str, Any]  # nested, resolved
    state: str
    message: str  # the run's own message, or what is wrong with its files
    result: dict[str, Any] | None
    about: dict[str, Any]  # run.json without its config; {} if it can't be read
    seconds: float  # from timing.csv, over all resumes
    timed_to_end: bool = False  # do they include the final evaluation? Not in older records.
    damage: str = ""  # what is wrong with run.json or timing.csv: protocol and times, not results
    kept: RunFiles | None = dataclasses.field(default=None, compare=False, repr=False)  # None: the files in `folder`
    _wrong: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """metrics.csv, read at each access: a sweep may have ten thousand of them."""
        rows, wrong = _rows(self.files, "metrics.csv")
        self._wrong[:] = [wrong]
        return rows

    @property
    def files(self) -> RunFiles:
        return self.kept or packed.Folder(self.folder)

    @property
    def trouble(self) -> str:
        """What is wrong with metrics.csv, if its rows have been read."""
        return "".join(self._wrong)

    @property
    def about_data(self) -> list[str]:
        """What makes its error misleading, as sentences (`alexnet_jax.data.comparing`)."""
        about = ((self.result or {}).get("data") or {}) if self.result else self.about.get("about_data") or {}
        return about_data_words(about) if isinstance(about, Mapping) else []

    def counts(self, views: str) -> dict[str, Any] | None:
        """The COUNTS of a finished run for views named in `alexnet_jax.training.views`, or None."""
        if self.state != "finished" or self.result is None:
            return None
        return (self.result.get("eval") or {}).get(views)

    @property
    def tells_top5(self) -> bool:
        """Is its top-5 error meaningful? Not with five or fewer classes."""
        return run_files.tells_top5(run_files.classes_of(self.about))

    def wrong(self, views: str, key: str = "top1") -> np.ndarray | None:
        """bool [images]: which of the reported images were wrong; None if the run didn't keep that."""
        counts = self.counts(views)
        if counts is None:
            return None
        return run_files.wrong_images(self.files.tree(run_files.OUTCOMES), views, counts, key)


@dataclasses.dataclass(frozen=True)
class Arm:
    name: str
    ablation: str  # "" for the baseline
    overrides: dict[str, Any]
    runs: dict[int, Run]  # by seed
    against: str = ""  # the arm that it is compared with; '' for the baseline
    views: str = ""  # the views that its runs are evaluated with; '' like the sweep's others


@dataclasses.dataclass(frozen=True)
class Sweep:
    """`plan.json` with its runs. `arms` include the baseline and keep the plan's order."""

    name: str
    config: str
    baseline: str
    arms: list[Arm]
    search: dict[str, Any] | None = None  # search.json of experiments.sweep.search, if there was a search
    not_begun: tuple[str, ...] = ()  # in a record: planned arms without runs

    @functools.cached_property
    def runs(self) -> dict[str, Run]:
        """{id: run}, each run once: two arms may share one."""
        return {run.id: run for arm in self.arms for run in arm.runs.values()}

    @functools.cached_property
    def arms_of(self) -> dict[str, list[str]]:
        """{run id: names of its arms}."""
        arms: dict[str, list[str]] = {}
        for arm in self.arms:
            for run in arm.runs.values():
                arms.setdefault(run.id, []).append(arm.name)
        return arms

    @functools.cached_property
    def local(self) -> bool:
        """Are these cuda-convnet's conv-local networks, whose upper layers have unshared weights?"""
        runs = self.arm(self.baseline).runs.values()
        return bool(field(next((run.config for run in runs), {}), "model.conv3.unshared"))

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def reference(self, arm: Arm) -> Arm:
        """The arm that `arm` is compared with: the baseline, unless it names another that exists."""
        return next((other for other in self.arms if other.name == arm.against), self.arm(self.baseline))


def read_sweep(workdir: pathlib.Path) -> Sweep:
    """Reads a sweep's workdir or record.

    Raises:
      ConfigError: there is no such folder, or it has no sweep.
      WorkdirError: its plan, or its record's table of runs, can't be read.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise ConfigError(f"--workdir={workdir}: no such folder; experiments.run makes one")
    path = workdir / "plan.json"
    if not path.exists():
        if (workdir / "run.json").exists():
            raise ConfigError(f"--workdir={workdir}: the folder of a single run; a report is for a sweep of "
                              "experiments.run")
        raise ConfigError(f"--workdir={workdir}: no plan.json, so it is not a sweep of experiments.run")
    plan = run_files.read_json(path, shared=True)
    if not isinstance(plan, dict):
        raise WorkdirError(f"{path}: cut short or not JSON; {plan_lib.AGAIN}")
    if "runs" not in plan and "arms" in plan and not packed.is_packed(workdir):
        raise WorkdirError(f"{workdir / packed.RUNS}: missing; {packed.AGAIN}")
    if not isinstance(plan.get("schema"), int) or plan["schema"] > run_files.SCHEMA:
        raise WorkdirError(f"{path}: schema {plan.get('schema')!r} is not one that this version reads")
    try:
        runs = {run.id: _planned_run(run) for run in planned(workdir, plan)}
        arms = [Arm(arm["name"], arm["ablation"], dict(arm["overrides"]),
                    {int(seed): runs[i] for seed, i in arm["runs"].items()},
                    arm.get("against", ""), arm.get("views", "")) for arm in plan["arms"]]
        sweep = Sweep(plan["name"], plan["config"], plan["baseline"], arms,
                      run_files.read_json(workdir / "search.json"),
                      tuple(map(str, plan.get("not_begun") or ())))
        sweep.arm(sweep.baseline)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        again = packed.AGAIN if packed.is_packed(workdir) else plan_lib.AGAIN
        raise WorkdirError(f"{path}: lacks or misspells {error}; {again}") from error
    except StopIteration:
        raise WorkdirError(f"{path}: its baseline {plan['baseline']!r} is not among its arms") from None
    return sweep


def planned(workdir: pathlib.Path, plan: Mapping[str, Any]) -> list[packed.Planned]:
    """The runs of a plan.json, each with its files, from a workdir or a record.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: the plan is damaged. WorkdirError: the record is.
    """
    if packed.is_packed(workdir):
        return list(packed.Record(workdir).runs.values())
    return [packed.Planned(id_, run["dir"], int(run["seed"]), dict(run["config"]), packed.Folder(workdir / run["dir"]))
            for id_, run in plan["runs"].items()]


def _planned_run(planned: packed.Planned) -> Run:
    run = read_files(planned.files)
    if run.result is not None and run.result["id"] != planned.id:
        run = dataclasses.replace(run, state="unreadable", result=None,
                                  message=f"result.json belongs to another run ({run.result['id']})")
    return dataclasses.replace(run, id=planned.id, seed=planned.seed, config=planned.config)


def read_run(folder: pathlib.Path) -> Run:
    """Reads one run's folder, in any state; an absent folder is a run that has not started."""
    return read_files(packed.Folder(folder))


def runs_below(folder: pathlib.Path) -> list[Run]:
    """The runs anywhere below a folder, including those in records, sorted by path. Raises WorkdirError."""
    folders = {path.parent for name in ("run.json", "result.json") for path in folder.rglob(name)}
    loose = [packed.Folder(path) for path in folders]
    kept = [run.files for path in folder.rglob(packed.RUNS) for run in packed.Record(path.parent).runs.values()]
    return [read_files(one) for one in sorted([*loose, *kept], key=lambda one: one.folder)]


def read_files(files: RunFiles) -> Run:
    """Reads one run, from a workdir or a record."""
    try:
        return _read_run(files)
    except OSError as error:  # e.g. no permission
        return Run(files.folder.name, 0, files.folder, {}, "unreadable", describe_os_error(error), None, {}, 0.0)


def _read_run(files: RunFiles) -> Run:
    about, unknown = _about(files)
    timing, untimed = _rows(files, "timing.csv")
    result, wrong = _result(files)
    if wrong:
        state, message = "unreadable", wrong
    elif result is not None:
        state, message = result["status"], learning.reread(result)
    else:
        state, message = _begun(files, about)
    name, config = str(about.get("id", files.folder.name)), about.pop("config", None) or {}
    return Run(name, int(about.get("seed", 0)), files.folder, config,
               state, " ".join(message.split()), result, about, _seconds(timing),
               any(row.get("images_per_second") is None for row in timing), unknown or untimed, files)


def _about(files: RunFiles) -> tuple[dict[str, Any], str]:
    """(the valid part of run.json, what is wrong with it or "")."""
    about = files.tree("run.json")
    if about is None:
        return {}, "run.json is cut short or not JSON" if files.has("run.json") else ""
    kinds = {"seed": int, "config": dict, "device": dict, "git": dict, "versions": dict, "environment": dict,
             "resumed": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key, kind()), kind)]
    return {key: value for key, value in about.items() if key not in wrong}, (
        f"run.json: {wrong[0]!r} is damaged" if wrong else "")


def _begun(files: RunFiles, about: Mapping[str, Any]) -> tuple[str, str]:
    """(state, message) of a run without a result."""
    rows, trouble = _rows(files, "metrics.csv")
    if trouble:
        return "unreadable", trouble
    if about or rows:
        return "unfinished", f"epoch {_number(rows[-1]['epoch']) if rows else 0}"
    return "not started", ""


def _rows(files: RunFiles, name: str) -> tuple[list[dict[str, Any]], str]:
    """(the rows with an epoch, what is wrong with the file or "")."""
    try:
        rows = run_files.rows_of(files.lines(name))
    except (ValueError, AttributeError, TypeError):
        return [], f"{name} is damaged"
    except OSError as error:
        return [], describe_os_error(error)
    return [row for row in rows if row.get("epoch") is not None], ""


def _result(files: RunFiles) -> tuple[dict[str, Any] | None, str]:
    """(result.json or None, what is wrong with it or "")."""
    result = files.tree("result.json")
    if result is None:
        return None, "result.json is cut short or not JSON" if files.has("result.json") else ""
    lacking = [key for key in ("id", "status") if key not in result]
    if lacking:
        return None, f"result.json lacks {lacking[0]!r}"
    if result["status"] not in run_files.STATUSES:
        return None, f"result.json has the unknown status {result['status']!r}"
    for key in ("eval", "data", "train"):
        if not isinstance(result.get(key) or {}, dict):
            return None, f"result.json: {key!r} is damaged"
    if result["status"] == "finished":
        for views, counts in (result.get("eval") or {}).items():
            if counts is not None and not _are_counts(counts):
                return None, f"result.json has no whole counts for {views}"
        if not any((result.get("eval") or {}).values()):
            return None, "result.json has no counts"
    return result, ""


def _are_counts(counts: Any) -> bool:
    wanted = ("top1_wrong", "top5_wrong", "total")
    return (isinstance(counts, Mapping) and all(isinstance(counts.get(k), int) for k in wanted)
            and 0 <= counts["top5_wrong"] <= counts["top1_wrong"] <= counts["total"] > 0)


def _seconds(timing: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of all of a run's processes up to the last row: the final evaluation's, or the last one in training.

    `elapsed_seconds` restarts at each resume. If that isn't visible in it (the first row after a resume took longer
    than all before), the sum of the parts is larger and more accurate.
    """
    total = last = parts = 0.0
    for row in timing:
        now = float(row.get("elapsed_seconds") or 0.0)
        if now < last:
            total += last
        last = now
        parts += sum(float(row.get(kind) or 0.0) for kind in run_files.SECONDS)
    return max(total + last, parts)


def _number(value: Any) -> str:
    """'3' for 3.0, '0.25' for 0.25."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def field(config: Mapping[str, Any], name: str) -> Any:
    """`field(config, 'train.epochs')`; None if there is no such field."""
    node: Any = config
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def default_views(runs: Iterable[Run]) -> str:
    """The views that runs are compared with: `alexnet_jax.training.views.shared`."""
    return views.shared((run.config, _counted(run)) for run in runs)


def without_five(runs: Iterable[Run]) -> list[Run]:
    """The finished runs that never mirror in training and were recorded before five views were counted."""
    return [run for run in runs if views.lacks_five(run.config, _counted(run))]


def _counted(run: Run) -> Mapping[str, Any] | None:
    """"eval" of a finished run's result.json, else None."""
    return (run.result or {}).get("eval") or {} if run.state == "finished" else None


def choose(name: str | os.PathLike[str] = "", results: pathlib.Path = RECORDED,
           environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """The named folder, else that in ALEXNET_WORKDIR, else the recorded sweep with the most runs.

    Args:
      name: relative to the working directory or (for notebooks, which run in their own) to the project's folder.
      results: the folder of records.

    Raises:
      ConfigError: no name, and nothing is recorded.
    """
    requested = os.fspath(name) or environ.get("ALEXNET_WORKDIR")
    if requested:
        path = paths.given(requested, "ALEXNET_WORKDIR")
        return path if path.exists() else results.absolute().parents[1] / path
    sweeps = recorded(results)
    if not sweeps:
        raise ConfigError("ALEXNET_WORKDIR: not set, and no sweep is recorded under experiments/results; set "
                          "it to the folder of a sweep or of a run")
    return max(reversed(sweeps), key=lambda folder: len(_kept(folder)))


def recorded(folder: pathlib.Path = RECORDED) -> list[pathlib.Path]:
    """The sweeps below `folder`, sorted by the start of their last run."""
    sweeps = []
    for plan in sorted(folder.glob("**/plan.json")) if folder.is_dir() else []:
        if plan.parent.name == "search":
            continue  # a sweep's search of learning rates
        starts = [(one.tree("run.json") or {}).get("started", "") for one in _kept(plan.parent)]
        sweeps.append((max(starts, default=""), plan.parent))
    return [path for _, path in sorted(sweeps)]


def _kept(folder: pathlib.Path) -> Sequence[RunFiles]:
    """The files of each run of a sweep."""
    if packed.is_packed(folder):
        return [run.files for run in packed.Record(folder).runs.values()]
    return [packed.Folder(path) for path in folder.glob("runs/*")]
