"""The paper's figure 1: training error against epochs, ReLU solid, tanh dashed; beside it the learning-rate grid."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from alexnet_jax.inspect.lettering import Letters
from experiments.analysis import speed
from experiments.analysis.protocol import caption, many_epochs, protocol
from experiments.analysis.statistics import estimate
from experiments.figures import style
from experiments.figures.style import COLOURS

STYLES: dict[str, dict[str, Any]] = {
    "relu": {"color": COLOURS[0], "linestyle": "-", "marker": "o"},
    "tanh": {"color": COLOURS[1], "linestyle": (0, (5, 1.6)), "marker": "s"}}

_GRID = 1.66  # inches: the right panel


def draw(measured: dict[str, Any]) -> Figure:
    """Draws the result of `figure1.measure`."""
    title = caption(protocol(measured["seeds"], "centre")) + " at most"
    letters = Letters([title])
    with style.drawing(letters):
        page = style.Page(letters, 3.4, title, [_note(measured)])
        _curves(page.axes(0.72, 0.5, 3.9, 2.65), measured)
        _grid(page.axes(5.4, 0.5, _GRID, 2.65), measured, letters)
        return page.figure


def _note(measured: dict[str, Any]) -> str:
    left_out = f"; drawn but not counted: {', '.join(measured['broken'])}" if measured["broken"] else ""
    target = f"{measured['threshold']:.0%}"
    reached = all(a.reached for by_seed in measured["arrivals"].values() for a in by_seed.values())
    finite = all(math.isfinite(point.error) for point in measured["points"])
    return (f"Left: one line per seed{left_out}. The error of the weights at the end of each epoch on all training "
            f"images, no regularisation; a run ends with the first epoch at or below {target}. Marked: mean epochs to "
            f"{target} with the 95% interval (Student's t) over seeds"
            f"{'' if reached else f'; a triangle to the right: some runs ended before they reached {target}'}. "
            "Right: the learning rates tried, one seed, error after the grid's epochs; filled: chosen"
            f"{'' if finite else '; a cross at the top: diverged'}.")


def _curves(axes: Axes, measured: dict[str, Any]) -> None:
    threshold = 100 * measured["threshold"]
    tops = [threshold]
    for run in measured["seeds"].runs.values():
        how = STYLES[speed.activation_of(run)]
        if run.rows:
            errors = [100 * row[speed.ERROR] for row in run.rows]
            tops.append(max(errors))
            axes.plot([row["epoch"] for row in run.rows], errors, color=how["color"], linestyle=how["linestyle"],
                      linewidth=1.0, alpha=0.75)
    axes.axhline(threshold, color="#777777", linewidth=0.8, linestyle=(0, (1.2, 1.2)), zorder=1)
    for activation, by_seed in measured["arrivals"].items():
        _mark(axes, threshold, [a.epochs for a in by_seed.values()], all(a.reached for a in by_seed.values()),
              STYLES[activation])
    handles = [Line2D([], [], label=f"{speed.NAMES[a]}, rate {measured['rates'][a]:g}",
                      **STYLES[a], markersize=4.5, linewidth=1.2)
               for a in measured["arrivals"]]
    axes.legend(handles=handles, frameon=False, handlelength=3.2, loc="upper right")
    axes.set_title("Training error", loc="left")
    axes.set_xlabel("epoch")
    axes.set_ylabel("error on all training images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_formatter(style.Ticks("%"))
    axes.set_ylim(threshold - 0.12 * (max(tops) - threshold) - 1, max(tops) + 2)
    # The interval of two seeds can be huge: it may be clipped.
    longest = max((row["epoch"] for run in measured["seeds"].runs.values() for row in run.rows[-1:]), default=1)
    axes.set_xlim(0, longest + max(0.5, 0.06 * longest))
    axes.grid(axis="y", color=style.GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _mark(axes: Axes, threshold: float, times: list[float], reached: bool, how: dict[str, Any]) -> None:
    """Marks mean and interval on the threshold's line; a triangle marks the end of runs that never reached it."""
    of = estimate(times)
    assert of.mean is not None
    width = None if of.half is None or not reached else of.half
    axes.errorbar([of.mean], [threshold], xerr=None if width is None else [[width], [width]], color=how["color"],
                  marker=how["marker"] if reached else ">", markersize=6 if reached else 8, capsize=3, linewidth=1.4,
                  zorder=5)


def _grid(axes: Axes, measured: dict[str, Any], letters: Letters) -> None:
    rates = sorted({p.rate for p in measured["points"]})
    known = [100 * p.error for p in measured["points"] if math.isfinite(p.error)] or [90.0]  # all may have diverged
    top = max(known) + 0.1 * (max(known) - min(known)) + 1
    for activation, how in STYLES.items():
        mine = [p for p in measured["points"] if p.activation == activation]
        fine = [p for p in mine if math.isfinite(p.error)]
        axes.plot([p.rate for p in fine], [100 * p.error for p in fine], markerfacecolor="white", markersize=5,
                  linewidth=1.2, **how)
        chosen = [p for p in fine if p.rate == measured["rates"].get(activation)]
        axes.plot([p.rate for p in chosen], [100 * p.error for p in chosen], marker=how["marker"], markersize=6.5,
                  color=how["color"], linestyle="none", zorder=4)
        lost = [p.rate for p in mine if not math.isfinite(p.error)]
        axes.plot(lost, [top] * len(lost), marker="x", color=how["color"], linestyle="none", zorder=4)
    axes.set_xscale("log")
    axes.set_ylim(top=top + 0.5)
    names = [f"{1000 * rate:g}" for rate in rates]
    room = _GRID / max(1.0, math.log(rates[-1] / rates[0])) if rates[0] < rates[-1] else _GRID
    axes.xaxis.set_major_locator(FixedLocator(_apart(rates, [letters.width(name, 8.5) / room for name in names])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
    axes.yaxis.set_major_formatter(style.Ticks("%"))
    axes.set_title(f"After {many_epochs(protocol(measured['grid'], 'centre'))}", loc="left")
    axes.set_xlabel("learning rate, × 0.001")
    axes.grid(axis="y", color=style.GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _apart(rates: list[float], widths: list[float]) -> list[float]:
    """The rates on a logarithmic axis whose labels, of these widths in axis units, don't overlap."""
    kept = [0]
    for i in range(1, len(rates)):
        if math.log(rates[i] / rates[kept[-1]]) > 0.6 * (widths[i] + widths[kept[-1]]):
            kept.append(i)
    return [rates[i] for i in kept]
