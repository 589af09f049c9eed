"""The paper's figure 4: images with their five most probable classes and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.data import Split
from alexnet_jax.inspect.lettering import Letters
from experiments.figures import style
from experiments.figures.style import MARGIN, WIDTH

RIGHT, WRONG = style.COLOURS[1], "#9DB8D9"
_ROW, _IMAGE, _LEFT, _BARS, _LINE = 0.92, 0.6, 1.0, 1.6, 0.11  # inches; _LINE: a line of a class's name
_NAME, _BAR = 6.5, 6.5  # points


def draw(queries: Split, probabilities: np.ndarray, classes: Sequence[str], gallery: Split, neighbours: np.ndarray,
         title: str) -> Figure:
    """Draws one row per image.

    Args:
      queries: the images. probabilities: [images, classes]. classes: names of the network's outputs.
      neighbours: rows of `gallery`, nearest first, [images, neighbours].
    """
    count, near = neighbours.shape
    guesses = min(5, probabilities.shape[1])
    order = np.argsort(-probabilities, kind="stable", axis=1)[:, :guesses]
    called = [[classes[i] if i < len(classes) else f"output {i}" for i in row] for row in order]
    own = [queries.classes[int(label)] for label in queries.labels]
    letters = Letters([title, *own, *(name for row in called for name in row)])
    note = ("Orange: the right class; neighbours of the query's class have an orange frame. The network sees the "
            "centre crops. Bars are probabilities, full width 1.")
    with style.drawing(letters):
        page = style.Page(letters, 0.24 + count * _ROW, title, [note])
        start = MARGIN + _LEFT + _BARS + 0.3
        each = min(_ROW - 0.14, (WIDTH - start - MARGIN) / near - 0.06)
        top = count * _ROW + 0.06
        most = "five most probable classes" if probabilities.shape[1] > 5 else "the classes' probabilities"
        page.text(MARGIN, top, "image and class", fontsize=8)
        page.text(MARGIN + _LEFT, top, most, fontsize=8)
        page.text(start, top, f"the {near} nearest by the last hidden layer", fontsize=8)
        for row in range(count):
            below = (count - row - 1) * _ROW
            image = page.axes(MARGIN, below + 0.28, _IMAGE, _IMAGE)
            image.imshow(queries.images[row], interpolation="nearest")
            image.set_axis_off()
            lines = letters.wrapped(own[row], _LEFT - 0.08, _NAME, most=2, end=0)
            page.text(MARGIN, below + 0.26, "\n".join(lines), fontsize=_NAME, va="top", linespacing=1.05)
            bars = page.axes(MARGIN + _LEFT, below + 0.04, _BARS, _ROW - 0.08)
            for place, (index, name) in enumerate(zip(order[row], called[row], strict=True)):
                right = name == own[row]
                bars.barh(place, probabilities[row, index], color=RIGHT if right else WRONG, height=0.82)
                weight = "bold" if right else "normal"
                shown = letters.fitted(name, 0.97 * _BARS, _BAR, weight, end=0)
                bars.text(0.02, place, shown, fontsize=_BAR, va="center", weight=weight)
            bars.set_xlim(0, 1)
            bars.set_ylim(4.6, -0.6)  # the same thickness for fewer bars
            bars.set_axis_off()
            for place, neighbour in enumerate(neighbours[row]):
                panel = page.axes(start + place * (each + 0.06), below + 0.28 + _IMAGE - each, each, each)
                panel.imshow(gallery.images[neighbour], interpolation="nearest")
                panel.set_xticks([])
                panel.set_yticks([])
                same = gallery.classes[int(gallery.labels[neighbour])] == own[row]
                for spine in panel.spines.values():
                    spine.set_visible(True)
                    spine.set_color(RIGHT if same else "#BBBBBB")
                    spine.set_linewidth(2.0 if same else 0.6)
        return page.figure
