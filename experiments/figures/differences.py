"""The differences of a sweep with their intervals, beside the paper's: one row an arm, every seed's pair a dot."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alexnet_jax import names
from alexnet_jax.errors import ConfigError
from alexnet_jax.training import views
from experiments.analysis.protocol import caption as protocol_caption
from experiments.analysis.text import signed, span
from experiments.analysis.verdicts import NOT_COMPARABLE, starred
from experiments.figures import curves

COLOURS = {"reproduced": curves.COLOURS[2], "contradicted": curves.COLOURS[1]}
_UNRESOLVED, _UNCLAIMED = "#7A7A7A", curves.COLOURS[4]
_CLAIMS = {"paper": ("D", "the paper"), "log": ("s", "its author's log")}
_ROW, _LEFT, _RIGHT = 0.21, 1.55, 1.95  # inches
_LABEL, _LONGEST, _SIGN = 22, 44, 0.082  # signs that _LEFT has room for, those of the widest label, inches of one
MOST = 60  # rows: a sweep may have thousands of arms


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The summary's arms that can be drawn: with a difference, and not their reference's own runs once more."""
    by_name = {arm["name"]: arm for arm in summary["arms"]}
    return [arm for arm in summary["arms"] if _mean(arm) is not None and (
        arm["views"] or arm["runs"] != by_name.get(arm["against"], by_name[summary["baseline"]])["runs"])]


def draw(summary: dict[str, Any]) -> Figure:
    """The figure.

    Args:
      summary: of `claims.summary.summarise`. Drawn are the arms with a pair of finished runs, in its order; of
        more than `MOST` those with the largest differences.

    Raises:
      ConfigError: no arm has a difference yet.
    """
    arms = rows(summary)
    if not arms:
        raise ConfigError("differences: no arm has a finished run beside one of its baseline with the same seed yet")
    largest = sorted(arms, key=lambda arm: -abs(_mean(arm) or 0.0))[:MOST]
    shown = [arm for arm in arms if arm in largest]
    level = f"{summary['confidence']:.0%}"
    seen = views.NAMES[summary["views"]]
    words = [f"Arm minus baseline (or the arm named after a minus sign), top-1 error by {seen}, paired by seed: dots "
             f"are pairs, bars {level} intervals of the mean (Student's t). Colours: the verdict at this scale; "
             "hollow: no longer so after Holm's correction over "
             f"{summary['family']['tests']} tests. "
             "The paper's and the log's numbers are of "
             "their own networks and data."]
    if any(map(_over, shown)):
        words.append("Thin: intervals over seeds and over other images to report on.")
    if len(arms) > len(shown):
        words.append(f"The {len(shown)} largest of {len(arms)} differences.")
    note, heading = textwrap.wrap(" ".join(words), 116), curves.wrapped(protocol_caption(summary["protocol"]), 84)
    handles = _handles(shown)
    columns = len(handles) if len(handles) < 6 else math.ceil(len(handles) / 2)
    top, axis, foot = 0.3 + 0.17 * len(heading), 0.42, 0.1 + 0.145 * len(note)
    legend = 0.08 + 0.18 * math.ceil(len(handles) / columns)
    panel = _ROW * (len(shown) + 0.6)
    height = top + panel + axis + legend + foot
    with matplotlib.rc_context(curves.STYLE):
        figure = Figure(figsize=(curves.WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)
        labels = [_label(arm) for arm in shown]
        left = _LEFT + _SIGN * max(0, max(map(len, labels)) - _LABEL)
        axes = figure.add_axes((left / curves.WIDTH, (axis + legend + foot) / height,
                                (curves.WIDTH - left - _RIGHT) / curves.WIDTH, panel / height))
        axes.set_xlim(*_limits(shown))
        axes.set_ylim(len(shown) - 0.2, -0.8)
        _beside(axes, -0.85, f"points [{level} interval]", "seeds", color="#444444")
        for place, arm in enumerate(shown):
            _row(axes, place, arm)
        axes.axvline(0, color="#000000", linewidth=0.8, zorder=1)
        axes.set_xlabel("difference in top-1 error, points (right: more errors)")
        axes.set_yticks(range(len(shown)), labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.text(0.5, 1 - 0.08 / height, "\n".join(heading), ha="center", va="top", fontsize=9.5, weight="bold")
        figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, (legend + foot) / height),
                      ncol=columns, frameon=False, handlelength=1.6, columnspacing=1.3, borderpad=0.2)
        figure.text(0.12 / curves.WIDTH, 0.06 / height, "\n".join(note), va="bottom", fontsize=7.5, color="#444444")
    return figure


def _handles(arms: list[dict[str, Any]]) -> list[Line2D]:
    """The legend: whose numbers are drawn, and the colours that occur."""
    whose = [Line2D([], [], color="none", marker=marker, markeredgecolor="#000000", markerfacecolor="white",
                    markersize=4.5, label=label) for who, (marker, label) in _CLAIMS.items()
             if any(_claimed(arm)[0] == who for arm in arms)]
    names = {colour: word for word, colour in COLOURS.items()}
    others = {"": "no size claimed", "not comparable": "not comparable"}
    rest = [words for word, words in others.items() if word in map(_word, arms)]
    open_ = dict.fromkeys(word for arm in arms if _colour(word := _word(arm)) == _UNRESOLVED)
    names |= {_UNRESOLVED: " or ".join(open_), _UNCLAIMED: " or ".join(rest)}
    present = {_colour(_word(arm)) for arm in arms}
    return whose + [Line2D([], [], color=colour, marker="o", markersize=5, label=name)
                    for colour, name in names.items() if colour in present]


def _row(axes: Axes, place: int, arm: dict[str, Any]) -> None:
    e, colour = arm["difference"]["top1"], _colour(_word(arm))
    verdict = arm["verdict"]
    lost = verdict is not None and starred(verdict["word"], verdict["by_sign"], arm["difference"]["p_holm"])
    if e["low"] is not None:
        axes.plot([e["low"], e["high"]], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=3,
                  clip_on=True)
    left, right = axes.get_xlim()
    if over := _over(arm):
        axes.plot(over, [place, place], color=colour, linewidth=0.7, solid_capstyle="butt", zorder=3)
    ends = (_over(arm) or [e["low"], e["high"]]) if e["low"] is not None else []
    for end, edge, marker in zip(ends, (left, right), "<>", strict=False):
        if not left <= end <= right:  # the interval goes on outside
            axes.plot(edge, place, marker=marker, markersize=5, color=colour, markeredgewidth=0, clip_on=False)
    each = arm["difference"]["each"]
    axes.plot(each, [place + 0.22] * len(each), linestyle="none", marker="o", markersize=2.0, markeredgewidth=0,
              color=colour, alpha=0.6, zorder=2)
    axes.plot(e["mean"], place, marker="o", markersize=5, color=colour, markeredgewidth=1.2,
              markerfacecolor="white" if lost else colour, zorder=5)
    who, claimed = _claimed(arm)
    if claimed is not None:
        axes.plot(claimed, place, marker=_CLAIMS[who][0], markersize=4.5, markerfacecolor="white",
                  markeredgecolor="#000000", markeredgewidth=0.8, linestyle="none", zorder=4)
    _beside(axes, place, f"{signed(e['mean'], 2)} {span(e['low'], e['high'])}".rstrip(), str(e["n"]))


def _beside(axes: Axes, place: float, *texts: str, color: str = "#000000") -> None:
    """Text right of the panel, in two columns."""
    for text, x in zip(texts, (6, 72 * _RIGHT - 36), strict=True):
        axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(x, 0), textcoords="offset points",
                      va="center", fontsize=7.5, color=color, annotation_clip=False)


def _limits(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """All means and claimed numbers; intervals and pairs as far as they go, but the one of two seeds can be huge."""
    points = [0.0, *(value for arm in rows for value in (_mean(arm), _claimed(arm)[1]) if value is not None)]
    low, high = min(points), max(points)
    room = 0.6 * max(high - low, 0.5)
    ends = [value for arm in rows for value in (arm["difference"]["top1"]["low"], arm["difference"]["top1"]["high"],
                                                *arm["difference"]["each"]) if value is not None]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    edge = 0.04 * (high - low) or 0.1  # all may be zero
    return low - edge, high + edge


def _mean(arm: dict[str, Any]) -> float | None:
    return arm["difference"]["top1"]["mean"] if arm["difference"] else None


def _claimed(arm: dict[str, Any]) -> tuple[str, float | None]:
    """(whose, top-1 in points): the paper's number, else its author's log's."""
    for who in _CLAIMS:
        value = (arm["paper"] or {}).get(who)
        if value is not None and value["top1"] is not None:
            return who, value["top1"]
    return "", None


def _over(arm: dict[str, Any]) -> list[float]:
    """The ends of the interval over seeds and images; [] without."""
    found = arm["difference"]["over_images"]
    return [found["low"], found["high"]] if found and found["low"] is not None else []


def _word(arm: dict[str, Any]) -> str:
    return arm["verdict"]["word"] if arm["verdict"] else ""


def _colour(word: str) -> str:
    return COLOURS.get(word, _UNCLAIMED if word in ("", NOT_COMPARABLE) else _UNRESOLVED)


def _label(arm: dict[str, Any]) -> str:
    name = arm["name"] + (f" − {arm['against']}" if arm["against"] else "")
    name += f" ({views.NAMES[arm['views']]})" if arm["views"] else ""
    return names.short(name, _LONGEST, _LONGEST // 2 - 1)
