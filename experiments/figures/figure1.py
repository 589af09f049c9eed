"""Figure 1 drawn as the paper has it: training error against epochs, ReLU solid, tanh dashed; beside it the grid."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.analysis import speed
from experiments.analysis.protocol import caption, protocol
from experiments.figures import curves

STYLES: dict[str, dict[str, Any]] = {
    "relu": {"color": curves.COLOURS[0], "linestyle": "-", "marker": "o"},
    "tanh": {"color": curves.COLOURS[1], "linestyle": (0, (5, 1.6)), "marker": "s"}}


def draw(found: dict[str, Any]) -> Figure:
    """The figure of what `figure1.measure` found."""
    with matplotlib.rc_context(curves.STYLE):
        note = textwrap.wrap(_note(found), 112)
        height = 3.71 + 0.145 * len(note)
        figure = Figure(figsize=(curves.WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)
        bottom = 0.145 * len(note) + 0.58
        left = figure.add_axes((0.72 / curves.WIDTH, bottom / height, 3.9 / curves.WIDTH, 2.65 / height))
        right = figure.add_axes((5.4 / curves.WIDTH, bottom / height, 1.66 / curves.WIDTH, 2.65 / height))
        _curves(left, found)
        _grid(right, found)
        figure.text(0.5, 1 - 0.08 / height, caption(protocol(found["seeds"], "centre")) + " at most", ha="center",
                    va="top", fontsize=9.5, weight="bold")
        figure.text(0.72 / curves.WIDTH, 0.06 / height, "\n".join(note), ha="left", va="bottom", fontsize=7.5,
                    color="#444444")
        return figure


def _note(found: dict[str, Any]) -> str:
    left_out = f"; drawn but not counted: {', '.join(found['broken'])}" if found["broken"] else ""
    return (f"Left: one line a seed{left_out}. The error of the weights at the end of each epoch on all training "
            "images, no regularisation; a run ends with the first epoch at or below "
            f"{found['threshold']:.0%}. Marked: mean epochs to {found['threshold']:.0%} with the 95% interval "
            "(Student's t) over a kind's seeds; a triangle to the right where runs were not there yet at their end. "
            "Right: the rates that were tried, one seed, error after the grid's epochs; filled: chosen; a cross at the "
            "top: diverged.")


def _curves(axes: Axes, found: dict[str, Any]) -> None:
    threshold = 100 * found["threshold"]
    tops = [threshold]
    for run in found["seeds"].runs.values():
        style = STYLES[speed.activation_of(run)]
        if run.rows:
            errors = [100 * row[speed.ERROR] for row in run.rows]
            tops.append(max(errors))
            axes.plot([row["epoch"] for row in run.rows], errors, color=style["color"], linestyle=style["linestyle"],
                      linewidth=1.0, alpha=0.75)
    axes.axhline(threshold, color="#777777", linewidth=0.8, linestyle=(0, (1.2, 1.2)), zorder=1)
    for activation, by_seed in found["arrivals"].items():
        _mark(axes, threshold, [a.epochs for a in by_seed.values()], all(a.reached for a in by_seed.values()),
              STYLES[activation])
    handles = [Line2D([], [], label=f"{speed.NAMES[a]}, rate {found['rates'][a]:g}",
                      **STYLES[a], markersize=4.5, linewidth=1.2)
               for a in found["arrivals"]]
    axes.legend(handles=handles, frameon=False, handlelength=3.2, loc="upper right")
    axes.set_title("Training error", loc="left")
    axes.set_xlabel("epoch")
    axes.set_ylabel("error on all training images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    axes.set_ylim(threshold - 0.12 * (max(tops) - threshold) - 1, max(tops) + 2)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _mark(axes: Axes, threshold: float, times: list[float], reached: bool, style: dict[str, Any]) -> None:
    """Mean and interval on the threshold's line; of runs that never got there where they ended, a triangle."""
    from experiments.analysis.statistics import estimate

    of = estimate(times)
    assert of.mean is not None
    width = None if of.half is None or not reached else of.half
    axes.errorbar([of.mean], [threshold], xerr=None if width is None else [[width], [width]], color=style["color"],
                  marker=style["marker"] if reached else ">", markersize=6 if reached else 8, capsize=3, linewidth=1.4,
                  zorder=5)


def _grid(axes: Axes, found: dict[str, Any]) -> None:
    rates = sorted({p.rate for p in found["points"]})
    known = [100 * p.error for p in found["points"] if math.isfinite(p.error)]
    top = max(known) + 0.1 * (max(known) - min(known)) + 1
    for activation, style in STYLES.items():
        mine = [p for p in found["points"] if p.activation == activation]
        fine = [p for p in mine if math.isfinite(p.error)]
        axes.plot([p.rate for p in fine], [100 * p.error for p in fine], markerfacecolor="white", markersize=5,
                  linewidth=1.2, **style)
        chosen = [p for p in fine if p.rate == found["rates"].get(activation)]
        axes.plot([p.rate for p in chosen], [100 * p.error for p in chosen], marker=style["marker"], markersize=6.5,
                  color=style["color"], linestyle="none", zorder=4)
        lost = [p.rate for p in mine if not math.isfinite(p.error)]
        axes.plot(lost, [top] * len(lost), marker="x", color=style["color"], linestyle="none", zorder=4)
    axes.set_xscale("log")
    axes.set_ylim(top=top + 0.5)
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    axes.set_title(f"After {_epochs(found)} epochs", loc="left")
    axes.set_xlabel("learning rate, × 0.001")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _epochs(found: dict[str, Any]) -> str:
    return " or ".join(str(e) for e in protocol(found["grid"], "centre")["epochs"])
