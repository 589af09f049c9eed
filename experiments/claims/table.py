"""The rows as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax import names
from experiments.analysis import compare, statistics, verdicts
from experiments.analysis.families import DESCRIPTIVE
from experiments.analysis.text import markdown_table, span
from experiments.claims.regimes import FIVE, HUNDRED_CLASSES, PAPER_LIKE_30, PLANNED, SECOND_IMAGES, TINY
from experiments.claims.row import SCHEMA, Row

_HEAD = ("#", "Claim", "Paper", "Author's log", "Measured", "Seeds", "Data", "Verdict")
_HOW = ("#", "Quantity", "Result", "Dataset, splits", "Pixels", "Seeds", "Epochs", "Device", "Revision",
        "Core-h", "Seed noise", "Evaluation noise", "Image noise", "Over seeds and images")
_ORDER = (verdicts.REPRODUCED, verdicts.CONTRADICTED, verdicts.SMALLER, verdicts.UNRESOLVED)
_FACTS = ("#", "Sign", "Within ±x", "Contains the claimed size", "p", "Holm", "Tests", "Family")
_TEXT, _HOW_TEXT = (1, 2, 3, 6, 7), (1, 2, 3, 4, 7, 8)  # columns of text


def markdown(rows: Sequence[Row], troubles: Sequence[str] = (), twice: Mapping[str, str] | None = None,
             left: Sequence[str] = ()) -> str:
    """The table of claims, followed by how each row was measured, its command, and a legend.

    Args:
      troubles: problems in reading the records.
      twice: {folder of records: the summary of `experiments.repeats`}.
      left: parts of the evidence plan that are not recorded, with command and cost.
    """
    main = [r for r in rows if r.kind != "log"]
    logs = [r for r in rows if r.kind == "log"]
    number = {id(row): i for i, row in enumerate(rows, start=1)}
    words = ", ".join(_counted(rows, word) for word in dict.fromkeys((*_ORDER, *(row.verdict for row in rows)))
                      if word and any(row.verdict == word for row in rows))
    without = sum(not r.measured for r in rows)
    lines = ["# The paper's claims, beside what was measured here", "",
             f"{len(rows)} rows: {words or 'no verdict'}, {without} without a measurement. Written by "
             "`python -m experiments.claims` from the recorded results; no number is typed in by hand.", "",
             *_legend(), "",
             *markdown_table(_HEAD, [_cells(r, number[id(r)]) for r in main], _TEXT), "",
             "## Ablations in the author's logs that the paper never printed", "",
             *markdown_table(_HEAD, [_cells(r, number[id(r)]) for r in logs], _TEXT), "",
             "## The facts behind the words", "",
             *markdown_table(_FACTS, [_facts(r, number[id(r)]) for r in rows if r.family], (7,)), "",
             "Sign: the side of zero that the interval lies on. p: of no difference, two-sided t test. Holm: corrected "
             "for the tests of the family, if the row has one; a comparison that is in no family is descriptive.", "",
             "## How each row was measured", "",
             *markdown_table(_HOW, [_how(r, number[id(r)]) for r in rows if r.measured], _HOW_TEXT), "",
             "Seed noise: the standard deviation of the paired differences, in points. Evaluation noise: the binomial "
             "standard error of one run's error on that many images, in points. Both arms are counted on the same "
             "images: the intervals of the claims are about seeds. Image noise: the standard error that other images "
             "to report on (those learnt from stay) would add to a difference in error, by an analysis of variance of "
             "seeds and images (`analysis/statistics.py`), with the interval over both; for rows of that kind whose "
             "runs kept what became of each image"
             + ("" if any(r.image_se is not None for r in rows) else "; none of these did") + ". The rows of one sweep "
             "share the runs that arms are compared with, and each counts their cost.", "",
             "The commands behind them. The same numbers again come from the recorded revisions and seeds on such a "
             "machine; another revision or machine rounds otherwise"
             + ("; what that does to a run in the end is told below" if twice else "") + ":", ""]
    lines += _commands([r for r in rows if r.measured], number)
    for folder, text in (twice or {}).items():
        lines += ["", f"## Runs that were made twice: {pathlib.PurePath(folder).name}", "",
                  f"`python -m experiments.repeats --results={folder}`. The rows above have the ones called `after` "
                  "alone:", "", "```", text, "```"]
    lines += ["", "## What is not measured", "", "Command and estimated cost, where there is a command:", ""]
    for row in rows:
        if not row.measured:
            command = f": `{row.command}`" if row.command else ""
            cost = f" ({row.estimate})" if row.estimate else ""
            lines.append(f"- {number[id(row)]}. {_name(row)}: {row.why}{command}{cost}")
    if left:
        lines += ["", "## Parts of the evidence plan that are not recorded", "",
                  "Costs are estimates, by recorded runs of the same data and network on CPUs and the images that they "
                  "learnt from:", "", *(f"- {part}" for part in left)]
    if troubles:
        lines += ["", "## Records that could not be read", "", *(f"- {trouble}" for trouble in troubles)]
    return "\n".join(lines) + "\n"


def _counted(rows: Sequence[Row], word: str) -> str:
    """'9 reproduced', '9 and 2* reproduced': number of rows, those with a star separately."""
    starred = sum(row.verdict == word and row.starred for row in rows)
    plain = sum(row.verdict == word for row in rows) - starred
    return f"{plain} and {starred}* {word}" if starred else f"{plain} {word}"


def brief(rows: Sequence[Row]) -> str:
    """One line per measured claim: claim, the paper's number, ours, verdict. Of several regimes on one dataset only the
    claim's own (the first) and that of other images.

    Rows that can't be compared with the paper, or are only similar to the claim, are left out if there is another.
    """
    first: dict[tuple[str, str, str, str, bool], Row] = {}
    for row in rows:
        if row.measured:
            first.setdefault((row.id, row.part, row.quantity, row.dataset.partition(" ")[0],
                              row.regime == SECOND_IMAGES.name), row)
    judged = {row.id for row in first.values() if row.verdict != verdicts.NOT_COMPARABLE and not row.in_kind}
    cells = [[f"**{row.id}** {row.claim}" + (f"; {row.part}" if row.part else "") + f" ({row.where})",
              row.paper or row.log, row.measured, str(row.n or ""), _data(row), _word_by_views(row)]
             for row in first.values()
             if row.id not in judged or not (row.in_kind or row.verdict == verdicts.NOT_COMPARABLE)]
    head = ("Claim", "Paper", "Measured", "Seeds", "Data", "Verdict")
    return "\n".join(markdown_table(head, cells, (0, 1, 4, 5), padded=False)) + "\n"


def front(rows: Sequence[Row]) -> str:
    """The claims of the paper's sections 3 to 5 and 7, measured or not, one short line each: claim, the paper's number,
    ours, verdict, in the first regime of the claim's record (`experiments.claims.registry`), whatever the result."""
    first: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if not row.in_kind and row.kind != "log" and re.match(r"§[3457]", row.where):
            first.setdefault((row.id, row.part, row.quantity), row)
    cells = [(f"**{row.id}** {'; '.join(filter(None, (row.claim, row.part)))} ({row.where.partition(',')[0]})",
              row.paper, _in_short(row) or "–", _word_by_views(row) or "not measured")
             for row in first.values()]
    return "\n".join(markdown_table(("Claim", "Paper", "Here", "Verdict"), cells, range(4), padded=False)) + "\n"


def by_regime(rows: Sequence[Row]) -> str:
    """The claims measured with a short schedule, one line each, beside the evidence plan's own regime, its other images
    and its other data: difference and verdict in each. Regimes without records have no column."""
    own = {regime.name for regime in PLANNED} - {SECOND_IMAGES.name, HUNDRED_CLASSES.name}
    by: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        if row.measured and not row.in_kind and row.verdict != verdicts.NOT_COMPARABLE:
            by.setdefault((row.id, row.part, row.quantity), {}).setdefault("" if row.regime in own else row.regime, row)
    short = {key: own for key, own in by.items() if own.keys() & {FIVE.name, TINY.name}}
    columns = [name for name in ("", SECOND_IMAGES.name, FIVE.name, TINY.name, HUNDRED_CLASSES.name)
               if not name or any(name in own for own in short.values())]
    cells = [[f"**{id_}**" + (f" {part}" if part else ""), *(
        f"{_in_short(own[name], name)}: {_word_by_views(own[name])}" if name in own else "–" for name in columns)]
             for (id_, part, _), own in short.items()]
    head = ("Claim", "The plan's regime", *columns[1:])
    return "\n".join(markdown_table(head, cells, range(len(head)), padded=False)) + "\n"


def _word_by_views(row: Row) -> str:
    """The word, with the first clause of the row's remark if that is about the centre crop."""
    remark = row.remark.partition(";")[0]
    return "; ".join(filter(None, (_word(row), remark if "by the centre crop" in remark else "")))


def _in_short(row: Row, known: str = "") -> str:
    """'−5.00 [−5.78, −4.22], n = 9': the first number alone, with its quantity unless it is the reported error, and its
    regime unless that has the paper's parameters per image or is `known`."""
    of = "" if row.quantity in ("", compare.QUANTITIES["error"]) else f"{row.quantity.partition(' (')[0]} "
    elsewhere = f"; {row.regime}" if row.regime not in ("", PAPER_LIKE_30.name, known) else ""
    return f"{of}{row.measured.partition(';')[0]}" + (f", n = {row.n}" if row.n else "") + elsewhere


def fill(text: str, table: str, name: str = "claims") -> str:
    """`text` with `table` between `<!-- begin NAME -->` and `<!-- end NAME -->`."""
    before, begin, rest = text.partition(f"<!-- begin {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->")
    return before + begin + table + end + after if begin and end else text


def _commands(rows: Sequence[Row], number: dict[int, int]) -> list[str]:
    """One line per command, with the rows that it gives."""
    by: dict[str, list[int]] = {}
    for row in rows:
        by.setdefault(row.command, []).append(number[id(row)])
    return [f"- {', '.join(map(str, numbers))}: `{command}`" for command, numbers in by.items()]


def _legend() -> list[str]:
    level = f"{statistics.CONFIDENCE:.0%}"
    return [
        f"**How to read it.** Differences in points of error, paired by seed: mean [{level} interval, Student's t]. "
        "Claims and their sign are the paper's. A verdict is three facts and a word that follows from them; the "
        "rule is written down in `experiments/analysis/verdicts.py`, and the facts of each row stand in the table "
        "after this one: the side of zero that the interval lies on, whether it lies within ±x (two one-sided "
        "tests at 2.5%), and whether it contains the paper's size. *Reproduced*: the interval excludes zero (one, "
        "for a ratio) with the paper's sign; *contradicted*: with the other; *no effect larger than ±x*: it holds "
        "zero and lies within ±x; *smaller than claimed*: it holds zero and excludes the paper's size; "
        "*unresolved*: all of that is open, with the number of seeds that would show the paper's effect four times "
        "in five, given the noise measured here; *preliminary*: not all of the planned seeds are there. A claim of "
        "no difference (run 167) is *reproduced* where the whole interval lies within ±x, and *contradicted* where "
        "it doesn't and excludes zero. The size is reproduced within 2% of the paper's round numbers, the claim "
        "about the kernels where every run's p is below 0.05 and the gap's interval above zero, that about "
        "neighbours where the interval of hidden layer less pixels is above zero. A star: the verdict rests on the "
        "sign, and doesn't survive Holm's correction over so many tests as stand beside it; the families are named "
        "below. *Descriptive*: the comparison is in no such family, and has its own interval alone. \"Here\" stands "
        "for \"at this scale\": any dataset but ILSVRC itself, a small network, a short "
        "schedule. A verdict here says nothing about the paper's number on ImageNet."]


def _name(row: Row) -> str:
    return row.id + (f" ({row.part})" if row.part else "")


def _cells(row: Row, number: int) -> list[str]:
    claim = f"**{row.id}** {row.claim}" + (f"; {row.part}" if row.part else "") + f" ({row.where})"
    return [str(number), claim, row.paper, row.log, row.measured or "–", str(row.n or "") if row.measured else "",
            _data(row), _verdict(row)]


def _data(row: Row) -> str:
    size = row.resolution if "px" in row.resolution else f"{row.resolution} px"
    return "; ".join(filter(None, (f"{names.markdown(row.dataset)}, {size}" if row.dataset else "", row.regime)))


def _verdict(row: Row) -> str:
    if not row.verdict:
        return row.why.partition(":")[0]
    return f"{_word(row)}: {'; '.join(filter(None, (row.why, row.remark)))}"


def _word(row: Row) -> str:
    """'reproduced* here (22 tests)', 'contradicted here (descriptive)'."""
    here = " here" if row.at_scale and row.verdict in (verdicts.REPRODUCED, verdicts.CONTRADICTED) else ""
    if row.starred:
        return f"{row.verdict}*{here} ({row.comparisons} tests)"
    alone = row.family == DESCRIPTIVE.name and row.p_value and row.verdict != verdicts.PRELIMINARY
    return f"{row.verdict}{here}{' (descriptive)' if alone else ''}"


def _facts(row: Row, number: int) -> list[str]:
    sign = "" if row.sign is None else {1: "+", -1: "−", 0: "zero"}[row.sign]
    yes = {None: "", True: "yes", False: "no"}
    within = f"{yes[row.inside]} (±{row.margin:g})" if row.inside is not None else ""
    return [str(number), sign, within, yes[row.contains_paper], _p(row.p_value), _p(row.p_holm),
            str(row.comparisons or ""), row.family]


def _p(p: float | None) -> str:
    return "" if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _how(row: Row, number: int) -> list[str]:
    splits = (f"{names.markdown(row.dataset)}, {names.code(row.train_split)} → {names.code(row.eval_split)}"
              if row.dataset else "")
    cost = "" if row.cost_core_hours is None else f"{row.cost_core_hours:.{1 if row.cost_core_hours >= 0.1 else 3}f}"
    noise = ("" if x is None else f"{x:.2f}" for x in (row.seed_sd, row.evaluation_se, row.image_se))
    over = span(row.low_images, row.high_images)
    return [str(number), row.quantity or row.unit, row.source, splits, row.resolution, row.seeds, row.epochs,
            row.device, row.revision, cost, *noise, over]


def to_json(rows: Sequence[Row], troubles: Sequence[str] = ()) -> dict[str, Any]:
    """All rows, with unrounded numbers. `value`, `low`, `high` are in `unit`, errors and deviations in points."""
    return {"schema": SCHEMA, "confidence": statistics.CONFIDENCE, "power": statistics.POWER,
            "rows": [dataclasses.asdict(row) for row in rows], "troubles": list(troubles)}


def to_csv(rows: Sequence[Row]) -> str:
    """One line per row, with the columns of `Row`."""
    file = io.StringIO()
    writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return file.getvalue()
