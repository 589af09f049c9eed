"""Figure 4 of the paper: images with their five most probable classes; beside each its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alexnet_jax import names
from alexnet_jax.data import Split
from experiments.figures import curves

RIGHT, WRONG = curves.COLOURS[1], "#9DB8D9"
_ROW, _LEFT, _BARS = 0.86, 0.78, 1.55  # inches


def draw(queries: Split, probabilities: np.ndarray, classes: Sequence[str], gallery: Split, found: np.ndarray,
         title: str) -> Figure:
    """A row an image.

    Args:
      queries: the images to draw. probabilities: [images, classes]. classes: names of the network's outputs.
      found: rows of `gallery`, [images, neighbours], the nearest first.
    """
    count, near = found.shape
    height = 0.62 + count * _ROW + 0.42
    guesses = min(5, probabilities.shape[1])
    with matplotlib.rc_context(curves.STYLE):
        figure = Figure(figsize=(curves.WIDTH, height), facecolor="white")
        FigureCanvasAgg(figure)

        def axes(x: float, row: int, width: float, tall: float):
            bottom = height - 0.62 - (row + 1) * _ROW + 0.08
            return figure.add_axes((x / curves.WIDTH, bottom / height, width / curves.WIDTH, tall / height))

        start = 0.12 + _LEFT + _BARS + 0.35
        each = min(_ROW - 0.14, (curves.WIDTH - start - 0.1) / near - 0.06)
        figure.text(0.5, 1 - 0.08 / height, names.short(title, 95, 40), ha="center", va="top", fontsize=9,
                    weight="bold")
        most = "five most probable classes" if probabilities.shape[1] > 5 else "the classes' probabilities"
        figure.text(0.12 / curves.WIDTH, 1 - 0.5 / height, f"image and class; {most}", fontsize=8.5)
        figure.text(start / curves.WIDTH, 1 - 0.5 / height,
                    f"the {near} nearest by the last hidden layer", fontsize=8.5)
        for row in range(count):
            label = int(queries.labels[row])
            own = axes(0.12, row, _ROW - 0.3, _ROW - 0.3)
            own.imshow(queries.images[row], interpolation="nearest")
            own.set_axis_off()
            own.set_title(names.short(queries.classes[label], 14), fontsize=7, pad=2)
            _bars(axes(0.12 + _LEFT, row, _BARS, _ROW - 0.16), probabilities[row], classes, guesses,
                  queries.classes[label])
            for place, neighbour in enumerate(found[row]):
                panel = axes(start + place * (each + 0.06), row, each, each)
                panel.imshow(gallery.images[neighbour], interpolation="nearest")
                panel.set_xticks([])
                panel.set_yticks([])
                same = gallery.classes[int(gallery.labels[neighbour])] == queries.classes[label]
                for spine in panel.spines.values():
                    spine.set_visible(True)
                    spine.set_color(RIGHT if same else "#BBBBBB")
                    spine.set_linewidth(2.0 if same else 0.6)
        figure.text(0.12 / curves.WIDTH, 0.08 / height, "Orange: the right class; neighbours of the query's class have "
                    "an orange frame.\nThe network sees the centre crops. Bars are probabilities, full width 1.",
                    fontsize=7.5, va="bottom", color="#444444")
        return figure


def _bars(axes, probabilities: np.ndarray, classes: Sequence[str], guesses: int, right: str) -> None:
    order = np.argsort(-probabilities, kind="stable")[:guesses]
    for place, index in enumerate(order):
        name = classes[index] if index < len(classes) else f"output {index}"
        axes.barh(place, probabilities[index], color=RIGHT if name == right else WRONG, height=0.82)
        axes.text(0.02, place, names.short(name, 24), fontsize=6.5, va="center",
                  weight="bold" if name == right else None)
    axes.set_xlim(0, 1)
    axes.set_ylim(4.6, -0.6)  # fewer bars are no thicker
    axes.set_axis_off()
