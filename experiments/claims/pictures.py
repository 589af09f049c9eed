"""The figures of the paper's regime, from the records: numbers from `experiments.analysis`, words from the claims.

    training_and_reported_error   one point per arm, with diagonals of equal gap
    differences                   the first quantities of docs/evidence-plan.md beside the paper's and the log's numbers
    dropout_by_images             the effect of dropout by number of training images
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from matplotlib.figure import Figure

from alexnet_jax.training import views
from experiments.analysis import overfitting, protocol
from experiments.analysis.statistics import CONFIDENCE
from experiments.analysis.text import interval, markdown_table
from experiments.analysis.verdicts import starred
from experiments.analysis.workdirs import Sweep, default_views, read_sweep
from experiments.claims import regimes
from experiments.claims.judging import Judgement, judged
from experiments.claims.record import of_arm
from experiments.claims.registry import CLAIMS
from experiments.figures import by_images, differences, style
from experiments.figures import overfitting as overfitting_figure

FOLDER = "pictures"
_AXES = {"error": "difference in reported error, points (right: more errors)",
         "gap": "difference in the gap, points: reported error − error on images learnt from (right: overfits more)",
         "fit": "difference in error on images learnt from, points (right: more errors)"}


def _sweeps(results: pathlib.Path) -> dict[str, Sweep]:
    """By record: those of the paper's regime, and of other numbers of images. Raises WorkdirError."""
    return {name: read_sweep(results / name) for name in (*regimes.PAPER_LIKE_30.records, *regimes.BY_IMAGES.records)
            if (results / name / "plan.json").exists()}


def draw(results: pathlib.Path) -> dict[str, Figure]:
    """{name: figure}, for those that have records.

    Raises:
      WorkdirError: a record can't be read.
    """
    sweeps = _sweeps(results)
    here = [sweeps[name] for name in regimes.PAPER_LIKE_30.records if name in sweeps]
    figures: dict[str, Figure] = {}
    if here:
        title = protocol.caption(protocol.protocol(here[0], default_views(here[0].runs.values())))
        if points := overfitting.points(here):
            figures["training_and_reported_error"] = overfitting_figure.draw(points, title)
        if blocks := _first_quantities(sweeps):
            what = ("Arm minus baseline, paired by seed: the first quantities of docs/evidence-plan.md. Reported error "
                    f"by {views.NAMES[views.TEN]}, both parts of the gap by centre crops.")
            figures["differences"] = differences.draw_blocks(blocks, title, what, f"{CONFIDENCE:.0%}",
                                                           len(regimes.FIRST.tests))
    worth = overfitting.worth_of_dropout(sweeps.values())
    if len(worth) > 1:
        figures["dropout_by_images"] = by_images.draw(worth, "CIFAR-10, 24-pixel crops, 90 epochs")
    return figures


def dropout_by_images(results: pathlib.Path) -> str:
    """The numbers of the figure of that name as a Markdown table, a row per number of training images; '' for one.

    Raises:
      WorkdirError: a record can't be read.
    """
    worth = overfitting.worth_of_dropout(_sweeps(results).values())
    if len(worth) < 2:
        return ""
    cells = [[f"{one.images:,}", f"{one.reported.mean:.2f}", *map(interval, (one.error, one.centre, one.gap)),
              one.splits, protocol.seeds_in_short(one.seeds), one.device] for one in worth]
    head = ("Training images", "Error with dropout, %", "Without − with: error", "Error by the centre crop",
            "Overfitting", "Data", "Seeds", "Device")
    return "\n".join(markdown_table(head, cells, range(len(head)), padded=False)) + "\n"


def write(results: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the figures into `out`/pictures; returns the files."""
    files = []
    for name, figure in draw(results).items():
        files.append(out / FOLDER / f"{name}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        style.save(figure, files[-1])
    return files


def _first_quantities(sweeps: Mapping[str, Sweep]) -> dict[str, list[differences.Row]]:
    """The rows of the declared family, by axis label, in the family's order."""
    rows: dict[tuple[str, str], differences.Row] = {}
    for claim in CLAIMS.values():
        for what in claim.measures:
            for regime in (one for one in what.regimes if one.family is regimes.FIRST):
                one = judged(claim, what, regime, sweeps)
                if one is not None and one.test in regimes.FIRST.tests:
                    rows.setdefault(one.test, _row(one))
    blocks: dict[str, list[differences.Row]] = {}
    for test in regimes.FIRST.tests:
        if test in rows:
            blocks.setdefault(_AXES[test[1]], []).append(rows[test])
    return blocks


def _row(judgement: Judgement) -> differences.Row:
    c, verdict = judgement.comparison, judgement.verdict
    claimed = of_arm(CLAIMS, judgement.measure.ablation, c.arm.name) if c.quantity == "error" else None
    paper, log = (value.top1 if value is not None else None
                  for value in ((claimed.paper, claimed.log) if claimed else (None, None)))
    over = c.over_images
    e = c.difference
    assert e.mean is not None
    text = differences.as_claimed(claimed.paper.text, paper) if claimed and claimed.paper and paper is not None else ""
    return differences.Row(c.arm.name, e.mean, e.low, e.high, c.each, verdict.word,
                           (over.low, over.high) if over and over.low is not None and over.high is not None else None,
                           paper, log, not starred(verdict.word, verdict.by_sign, judgement.p_holm), text)
