"""Effect of dropout against the number of training images: differences without − with dropout, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.lettering import Letters
from alexnet_jax.text import count
from experiments.analysis.overfitting import Worth
from experiments.analysis.statistics import CONFIDENCE
from experiments.figures import style
from experiments.figures.style import COLOURS, DASHES, MARGIN, MARKERS, WIDTH

QUANTITIES = {"gap": "gap: reported error − error on images learnt from", "centre": "reported error, centre crop",
              "error": "reported error, all views"}


def draw(worths: Sequence[Worth], title: str) -> Figure:
    """Draws the figure. Raises ConfigError if there is no point."""
    if not worths:
        raise ConfigError("by_images: no finished pair of runs with and without dropout")
    words = [f"Without dropout minus with it, paired by seed; bars: {CONFIDENCE:.0%} intervals (Student's t), of each "
             "difference alone. Above zero dropout helps. Epochs are the same at every number of images, so that "
             "updates grow with the images."]
    letters = Letters([title])
    handles = [Line2D([], [], label=label, color=COLOURS[1 + i], linestyle=DASHES[i], marker=MARKERS[i], markersize=5)
               for i, label in enumerate(QUANTITIES.values())]
    with style.drawing(letters):
        page = style.Page(letters, 0.15 + 2.7 + 0.65, title, words, handles)
        left = MARGIN + 0.62
        axes = page.axes(left, 0.65, WIDTH - left - 0.2, 2.7)
        counts = [worth.images for worth in worths]
        for i, name in enumerate(QUANTITIES):
            # Offset, so that no interval hides another.
            x = [count * 1.02 ** (i - 1) for count in counts]
            values = [getattr(worth, name) for worth in worths]
            axes.plot(x, [e.mean for e in values], color=COLOURS[1 + i], linestyle=DASHES[i], marker=MARKERS[i],
                      markersize=5, linewidth=1.3, zorder=3)
            for at, e in zip(x, values, strict=True):
                if e.low is not None:
                    axes.plot([at, at], [e.low, e.high], color=COLOURS[1 + i], linewidth=1.3, zorder=3)
        axes.axhline(0, color="#000000", linewidth=0.8, zorder=1)
        axes.set_xscale("log")
        axes.set_xlim(counts[0] / 1.25, counts[-1] * 1.25)
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FixedFormatter([
            f"{worth.images:,}\n{count(worth.error.n, 'seed')}" for worth in worths]))
        axes.set_xlabel("training images, log scale")
        axes.set_ylabel("without − with dropout, points")
        axes.grid(axis="y", color=style.GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return page.figure
