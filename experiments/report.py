"""A sweep's report: a table compared with the paper, the protocol, what is missing, and the curves.

    python -m experiments.report --workdir=runs/sweep

writes report.md, report.csv, report.json, curves.{png,svg} (error against epochs), differences.{png,svg} (each arm's
difference with its interval) and, if runs have an error on training images (config.data.fit_split),
overfitting.{png,svg} (that error against the reported one) into the workdir, or `--out=FOLDER`, and prints report.md.
It works at any time during a sweep, reports what is missing, and gives the same bytes for the same workdir.
Of a record (below experiments/results) it only prints, unless `--out` names a folder.
With `--sets=3` it writes nothing and prints what disjoint sets of three seeds alone would have shown.
"""

from __future__ import annotations

import csv
import io
import os
import pathlib
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from alexnet_jax import commands, names, run_files
from alexnet_jax.errors import ConfigError
from alexnet_jax.training import views as views_lib
from experiments.analysis import compare, overfitting, packed, statistics
from experiments.analysis.protocol import caption, sentence
from experiments.analysis.text import interval, markdown_table, with_span
from experiments.analysis.verdicts import starred
from experiments.analysis.workdirs import Sweep, default_views, read_sweep
from experiments.claims.summary import of_workdir
from experiments.figures import curves, style
from experiments.figures import differences as differences_figure
from experiments.figures import overfitting as overfitting_figure

_NONE = "–"
_PICTURES = {"curves": "Error against epoch, all arms", "differences": "Differences with their intervals, all arms",
             "overfitting": "Training error against reported error, all arms"}


def render(workdir: pathlib.Path, views: str | None = None) -> str:
    """The report as Markdown; writes nothing. Raises ConfigError or WorkdirError."""
    return markdown(of_workdir(workdir, views))


def write_report(workdir: pathlib.Path, *, plots: bool = True, views: str | None = None,
                 out: pathlib.Path | None = None) -> str:
    """Writes report.{md,csv,json} and the figures, each atomically.

    Args:
      plots: draw curves.{png,svg}, differences.{png,svg} if an arm has a difference, and overfitting.{png,svg} if runs
        have an error on training images.
      views: of `alexnet_jax.training.views`, for all arms; None: those of `training.views.shared`.
      out: the folder that gets the files, made if absent; None: the workdir.

    Returns:
      The Markdown.
    """
    workdir = pathlib.Path(workdir)
    sweep = read_sweep(workdir)
    out = workdir if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    curves = plots and _draw_curves(sweep, out)  # first: reads the metrics, whose damage the notes mention
    summary = of_workdir(workdir, views, sweep)
    differences = plots and _draw_differences(summary, out)
    overfits = plots and _draw_overfitting(sweep, summary, out)
    pictures = {"curves": curves, "differences": differences, "overfitting": overfits}
    text = markdown(summary, [name for name, drawn in pictures.items() if drawn])
    run_files.write_json(out / "report.json", summary)
    run_files.write_text(out / "report.csv", to_csv(summary))
    run_files.write_text(out / "report.md", text)
    return text


def _draw_curves(sweep: Sweep, out: pathlib.Path) -> bool:
    """Returns False if no run has a row yet."""
    frame = curves.table(sweep)
    if not frame.empty:
        _save(curves.draw(frame), out, "curves")
    return not frame.empty


def _draw_differences(summary: dict[str, Any], out: pathlib.Path) -> bool:
    """Returns False if no arm has a difference from its reference."""
    rows = differences_figure.rows(summary)
    if rows:
        _save(differences_figure.draw(summary), out, "differences")
    return bool(rows)


def _draw_overfitting(sweep: Sweep, summary: dict[str, Any], out: pathlib.Path) -> bool:
    """Returns False if no finished run has an error on training images."""
    points = overfitting.points([sweep])
    if points:
        _save(overfitting_figure.draw(points, caption(summary["protocol"])), out, "overfitting")
    return bool(points)


def _save(figure: Figure, out: pathlib.Path, name: str) -> None:
    for kind in ("png", "svg"):
        style.save(figure, out / f"{name}.{kind}")


def markdown(summary: dict[str, Any], pictures: Collection[str] = ()) -> str:
    """The table, its protocol, the paper's numbers with their protocol, the notes, and the figures."""
    scale = "Verdict at this scale" if summary["small_scale"] else "Verdict"
    head = ["Arm", "Seeds", "Top-1 error, %", "Top-5 error, %", "Δ top-1, points", "Δ top-5, points",
            "Paper's Δ", "Author's log Δ", scale]
    title = names.markdown(summary["name"])
    shown = [i for i, words in enumerate(head) if _tells_top5(summary) or "op-5" not in words]
    head, *table = ([cells[i] for i in shown] for cells in (head, *(_cells(arm, summary) for arm in summary["arms"])))
    lines = [f"# {title}", "", *markdown_table(head, table)]
    level = f"{summary['confidence']:.0%}"
    lines += ["", f"Errors: mean over seeds ± half the {level} interval. Δ: arm minus baseline (or the arm that it "
              f"names after a minus sign), paired by seed: mean [{level} interval]. Intervals are Student's t. The "
              "paper's and the log's Δ are top-1/top-5, by the protocols named below."]
    lines += ["", f"**Protocol.** {sentence(summary['protocol'])}"]
    if summary["small_scale"]:
        lines += ["", "**Small scale.** This is not ImageNet at full size: dataset, resolution, network and "
                  "schedule differ from the paper's. A verdict holds at this scale only; by itself it says "
                  "nothing about the paper's numbers."]
    sources = [_source(arm) for arm in summary["arms"]
               if arm["name"] != summary["baseline"]]
    if sources:
        lines += ["", f"**Verdicts on top-1** (reproduced: the {level} interval excludes zero with the "
                  "paper's sign; contradicted: with the other; the other words are explained in "
                  "experiments/analysis/verdicts.py), and where the claimed numbers are from:", "", *sources]
    if summary["notes"]:
        lines += ["", "**Notes**", "", *(f"- {note}" for note in summary["notes"])]
    for name in pictures:
        lines += ["", f"![{_PICTURES[name]} of {title}]({name}.png)"]
    return "\n".join(lines) + "\n"


def _tells_top5(summary: dict[str, Any]) -> bool:
    """Is any arm's top-5 error meaningful?"""
    return any(arm["top5"] is not None for arm in summary["arms"])


def _cells(arm: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    finished, planned = arm["finished"], arm["planned"]
    seeds = str(finished) if finished == planned else f"{finished} of {planned}"
    if arm["at_chance"]:
        seeds += f", {arm['at_chance']} at chance"
    is_baseline = arm["name"] == summary["baseline"]
    name = f"{arm['name']} (baseline)" if is_baseline and arm["name"] != "baseline" else arm["name"]
    name += f" − {arm['against']}" if arm["against"] else ""
    name += f" ({views_lib.NAMES[arm['views']]})" if arm["views"] else ""
    paper = arm["paper"] or {}
    difference = arm["difference"] or {}
    return [name, seeds, _mean(arm["top1"]), _mean(arm["top5"]), _difference(difference.get("top1")),
            _difference(difference.get("top5")), _claimed(paper.get("paper")), _claimed(paper.get("log")),
            "" if is_baseline else _word(arm, summary["family"]["tests"])]


def _mean(e: dict[str, Any] | None) -> str:
    """23.41 ± 0.52; the mean alone without an interval."""
    if e is None or e["mean"] is None:
        return _NONE
    return f"{e['mean']:.2f}" + ("" if e["low"] is None else f" ± {(e['high'] - e['low']) / 2:.2f}")


def _difference(e: dict[str, Any] | None) -> str:
    """+1.20 [+0.31, +2.09]; for one pair, a remark that there is no interval."""
    if e is None:
        return ""
    if e["mean"] is None:
        return _NONE
    return with_span(e["mean"], e["low"], e["high"], e["n"])


def _claimed(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    return value["text"] if value["top1"] is not None else "see below"


def _word(arm: dict[str, Any], tests: int) -> str:
    """The table's cell, with a star if the verdict fails Holm's correction over `tests` tests."""
    verdict = arm["verdict"]
    if verdict is None:
        return "not comparable" if arm["paper"] else _NONE
    if _starred(arm):
        return f"{verdict['word']}* ({tests} tests)"
    more = (verdict["seeds_needed"] or 0) > arm["difference"]["top1"]["n"]
    return verdict["word"] + (f", needs about {verdict['seeds_needed']:,} seeds" if more else "")


def _starred(arm: dict[str, Any]) -> bool:
    verdict = arm["verdict"]
    return verdict is not None and starred(verdict["word"], verdict["by_sign"], arm["difference"]["p_holm"])


def _source(arm: dict[str, Any]) -> str:
    """One arm's verdict with its reason, and the numbers that it was compared with, with their protocol."""
    if arm["paper"] is None:
        return f"- {arm['name']}: neither the paper nor its author's logs have this arm."
    if arm["verdict"] is not None:
        judged = f"**{arm['verdict']['word']}**: {arm['verdict']['why']}"
        if _starred(arm):
            judged += "; *no longer so after Holm's correction, see the notes"
    elif arm["paper"]["kind"] == "ratio":
        judged = "not comparable: the paper gives a speed, no error; see the notes"
    else:
        judged = "not comparable: no effect on this difference is claimed; experiments.claims judges what is"
    claimed = [f"{who} {value['text']} ({value['where']})" for who in ("paper", "log")
               if (value := arm["paper"][who]) is not None]
    return f"- {arm['name']}: {judged}. Claimed: {'; '.join(claimed)}; {arm['paper']['protocol']}."


def to_csv(summary: dict[str, Any]) -> str:
    """One row per arm, with unrounded numbers; the protocol is repeated in each row so that no number stands alone."""
    p = summary["protocol"]
    keys = ("top1", "top5") if _tells_top5(summary) else ("top1",)
    rows = []
    for arm in summary["arms"]:
        row: dict[str, Any] = {"arm": arm["name"], "ablation": arm["ablation"], "seeds": arm["finished"],
                               "planned": arm["planned"]}
        for key in keys:
            row.update({f"{key}_error_{k}": (arm[key] or {}).get(k) for k in ("mean", "sd", "low", "high")})
        difference = arm["difference"] or {}
        row["pairs"] = len(difference["pairs"]) if difference else None
        for key in keys:
            part = difference.get(key) or {}
            row.update({f"{key}_difference_{k}": part.get(k) for k in ("mean", "sd", "low", "high")})
        over = difference.get("over_images") or {}
        row.update({f"top1_over_images_{k}": over.get(k) for k in ("standard_error", "low", "high")})
        row["p_value"], row["p_holm"] = difference.get("top1", {}).get("p_value"), difference.get("p_holm")
        claimed = arm["paper"] or {}
        for who in ("paper", "log"):
            value = claimed.get(who) or {}
            row.update({f"{who}_{k}": value.get(k) for k in ("top1", "top5", "text")})
        row["paper_protocol"] = claimed.get("protocol")
        verdict = arm["verdict"] or {}
        row.update({"verdict": verdict.get("word"), "contains_paper": verdict.get("contains_paper"),
                    "seeds_needed": verdict.get("seeds_needed")})
        for key in ("dataset", "version", "train_split", "train_images", "eval_split", "eval_images", "size",
                    "crop", "views", "epochs", "batch_size", "device", "jax", "revision"):
            row[key] = " or ".join(map(str, p[key])) if isinstance(p[key], list) else p[key]
        rows.append(row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def sets_of_seeds(sweep: Sweep, size: int, views: str | None = None) -> Iterator[str]:
    """What disjoint sets of `size` seeds, in the plan's order, would each have shown of every arm's difference.

    Shows how often a sweep of that size resolves an effect, given a sweep with several times as many seeds.

    Raises:
      ConfigError: too few seeds for two sets, or sets of one seed.
    """
    seeds = list(sweep.arm(sweep.baseline).runs)
    sets = [seeds[i:i + size] for i in range(0, len(seeds) - size + 1, size)] if size > 1 else []
    if len(sets) < 2:
        raise ConfigError(f"--sets={size}: two sets of two seeds or more are needed; {sweep.name} has {len(seeds)} "
                          "seeds")
    views = views or default_views(sweep.runs.values())
    for arm in sweep.arms:
        if arm.name == sweep.baseline:
            continue
        comparison = compare.compare(arm, sweep.reference(arm), "error", views)
        each = dict(zip(comparison.pairs, comparison.each, strict=True))
        parts = {tuple(part): statistics.estimate([each[seed] for seed in part]) for part in sets if {*part} <= {*each}}
        resolved = [one for one in parts.values() if one.low is not None and one.high is not None
                    and not one.low <= 0 <= one.high]
        yield (f"{arm.name}: {interval(comparison.difference)} over {len(each)} seeds; "
               f"excludes zero in {len(resolved)} of {len(parts)}:")
        yield from (f"  seeds {', '.join(map(str, part))}: {interval(one)}" for part, one in parts.items())


def main(argv: Sequence[str] | None = None) -> None:
    parser = commands.Parser("experiments.report", __doc__)
    parser.add_workdir("FOLDER", "the sweep's folder")
    parser.add_argument("--views", choices=list(views_lib.NAMES),
                        help="which errors, of all arms; default: five views if no run's training mirrors, else ten")
    parser.add_argument("--sets", type=int, metavar="N", help="print what disjoint sets of N seeds say; write nothing")
    parser.add_argument("--out", type=pathlib.Path, metavar="FOLDER", help="that gets the files, made if absent; "
                        "default: the workdir; of a record the report is only printed")
    options = parser.parse_args(argv)
    if options.sets is not None:
        print("\n".join(sets_of_seeds(read_sweep(options.workdir), options.sets, options.views)))
        return
    workdir, out, why = options.workdir, options.out, ""
    if out is None and packed.is_packed(workdir):
        why = "a record, which a look at it leaves as it is"
    elif out is None and workdir.is_dir() and not os.access(workdir, os.W_OK):
        why = "this user may not write there"
    text = render(workdir, options.views) if why else write_report(workdir, views=options.views, out=out)
    print(text, end="")
    if why:
        print(f"note: {names.plain(str(workdir))}: {why}, so the report is only printed; --out=FOLDER gets its files",
              file=sys.stderr)


if __name__ == "__main__":
    commands.run_main(main)
