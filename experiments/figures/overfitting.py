"""Training error against reported error: one point per arm with both intervals, and diagonals of equal gap."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.lettering import Letters
from experiments.analysis.overfitting import Point
from experiments.analysis.statistics import CONFIDENCE, Estimate
from experiments.figures import style
from experiments.figures.style import COLOURS, MARGIN, WIDTH

MOST = 40  # arms
_NAMES, _LINE, _SIZE, _LEFT = 2.0, 0.165, 8.5, 0.68  # inches right of the panel, per name; points; inches
_FROM_EDGE = 0.035  # a diagonal's label from the right edge, as a fraction of the panel's width


def draw(points: Sequence[Point], title: str) -> Figure:
    """Draws the figure, with the names beside the panel by increasing error.

    Args:
      points: of more than `MOST`, the baseline and those farthest from it are drawn.

    Raises:
      ConfigError: there is no point.
    """
    if not points:
        raise ConfigError("overfitting: no finished run has an error on training images; set config.data.fit_split")
    shown = _farthest(points)
    few = [f"The {len(shown)} of {len(points)} arms farthest from the baseline."] if len(shown) < len(points) else []
    words = [f"Each point is an arm, its bars the {CONFIDENCE:.0%} intervals of its means over seeds (Student's t). "
             "Both errors: centre crop, last weights, no dropout, no augmentation. Grey diagonals: arms on one of "
             "them have the same gap, which the numbers at their ends give in points; the farther up and left, the "
             "more an arm overfits.", *few]
    letters = Letters([title, *(point.name for point in shown)])
    with style.drawing(letters):
        names = [letters.fitted(point.name, _NAMES - 0.1, _SIZE) for point in shown]
        right = 0.3 + max(letters.width(name, _SIZE) for name in names)
        head, axis, width = 0.42, 0.45, WIDTH - MARGIN - _LEFT - right
        panel = max(3.6, _LINE * len(shown))
        page = style.Page(letters, head + panel + axis, title, words)
        axes = page.axes(MARGIN + _LEFT, axis, width, panel)
        (left, end), (low, high) = (_limits([getattr(p, side) for p in shown]) for side in ("learnt", "reported"))
        axes.set_xlim(left, end)
        axes.set_ylim(low, high)
        gaps = MaxNLocator(nbins=9, steps=[1, 2, 5, 10]).tick_values(low - end, high - left)
        for gap in gaps:
            axes.plot([left, end], [left + gap, end + gap], color="#C8C8C8", linewidth=0.7, zorder=1)
        _over_the_panel(page, letters, [(MARGIN + _LEFT + width * (high - gap - left) / (end - left), _number(gap))
                                        for gap in gaps if left <= high - gap <= end], axis + panel, width)
        _on_the_diagonals(axes, [(end + gap, _number(gap)) for gap in gaps if end < high - gap], panel)
        heights = [panel * (_mean(p.reported) - low) / (high - low) for p in shown]
        for point, name, at in zip(shown, names, _spread(heights, _LINE, panel), strict=True):
            colour = COLOURS[0] if point.baseline else COLOURS[2]
            x, y = _mean(point.learnt), _mean(point.reported)
            marker, order = ("D", 5) if point.baseline else ("o", 4)
            axes.errorbar([x], [y], xerr=_half(point.learnt), yerr=_half(point.reported), color=colour, marker=marker,
                          markersize=5, linewidth=1.2, zorder=order)
            axes.annotate(name, (x, y), xytext=(1 + 0.16 / width, at / panel), textcoords="axes fraction",
                          va="center", fontsize=_SIZE, color=colour, annotation_clip=False, zorder=2,
                          weight="bold" if point.baseline else "normal",
                          arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.5, "shrinkA": 1,
                                      "shrinkB": 3, "relpos": (0, 0.5)})
        axes.set_xlabel("error on images learnt from")
        axes.set_ylabel("error on reported images")
        for side in (axes.xaxis, axes.yaxis):
            side.set_major_locator(MaxNLocator(nbins=7))
            side.set_major_formatter(style.Ticks("%"))
        return page.figure


def _over_the_panel(page: style.Page, letters: Letters, labels: Sequence[tuple[float, str]], top: float,
                    width: float) -> None:
    """Labels diagonals with their gaps above their upper ends, where there is room."""
    page.text(MARGIN + _LEFT + width / 2, top + 0.22, "gap: reported error − error on images learnt from, points",
              ha="center", va="bottom", fontsize=8, color=style.QUIET)
    edge = -1.0
    for x, text in sorted(labels):
        half = letters.width(text, 8) / 2
        if x - half > edge:
            page.text(x, top + 0.05, text, ha="center", va="bottom", fontsize=8, color=style.QUIET)
            edge = x + half + 0.08


def _on_the_diagonals(axes: Axes, labels: Sequence[tuple[float, str]], panel: float) -> None:
    """Labels the diagonals that leave the panel on its right with their gaps there, where there is room."""
    (left, end), (low, high) = axes.get_xlim(), axes.get_ylim()
    inches, edge = (high - low) / panel, low + 0.2 * (high - low) / panel
    for y, text in sorted(labels):
        at = y - _FROM_EDGE * (end - left)  # diagonals have slope 1
        if edge <= at <= high - 0.1 * inches:
            axes.text(end - _FROM_EDGE * (end - left), at, text, ha="center", va="center", fontsize=8,
                      color=style.QUIET, zorder=2.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
            edge = at + 0.17 * inches


def _number(gap: float) -> str:
    return f"{gap:g}".replace("-", "−")  # typography's minus, as on the axes


def _mean(e: Estimate) -> float:
    assert e.mean is not None
    return e.mean


def _half(e: Estimate) -> float | None:
    return e.half or None


def _farthest(points: Sequence[Point]) -> list[Point]:
    if len(points) <= MOST:
        return list(points)
    first = next((p for p in points if p.baseline), points[0])

    def distance(p: Point) -> float:
        return math.hypot(_mean(p.learnt) - _mean(first.learnt), _mean(p.reported) - _mean(first.reported))

    kept = [first.name, *(p.name for p in sorted(points, key=distance, reverse=True) if p is not first)][:MOST]
    return [p for p in points if p.name in kept]


def _limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Limits that show all means; intervals are clipped: those of two seeds can be huge."""
    means = [_mean(e) for e in estimates]
    room = 0.5 * max(max(means) - min(means), 1.0)
    low = max(min([*means, *(e.low for e in estimates if e.low is not None)]), min(means) - room)
    high = min(max([*means, *(e.high for e in estimates if e.high is not None)]), max(means) + room)
    edge = max(0.06 * (high - low), 0.5 - (high - low) / 2)  # at least one point, else rounding would look large
    return max(low - edge, -0.02 * (high - low) - 0.05), high + edge  # no error is below zero


def _spread(places: Sequence[float], apart: float, room: float) -> list[float]:
    """Places as close to the given ones as possible, in their order, at least `apart` apart, between 0 and `room`."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[float]] = []  # [members, the best place of the first of them]
    for index in order:
        groups.append([1, places[index]])
        while len(groups) > 1 and groups[-2][1] + apart * groups[-2][0] > groups[-1][1]:
            count, place = groups.pop()
            before = groups[-1]
            # The mean of the places that the two groups want for the first member.
            before[1] = (before[0] * before[1] + count * (place - apart * before[0])) / (before[0] + count)
            before[0] += count
    out, last = [0.0] * len(places), -apart / 2
    row = [place + apart * i for count, place in groups for i in range(int(count))]
    for index, place in zip(order, row, strict=True):
        out[index] = last = max(place, last + apart)
    first = room - apart / 2  # then down from the top
    for index in reversed(order):
        out[index] = min(out[index], first)
        first = out[index] - apart
    return out
