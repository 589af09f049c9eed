"""Convergence curves of a sweep or of a single run, from its metrics.csv files.

`load` gives all rows as one table, `curves` a figure for print: a line an arm (mean over seeds), a band over
seeds, colours of Okabe and Ito with line styles and markers besides, so that it also reads in grey.
Drawn without pyplot and without a display; the same workdir gives the same bytes.
"""

from __future__ import annotations

import array
import dataclasses
import io
import math
import pathlib
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from alexnet_jax import environment, files, names, run_files
from alexnet_jax.errors import ConfigError
from experiments.analysis import statistics
from experiments.analysis.protocol import caption as protocol_caption
from experiments.analysis.protocol import protocol
from experiments.analysis.workdirs import Arm, Run, Sweep, default_views, read_run, read_sweep

# Okabe and Ito's palette without yellow, which is lost on white paper. Black is the baseline's.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.6, 1.2, 1.6)), (0, (3, 1.2)), (0, (8, 2)),
          (0, (6, 1.4, 1.2, 1.4, 1.2, 1.4)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")

PANELS = {  # column of metrics.csv: (title, axis label, is it a fraction to be shown in percent?)
    "eval_top1_error": ("Evaluation, centre crop", "top-1 error", True),
    "eval_top5_error": ("Evaluation, centre crop", "top-5 error", True),
    "train_top1_error": ("Training, running mean", "top-1 error", True),
    "train_loss": ("Training, running mean", "loss, nats", False),
    "eval_loss": ("Evaluation, centre crop", "loss, nats", False),
    "learning_rate": ("Learning rate", "learning rate", False),
}
ERRORS = ("eval_top1_error", "train_top1_error")
_TOP5 = "eval_top5_error"
BANDS = {"range": "lowest to highest seed", "interval": "95% interval of the mean (Student's t)"}
WIDTH = 7.2  # inches: a page's text width; type is legible at half of it
STYLE: Any = {"font.size": 9.0, "axes.labelsize": 9.0, "axes.titlesize": 9.5, "xtick.labelsize": 8.5,
              "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "font.family": environment.fonts(), "axes.linewidth": 0.7,
              "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "alexnet_jax",
              "svg.fonttype": "path", "path.simplify": False,
              # A name with two dollars is no formula, whatever the user's own settings are.
              "text.parse_math": False, "text.usetex": False}


def load(workdir: pathlib.Path) -> pd.DataFrame:
    """All rows of all runs of a sweep, or of one run's folder.

    Returns:
      Columns arm, ablation, baseline (bool), run, seed, state, planned (seeds of the arm), then those of
      metrics.csv (errors as fractions; no top-5 error of five or fewer classes). A run that two arms share
      appears under both. `attrs['caption']` is the protocol for a figure. Empty (with its columns) where no run
      has a row yet.

    Raises:
      ConfigError, WorkdirError: as `readout.read_sweep`.
    """
    workdir = pathlib.Path(workdir)
    single = (workdir / "run.json").exists() and not (workdir / "plan.json").exists()
    return table(_alone(read_run(workdir)) if single else read_sweep(workdir))


def table(sweep: Sweep) -> pd.DataFrame:
    """As `load`, of a sweep that is read already."""
    abouts: dict[str, list[Any]] = {name: [] for name in (
        "arm", "ablation", "baseline", "run", "seed", "state", "planned")}
    # Numbers in arrays: of ten thousand runs, Python's would take a fifth of the memory that a report may.
    numbers = {name: array.array("d") for name in run_files.METRICS}
    for arm in sweep.arms:
        if arm.views:  # the same runs again, otherwise looked at
            continue
        for seed, run in arm.runs.items():
            rows = run.rows
            about = (arm.name, arm.ablation, arm.name == sweep.baseline, run.id, seed, run.state, len(arm.runs))
            for column, value in zip(abouts.values(), about, strict=True):
                column += [value] * len(rows)
            for name, values in numbers.items():
                said = run.tells_top5 or name != _TOP5
                values.extend(math.nan if row.get(name) is None or not said else row[name] for row in rows)
    frame = pd.DataFrame({**abouts, **{name: np.asarray(values, float) for name, values in numbers.items()}})
    frame.attrs["caption"] = protocol_caption(protocol(sweep, default_views(sweep.runs.values())))
    return frame


def _alone(run: Run) -> Sweep:
    name = str(run.about.get("name") or run.folder.name)
    return Sweep(name, "", name, [Arm(name, "", {}, {run.seed: run})])


def draw(source: pathlib.Path | pd.DataFrame, panels: Sequence[str] = ERRORS, band: str = "range",
           arms: Sequence[str] | None = None, title: str | None = None, log: bool = True) -> Figure:
    """The figure: one panel a quantity, one line an arm, against epochs.

    Args:
      source: a workdir or the result of `load`.
      panels: keys of PANELS, from left to right.
      band: 'range' (lowest to highest seed) or 'interval' (95% interval of the mean).
      arms: which, in which order; None takes all, in the plan's order.
      title: None takes the protocol: dataset, crop, epochs.
      log: logarithmic error axes, which keep apart the ends of the curves, where the arms differ by little.
        A panel with a zero in it is linear all the same.

    An arm's line is the mean over its finished runs, or over those under way while none has finished, and
    ends where the first of them ends. A run that diverged or failed is drawn alone, thin, with a cross.

    Raises:
      ConfigError: an unknown panel, band or arm, or nothing to draw yet.
    """
    frame = source if isinstance(source, pd.DataFrame) else load(source)
    names = _check(frame, panels, band, arms)
    others = list(dict.fromkeys(frame.loc[~frame["baseline"].astype(bool), "arm"]))
    lines = [_line(frame[frame["arm"] == name], name, i, others) for i, name in enumerate(names)]
    title = frame.attrs.get("caption", "") if title is None else title
    with matplotlib.rc_context(STYLE):
        return _figure(lines, panels, band, title, log)


def _check(frame: pd.DataFrame, panels: Sequence[str], band: str, arms: Sequence[str] | None) -> list[str]:
    present = list(dict.fromkeys(frame["arm"]))
    asked = (("panel", panels, list(PANELS)), ("band", (band,), list(BANDS)), ("arm", arms or (), present))
    for what, given, known in asked:
        for name in given:
            if name not in known:
                raise ConfigError(f"curves: no {what} {name!r}; there is {', '.join(known) or 'none yet'}")
    if frame.empty:
        raise ConfigError("curves: no run has an evaluation yet; wait for the first epoch")
    if _TOP5 in panels and frame[_TOP5].isna().all():
        raise ConfigError(f"curves: panel {_TOP5!r}: among five or fewer classes five guesses miss none; leave it out")
    return list(arms or present)


@dataclasses.dataclass(frozen=True)
class _Line:
    """What one arm shows, and in which style."""

    label: str
    rows: pd.DataFrame  # of the runs that make the mean
    lost: list[pd.DataFrame]  # the rows of each diverged or failed run
    style: dict
    seeds: int
    rank: int  # place among the arms, to stagger the markers


def _line(rows: pd.DataFrame, name: str, rank: int, others: Sequence[str]) -> _Line:
    """`others`: all arms but the baseline, shown or not, so that an arm looks the same in every figure."""
    used = rows[rows["state"] == "finished"]
    partial = used.empty
    if partial:
        used = rows[rows["state"].isin(["unfinished", "unreadable"])]
    lost = [run for _, run in rows[rows["state"].isin(["diverged", "failed"])].groupby("seed")]
    seeds, planned = used["seed"].nunique(), int(rows["planned"].iloc[0])
    notes = [f"{seeds} of {planned} seeds"] if 0 < seeds < planned else []
    notes += ["under way"] if partial and seeds else []
    notes += [f"{len(lost)} broken off"] if lost else []
    baseline = bool(rows["baseline"].iloc[0])
    place = 0 if baseline else 1 + others.index(name)
    i = place % len(COLOURS)
    if place >= len(COLOURS):  # a second round: other styles for the same colours
        i = 1 + (place - 1) % (len(COLOURS) - 1)
    style = {"color": COLOURS[i], "linestyle": DASHES[place % len(DASHES)],
             "marker": MARKERS[place % len(MARKERS)], "linewidth": 1.7 if baseline else 1.4,
             "markersize": 4.2, "markeredgewidth": 0.0}
    # Matplotlib leaves labels out of a legend that begin with an underscore.
    shown = names.short(name, 64, 24)
    shown = f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown
    return _Line(shown + (f" ({', '.join(notes)})" if notes else ""), used, lost, style, seeds, rank)


def _figure(lines: Sequence[_Line], panels: Sequence[str], band: str, title: str, log: bool) -> Figure:
    """Heights are summed in inches, so that title, panels, legend and caption can't meet."""
    many = any(line.seeds > 1 for line in lines)
    lost = any(line.lost for line in lines)
    seeds = {line.seeds for line in lines if line.seeds}
    over = f"{min(seeds)} seeds" if len(seeds) == 1 else "an arm's seeds"
    words = [f"Line: mean over {over}; band: {BANDS[band]}." if many else "One run." if len(lines) == 1 else
             "One seed an arm."]
    if "train_top1_error" in panels or "train_loss" in panels:
        words.append("Training values are running means over the epoch, with dropout and augmentation on.")
    if lost:
        words.append("Thin line with a cross: a run that diverged or failed.")
    note = textwrap.wrap(" ".join(words), 116)
    heading = wrapped(title, 84)
    columns = _legend_columns([line.label for line in lines])
    rows = math.ceil(len(lines) / columns)
    top, legend, foot = 0.08 + 0.17 * len(heading), 0.1 + 0.18 * rows, 0.08 + 0.145 * len(note)
    panel, axis, head = 2.4, 0.42, 0.26
    height = top + head + panel + axis + legend + foot
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    left, right, gap = 0.7, 0.16, 0.7
    width = (WIDTH - left - right - gap * (len(panels) - 1)) / len(panels)
    drawn: dict[str, list[Axes]] = {}
    for i, name in enumerate(panels):
        box = (left + i * (width + gap), axis + legend + foot, width, panel)
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        _panel(axes, lines, name, band)
        drawn.setdefault(PANELS[name][1], []).append(axes)
    for label, group in drawn.items():
        _scale(label, group, log)
    if heading:
        figure.text(0.5, 1 - 0.08 / height, "\n".join(heading), ha="center", va="top", fontsize=9.5,
                    weight="bold")
    handles = [Line2D([], [], label=line.label, **line.style) for line in lines]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, (legend + foot) / height),
                  ncol=columns, frameon=False, handlelength=3.4, columnspacing=1.8, borderpad=0.2)
    figure.text(left / WIDTH, 0.06 / height, "\n".join(note), ha="left", va="bottom", fontsize=7.5,
                color="#444444")
    return figure


def wrapped(title: str, most: int) -> list[str]:
    """The lines of a title that may have names in it, `most` signs each."""
    return textwrap.wrap(names.plain(title), most)


def _legend_columns(labels: Sequence[str]) -> int:
    """As many columns as fit the width, a character taken as 0.07 inch, spread evenly over the lines."""
    widest = max(len(label) for label in labels) * 0.07 + 0.65
    most = max(1, min(len(labels), int((WIDTH - 0.2) / widest)))
    return math.ceil(len(labels) / math.ceil(len(labels) / most))


def _panel(axes: Axes, lines: Sequence[_Line], name: str, band: str) -> None:
    heading, _, fraction = PANELS[name]
    scale = 100.0 if fraction else 1.0
    for line in lines:
        stats = _over_seeds(line.rows, name)
        if not stats.empty:
            x = stats.index.to_numpy(dtype=float)
            step = max(1, round(len(x) / 8))
            # Markers of different arms at different epochs, so that close lines stay apart.
            axes.plot(x, scale * stats["mean"], markevery=(line.rank % step, step), zorder=3, **line.style)
            if stats["n"].max() > 1:
                low, high = ("min", "max") if band == "range" else ("low", "high")
                axes.fill_between(x, scale * stats[low], scale * stats[high], color=line.style["color"],
                                  alpha=0.16 if len(lines) < 6 else 0.09, linewidth=0, zorder=2)
        for run in line.lost:
            run = run.dropna(subset=[name])
            axes.plot(run["epoch"], scale * run[name], color=line.style["color"], linewidth=0.7, zorder=2)
            axes.plot(run["epoch"].tail(1), scale * run[name].tail(1), color=line.style["color"], marker="x",
                      markersize=6, zorder=4)
    axes.set_title(heading, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)


def _scale(label: str, group: Sequence[Axes], log: bool) -> None:
    """One y axis for the panels of one quantity: the gap between training and evaluation can be read."""
    is_error = label.endswith("error")
    lines = _heights([line.get_ydata() for axes in group for line in axes.lines])
    bands = _heights([np.asarray(path.vertices)[:, 1]
                      for axes in group for band in axes.collections for path in band.get_paths()])
    low, high = (float(lines.min()), float(lines.max())) if lines.size else (0.0, 1.0)
    if bands.size:  # a 95% interval of two seeds can be huge: it may leave the panel, the lines may not
        low = min(low, max(float(bands.min()), 0.6 * low))
        high = max(high, min(float(bands.max()), 1.5 * high))
    log = low > 0 and (label == "learning rate" or (log and is_error))
    if log:
        edge = max((high / low) ** 0.05, 1.02 if is_error else 2.0)
        limits = low / edge, min(high * edge, max(100.0, high)) if is_error else high * edge
    else:
        edge = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        limits = (max(0.0, low - edge) if low >= 0 else low - edge), high + edge
    for axes in group:
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(FixedLocator(_log_ticks(*limits)))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(*limits)
        axes.set_ylabel(label + (", log scale" if log else ""))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent if is_error else _plain))


def _percent(value: float, _: int) -> str:
    return f"{value:g}%"


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _heights(parts: Sequence[Any]) -> np.ndarray:
    every = np.concatenate([np.empty(0), *(np.asarray(part, dtype=float) for part in parts)])
    return every[np.isfinite(every)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values between the limits: closer together the narrower the range."""
    if high / low < 2:
        return [t for t in MaxNLocator(nbins=6).tick_values(low, high) if low <= t <= high]
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high / low < 6 else (1, 2, 3, 5) if high / low < 40 else (1, 3)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]


def _over_seeds(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """mean, min, max, low, high and n by epoch, for the epochs that every one of the runs has reached."""
    by = rows.dropna(subset=[name]).groupby("epoch")[name]
    table = by.agg(["mean", "min", "max", "count"]).rename(columns={"count": "n"})
    table = table[table["n"] == table["n"].max()]
    estimates = [statistics.estimate(list(by.get_group(epoch))) for epoch in table.index]
    for key in ("low", "high"):  # without an interval (one seed, equal values) the band is the mean itself
        table[key] = [e.mean if getattr(e, key) is None else getattr(e, key) for e in estimates]
    return table


def render(figure: Figure, kind: str) -> bytes:
    """The figure as 'png' (300 dots an inch) or 'svg', with no date in it."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes the figure in one move; the name's ending is the format."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(render(figure, path.suffix[1:]))
