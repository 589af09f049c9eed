"""The rows of the table: one for each claim and recorded result, or one that says how to measure it.

Read are, below a folder of results, `<name>/plan.json` (a sweep of experiments.run, without its checkpoints) and
`<name>/*.json` that are claim files of other tools: `{"schema": 1, "claim": id, "measured": {"text", "value", "low",
"high", "unit", "n"}, "verdict": {"word", "why"}, "protocol": {"dataset", "train_split", "eval_split", "resolution",
"seeds", "epochs", "device", "command"}, "cost_core_hours"}`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from alexnet_jax import run_files
from alexnet_jax.errors import WorkdirError
from alexnet_jax.training import views
from experiments import paper, recording
from experiments.analysis import protocol, speed, statistics
from experiments.analysis.workdirs import Run, Sweep, field, read_sweep
from experiments.claims import commands, counted, measures
from experiments.recording import SEARCH

SCHEMA = 1


@dataclasses.dataclass
class Row:
    """One row. Numbers are in `unit` ('points', 'ratio', 'fraction' or '')."""

    id: str  # of experiments.paper.CLAIMS, or 'log-' and a run of the logs
    claim: str
    where: str
    kind: str  # as in experiments.paper.Claim; 'log' for what only the logs have
    paper: str = ""
    log: str = ""
    claimed_on: str = ""  # the protocol of those numbers
    part: str = ""  # what of the claim this row is about
    in_kind: bool = False  # not the claim itself but something near it
    measured: str = ""  # '' without a measurement
    quantity: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0
    value_top5: float | None = None
    low_top5: float | None = None
    high_top5: float | None = None
    seed_sd: float | None = None  # of the paired differences
    evaluation_se: float | None = None  # of one run's error, from the number of images
    image_se: float | None = None  # of the difference, by the choice of images
    low_images: float | None = None  # of the interval over seeds and images
    high_images: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    comparisons: int = 0  # that p_holm corrects for: the tests of the same result
    verdict: str = ""
    why: str = ""
    contains_paper: bool | None = None
    seeds_needed: int | None = None
    at_scale: bool = True  # False: measured on ILSVRC itself, or a matter of counting
    source: str = ""  # the recorded result's folder
    dataset: str = ""
    train_split: str = ""
    eval_split: str = ""
    resolution: str = ""
    seeds: str = ""
    epochs: str = ""
    device: str = ""
    revision: str = ""  # of the code: several, where a row's runs were made over time
    cost_core_hours: float | None = None
    command: str = ""
    estimate: str = ""  # what the command would cost, where nothing is measured

    @property
    def starred(self) -> bool:
        """Does the verdict not survive Holm's correction?"""
        return (self.verdict in ("reproduced", "contradicted") and self.p_holm is not None
                and self.p_holm >= 1 - statistics.CONFIDENCE)


def rows(results: pathlib.Path) -> tuple[list[Row], list[str]]:
    """(the table's rows, claim by claim; what of the results could not be read).

    Args:
      results: the folder of recorded results; one that isn't there holds none.
    """
    sweeps, files, troubles = _read(results)
    found: list[Row] = []
    for claim in paper.CLAIMS.values():
        start = Row(claim.id, claim.claim, claim.where, claim.kind, claim.paper.text if claim.paper else "",
                    claim.log.text if claim.log else "", claim.protocol)
        found += _of_one(start, sweeps, files)
    for run in commands.LOG_ROWS:
        logged = paper.LOG_RUNS[run]
        text, base = _logged(run)
        alike = commands.TOGETHER.get(run, ())
        start = Row(f"log-{run}", logged.what, f"run{'s' if alike else ''} {', '.join((run, *alike))}{base}", "log",
                    log="; ".join([text, *(t for other in alike if (t := _logged(other)[0]) != text)]),
                    claimed_on=logged.protocol)
        found += _of_one(start, sweeps, files)
    _correct(found)
    return found, troubles


def _logged(run: str) -> tuple[str, str]:
    """(the difference or what else the log has, ' against …')."""
    logged = paper.LOG_RUNS[run]
    try:
        value = paper.log_difference(run)
    except KeyError:
        return ("no number" if logged.top1 is None else f"{logged.top1:g}/{logged.top5:g}"), ""
    return value.text, value.where.removeprefix(f"run {run}").partition(":")[0]


def _read(results: pathlib.Path) -> tuple[list[tuple[pathlib.Path, Sweep]], list[tuple[pathlib.Path, dict]], list[str]]:
    """Sweeps, the newest first; claim files; troubles."""
    sweeps, files, troubles = [], [], []
    for folder in sorted(results.iterdir()) if results.is_dir() else []:
        if not folder.is_dir():
            continue
        if (folder / "plan.json").exists():
            try:
                sweep = read_sweep(folder)
                sweeps.append((folder, sweep))
                troubles += [f"{folder.name}/{run.folder.name}: {trouble}" for run in sweep.runs.values()
                             if (trouble := _trouble(run))]
            except WorkdirError as error:
                troubles.append(str(error).replace(f"{results}/", ""))
        for path in sorted(folder.glob("*.json")):
            tree = run_files.read_json(path)
            if tree is None and path.name != "plan.json":  # which has been named above
                troubles.append(f"{folder.name}/{path.name}: cut short or not JSON")
            if {"claim", "measured", "verdict", "protocol"} <= set(tree or {}):
                assert tree is not None
                if _is_understood(tree):
                    files.append((path, tree))
                else:
                    troubles.append(f"{folder.name}/{path.name}: schema {tree.get('schema')!r}, claim "
                                    f"{tree['claim']!r}: not understood")

    def newest(sweep: Sweep) -> str:
        return max((run.about.get("started", "") for run in sweep.runs.values()), default="")

    sweeps.sort(key=lambda pair: newest(pair[1]), reverse=True)
    return sweeps, files, troubles


def _trouble(run: Run) -> str:
    """What is wrong with a record; ''."""
    if run.state == "unreadable":
        return run.message
    _ = run.rows  # or nothing is known of metrics.csv
    return run.trouble or run.damage


def _is_understood(tree: dict[str, Any]) -> bool:
    measured, verdict = tree["measured"], tree["verdict"]
    return (tree.get("schema") == SCHEMA and isinstance(tree["claim"], str) and tree["claim"] in paper.CLAIMS
            and isinstance(measured, dict) and isinstance(measured.get("n"), int | None)
            and all(isinstance(measured.get(key), int | float | None) for key in ("value", "low", "high"))
            and isinstance(verdict, dict) and verdict.get("word") in recording.WORDS
            and isinstance(verdict.get("contains_paper"), bool | None)
            and isinstance(tree["protocol"], dict) and isinstance(tree.get("cost_core_hours"), int | float | None))


def _of_one(start: Row, sweeps: Sequence[tuple[pathlib.Path, Sweep]],
            files: Sequence[tuple[pathlib.Path, dict]]) -> list[Row]:
    """The rows of one claim: claim files first, they were made for it."""
    out = [_from_file(start, path, tree) for path, tree in files if tree["claim"] == start.id]
    near: list[Row] = []  # after the claim itself
    for what in measures.MEASURES:
        if what.id == start.id:
            measured = [(folder, sweep, found) for folder, sweep in sweeps
                        if (found := measures.measure(sweep, what)) is not None]
            measured.sort(key=lambda each: -each[2].difference.n)
            (near if what.in_kind else out).extend(_from_sweep(start, what, *each) for each in measured)
            if not measured and not what.in_kind:
                out.append(commands.missing(dataclasses.replace(start, part=what.part), what, sweeps))
    if start.id == "size":
        out.append(counted.size(start))
    if start.id in commands.UNMEASURED and not any(tree["claim"] == start.id for _, tree in files):
        out.append(commands.missing(start, None, sweeps))
    return out + near


def _from_sweep(start: Row, what: measures.Measure, folder: pathlib.Path, sweep: Sweep,
                found: measures.Found) -> Row:
    about = protocol.protocol(_only(sweep, found.runs), found.views)
    d, five = found.difference, found.top5 or statistics.Estimate(0)
    value: speed.Ratio | statistics.Estimate = found.ratio or d
    mean, text = (d.mean, interval(d)) if found.ratio is None else (found.ratio.value, found.ratio.text)
    text = "; ".join(filter(None, (text, f"top-5 {interval(five)}" if five.mean is not None else "", found.words,
                                   f"the error {interval(found.error)}" if found.error is not None else "",
                                   *dict.fromkeys(line for run in found.runs for line in run.about_data))))
    total = next((c["total"] for run in found.runs if (c := run.counts("centre"))), None)
    errors = [e for run in found.runs if (e := measures.value_of(run, "error", found.views)) is not None]
    noise = None
    if total and errors and found.quantity == "error":
        noise = 100 * statistics.binomial_standard_error(sum(errors) / len(errors) / 100, total)
    seeds = sorted({run.seed for run in found.runs})
    over = found.over_images or statistics.OverImages(0, None, None, None)
    return dataclasses.replace(
        start, part=_part(what, found), measured=text,
        quantity=_quantity(found), value=mean, low=value.low, high=value.high,
        unit="ratio" if found.ratio else "points", n=d.n, value_top5=five.mean, low_top5=five.low,
        high_top5=five.high, seed_sd=None if found.ratio else d.sd, evaluation_se=noise, p_value=found.p_value,
        image_se=over.standard_error, low_images=over.low, high_images=over.high,
        verdict=found.verdict.word, why=found.verdict.why, contains_paper=found.verdict.contains_paper,
        seeds_needed=found.verdict.seeds_needed, at_scale=not protocol.is_imagenet(about), source=folder.name,
        dataset=" or ".join(about["dataset"]), train_split=_listed(about["train_split"]),
        eval_split=_listed(about["eval_split"]), resolution=f"{_listed(about['crop'])} of {_listed(about['size'])}",
        seeds=", ".join(map(str, seeds)), epochs=_listed(about["epochs"]), device=_listed(about["device"]),
        revision=_listed(about["revision"]), cost_core_hours=core_hours((*found.runs, *_searched(folder, sweep, what))),
        in_kind=what.in_kind, paper="" if what.in_kind else start.paper, command=commands.of_sweep(sweep, what))


def _part(what: measures.Measure, found: measures.Found) -> str:
    """What of the claim, and what else sets the row apart from those of other sweeps."""
    parts = [what.part]
    configs = [run.config for run in found.runs]
    if not found.ratio and all(field(config, "optim.plateau.stop") for config in configs):
        parts.append("trained until the error stops improving")
    if what.arm == "no_lrn" and any(field(config, "model.same_map.layers") for config in configs):
        parts.append("the same-map norm after conv2's goes with it, as in run 148")
    return ", ".join(filter(None, parts))


def _quantity(found: measures.Found) -> str:
    """What was measured; by which views, where these are not the paper's ten."""
    by = "" if found.quantity != "error" or found.views == views.TEN else f", {views.NAMES[found.views]}"
    return measures.QUANTITIES[found.quantity] + by


def _searched(folder: pathlib.Path, sweep: Sweep, what: measures.Measure) -> list[Run]:
    """The runs that searched an arm's learning rate: they are part of its cost."""
    if what.arm not in (sweep.search or {}).get("arms", {}) or not (folder / SEARCH.stem / "plan.json").exists():
        return []
    return [run for run in read_sweep(folder / SEARCH.stem).runs.values() if run.state == "finished"]


def _only(sweep: Sweep, runs: Sequence[Run]) -> Sweep:
    """The sweep with those runs alone, for their protocol."""
    ids = {run.id for run in runs}
    arms = [dataclasses.replace(arm, runs={s: r for s, r in arm.runs.items() if r.id in ids}) for arm in sweep.arms]
    return dataclasses.replace(sweep, arms=arms)


def _listed(values: Iterable[Any]) -> str:
    return " or ".join(map(str, values))


def core_hours(runs: Sequence[Run]) -> float | None:
    """Core-hours of the runs; None where one was on an accelerator or has no times."""
    if not runs or any(protocol.platform(run.about) != "cpu" or not run.seconds for run in runs):
        return None
    return sum(run.seconds * protocol.units(run.about) for run in runs) / 3600


def interval(e: statistics.Estimate) -> str:
    """−1.40 [−2.01, −0.79]; without an interval the mean alone."""
    return "" if e.mean is None else paper.with_span(e.mean, e.low, e.high, e.n)


def _from_file(start: Row, path: pathlib.Path, tree: dict[str, Any]) -> Row:
    """A claim file's own numbers and words."""
    measured, about, verdict = tree["measured"], tree["protocol"], tree["verdict"]
    seeds = about.get("seeds", "")
    return dataclasses.replace(
        start, measured=str(measured.get("text", "")), value=measured.get("value"), low=measured.get("low"),
        high=measured.get("high"), unit=str(measured.get("unit") or ""), n=measured.get("n") or 0,
        verdict=str(verdict.get("word", "")), why=str(verdict.get("why", "")), source=path.parent.name,
        dataset=str(about.get("dataset", "")), train_split=str(about.get("train_split", "")),
        eval_split=str(about.get("eval_split", "")), resolution=str(about.get("resolution", "")),
        seeds=", ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds),
        epochs=str(about.get("epochs", "")), device=str(about.get("device", "")),
        revision=str(about.get("revision", "")), contains_paper=verdict.get("contains_paper"),
        cost_core_hours=tree.get("cost_core_hours"), command=commands.of_file(start.id, about.get("command")))


def _correct(found: Sequence[Row]) -> None:
    """Holm's correction over all tests of one recorded result."""
    for source in {row.source for row in found if row.source}:
        mine = [row for row in found if row.source == source and row.p_value is not None
                and row.verdict != "not comparable"]
        adjusted = statistics.holm([row.p_value for row in mine])
        for row, p in zip(mine, adjusted, strict=True):
            row.p_holm, row.comparisons = p, len(mine)
