"""The common style of all figures: colours, lettering, and a page laid out in inches.

Drawn without pyplot and without a display; the same numbers give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import Formatter

from alexnet_jax import files
from alexnet_jax.inspect.lettering import OWN, Letters

# Okabe and Ito's palette without yellow, which is hard to see on white paper. Black is the baseline's.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.6, 1.2, 1.6)), (0, (3, 1.2)), (0, (8, 2)),
          (0, (6, 1.4, 1.2, 1.4, 1.2, 1.4)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
QUIET, GRID = "#444444", "#DDDDDD"  # colours of notes and of grid lines

WIDTH = 7.2  # inches: a page's text width; text is legible at half of it
MARGIN = 0.12
TITLE, NOTE, LEGEND = 9.5, 7.5, 8.5  # points
_TITLE_LINE, _NOTE_LINE, _LEGEND_LINE = 0.17, 0.145, 0.18  # inches
STYLE: Any = {
    "font.size": 9.0, "axes.labelsize": 9.0, "axes.titlesize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "legend.fontsize": LEGEND, "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "alexnet_jax", "svg.fonttype": "path", "path.simplify": False,
    # Tick labels are drawn when the figure is saved.
    "font.family": [OWN], "text.parse_math": False, "text.usetex": False}


class Page:
    """A figure of the text's width: title, body of a given height, legend and note, which never overlap.

    Args:
      body: inches. title: wrapped, may be ''. note: sentences at the bottom.
      legend: the labelled lines and markers that it explains.
    """

    def __init__(self, letters: Letters, body: float, title: str, note: Sequence[str], legend: Sequence[Line2D] = ()):
        self.letters = letters
        heading = letters.wrapped(title, WIDTH - 2 * MARGIN, TITLE, "bold")
        notes = letters.wrapped(" ".join(filter(None, (*note, letters.note))), WIDTH - 2 * MARGIN, NOTE)
        columns = self._legend_columns(legend)
        rows = -(-len(legend) // columns)
        self._foot = 0.1 + _NOTE_LINE * len(notes)
        self._base = self._foot + (0.08 + _LEGEND_LINE * rows if legend else 0.0)
        self.height = self._base + body + 0.12 + _TITLE_LINE * len(heading)
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor="white")
        FigureCanvasAgg(self.figure)
        if heading:
            self.figure.text(0.5, 1 - 0.06 / self.height, "\n".join(heading), ha="center", va="top", fontsize=TITLE,
                             weight="bold")
        self.figure.text(MARGIN / WIDTH, 0.06 / self.height, "\n".join(notes), va="bottom", fontsize=NOTE, color=QUIET)
        if legend:
            self.legend(legend, columns)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes in a box of the body, in inches from its left and lower edges."""
        return self.figure.add_axes((x / WIDTH, (y + self._base) / self.height, width / WIDTH, height / self.height))

    def place(self, axes: Axes, x: float, y: float, width: float, height: float) -> None:
        """Moves axes to another box of the body."""
        axes.set_position((x / WIDTH, (y + self._base) / self.height, width / WIDTH, height / self.height))

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        """Text in the body, in inches from its left and lower edges. Names must have gone through `Letters`."""
        self.figure.text(x / WIDTH, (y + self._base) / self.height, text, **how)

    def legend(self, handles: Sequence[Line2D], columns: int) -> Legend:
        return self.figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, self._base / self.height),
                                  ncol=columns, frameon=False, handlelength=3.4, columnspacing=1.8, borderpad=0.2)

    def _legend_columns(self, handles: Sequence[Line2D]) -> int:
        """As many columns as fit the width, spread evenly over the rows."""
        if not handles:
            return 1
        widest = max(self.letters.width(str(handle.get_label()), LEGEND) for handle in handles) + 0.75
        most = max(1, min(len(handles), int((WIDTH - 0.1) / widest)))
        return -(-len(handles) // -(-len(handles) // most))


@contextlib.contextmanager
def drawing(letters: Letters) -> Iterator[None]:
    """Matplotlib's settings for drawing a page."""
    with letters.style(STYLE):
        yield


def label(letters: Letters, name: str, inches: float, size: float = LEGEND) -> str:
    """A name for a legend, shortened to fit. Matplotlib would leave out one that begins with an underscore."""
    shown = letters.fitted(name, inches, size)
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


class Ticks(Formatter):
    """Tick labels with the same number of digits after the point, as few as they need: 1.0, 1.5, 2.0.

    Args:
      unit: follows each number. log: on an axis of several powers of ten each number has the digits that it needs.
    """

    def __init__(self, unit: str = "", log: bool = False):
        self.unit, self.log = unit, log

    def __call__(self, value: float, pos: int | None = None) -> str:
        return f"{value:g}{self.unit}".replace("-", "−")

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        plain = [f"{value:g}" for value in values]
        if any("e" in text for text in plain) or (self.log and max(values, default=0) >= 10 * min(values, default=1)):
            return [self(value) for value in values]
        digits = max((len(text.partition(".")[2]) for text in plain), default=0)
        return [f"{value:.{digits}f}{self.unit}".replace("-", "−") for value in values]


def render(figure: Figure, kind: str) -> bytes:
    """The figure as 'png' (300 dots an inch) or 'svg', with no date in it."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes the figure atomically, in the format of the file's suffix."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(render(figure, path.suffix[1:]))
