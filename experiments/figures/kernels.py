"""First-layer kernels by column as one picture, in the manner of the paper's figure 3."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.analysis import colour
from experiments.figures import curves

MOST = 5  # runs in one figure
_DOTS, _GAP = 4, 3  # dots of a weight, and between two kernels


def tile(kernels: np.ndarray, across: int) -> np.ndarray:
    """Kernels of one column in a grid, each stretched to [0, 1] with zero in the middle: float [H, W, 3], white gaps.

    Args:
      kernels: [height, width, 3, kernel].
    """
    k = np.moveaxis(np.asarray(kernels, np.float64), -1, 0)
    largest = np.abs(k).max(axis=(1, 2, 3), keepdims=True)
    k = 0.5 + 0.5 * k / np.where(largest > 0, largest, 1.0)
    k = k.repeat(_DOTS, axis=1).repeat(_DOTS, axis=2)
    count, height, width, _ = k.shape
    down = math.ceil(count / across)
    sheet = np.ones((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, 3))
    for i, image in enumerate(k):
        y, x = (i // across) * (height + _GAP), (i % across) * (width + _GAP)
        sheet[y : y + height, x : x + width] = image
    return sheet


def draw(by_seed: Mapping[int, np.ndarray], measured: Mapping[int, colour.Separation], arm: str,
         caption: str) -> Figure:
    """A row a run (the first five), a block a column, kernels by rising colour share.

    Args:
      by_seed: [column, height, width, 3, kernel].
    """
    seeds = sorted(by_seed)[:MOST]
    columns, _, _, _, count = by_seed[seeds[0]].shape
    across = next(n for n in range(math.isqrt(2 * count), count + 1) if count % n == 0)
    size = tile(by_seed[seeds[0]][0], across).shape
    heading = curves.wrapped(f"First-layer kernels, {arm}: {caption}", 100)
    left, gap, head, between = 0.75, 0.25, 0.38 + 0.17 * len(heading), 0.3
    width = (curves.WIDTH - left - 0.15 - gap * (columns - 1)) / columns
    width = min(width, 3.0 * size[1] / size[0])
    each = width * size[0] / size[1]
    note = textwrap.wrap(
        f"Each kernel stretched to its own range, grey where it is zero; of a column by rising colour share (the part "
        f"of its energy that a grey kernel couldn't have; random weights: 0.67). p: permutation test over the kernels' "
        f"columns, {colour.SHUFFLES:,} shufflings." + (f" {len(seeds)} of {len(by_seed)} runs."
                                                       if len(seeds) < len(by_seed) else ""), 120)
    foot = 0.12 + 0.145 * len(note)
    height = head + len(seeds) * (each + between) + foot
    with matplotlib.rc_context(curves.STYLE):
        figure = Figure(figsize=(curves.WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.5, 1 - 0.08 / height, "\n".join(heading), ha="center", va="top", fontsize=9,
                    weight="bold")
        for row, seed in enumerate(seeds):
            kernels, shares = by_seed[seed], colour.colour_shares(by_seed[seed])
            bottom = height - head - row * (each + between) - each
            words = f"seed {seed}" + (f"\np = {measured[seed].p_value:.2g}" if seed in measured else "")
            figure.text(0.08 / curves.WIDTH, (bottom + each / 2) / height, words, va="center", fontsize=8)
            for column in range(columns):
                axes = figure.add_axes(((left + column * (width + gap)) / curves.WIDTH, bottom / height,
                                        width / curves.WIDTH, each / height))
                order = np.argsort(shares[column], kind="stable")
                axes.imshow(tile(kernels[column][..., order], across), interpolation="nearest")
                axes.set_axis_off()
                axes.set_title(f"column {column + 1}: colour share {shares[column].mean():.2f}", fontsize=8, pad=3)
        figure.text(0.08 / curves.WIDTH, 0.06 / height, "\n".join(note), va="bottom", fontsize=7.5, color="#444444")
        return figure
