"""The rows of the table: one for each claim and recorded result, or one that says how to measure it.

The inputs, in a folder of results, are `<name>/plan.json` (a sweep of experiments.run, without its checkpoints) and
the claim files of other tools, `<name>/*.json`: `{"schema": 1, "claim": id, "measured": {"text", "value", "low",
"high", "unit", "n"}, "verdict": {"word", "why"}, "protocol": {"dataset", "train_split", "eval_split", "resolution",
"seeds", "epochs", "device", "command"}, "cost_core_hours"}`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alexnet_jax import run_files
from alexnet_jax.errors import WorkdirError
from alexnet_jax.training import views
from experiments.analysis import compare, protocol, speed, statistics, verdicts
from experiments.analysis.families import DESCRIPTIVE
from experiments.analysis.text import interval
from experiments.analysis.workdirs import Run, Sweep, field, read_sweep
from experiments.claims import commands, regimes
from experiments.claims.judging import Judgement, judged
from experiments.claims.record import Claim, Regime
from experiments.claims.registry import CLAIMS
from experiments.claims.row import SCHEMA, Row
from experiments.sweep import search


def rows(results: pathlib.Path, claims: Mapping[str, Claim] = CLAIMS) -> tuple[list[Row], list[str]]:
    """(the table's rows, claim by claim; the problems in reading the results).

    Args:
      results: the folder of recorded results; may be missing.
      claims: the claims' records, by id.
    """
    sweeps, files, troubles = _read(results, claims)
    known = {name for regime in regimes.of(claims.values()) for name in regime.records}
    others = [Regime(name, (name,), f"configs/sweeps/{sweep.name}.py") for name, sweep in sweeps.items()
              if name not in known]
    return [row for claim in claims.values() for row in _of_one(claim, results, sweeps, others, files)], troubles


def parts_left(results: pathlib.Path) -> list[str]:
    """The parts of docs/evidence-plan.md that are not recorded, one per regime: in words, with command and cost."""
    sweeps = _read(results, CLAIMS)[0]
    return [text for regime in regimes.PLANNED if (text := commands.left(regime, sweeps))]


def _of_one(claim: Claim, results: pathlib.Path, sweeps: Mapping[str, Sweep], others: Sequence[Regime],
            files: Sequence[tuple[pathlib.Path, dict]]) -> Iterator[Row]:
    """The rows of one claim: first claim files, which were made for it; last what is only similar to it."""
    start = Row(claim.id, claim.claim, claim.where, claim.kind, claim.paper.text if claim.paper else "",
                claim.log.text if claim.log else "", claim.protocol)
    mine = [(path, tree) for path, tree in files if tree["claim"] == claim.id]
    mine.sort(key=lambda one: -_epochs(one[1]))  # the longest training first
    yield from (_from_file(start, path, tree) for path, tree in mine)
    near: list[Row] = []
    for what in claim.measures:
        begin = dataclasses.replace(start, claim=what.words or start.claim, paper=what.paper or start.paper)
        made = [_from_runs(begin, one, results) for regime in (*what.regimes, *others)
                if (one := judged(claim, what, regime, sweeps)) is not None]
        if what.in_kind:
            near += made
        else:
            yield from made or [commands.missing_measure(dataclasses.replace(begin, part=what.part), what, sweeps)]
    if claim.counted is not None:
        yield _counted(start, claim)
    if claim.why and not mine:
        yield commands.missing(start, claim, sweeps)
    yield from near


def _counted(start: Row, claim: Claim) -> Row:
    assert claim.counted is not None
    text, number, verdict, command = claim.counted()
    return dataclasses.replace(
        start, measured=text, quantity="counted", value=number, verdict=verdict.word, why=verdict.why, at_scale=False,
        device="none: counted from the shapes", resolution="224 of 256", command=command)


def _from_runs(start: Row, judgement: Judgement, results: pathlib.Path) -> Row:
    c, what, verdict = judgement.comparison, judgement.measure, judgement.verdict
    about = protocol.protocol(judgement.only(), c.views)
    value: speed.Ratio | statistics.Estimate = judgement.ratio or judgement.difference
    none = statistics.Estimate(0)
    five, ten, centre = judgement.top5 or none, judgement.ten or none, judgement.centre or none
    over = judgement.over_images or statistics.OverImages(0, None, None, None)
    total = next((counts["total"] for run in c.runs if (counts := run.counts("centre"))), None)
    errors = [e for run in c.runs if (e := compare.value_of(run, "error", c.views)) is not None]
    return dataclasses.replace(
        start, part=_part(judgement), regime=judgement.regime.name, measured=_text(judgement, five, ten, centre),
        quantity=_quantity(c), low=value.low, high=value.high,
        value=judgement.difference.mean if judgement.ratio is None else judgement.ratio.value,
        unit="ratio" if judgement.ratio else "points", n=len(c.pairs), value_top5=five.mean, low_top5=five.low,
        high_top5=five.high, seed_sd=None if judgement.ratio else c.difference.sd,
        evaluation_se=None if not total or not errors or c.quantity != "error" else
        100 * statistics.binomial_standard_error(sum(errors) / len(errors) / 100, total),
        image_se=over.standard_error, low_images=over.low, high_images=over.high,
        p_value=None if c.bound else c.difference.p_value, p_holm=judgement.p_holm,
        comparisons=len(judgement.corrected.family.tests) if judgement.p_holm is not None else 0,
        family=judgement.corrected.family.name if judgement.p_holm is not None else DESCRIPTIVE.name,
        verdict=verdict.word, why=verdict.why, sign=verdict.sign, margin=verdict.margin, inside=verdict.inside,
        contains_paper=verdict.contains_paper, by_sign=verdict.by_sign, remark=judgement.remark,
        seeds_needed=verdict.seeds_needed, error=ten.mean, low_error=ten.low, high_error=ten.high,
        error_centre=centre.mean, low_centre=centre.low, high_centre=centre.high,
        at_scale=not protocol.is_imagenet(about), source=" and ".join(judgement.sweeps),
        dataset=" or ".join(about["dataset"]), train_split=_listed(about["train_split"]),
        eval_split=_listed(about["eval_split"]), resolution=f"{_listed(about['crop'])} of {_listed(about['size'])}",
        seeds=", ".join(map(str, c.pairs)), epochs=_listed(about["epochs"]), device=_listed(about["device"]),
        revision=_listed(about["revision"]), cost_core_hours=core_hours((*c.runs, *_searched(judgement, results))),
        in_kind=what.in_kind, paper="" if what.in_kind else start.paper,
        command=commands.of_sweep(judgement.sweep, what))


def _text(judgement: Judgement, five: statistics.Estimate, ten: statistics.Estimate, centre: statistics.Estimate
          ) -> str:
    """The difference in its quantity, then in the error by ten views and by the centre crop."""
    c = judgement.comparison
    if judgement.ratio is not None:
        parts = [judgement.ratio.text, *(speed.in_words(part.name, (compare.arrivals(part)[seed] for seed in c.pairs))
                                     for part in (c.reference, c.arm))]
    else:
        parts = [interval(judgement.difference)]
        more = {"top-5": five} if c.quantity == "error" else {"the error": ten}
        more |= {"by the centre crop": centre} if c.views != views.CENTRE else {}
        parts += [f"{name} {interval(e)}" for name, e in more.items() if e.n]
    return "; ".join((*parts, *dict.fromkeys(line for run in c.runs for line in run.about_data)))


def _part(judgement: Judgement) -> str:
    """The part of the claim, and what else distinguishes the row from those of other sweeps."""
    what, c = judgement.measure, judgement.comparison
    parts = [what.part]
    configs = [run.config for run in c.runs]
    if c.quantity != compare.EPOCHS and all(field(config, "optim.plateau.stop") for config in configs):
        parts.append("trained until the error stops improving")
    if what.with_field and any(field(config, what.with_field[0]) for config in configs):
        parts.append(what.with_field[1])
    return ", ".join(filter(None, parts))


def _quantity(c: compare.Comparison) -> str:
    """The measured quantity, with its views if they are not the paper's ten."""
    by = "" if c.quantity != "error" or c.views == views.TEN else f", {views.NAMES[c.views]}"
    return compare.QUANTITIES[c.quantity] + by


def _searched(judgement: Judgement, results: pathlib.Path) -> list[Run]:
    """The runs of the search of an arm's learning rate, which are part of its cost."""
    for name, sweep in judgement.sweeps.items():
        folder = results / name / search.FOLDER
        if sweep is judgement.sweep and judgement.measure.name in (sweep.search or {}).get("arms", {}) and (
                folder / "plan.json").exists():
            return [run for run in read_sweep(folder).runs.values() if run.state == "finished"]
    return []


def _listed(values: Iterable[Any]) -> str:
    return " or ".join(map(str, values))


def core_hours(runs: Sequence[Run]) -> float | None:
    """Core-hours of the runs; None if one was on an accelerator or has no times."""
    if not runs or any(protocol.platform(run.about) != "cpu" or not run.seconds for run in runs):
        return None
    return sum(run.seconds * protocol.units(run.about) for run in runs) / 3600


def _from_file(start: Row, path: pathlib.Path, tree: dict[str, Any]) -> Row:
    """The row of a claim file."""
    measured, about, verdict = tree["measured"], tree["protocol"], tree["verdict"]
    seeds = about.get("seeds", "")
    return dataclasses.replace(
        start, regime=_regime_of(tree), measured=str(measured.get("text", "")), value=measured.get("value"),
        low=measured.get("low"), high=measured.get("high"), unit=str(measured.get("unit") or ""),
        n=measured.get("n") or 0, verdict=str(verdict.get("word", "")), why=str(verdict.get("why", "")),
        source=path.parent.name,
        dataset=str(about.get("dataset", "")), train_split=str(about.get("train_split", "")),
        eval_split=str(about.get("eval_split", "")), resolution=str(about.get("resolution", "")),
        seeds=", ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds),
        epochs=str(about.get("epochs", "")), device=str(about.get("device", "")),
        revision=str(about.get("revision", "")), contains_paper=verdict.get("contains_paper"),
        cost_core_hours=tree.get("cost_core_hours"), command=commands.of_file(about.get("command")))


def _epochs(tree: dict[str, Any]) -> float:
    epochs = tree["protocol"].get("epochs")
    return epochs if isinstance(epochs, int | float) else 0


def _regime_of(tree: dict[str, Any]) -> str:
    """The regime of a claim file in words; '' of a ratio of times, as such runs end when they reach their goal."""
    epochs, split = _epochs(tree), tree["protocol"].get("train_split")
    return f"{epochs:g} epochs on {split}" if epochs and split and tree["measured"].get("unit") != "ratio" else ""


def _read(results: pathlib.Path, claims: Mapping[str, Claim]
          ) -> tuple[dict[str, Sweep], list[tuple[pathlib.Path, dict]], list[str]]:
    """(sweeps by folder, newest first; claim files; problems)."""
    sweeps: dict[str, Sweep] = {}
    files, troubles = [], []
    for folder in sorted(results.iterdir()) if results.is_dir() else []:
        if not folder.is_dir():
            continue
        if (folder / "plan.json").exists():
            try:
                sweeps[folder.name] = sweep = read_sweep(folder)
                troubles += [f"{folder.name}/{run.folder.name}: {trouble}" for run in sweep.runs.values()
                             if (trouble := _trouble(run))]
            except WorkdirError as error:
                troubles.append(str(error).replace(f"{results}/", ""))
        for path in sorted(folder.glob("*.json")):
            tree = run_files.read_json(path)
            if tree is None and path.name != "plan.json":  # plan.json is reported above
                troubles.append(f"{folder.name}/{path.name}: cut short or not JSON")
            if {"claim", "measured", "verdict", "protocol"} <= set(tree or {}):
                assert tree is not None
                if _is_understood(tree, claims):
                    files.append((path, tree))
                else:
                    troubles.append(f"{folder.name}/{path.name}: schema {tree.get('schema')!r}, claim "
                                    f"{tree['claim']!r}: not understood")

    def newest(sweep: Sweep) -> str:
        return max((run.about.get("started", "") for run in sweep.runs.values()), default="")

    return dict(sorted(sweeps.items(), key=lambda one: newest(one[1]), reverse=True)), files, troubles


def _trouble(run: Run) -> str:
    """What is wrong with a record, or ''."""
    if run.state == "unreadable":
        return run.message
    _ = run.rows  # reads metrics.csv, so that `run.trouble` covers it
    return run.trouble or run.damage


def _is_understood(tree: dict[str, Any], claims: Mapping[str, Claim]) -> bool:
    measured, verdict = tree["measured"], tree["verdict"]
    return (tree.get("schema") == SCHEMA and isinstance(tree["claim"], str) and tree["claim"] in claims
            and isinstance(measured, dict) and isinstance(measured.get("n"), int | None)
            and all(isinstance(measured.get(key), int | float | None) for key in ("value", "low", "high"))
            and isinstance(verdict, dict) and verdict.get("word") in verdicts.WORDS
            and isinstance(verdict.get("contains_paper"), bool | None)
            and isinstance(tree["protocol"], dict) and isinstance(tree.get("cost_core_hours"), int | float | None))
