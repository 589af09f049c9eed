"""Differences with their intervals, beside those of the paper and its author's log: one row each, one dot per seed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.lettering import Letters
from alexnet_jax.training import views
from experiments.analysis.protocol import caption as protocol_caption
from experiments.analysis.text import signed, span
from experiments.analysis.verdicts import (
    CONTRADICTED,
    NO_EFFECT,
    NOT_COMPARABLE,
    PRELIMINARY,
    REPRODUCED,
    SMALLER,
    UNRESOLVED,
    starred,
)
from experiments.figures import style
from experiments.figures.style import COLOURS, MARGIN, WIDTH

# word → (colour, marker); the words are the tables' verdicts.
NO_CLAIM = "no size claimed"
WORDS = {REPRODUCED: (COLOURS[2], "o"), CONTRADICTED: (COLOURS[1], "o"), NO_EFFECT: (COLOURS[3], "o"),
         SMALLER: (COLOURS[5], "o"), UNRESOLVED: ("#7A7A7A", "o"), PRELIMINARY: ("#A8A8A8", "o"),
         NOT_COMPARABLE: ("#444444", "X"), NO_CLAIM: (COLOURS[4], "o")}
_CLAIMS = {"paper": ("D", 5.5, "the paper"), "log": ("s", 3.6, "its author's log")}
_ROUGH = {"about ": "≈ ", "over ": "> "}
_ROW, _SIZE, _BESIDE, _GAP = 0.21, 8.5, 7.5, 0.14  # inches, points of labels and of numbers, inches
_MOST_LABEL, _LEAST_PANEL = 2.5, 1.5  # inches
MANY = 5  # pairs
MOST = 60  # rows: a sweep may have thousands of arms


@dataclasses.dataclass(frozen=True)
class Row:
    """One difference, in points.

    Attributes:
      label: what is compared. mean, low, high: the estimate and its interval, None without one.
      each: the difference of each seed. over: the interval over seeds and images.
      paper, log: the paper's and the log's values. word: one of WORDS, or a word that starts with one.
      kept: does the word survive the correction?
      paper_text: the paper's number as it is written there (`as_claimed`).
    """

    label: str
    mean: float
    low: float | None
    high: float | None
    each: Sequence[float]
    word: str
    over: tuple[float, float] | None = None
    paper: float | None = None
    log: float | None = None
    kept: bool = True
    paper_text: str = ""

    @property
    def text(self) -> str:
        return f"{signed(self.mean, 2)} {span(self.low, self.high)}".rstrip()


def rows(summary: dict[str, Any]) -> list[Row]:
    """The arms of a `claims.summary.summarise` with a difference, except those that share their reference's runs."""
    by_name = {arm["name"]: arm for arm in summary["arms"]}
    return [_row_of(arm) for arm in summary["arms"]
            if arm["difference"] and arm["difference"]["top1"]["mean"] is not None and (
                arm["views"] or arm["runs"] != by_name.get(arm["against"], by_name[summary["baseline"]])["runs"])]


def _row_of(arm: dict[str, Any]) -> Row:
    difference, claimed = arm["difference"], arm["paper"] or {}
    e, over, verdict = difference["top1"], difference["over_images"], arm["verdict"]
    word = verdict["word"] if verdict else NOT_COMPARABLE if claimed else NO_CLAIM
    label = arm["name"] + (f" − {arm['against']}" if arm["against"] else "")
    label += f" ({views.NAMES[arm['views']]})" if arm["views"] else ""
    paper, log = ((claimed.get(who) or {}).get("top1") for who in _CLAIMS)
    text = "" if paper is None else as_claimed(claimed["paper"]["text"], paper)
    return Row(label, e["mean"], e["low"], e["high"], difference["each"], word,
               (over["low"], over["high"]) if over and over["low"] is not None else None, paper, log,
               kept=not (verdict and starred(word, verdict["by_sign"], difference["p_holm"])), paper_text=text)


def _look(word: str) -> tuple[str, str]:
    """(colour, marker)."""
    return next(look for begins, look in WORDS.items() if word.startswith(begins))


def draw(summary: dict[str, Any]) -> Figure:
    """The differences of a sweep in top-1 error.

    Args:
      summary: from `claims.summary.summarise`.

    Raises:
      ConfigError: no arm has a difference yet.
    """
    block = rows(summary)
    if not block:
        raise ConfigError("differences: no arm has a finished run paired with one of its baseline (same seed) yet")
    level = f"{summary['confidence']:.0%}"
    what = ("Arm minus baseline (or the arm named after a minus sign), top-1 error by "
            f"{views.NAMES[summary['views']]}, paired by seed.")
    return draw_blocks({"difference in top-1 error, points (right: more errors)": block},
                       protocol_caption(summary["protocol"]), what, level, summary["family"]["tests"])


def draw_blocks(blocks: Mapping[str, Sequence[Row]], title: str, what: str, level: str, tests: int = 0) -> Figure:
    """Draws any differences, in points; in a block with more than `MOST` rows only the largest.

    Args:
      blocks: {axis label: rows}, in order, each with its own axis.
      what: the note's sentence that explains a row. level: the intervals' level, '95%'.
      tests: number of tests that Holm's correction covers.
    """
    kept = {name: _largest(block) for name, block in blocks.items()}
    shown = [row for block in kept.values() for row in block]
    limits = {name: _limits(block) for name, block in kept.items()}
    claims = [who for who in _CLAIMS if any(getattr(row, who) is not None for row in shown)]
    words = [what, *_notes(kept, limits, bool(claims), level, tests)]
    words += [f"The {len(kept[name])} largest of {len(block)} differences." for name, block in blocks.items()
              if len(block) > len(kept[name])]
    letters = Letters([title, *(row.label for row in shown)])
    with style.drawing(letters):
        columns = [(f"points [{level} interval]", [row.text for row in shown]),
                   ("seeds", [str(len(row.each)) for row in shown]),
                   *((who, [_number(row, who) for row in shown]) for who in claims)]
        places = [_GAP]
        for name, texts in columns:
            places.append(places[-1] + _GAP + max(letters.width(text, _BESIDE) for text in (name, *texts)))
        right = places.pop()
        room = min(_MOST_LABEL, WIDTH - right - 0.2 - _LEAST_PANEL)
        labels = [letters.fitted(row.label, room, _SIZE) for row in shown]
        left = 0.2 + max(letters.width(label, _SIZE) for label in labels)
        width = WIDTH - left - right
        panels, axis, head = {name: _ROW * (len(block) + 0.6) for name, block in kept.items()}, 0.42, 0.1
        between = 0.16 * (len(kept) - 1)
        page = style.Page(letters, head + sum(panels.values()) + axis * len(panels) + between, title, words,
                          _handles(shown))
        top, number = sum(panels.values()) + axis * len(panels) + between, 0
        for name, block in kept.items():
            top -= panels[name]
            axes = page.axes(left, top, width, panels[name])
            axes.set_xlim(*limits[name])
            axes.set_ylim(len(block) - 0.2, -0.8)
            own = [any(texts[number:number + len(block)]) for _, texts in columns]
            _beside(axes, -0.85, places, [said if there else "" for (said, _), there in zip(columns, own, strict=True)],
                    style.QUIET)
            for place, row in enumerate(block):
                _row(axes, place, row)
                _beside(axes, place, places, [texts[number + place] for _, texts in columns])
            axes.axvline(0, color="#000000", linewidth=0.8, zorder=1)
            tick = max(letters.width(f"{limit:.1f}", 8.5) for limit in limits[name])
            axes.locator_params(axis="x", nbins=max(1, min(9, int(width / (tick + 0.2)))))
            label = letters.fitted(name, WIDTH - 2 * MARGIN, 9)
            middle = min(max(left + width / 2, MARGIN + letters.width(label, 9) / 2),
                         WIDTH - MARGIN - letters.width(label, 9) / 2)
            page.text(middle, top - axis + 0.02, label, ha="center", va="bottom", fontsize=9)
            axes.set_yticks(range(len(block)), labels[number:number + len(block)], fontsize=_SIZE)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x", color=style.GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            top, number = top - axis - 0.16, number + len(block)
        return page.figure


def _notes(kept: Mapping[str, Sequence[Row]], limits: Mapping[str, tuple[float, float]], claims: bool, level: str,
           tests: int) -> list[str]:
    """Sentences about the marks that are drawn, for the note below the panels."""
    shown = [row for block in kept.values() for row in block]
    bars = any(row.low is not None for row in shown)
    hollow = f"; hollow: no longer so after Holm's correction over {tests} tests"
    beyond = any(not limits[name][0] <= value <= limits[name][1] for name, block in kept.items() for row in block
                 for value in (*row.each, *_ends(row)))
    sentences = {
        f"Dots are pairs, bars {level} intervals of the mean (Student's t).": bars,
        "Dots are pairs; one seed has no interval.": not bars,
        f"Colours: the verdict at this scale{'' if all(row.kept for row in shown) else hollow}.": True,
        "The paper's and the log's numbers are of their own networks and data.": claims,
        '≈: "about" in the paper.': any(row.paper_text.startswith("≈") for row in shown),
        '>: "over" in the paper.': any(row.paper_text.startswith(">") for row in shown),
        "Thin: intervals over seeds and over other images to report on.": any(row.over for row in shown),
        "Triangles at the edge: what lies beyond it.": beyond,
    }
    return [sentence for sentence, holds in sentences.items() if holds]


def _largest(block: Sequence[Row]) -> list[Row]:
    largest = sorted(range(len(block)), key=lambda i: -abs(block[i].mean))[:MOST]
    return [block[i] for i in sorted(largest)]


def as_claimed(text: str, value: float) -> str:
    """The paper's top-1 difference, as precise as the paper is: '+1.4/+1.2' → '+1.4', 'top-1 about +2' → '≈ +2', 'top-1
    by over +1' → '> +1'; the value itself, to a point, if the text has no difference ('13 against 11' → '+2')."""
    found = re.search(r"(about |over )?([+−]\d+(?:\.\d+)?)", text)
    if found is None or float(found[2].replace("−", "-")) != value:
        return signed(value, 0)
    return _ROUGH.get(found[1] or "", "") + found[2]


def _number(row: Row, who: str) -> str:
    """The paper's difference as it is written there; the log's, which has two or three digits, with two like ours."""
    value = getattr(row, who)
    if value is None:
        return ""
    return row.paper_text or signed(value, 1) if who == "paper" else signed(value, 2)


def _handles(shown: Sequence[Row]) -> list[Line2D]:
    """Legend entries: whose numbers are drawn, and the words that occur."""
    whose = [Line2D([], [], color="none", marker=marker, markeredgecolor="#000000", markerfacecolor="white",
                    markersize=size, label=label) for who, (marker, size, label) in _CLAIMS.items()
             if any(getattr(row, who) is not None for row in shown)]
    words = sorted({row.word for row in shown}, key=lambda word: (list(WORDS.values()).index(_look(word)), word))
    return whose + [Line2D([], [], color=_look(word)[0], marker=_look(word)[1], markersize=5, label=word)
                    for word in words]


def _row(axes: Axes, place: int, row: Row) -> None:
    colour, marker = _look(row.word)
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
    if row.over:
        axes.plot(row.over, [place, place], color=colour, linewidth=0.7, solid_capstyle="butt", zorder=3)
    left, right = axes.get_xlim()
    inside = [value for value in row.each if left <= value <= right]
    axes.plot(inside, [place + 0.22] * len(inside), linestyle="none", marker="o", markersize=2.0, markeredgewidth=0,
              color=colour, alpha=0.6, zorder=2)
    for values, height, size in ((_ends(row), place, 5.0), (row.each, place + 0.22, 3.0)):
        for edge, pointer, beyond in ((left, "<", any(v < left for v in values)),
                                      (right, ">", any(v > right for v in values))):
            if beyond:
                axes.plot(edge, height, marker=pointer, markersize=size, color=colour, markeredgewidth=0,
                          clip_on=False)
    axes.plot(row.mean, place, marker=marker, markersize=5, color=colour, markeredgewidth=0.3 if marker == "X" else 1.2,
              markerfacecolor=colour if row.kept else "white", zorder=5)
    for who, (shape, size, _) in _CLAIMS.items():
        if (claimed := getattr(row, who)) is not None:
            # Above the bar: on it they would hide whether the estimate's marker is hollow.
            axes.plot(claimed, place - 0.3, marker=shape, markersize=size, markerfacecolor="none",
                      markeredgecolor="#000000", markeredgewidth=0.8, linestyle="none", zorder=6)


def _beside(axes: Axes, place: float, places: Sequence[float], texts: Sequence[str], color: str = "#000000") -> None:
    """Writes text right of the panel, in columns that start `places` inches from it."""
    for text, x in zip(texts, places, strict=True):
        if text:
            axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(72 * x, 0),
                          textcoords="offset points", va="center", fontsize=_BESIDE, color=color,
                          annotation_clip=False)


def _ends(row: Row) -> list[float]:
    """The ends of the widest interval drawn."""
    return [end for end in (row.over or (row.low, row.high)) if end is not None]


def _limits(shown: Sequence[Row]) -> tuple[float, float]:
    """Limits that show all means, claimed numbers and pairs of many seeds, but clip intervals and pairs of few, which
    can be huge."""
    points = [0.0, *(value for row in shown for value in (row.mean, row.paper, row.log) if value is not None)]
    points += [value for row in shown if len(row.each) >= MANY for value in row.each]
    low, high = min(points), max(points)
    span = max(high - low, 0.5)
    ends = [value for row in shown for value in (*row.each, *_ends(row), row.low, row.high) if value is not None]
    first, last = min([low, *ends]), max([high, *ends])
    # What exceeds the bound only slightly is shown in full rather than clipped with an arrow.
    low = first if first >= low - 0.8 * span else low - 0.6 * span
    high = last if last <= high + 0.8 * span else high + 0.6 * span
    edge = 0.04 * (high - low) or 0.1  # if all are zero
    return low - edge, high + edge
