"""Convergence curves of a sweep or of a single run, from its metrics.csv files.

`load` returns all rows as one table; `draw` returns a figure for print: one line per arm (mean over seeds) with a band
over seeds, in Okabe and Ito's colours plus line styles and markers, so that it is readable in greyscale. With too many
arms for one axis, each arm gets a small panel of its own, with the baseline.
"""

from __future__ import annotations

import array
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.lettering import Letters
from experiments.analysis import statistics
from experiments.analysis.protocol import caption as protocol_caption
from experiments.analysis.protocol import protocol
from experiments.analysis.workdirs import Arm, Run, Sweep, default_views, read_run, read_sweep
from experiments.figures import style
from experiments.figures.style import COLOURS, DASHES, MARGIN, MARKERS, WIDTH

PANELS = {  # column of metrics.csv: (title, axis label, fraction shown in percent?)
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
TOGETHER = 7  # arms on one axis, including the baseline
MOST = 60  # small multiples: a sweep may have thousands of arms
_ACROSS = 4  # small multiples side by side


def load(workdir: pathlib.Path) -> pd.DataFrame:
    """All rows of all runs of a sweep, or of a single run's folder.

    Returns:
      Columns arm, ablation, baseline (bool), run, seed, state, planned (seeds of the arm), then those of
      metrics.csv (errors as fractions; no top-5 error with five or fewer classes). A run shared by two arms
      appears under both. `attrs['caption']` is the protocol for a figure. Empty (with its columns) if no run
      has a row yet.

    Raises:
      ConfigError, WorkdirError: as `workdirs.read_sweep`.
    """
    workdir = pathlib.Path(workdir)
    single = (workdir / "run.json").exists() and not (workdir / "plan.json").exists()
    return table(_alone(read_run(workdir)) if single else read_sweep(workdir))


def table(sweep: Sweep) -> pd.DataFrame:
    """Like `load`, for a sweep already read."""
    abouts: dict[str, list[Any]] = {name: [] for name in (
        "arm", "ablation", "baseline", "run", "seed", "state", "planned")}
    # NumPy arrays: for ten thousand runs, Python numbers would take a fifth of a report's memory limit.
    numbers = {name: array.array("d") for name in run_files.METRICS}
    for arm in sweep.arms:
        if arm.views:  # the baseline's runs, evaluated with other views
            continue
        for seed, run in arm.runs.items():
            rows = run.rows
            about = (arm.name, arm.ablation, arm.name == sweep.baseline, run.id, seed, run.state, len(arm.runs))
            for column, value in zip(abouts.values(), about, strict=True):
                column += [value] * len(rows)
            for name, values in numbers.items():
                has_values = run.tells_top5 or name != _TOP5
                values.extend(math.nan if row.get(name) is None or not has_values else row[name] for row in rows)
    frame = pd.DataFrame({**abouts, **{name: np.asarray(values, float) for name, values in numbers.items()}})
    frame.attrs["caption"] = protocol_caption(protocol(sweep, default_views(sweep.runs.values())))
    return frame


def _alone(run: Run) -> Sweep:
    name = str(run.about.get("name") or run.folder.name)
    return Sweep(name, "", name, [Arm(name, "", {}, {run.seed: run})])


def draw(source: pathlib.Path | pd.DataFrame, panels: Sequence[str] = ERRORS, band: str = "range",
         arms: Sequence[str] | None = None, title: str | None = None, log: bool = True) -> Figure:
    """Draws the figure. Up to `TOGETHER` arms: one panel per quantity, side by side, one line per arm against epochs.
    More arms: one block per quantity, with a small panel per arm beside the baseline, on a common axis.

    Args:
      source: a workdir or the result of `load`.
      panels: keys of PANELS, in order.
      band: 'range' (lowest to highest seed) or 'interval' (95% interval of the mean).
      arms: names, in order; None: all, in the plan's order.
      title: None: the protocol (dataset, crop, epochs).
      log: logarithmic error axes, which separate the ends of the curves, where arms differ little. A panel that
        contains a zero is linear.

    An arm's line is the mean over its finished runs (over unfinished ones until one has finished) and ends with the
    shortest of them. A run that diverged or failed is drawn separately, thin, with a cross. Arms that share all their
    runs are one line.

    Raises:
      ConfigError: an unknown panel, band or arm, or nothing to draw yet.
    """
    frame = source if isinstance(source, pd.DataFrame) else load(source)
    names = _check(frame, panels, band, arms)
    is_baseline = frame["baseline"].astype(bool)
    others = list(dict.fromkeys(frame.loc[~is_baseline, "arm"]))
    rows = {str(name): part for name, part in frame.groupby("arm", sort=False)}
    same: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        same.setdefault(tuple(sorted(set(rows[name]["run"]))), []).append(name)
    lines = [_line(rows[alike[0]], alike, i, others) for i, alike in enumerate(same.values())]
    title = frame.attrs.get("caption", "") if title is None else title
    letters = Letters([title, *names])
    with style.drawing(letters):
        if len(lines) <= TOGETHER:
            return _together(letters, lines, panels, band, title, log)
        first = next((line for line in lines if line.baseline), None)
        if first is None and is_baseline.any():
            name = frame.loc[is_baseline, "arm"].iloc[0]
            first = _line(rows[name], [name], 0, others)
        return _multiples(letters, first, [line for line in lines if line is not first], panels, band, title, log)


def _check(frame: pd.DataFrame, panels: Sequence[str], band: str, arms: Sequence[str] | None) -> list[str]:
    present = list(dict.fromkeys(frame["arm"]))
    arms = present if arms is None else arms
    choices = (("panel", panels, list(PANELS)), ("band", (band,), list(BANDS)), ("arm", arms, present))
    for what, given, known in choices:
        for name in given:
            if name not in known:
                raise ConfigError(f"curves: no {what} {name!r}; there is {', '.join(known) or 'none yet'}")
    if frame.empty:
        raise ConfigError("curves: no run has an evaluation yet; wait for the first epoch")
    if _TOP5 in panels and frame[_TOP5].isna().all():
        raise ConfigError(f"curves: panel {_TOP5!r}: among five or fewer classes five guesses miss none; leave it out")
    return list(dict.fromkeys(arms))


@dataclasses.dataclass(frozen=True)
class _Line:
    """The curve of one arm (or of several with the same runs) and its style."""

    names: list[str]
    notes: str  # ' (8 of 10 seeds)'
    rows: pd.DataFrame  # of the runs that are averaged
    lost: list[pd.DataFrame]  # the rows of each diverged or failed run
    how: dict[str, Any]  # colour, line and marker
    seeds: int
    rank: int  # place among the arms, to stagger the markers
    baseline: bool

    def label(self, letters: Letters, inches: float, size: float = style.LEGEND, notes: bool = True) -> str:
        """The name, shortened to fit, and all notes."""
        suffix = self.notes if notes else ""
        room = inches - letters.width(suffix, size)
        shown = self.names if len(self.names) < 4 else [*self.names[:2], f"{len(self.names) - 2} more"]
        each = (room - letters.width(" = " * (len(shown) - 1), size)) / len(shown)
        return style.label(letters, " = ".join(letters.fitted(n, each, size) for n in shown), room, size) + suffix


def _line(rows: pd.DataFrame, names: list[str], rank: int, others: Sequence[str]) -> _Line:
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
    place = 0 if baseline else 1 + others.index(names[0])
    i = place if place < len(COLOURS) else 1 + (place - 1) % (len(COLOURS) - 1)  # black is the baseline's alone
    # Later lines are thinner, so that coinciding lines beneath stay visible.
    drawn = min(rank, TOGETHER)
    how = {"color": COLOURS[i], "linestyle": DASHES[place % len(DASHES)], "marker": MARKERS[place % len(MARKERS)],
           "linewidth": 2.2 - 0.17 * drawn, "markersize": 6.0 - 0.4 * drawn, "markeredgewidth": 0.0,
           "zorder": 3 + 0.1 * drawn}
    return _Line(names, f" ({', '.join(notes)})" if notes else "", used, lost, how, seeds, rank, baseline)


def _words(lines: Sequence[_Line], panels: Sequence[str], band: str) -> list[str]:
    """The sentences below the figure."""
    seeds = {line.seeds for line in lines if line.seeds}
    over = f"{min(seeds)} seeds" if len(seeds) == 1 else "an arm's seeds"
    epochs = max((line.rows["epoch"].nunique() for line in lines), default=0)
    line, spread = ("Line", "band") if epochs > 1 else ("Mark", "bar")
    words = [f"{line}: mean over {over}; {spread}: {BANDS[band]}." if max(seeds, default=0) > 1 else
             "One run." if len(lines) == 1 else "One seed an arm."]
    if "train_top1_error" in panels or "train_loss" in panels:
        words.append("Training values are running means over the epoch, with dropout and augmentation on.")
    if any(len(line.names) > 1 for line in lines):
        words.append("Arms with = between them are the same runs.")
    if any(line.lost for line in lines):
        words.append("Thin line with a cross: a run that diverged or failed.")
    return words


def _together(letters: Letters, lines: Sequence[_Line], panels: Sequence[str], band: str, title: str,
              log: bool) -> Figure:
    """One panel per quantity, with all arms."""
    right, gap, panel, axis, head = 0.16, 0.14, 2.4, 0.45, 0.26
    room = WIDTH - 0.9
    handles = [Line2D([], [], label=line.label(letters, room), **line.how) for line in lines]
    page = style.Page(letters, head + panel + axis, title, _words(lines, panels, band), handles)
    drawn, before = [], []
    for name in panels:
        axes = page.axes(0, axis, 1, panel)
        axes.set_xlabel("epoch")
        for place, line in enumerate(lines):
            _plot(axes, line, name, band, 0.16 if len(lines) < 6 else 0.09, place)
        _scale([axes], name, log)
        drawn.append(axes)
        before.append(0.38 + max(letters.width(label, 8.5) for label in _tick_labels(axes)))
    width = (WIDTH - MARGIN - sum(before) - gap * (len(panels) - 1) - right) / len(panels)
    for i, (name, axes) in enumerate(zip(panels, drawn, strict=True)):
        page.place(axes, MARGIN + sum(before[:i + 1]) + i * (width + gap), axis, width, panel)
        axes.set_title(letters.fitted(PANELS[name][0], width + gap, style.TITLE), loc="left")
    return page.figure


def _tick_labels(axes: Axes) -> list[str]:
    return axes.yaxis.get_major_formatter().format_ticks([float(tick) for tick in axes.yaxis.get_majorticklocs()])


def _multiples(letters: Letters, baseline: _Line | None, lines: Sequence[_Line], panels: Sequence[str], band: str,
               title: str, log: bool) -> Figure:
    """One block per quantity, with one panel per arm."""
    left, right, gap, cell, head, axis, size = 0.72, 0.12, 0.42, 0.95, 0.22, 0.45, style.NOTE
    shown = _most_different(baseline, lines, panels[0])
    width = (WIDTH - left - right - gap * (_ACROSS - 1)) / _ACROSS
    headings = [[*letters.wrapped(line.label(letters, 1.9 * width, size, False), width, size, most=2),
                 *letters.wrapped(line.notes.strip(" ()"), width + gap, size, most=1)] for line in shown]
    pitch = cell + 0.12 + 0.125 * max(map(len, headings))
    words = [f"Black and dashed in every panel: {baseline.label(letters, 4.0, size)}." if baseline else "",
             *_words([*([baseline] if baseline else []), *shown], panels, band)]
    if len(shown) < len(lines):
        words.append(f"The {len(shown)} of {len(lines)} arms that differ most from the baseline at their end.")
    spans = {name: [_span([*([baseline] if baseline else []), line], name) for line in shown] for name in panels}
    apart = {name: _outliers(spans[name]) if log else [] for name in panels}
    if any(apart.values()):
        words.append("Axes in colour: other limits than the other panels'.")
    down = math.ceil(len(shown) / _ACROSS)
    block = head + down * pitch + axis
    page = style.Page(letters, block * len(panels), title, words)
    for number, name in enumerate(panels):
        top = block * (len(panels) - number)
        cells = []
        for i, (line, heading) in enumerate(zip(shown, headings, strict=True)):
            row, column = divmod(i, _ACROSS)
            axes = page.axes(left + column * (width + gap), top - head - (row + 1) * pitch, width, cell)
            axes.set_title("\n".join(heading), loc="left", fontsize=size, pad=3)
            if baseline:
                _plot(axes, dataclasses.replace(baseline, how=_BEHIND), name, band, 0.1, 0)
            _plot(axes, dataclasses.replace(line, how=_BEFORE), name, band, 0.2, 1)
            cells.append(axes)
        alike = [axes for i, axes in enumerate(cells) if i not in apart[name]]
        _scale(alike, name, log, few=True)
        page.text(MARGIN, top - 0.06, f"{PANELS[name][0]}: {alike[0].get_ylabel()}", fontsize=style.TITLE, va="top")
        for i, axes in enumerate(cells):
            if axes not in alike:
                _scale([axes], name, log, few=True)
                axes.tick_params(axis="y", colors=_BEFORE["color"])
            first = not any(before in alike for before in cells[i - i % _ACROSS:i])  # in its row, with that axis
            axes.tick_params(labelleft=axes not in alike or first, labelbottom=i + _ACROSS >= len(cells))
            axes.set_ylabel("")
            axes.set_xlabel("epoch" if i + _ACROSS >= len(cells) else "")
    return page.figure


def _span(lines: Sequence[_Line], name: str) -> tuple[float, float]:
    """Lowest and highest value of the lines."""
    tables = [_over_seeds(line.rows, name) for line in lines]
    lost = [run[name] for line in lines for run in line.lost]
    values = _finite([table["mean"] for table in tables if not table.empty] + lost)
    return (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)


def _outliers(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The panels that would compress all others on a common logarithmic axis: at most a third of them."""
    heights = [math.log(high / low) if low > 0 else math.inf for low, high in spans]
    usual = sorted(heights)[len(heights) * 2 // 3]
    return [i for i, height in enumerate(heights) if height > 1.5 * usual]


_BEHIND: dict[str, Any] = {"color": COLOURS[0], "linestyle": (0, (4, 1.4)), "marker": "o", "markersize": 3.2,
                           "markeredgewidth": 0.0, "linewidth": 1.5, "zorder": 3}
_BEFORE: dict[str, Any] = {**_BEHIND, "color": COLOURS[1], "linestyle": "-", "marker": "s", "markersize": 2.6,
                           "linewidth": 1.0, "zorder": 4}


def _most_different(baseline: _Line | None, lines: Sequence[_Line], name: str) -> list[_Line]:
    """The lines that differ most from the baseline, at most MOST, in their order."""
    if len(lines) <= MOST:
        return list(lines)

    def end(line: _Line) -> float:
        table = _over_seeds(line.rows, name)
        return math.nan if table.empty else float(table["mean"].iloc[-1])

    start = end(baseline) if baseline else 0.0
    distance = [-abs(end(line) - start) for line in lines]
    kept = set(sorted(range(len(lines)), key=lambda i: (math.isnan(distance[i]), distance[i]))[:MOST])
    return [line for i, line in enumerate(lines) if i in kept]


def _plot(axes: Axes, line: _Line, name: str, band: str, alpha: float, place: int) -> None:
    """Plots one line with its band, and its diverged or failed runs; of a single epoch a mark with a bar, beside those
    of the other lines. `place`: among the lines of these axes."""
    scale, colour = 100.0 if PANELS[name][2] else 1.0, line.how["color"]
    stats = _over_seeds(line.rows, name)
    if not stats.empty:
        x = stats.index.to_numpy(dtype=float)
        step = max(1, round(len(x) / 8))
        aside = 0.0 if len(x) > 1 else 0.1 * ((place + 1) // 2) * (-1) ** place  # inches
        where = axes.transData + ScaledTranslation(aside, 0, axes.figure.dpi_scale_trans)
        # Markers of different arms at different epochs, so that close lines remain distinguishable.
        axes.plot(x, scale * stats["mean"], markevery=(line.rank % step, step), transform=where, **line.how)
        if stats["n"].max() > 1:
            low, high = ("min", "max") if band == "range" else ("low", "high")
            if len(x) > 1:
                axes.fill_between(x, scale * stats[low], scale * stats[high], color=colour, alpha=alpha, linewidth=0,
                                  zorder=2)
            else:
                axes.vlines(x, scale * stats[low], scale * stats[high], color=colour, linewidth=1.2, transform=where)
    for run in line.lost:
        run = run.dropna(subset=[name])
        axes.plot(run["epoch"], scale * run[name], color=colour, linewidth=0.7, zorder=2)
        axes.plot(run["epoch"].tail(1), scale * run[name].tail(1), color=colour, marker="x", markersize=6, zorder=4)


def _scale(group: Sequence[Axes], name: str, log: bool, few: bool = False) -> None:
    """Gives all axes of one quantity the same scale, so that panels can be compared. `few`: few ticks."""
    _, label, is_error = PANELS[name]
    lines = _finite([line.get_ydata() for axes in group for line in axes.lines])
    bands = _finite([np.asarray(path.vertices)[:, 1]
                     for axes in group for band in axes.collections for path in band.get_paths()])
    low, high = (float(lines.min()), float(lines.max())) if lines.size else (0.0, 1.0)
    if bands.size:  # a 95% interval of two seeds can be huge: it may be clipped, the lines may not
        low = min(low, max(float(bands.min()), 0.6 * low))
        high = max(high, min(float(bands.max()), 1.5 * high))
    log = low > 0 and (label == "learning rate" or (log and is_error))
    # Beyond 0% and 100% there is space for a marker, but no tick.
    if log:
        edge = max((high / low) ** 0.05, 1.02 if is_error else 2.0)
        limits = low / edge, min(high * edge, max(105.0, high)) if is_error else high * edge
        ticks = _log_ticks(limits[0], min(limits[1], 100.0) if is_error else limits[1])
    else:
        edge = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        limits = low - edge, high + edge
        ticks = [t for t in MaxNLocator(nbins=6).tick_values(max(0.0, limits[0]), limits[1])
                 if limits[0] <= t <= (100.0 if is_error else math.inf) and t <= limits[1]]
    epochs = _finite([line.get_xdata() for axes in group for line in axes.lines])
    first, last = (float(epochs.min()), float(epochs.max())) if epochs.size else (0.0, 1.0)
    room = 0.03 * (last - first) or 0.5
    for axes in group:
        if log:
            axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(*limits)
        axes.set_ylabel(label + (", log scale" if log else ""))
        axes.yaxis.set_major_formatter(style.Ticks("%" if is_error else "", log))
        axes.set_xlim(first - room, last + room)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4 if few else 8, min_n_ticks=1))
        axes.grid(axis="y", color=style.GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def _finite(parts: Sequence[Any]) -> np.ndarray:
    every = np.concatenate([np.empty(0), *(np.asarray(part, dtype=float) for part in parts)])
    return every[np.isfinite(every)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values between the limits; the narrower the range, the finer."""
    if high / low < 2:
        return [t for t in MaxNLocator(nbins=6).tick_values(low, high) if low <= t <= high]
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high / low < 6 else (1, 2, 3, 5) if high / low < 40 else (1, 3)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]


def _over_seeds(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """mean, min, max, low, high and n by epoch, for the epochs that all of the runs have reached."""
    by = rows.dropna(subset=[name]).groupby("epoch")[name]
    table = by.agg(["mean", "min", "max", "count"]).rename(columns={"count": "n"})
    table = table[table["n"] == table["n"].max()]
    estimates = [statistics.estimate(list(by.get_group(epoch))) for epoch in table.index]
    for key in ("low", "high"):  # without an interval (one seed, equal values) the band is the mean
        table[key] = [e.mean if getattr(e, key) is None else getattr(e, key) for e in estimates]
    return table
