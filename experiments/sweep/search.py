"""Chooses a learning rate for each arm that has a search (`arms.Search`), before the sweep's runs.

Each candidate, the arm's own rate times a factor, is a run (or one a seed) of a sweep in `<workdir>/search`. It trains
on the training images less some that are held out, and is judged by its error on those: centre crops, last weights,
mean over the seeds. The reported images are not used. The biases' rate is scaled with the weights'. Where the best
factor is the smallest or the largest, the grid is extended there, at most `GROWTH` times; a rate that is at the edge
even then is marked as such.

`<workdir>/search.json`: `{"schema": 1, "protocol": {"train_split", "eval_split", "epochs", "seeds"}, "run_seconds",
"arms": {arm: {"field", "value" (chosen), "factor", "at_edge", "candidates": [{"factor", "value", "errors": {seed:
fraction, or null for a run that diverged}, "error": their mean or null}]}}}`.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import run_files
from alexnet_jax.data import splits
from alexnet_jax.errors import ConfigError
from alexnet_jax.text import count
from experiments.sweep import grid
from experiments.sweep import plan as plan_lib
from experiments.sweep.arms import Arm
from experiments.sweep.sweep_file import SearchSettings

SCHEMA = 1
FOLDER, FILE = "search", "search.json"
GROWTH = 4
_KEPT_BACK = 10  # one in ten training images is held out
# Scaled with the field: the released recipe's biases have a rate of their own.
_TOGETHER = {"optim.learning_rate": ("optim.bias_learning_rate",)}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A factor with the error (a fraction) of each seed's run; None for one that diverged."""

    factor: float
    value: float
    errors: Mapping[int, float | None]

    @property
    def error(self) -> float:
        """The mean; infinite if a run diverged."""
        values = [math.inf if e is None else e for e in self.errors.values()]
        return sum(values) / len(values)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The result of an arm's search."""

    field: str
    candidates: tuple[Candidate, ...]  # by factor

    @property
    def _errors(self) -> dict[float, float]:
        return {c.factor: c.error for c in self.candidates}

    @property
    def best(self) -> Candidate:
        """By `grid.best`; the arm's own value where all diverged."""
        factor = grid.best(self._errors) or 1.0
        return next(c for c in self.candidates if c.factor == factor)

    @property
    def at_edge(self) -> bool:
        """Is the best one the first or the last, or none any good?"""
        return self.beyond() is not None

    def beyond(self) -> float | None:
        """The factor to try next, if any (`grid.beyond`)."""
        factors = sorted(self._errors)
        return grid.beyond(self._errors, factors[1] / factors[0] if len(factors) > 1 else 2.0)


@dataclasses.dataclass(frozen=True)
class Standing:
    """The state of a search: `choices` is None while runs of `plan` are unfinished."""

    plan: plan_lib.Plan
    config: ConfigDict
    choices: Mapping[str, Choice] | None


def wanted(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that have a search."""
    return [arm for arm in arms if arm.search is not None]


def without(arms: Sequence[Arm], base: ConfigDict) -> list[Arm]:
    """`arms` for a sweep without a search: one that would be the base itself is left out."""
    flat = config_lib.flatten(base)
    gone = {arm.name for arm in wanted(arms) if config_lib.flatten(config_lib.override(base, arm.overrides)) == flat}
    return [dataclasses.replace(arm, search=None, against="" if arm.against in gone else arm.against)
            for arm in arms if arm.name not in gone]


def with_chosen(arms: Sequence[Arm], base: ConfigDict, choices: Mapping[str, Choice]) -> list[Arm]:
    """`arms` with the chosen values among their overrides (none where the arm's own value is the best)."""
    out = []
    for arm in arms:
        if arm.search is not None:
            arm = dataclasses.replace(arm, search=None, overrides={
                **arm.overrides, **_scaled(arm, base, choices[arm.name].best.factor)})
        out.append(arm)
    return out


def _scaled(arm: Arm, base: ConfigDict, factor: float) -> dict[str, float]:
    """The overrides that multiply the searched field, and what goes with it, by `factor`."""
    assert arm.search is not None
    if factor == 1:
        return {}
    flat = config_lib.flatten(config_lib.override(base, arm.overrides))
    fields = (arm.search.field, *_TOGETHER.get(arm.search.field, ()))
    return {field: grid.rounded(flat[field] * factor) for field in fields if flat[field]}


def held_back(split: str) -> tuple[str, str]:
    """(the first nine tenths, the last tenth) of a split string, as split strings.

    Raises:
      ConfigError: its size can't be read from it, as in 'train[:-5000]'.
    """
    part = splits.parse(split)
    start, stop = part.start or "0", part.stop or "100%"
    if all(end.isdecimal() for end in (start, stop)):
        cut = str(int(stop) - math.ceil((int(stop) - int(start)) / _KEPT_BACK))
    elif all(end.endswith("%") or end == "0" for end in (start, stop)):
        first, last = (float(end.rstrip("%")) + (100 if end.startswith("-") else 0) for end in (start, stop))
        cut = f"{last - (last - first) / _KEPT_BACK:g}%"
    else:
        raise ConfigError(f"config.data.tune_split: a tenth of '{split}' can't be cut off for the search of a learning "
                          "rate; name images for it, e.g. train[36000:40000], or search: False in the sweep file")
    return f"{part.name}[{part.start or ''}:{cut}]", f"{part.name}[{cut}:{part.stop or ''}]"


def base_of(base: ConfigDict, settings: SearchSettings) -> ConfigDict:
    """The config of a search's runs: `base`, judged on training images that it doesn't learn from."""
    data = base.data
    if data.tune_split and base.optim.schedule != "plateau":
        learn, judge, tune = data.train_split, data.tune_split, ""
    else:
        learn, judge = held_back(data.train_split)
        tune = data.tune_split
    return config_lib.resolve(config_lib.override(base, {
        "data.train_split": learn, "data.eval_split": judge, "data.tune_split": tune, "data.fit_split": "",
        "data.fold_split": "", "data.fold_at": 0.0, "train.epochs": settings.epochs or base.train.epochs}))


def stand(base: ConfigDict, config: str, arms: Sequence[Arm], settings: SearchSettings,
          workdir: pathlib.Path | None) -> Standing:
    """How the search of `arms` stands by what is in `workdir` (None: nothing is); reads and changes nothing else.

    Args:
      base: the sweep's resolved base config. config: where it comes from, for the search's own plan.

    Raises:
      ConfigError: a candidate is no possible config.
    """
    own = base_of(base, settings)
    factors = {arm.name: sorted({1.0, *map(config_lib.plain, arm.search.factors)})
               for arm in wanted(arms) if arm.search is not None}
    seeds = range(settings.seeds)
    for growth in range(GROWTH + 1):
        names = {(arm.name, factor): f"{arm.name}_x{factor:g}" for arm in wanted(arms) for factor in factors[arm.name]}
        trials = [Arm(names[arm.name, factor], {**arm.overrides, **_scaled(arm, own, factor)}, "search")
                  for arm in wanted(arms) for factor in factors[arm.name]]
        plan = plan_lib.build(own, config, "search", trials, list(seeds))
        if workdir is None:
            return Standing(plan, own, None)
        plan = plan_lib.merge(plan_lib.read(workdir / FOLDER), plan, workdir / FOLDER)[1]
        if any(plan_lib.state_of(workdir / FOLDER / run.dir) not in plan_lib.DONE for run in plan.runs.values()):
            return Standing(plan, own, None)
        planned = {arm.name: arm for arm in plan.arms}
        choices = {arm.name: _choice(arm, own, factors[arm.name], workdir, plan,
                                     [planned[names[arm.name, f]] for f in factors[arm.name]])
                   for arm in wanted(arms)}
        more = {name: new for name, choice in choices.items() if (new := choice.beyond()) is not None}
        if not more or growth == GROWTH:
            return Standing(plan, own, choices)
        for name, factor in more.items():
            factors[name] = sorted([*factors[name], factor])
    raise AssertionError("the loop returns")


def _choice(arm: Arm, own: ConfigDict, factors: Sequence[float], workdir: pathlib.Path, plan: plan_lib.Plan,
            planned: Sequence[plan_lib.PlannedArm]) -> Choice:
    assert arm.search is not None
    start = config_lib.flatten(config_lib.override(own, arm.overrides))[arm.search.field]
    found = []
    for factor, trial in zip(factors, planned, strict=True):
        errors: dict[int, float | None] = {}
        for seed, run in trial.runs.items():
            result = plan_lib.result_of(workdir / FOLDER / plan.runs[run].dir) or {}
            counts = (result.get("eval") or {}).get("centre") if result.get("status") == "finished" else None
            errors[seed] = run_files.error_rates(counts)[0] if counts else None
        found.append(Candidate(factor, grid.rounded(start * factor), errors))
    return Choice(arm.search.field, tuple(found))


def record(standing: Standing, workdir: pathlib.Path) -> None:
    """Writes search.json."""
    assert standing.choices is not None
    own = standing.config
    folders = [workdir / FOLDER / run.dir for run in standing.plan.runs.values()]
    run_files.write_json(workdir / FILE, {
        "schema": SCHEMA,
        "protocol": {"train_split": own.data.train_split, "eval_split": own.data.eval_split,
                     "epochs": own.train.epochs, "seeds": list(standing.plan.seeds)},
        "run_seconds": round(sum(plan_lib.measured(folder)[1] for folder in folders), 1),
        "arms": {name: {
            "field": choice.field, "value": choice.best.value, "factor": choice.best.factor,
            "at_edge": choice.at_edge,
            "candidates": [{"factor": c.factor, "value": c.value, "errors": {str(s): e for s, e in c.errors.items()},
                            "error": c.error if math.isfinite(c.error) else None} for c in choice.candidates]}
            for name, choice in standing.choices.items()}})


def sentence(tree: Mapping[str, Any]) -> str:
    """search.json in words, for runner and report."""
    about, words = tree["protocol"], []
    for name, arm in tree["arms"].items():
        tried = ", ".join(f"{c['value']:g} {'diverged' if c['error'] is None else format(c['error'], '.1%')}"
                          for c in arm["candidates"])
        edge = " (at the edge of the grid: a better one may lie beyond)" if arm["at_edge"] else ""
        words.append(f"{name} {arm['value']:g}{edge} of {tried}")
    field = " and ".join(sorted({arm["field"].split(".")[-1].replace("_", " ") for arm in tree["arms"].values()}))
    return (f"{field[0].upper()}{field[1:]} chosen for each arm by its error on `{about['eval_split']}`, images kept "
            f"back from training, after {count(about['epochs'], 'epoch')} on `{about['train_split']}` "
            f"({count(len(about['seeds']), 'seed')}): {'; '.join(words)}.")
