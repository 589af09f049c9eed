"""First-layer kernels by column in one picture, like the paper's figure 3."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.inspect.lettering import Letters
from experiments.analysis import colour
from experiments.figures import style
from experiments.figures.style import MARGIN, WIDTH

MOST = 5  # runs in one figure
_DOTS, _GAP = 4, 3  # pixels per weight, and between two kernels


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
    """Draws one row per run (the first MOST), one block per column, kernels sorted by increasing colour share.

    Args:
      by_seed: {seed: kernels [column, height, width, 3, kernel]}.
    """
    seeds = sorted(by_seed)[:MOST]
    columns, _, _, _, count = by_seed[seeds[0]].shape
    across = next(n for n in range(math.isqrt(2 * count), count + 1) if count % n == 0)
    size = tile(by_seed[seeds[0]][0], across).shape
    gap, line = 0.25, 0.13
    shares = {seed: colour.colour_shares(by_seed[seed]) for seed in seeds}
    captions = {seed: [f"seed {seed}"] + ([f"p = {measured[seed].p_value:.2g}"] if seed in measured else [])
                for seed in seeds}
    letters = Letters([arm, caption])
    left = MARGIN + 0.15 + max(letters.width(words, 8) for lines in captions.values() for words in lines)
    width = (WIDTH - left - MARGIN - gap * (columns - 1)) / columns
    width = min(width, 3.0 * size[1] / size[0])
    each = width * size[0] / size[1]
    room = width + gap - 0.05
    names = {(seed, i): letters.wrapped(f"column {i + 1}: colour share {shares[seed][i].mean():.2f}", room, 8)
             for seed in seeds for i in range(columns)}
    head = 0.08 + line * max(map(len, names.values()))
    pitch = head + max(each, 0.16 * max(map(len, captions.values())))
    note = ["Each kernel is stretched to its own range, grey where it is zero, and sorted within its column by colour "
            "share (the part of its energy that a grey kernel couldn't have; random weights: 0.67).",
            f"p: permutation test over the kernels' columns, {colour.SHUFFLES:,} shufflings." if measured else "",
            f"{len(seeds)} of {len(by_seed)} runs." if len(seeds) < len(by_seed) else ""]
    with style.drawing(letters):
        page = style.Page(letters, len(seeds) * pitch, f"First-layer kernels, {arm}: {caption}", note)
        for row, seed in enumerate(seeds):
            top = (len(seeds) - row) * pitch - head
            page.text(MARGIN, top - each / 2, "\n".join(captions[seed]), va="center", fontsize=8)
            for i in range(columns):
                x = left + i * (width + gap)
                axes = page.axes(x, top - each, width, each)
                order = np.argsort(shares[seed][i], kind="stable")
                axes.imshow(tile(by_seed[seed][i][..., order], across), interpolation="nearest")
                axes.set_axis_off()
                page.text(x, top + 0.03, "\n".join(names[seed, i]), va="bottom", fontsize=8)
        return page.figure
