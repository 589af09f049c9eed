"""From a sweep's runs to the numbers of its report: errors by arm, paired differences, verdicts, notes.

Units: error rates in percent, differences in percentage points. All results are JSON-ready and depend on the workdir
alone.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alexnet_jax import names
from alexnet_jax.training import learning
from alexnet_jax.training import views as views_lib
from experiments.analysis import compare, families, statistics
from experiments.analysis import protocol as protocol_lib
from experiments.analysis.protocol import is_imagenet, protocol
from experiments.analysis.text import interval, p_text, span
from experiments.analysis.workdirs import Arm, Run, Sweep, default_views, field, read_sweep, without_five
from experiments.claims import judging
from experiments.claims import regimes as regimes_lib
from experiments.claims.record import Regime, of_arm
from experiments.claims.registry import CLAIMS
from experiments.sweep import search

SCHEMA = 1
_MOST = 30  # runs named in a note
SPEED_THRESHOLD = 0.25  # training error, as a fraction: the paper's in §3.1


def of_workdir(workdir: pathlib.Path, views: str | None = None, sweep: Sweep | None = None) -> dict[str, Any]:
    """`summarise` of a folder, with the other records of its regime.

    Args:
      sweep: the result of `read_sweep`, if already known.

    Raises:
      ConfigError, WorkdirError: as `read_sweep`.
    """
    sweep = sweep or read_sweep(workdir)
    return summarise(sweep, views, beside(workdir, sweep))


def beside(workdir: pathlib.Path, sweep: Sweep) -> dict[str, Sweep]:
    """The other records of the sweep's regime, if the folder is one of them."""
    names = regime_of(sweep).records if workdir.resolve().name == sweep.name else ()
    folders = {name: workdir.resolve().with_name(name) for name in names if name != sweep.name}
    return {name: read_sweep(folder) for name, folder in folders.items() if (folder / "plan.json").exists()}


def summarise(sweep: Sweep, views: str | None = None, beside: Mapping[str, Sweep] | None = None) -> dict[str, Any]:
    """The content of report.json.

    Args:
      views: of `training.views`, for all arms; None: those of `training.views.shared`.
      beside: other records of its regime, by name, for a declared family's comparisons.
    """
    views = views or default_views(sweep.runs.values())
    regime = regime_of(sweep)
    corrected = families.of_sweep(sweep, "error", views) if regime.family is None else judging.corrected(
        regime, {**(beside or {}), sweep.name: sweep}, "error", views, sweep)
    compared = compare.of_sweep(sweep, "error", views)
    arms = [_arm(sweep, arm, views, compared.get(arm.name), corrected) for arm in sweep.arms]
    runs = sweep.runs
    about = protocol(sweep, views)
    summary = {
        "schema": SCHEMA, "name": sweep.name, "units": "errors in percent, differences in percentage points",
        "confidence": statistics.CONFIDENCE, "views": views, "baseline": sweep.baseline, "protocol": about,
        "small_scale": not is_imagenet(about), "arms": arms,
        "family": {"name": corrected.family.name, "tests": len(corrected.family.tests)},
        "runs": {i: {"seed": r.seed, "state": r.state, "message": _message(r), "counts": r.counts(views)}
                 for i, r in runs.items()},
    }
    summary["noise"] = _noise(sweep, arms, views)
    summary["notes"] = _notes(sweep, summary)
    return summary


def regime_of(sweep: Sweep, regimes: Iterable[Regime] | None = None) -> Regime:
    """The regime of the sweep's runs, among `regimes` (None: all of the claims and the plan); else one of its own."""
    if regimes is None:
        regimes = regimes_lib.of(CLAIMS.values())
    return next((regime for regime in regimes if sweep.name in regime.records), Regime(sweep.name, (sweep.name,), ""))


def _at_chance(run: Run) -> bool:
    return run.state == "finished" and bool(learning.case(run.message))


def _arm(sweep: Sweep, arm: Arm, views: str, c: compare.Comparison | None, corrected: families.Corrected
         ) -> dict[str, Any]:
    keys = ("top1", "top5") if all(run.tells_top5 for part in (arm, sweep.reference(arm))
                                   for run in part.runs.values()) else ("top1",)
    errors = {key: compare.by_seed(arm, "error", views, key) for key in keys}
    row: dict[str, Any] = {
        "name": arm.name, "ablation": arm.ablation, "overrides": arm.overrides,
        "planned": len(arm.runs), "finished": len(errors["top1"]), "seeds": sorted(errors["top1"]),
        "at_chance": sum(map(_at_chance, arm.runs.values())),
        "runs": {str(seed): run.id for seed, run in arm.runs.items()},
        "top1": None, "top5": None,
        **{key: dataclasses.asdict(statistics.estimate(list(by.values()))) for key, by in errors.items()},
        "against": arm.against, "views": arm.views, "difference": None, "paper": None, "verdict": None,
    }
    if c is None:
        return row
    row["difference"] = {
        "pairs": list(c.pairs), "each": list(c.each), "top1": dataclasses.asdict(c.difference),
        "top5": c.top5 and dataclasses.asdict(c.top5),
        "over_images": c.over_images and dataclasses.asdict(c.over_images),
        "p_holm": corrected.p_holm.get((arm.name, "error")),
    }
    claimed = of_arm(CLAIMS, arm.ablation, arm.name, sweep.local)
    if claimed is not None and not (arm.views and views != views_lib.TEN):  # the paper's number is by ten views
        row["paper"] = {"claim": claimed.id, "kind": claimed.claim.kind, "where": claimed.where,
                        "protocol": claimed.claim.protocol,
                        "paper": claimed.paper and dataclasses.asdict(claimed.paper),
                        "log": claimed.log and dataclasses.asdict(claimed.log)}
        planned = regime_of(sweep, claimed.measure.regimes).seeds
        verdict = judging.of_the_arm(claimed, c, planned)
        row["verdict"] = verdict and dataclasses.asdict(verdict)
    return row


def _noise(sweep: Sweep, arms: list[dict[str, Any]], views: str) -> dict[str, Any] | None:
    """Evaluation noise of one run, and the noise between seeds, both in points of top-1 error."""
    groups = [list(compare.by_seed(arm, "error", views).values()) for arm in sweep.arms if not arm.views]
    values = [v for group in groups for v in group]
    totals = [c["total"] for c in (r.counts(views) for r in sweep.runs.values()) if c]
    if not values:
        return None
    mean = sum(values) / len(values)
    differences = [a["difference"]["top1"]["sd"] for a in arms if a["difference"]]
    over = {a["name"]: a["difference"]["over_images"] for a in arms
            if a["difference"] and a["difference"]["top1"]["low"] is not None}
    return {"mean_error": mean, "images": min(totals),
            "evaluation": 100 * statistics.binomial_standard_error(mean / 100, min(totals)),
            "between_seeds": statistics.pooled_sd(groups),
            "paired_differences": [sd for sd in differences if sd is not None],
            "over_images": over}


def _notes(sweep: Sweep, summary: dict[str, Any]) -> list[str]:
    """What a reader must know before quoting a number, each in a sentence or two."""
    notes = (_missing(sweep), _not_begun(sweep), *_troubled(sweep), _damaged(sweep), _restarted(sweep),
             _corrupt(sweep), *_about_data(sweep), _views(sweep, summary), _few_classes(summary), _same_runs(sweep),
             _searched(sweep), _revisions(sweep), _environments(sweep), _noise_note(summary["noise"]),
             _correction(summary), _speed(sweep))
    return [note for note in notes if note]


def _message(run: Run) -> str:
    """The run's message, with `…/name` for absolute paths (log.txt has the full path)."""
    return re.sub(r"(?<![\w.…])/(?:[^\s/:;,'\"]+/)+(?=[^\s/])", "…/", run.message)


def _named(sweep: Sweep, run: Run) -> str:
    return f"{' = '.join(sweep.arms_of[run.id])} seed {run.seed}"


def _few(words: list[str], separator: str = "; ") -> str:
    """The first `_MOST`: a sweep may have thousands."""
    more = len(words) - _MOST
    return separator.join(words[:_MOST]) + (f"{separator}and {more:,} more" if more > 0 else "")


def _missing(sweep: Sweep) -> str:
    runs = sweep.runs.values()
    missing = [r for r in runs if r.state in ("not started", "unfinished", "unreadable")]
    if not missing:
        return ""
    words = []
    for run in missing:
        epochs = field(run.config, "train.epochs")
        message = names.markdown(run.message)
        detail = f"{message} of {epochs}" if run.state == "unfinished" else message
        words.append(f"{_named(sweep, run)} ({run.state}{f': {detail}' if detail else ''})")
    return (f"**Incomplete**: {len(missing)} of {len(runs)} runs have no result: {_few(words)}. "
            "The command that started the sweep carries on from here.")


def _not_begun(sweep: Sweep) -> str:
    return f"Planned, and no run of it begun: {', '.join(sweep.not_begun)}." if sweep.not_begun else ""


def _revisions(sweep: Sweep) -> str:
    """Which arms were run by which revision, if there are several."""
    listed = _by_arms(sweep, lambda run: protocol_lib.revisions(run.about))
    return listed and (f"Several revisions of the code: {listed}. A difference between arms of two revisions holds "
                       "what these differ in too.")


def _environments(sweep: Sweep) -> str:
    """Which arms were run in which environment, if there are several (alexnet_jax.numerics)."""
    listed = _by_arms(sweep, lambda run: [protocol_lib.environment(run.about) or "the defaults"] if run.about else [])
    return listed and (f"**Several environments**: {listed}. A difference between arms of two environments holds what "
                       "these change in the numbers too.")


def _by_arms(sweep: Sweep, get: Callable[[Run], Iterable[str]]) -> str:
    """'this: baseline, no_lrn; that: no_lrn', by the values of `get` for the arms' runs; '' if they are all equal."""
    by: dict[str, list[str]] = {}
    for arm in sweep.arms:
        for word in dict.fromkeys(word for run in arm.runs.values() for word in get(run)):
            by.setdefault(word, []).append(arm.name)
    return "; ".join(f"{names.markdown(word)}: {_few(arms, ', ')}" for word, arms in by.items()) if len(by) > 1 else ""


def _troubled(sweep: Sweep) -> list[str]:
    notes = []
    for run in sweep.runs.values():
        if run.state in ("failed", "diverged"):
            why = (names.markdown(_message(run)) or "no message").rstrip(".")
            notes.append(f"**{run.state.capitalize()}**: {_named(sweep, run)}: {why}. It is in no mean.")
        elif run.state == "finished" and run.message:
            why = names.markdown(_message(run))
            notes.append(f"**Warning**: {_named(sweep, run)}: {why}. It is counted in the means.")
    more = len(notes) - _MOST
    return notes[:_MOST] + ([f"{more:,} more runs failed, diverged or warn; report.json has all."] if more > 0 else [])


def _restarted(sweep: Sweep) -> str:
    counts = {_named(sweep, run): len(run.about.get("resumed") or []) for run in sweep.runs.values()}
    words = [f"{name} ({count} time{'s' if count > 1 else ''})" for name, count in counts.items() if count]
    return f"Restarted, each from its last checkpoint: {_few(words, ', ')}." if words else ""


def _damaged(sweep: Sweep) -> str:
    damaged = [_named(sweep, run) for run in sweep.runs.values() if run.result is not None and run.trouble]
    return f"Without a curve, as metrics.csv is damaged: {_few(damaged, ', ')}." if damaged else ""


def _corrupt(sweep: Sweep) -> str:
    # All runs read the same store, so a skipped image counts once for the sweep.
    counts = {int(((r.result or {}).get("data") or {}).get("corrupt") or 0) for r in sweep.runs.values()}
    worst = max(counts, default=0)
    return f"{worst:,} corrupt image{'s were' if worst != 1 else ' was'} skipped." if worst else ""


def _about_data(sweep: Sweep) -> list[str]:
    """How the reported images relate to the training images, grouped by runs with the same answer."""
    by_line: dict[str, list[str]] = {}
    for run in sweep.runs.values():
        for line in run.about_data:
            by_line.setdefault(line, []).append(_named(sweep, run))
    begun = sum(bool(run.result or run.about) for run in sweep.runs.values())
    return [f"**Warning**: {line}{'' if len(runs) == begun else f' ({_few(runs)})'}." for line, runs in by_line.items()]


def _views(sweep: Sweep, summary: dict[str, Any]) -> str:
    """The effect of ten views on runs that never mirror in training."""
    never = [arm.name for arm in sweep.arms if arm.runs and not arm.views
             and not any(views_lib.mirrors(run.config) for run in arm.runs.values())]
    if summary["views"] != views_lib.TEN or not never:
        return ""
    if all(arm.name in never for arm in sweep.arms if arm.runs and not arm.views):
        old = without_five(sweep.runs.values())
        how = ("`--views=five_view` shows the five that are none." if not old else
               f"these were recorded before five views were counted: {_few([_named(sweep, run) for run in old])}. "
               "`python -m alexnet_jax.evaluate --record FOLDER` counts them from a run's checkpoint, if it is kept.")
        return f"**Ten views**, half of them mirror images, which no run's training shows: {how}"
    words = []
    for arm in sweep.arms:
        against = sweep.reference(arm)
        difference = compare.compare(arm, against, "error", views_lib.CENTRE).difference
        if not arm.views and arm is not against and {arm.name, against.name} & set(never) and difference.n:
            words.append(f"{arm.name} {interval(difference)}")
    return (f"Ten views for all arms, half of them mirror images, which the training of {_few(never, ', ')} never shows"
            + (f". By centre crops: {_few(words, ', ')}." if words else "."))


def _few_classes(summary: dict[str, Any]) -> str:
    few = [arm["name"] for arm in summary["arms"] if arm["top5"] is None]
    return ("" if not few else "Top-5 errors are left out: among five or fewer classes five guesses miss none."
            if len(few) == len(summary["arms"]) else
            f"No top-5 errors of {_few(few, ', ')}: among five or fewer classes five guesses miss none.")


def _same_runs(sweep: Sweep) -> str:
    baseline = sweep.arm(sweep.baseline)
    same = [arm.name for arm in sweep.arms if arm is not baseline and arm.runs and not arm.views and
            all(seed in baseline.runs and run.id == baseline.runs[seed].id for seed, run in arm.runs.items())]
    return f"{', '.join(same)}: the config resolves to the baseline's: the same runs." if same else ""


def _searched(sweep: Sweep) -> str:
    try:
        return search.sentence(sweep.search) if sweep.search else ""
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return "Learning rates were searched, but search.json is damaged; the command that started the sweep writes it."


def _noise_note(noise: dict[str, Any] | None) -> str:
    if noise is None:
        return ""
    text = (f"Evaluation noise: one run's top-1 error, {noise['mean_error']:.1f}% on average over "
            f"{noise['images']:,} images, has the binomial standard error {noise['evaluation']:.2f} points. ")
    if noise["between_seeds"] is None:
        return text + "Seed noise: unknown, as no arm has two seeds."
    text += f"Seed noise: the standard deviation of an arm's seeds is {noise['between_seeds']:.2f} points"
    if noise["paired_differences"]:
        text += f", that of paired differences {_span(noise['paired_differences'])}"
    text += (", and all arms share the noise of the runs that they are compared with. All runs are counted on the same "
             "images, and the intervals cover the noise between seeds alone")
    over = {name: one for name, one in noise["over_images"].items() if one}
    if not over:
        return text + ", and say nothing of other images."
    wider = _few([f"{name} {span(one['low'], one['high'])}" for name, one in over.items()], ", ")
    errors, without = [one["standard_error"] for one in over.values()], [n for n, one in noise["over_images"].items()
                                                                         if not one]
    text += (". Other images to report on (the networks stay) would add a standard error of "
             f"{_span(errors)} points to a difference" if max(errors) >= 0.005 else
             ". The noise of the images can't be told from that of the seeds")
    text += f"; intervals over both: {wider}"
    return text + (f". Not for {_few(without, ', ')}, whose runs didn't keep what became of each image."
                   if without else ".")


def _span(values: list[float]) -> str:
    """'0.13', '0.13 to 0.20'."""
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _correction(summary: dict[str, Any]) -> str:
    tested = [a for a in summary["arms"] if a["difference"] and a["difference"]["p_holm"] is not None]
    tests, name = summary["family"]["tests"], summary["family"]["name"]
    if name == families.DESCRIPTIVE.name:
        return f"These comparisons are {name}; no correction covers them."
    if not tested or tests < 2:
        return ""
    alpha = 1 - summary["confidence"]
    alone = [a["name"] for a in tested if a["difference"]["top1"]["p_value"] < alpha]
    kept = [a["name"] for a in tested if a["difference"]["p_holm"] < alpha]
    values = ", ".join(f"{a['name']} {p_text(a['difference']['p_holm'])}" for a in tested)
    text = (f"Several arms: each interval and verdict is that of one comparison. Holm-adjusted p values over "
            f"{tests} comparisons ({names.markdown(name)}): {values}.")
    if alone:
        lost = [name for name in alone if name not in kept]
        text += (f" Still below {alpha:.2f} after the adjustment: {', '.join(kept) or 'none'}"
                 + (f"; no longer: {', '.join(lost)}." if lost else "."))
    return text


def _speed(sweep: Sweep) -> str:
    """The paper's claim about activations is about speed: the closest that these runs measured."""
    arms = [arm for arm in sweep.arms
            if (of := of_arm(CLAIMS, arm.ablation, arm.name, sweep.local)) is not None and of.claim.kind == "ratio"]
    if not arms:
        return ""
    words = []
    for arm in {arm.name: arm for arm in [*map(sweep.reference, arms), *arms]}.values():
        # Unfinished runs are left out: they may still reach the threshold.
        runs = [r for r in arm.runs.values() if r.state == "finished" and r.rows]
        reached = [first for r in runs if (first := _first_epoch(r)) is not None]
        if not runs:
            continue
        by = f"at epoch {sum(reached) / len(reached):.3g} on average" if reached else "never"
        words.append(f"{arm.name} {by} ({len(reached)} of {len(runs)} runs)")
    if not words:
        return ""
    return ("Speed: the paper's claim about tanh is one of speed, at a rate chosen for each activation "
            "and without regularisation. Here the running training error, with dropout and augmentation on, "
            f"first fell to {SPEED_THRESHOLD:.0%}: {', '.join(words)}.")


def _first_epoch(run: Run) -> float | None:
    errors = [(row["epoch"], row.get("train_top1_error")) for row in run.rows]
    return next((epoch for epoch, e in errors if e is not None and e <= SPEED_THRESHOLD), None)
