"""Photographs with their most probable classes as bars, in the manner of the paper's figure 4."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_jax import environment, files

if TYPE_CHECKING:
    from alexnet_jax.inspect.lettering import Letters

MOST = 24  # images of a picture
_COLUMNS = 4
_CELL, _IMAGE, _BARS, _LINE, _GAP = 1.8, 1.62, 0.95, 0.2, 0.09  # inches
_DOTS = 160  # an inch
_RED = "#A32A1F"


class Guess(NamedTuple):
    """A class, by what identifies it and by the name that people read, and its probability."""

    key: str
    name: str
    probability: float


def draw(rows: Sequence[tuple[str, np.ndarray, Sequence[Guess]]], title: str, of: int, file: pathlib.Path,
         right: Sequence[Guess] = ()) -> None:
    """Writes the picture.

    Args:
      rows: (file, uint8 [size, size, 3], its guesses) of at most `MOST` images.
      of: how many there are in all. file: of which `paths.output` approves.
      right: the images' classes, where they are known: written below the file, their bars in red as in the paper.
    """
    environment.prepare_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from alexnet_jax.inspect.lettering import Letters

    across = min(_COLUMNS, len(rows))
    below = _LINE * (2 if right else 1)
    down, cell = -(-len(rows) // across), _IMAGE + below + _BARS + 2 * _GAP
    width, height = max(across, 2) * _CELL + _GAP, down * cell + 2.4 * _LINE + _GAP
    letters = Letters([title, *(name for name, _, _ in rows), *(guess.name for _, _, best in rows for guess in best),
                       *(guess.name for guess in right)])
    with letters.style({"svg.hashsalt": "alexnet"}):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)

        def axes(x, y, w, h):
            made = figure.add_axes((x / width, y / height, w / width, h / height))
            made.set_axis_off()
            return made

        some = f", the first {len(rows)} of {of:,}" if len(rows) < of else ""
        room = width - 2 * _GAP - letters.width(some, 8, "bold")
        figure.text(_GAP / width, 1 - 0.6 * _LINE / height, letters.fitted(title, room, 8, "bold") + some, fontsize=8,
                    va="top", weight="bold")
        coloured = "Red: the right class. " if right else ""
        about = letters.fitted(f"Bars are probabilities, full width 1. {coloured}{letters.note}", width - 2 * _GAP, 7)
        figure.text(_GAP / width, 1 - 1.5 * _LINE / height, about, fontsize=7, va="top", color="#444444")
        for i, (name, image, best) in enumerate(rows):
            x = _GAP + i % across * _CELL
            top = height - 2.4 * _LINE - i // across * cell
            axes(x, top - _IMAGE, _IMAGE, _IMAGE).imshow(image, interpolation="antialiased")
            figure.text((x + _IMAGE / 2) / width, (top - _IMAGE - _LINE / 2) / height,
                        letters.fitted(name, _IMAGE, 6.5, "bold"), fontsize=6.5, ha="center", va="center",
                        weight="bold")
            if right:
                figure.text((x + _IMAGE / 2) / width, (top - _IMAGE - 1.5 * _LINE) / height,
                            letters.fitted(right[i].name, _IMAGE, 7), fontsize=7, ha="center", va="center", color=_RED)
            _bars(axes(x, top - _IMAGE - below - _BARS, _IMAGE, _BARS), best, letters,
                  right[i].key if right else None)
        kind = file.suffix.lower()[1:]
        dated = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]
        with files.replacing(file) as temporary:
            figure.savefig(temporary, format=kind, dpi=_DOTS, metadata={dated: None})


def _bars(axes: Any, best: Sequence[Guess], letters: Letters, right: str | None = None) -> None:
    for place, guess in enumerate(best):
        axes.barh(place, guess.probability, color="#E0948C" if guess.key == right else "#9DB8D9", height=0.86)
        axes.text(0.02, place, letters.fitted(guess.name, 0.97 * _IMAGE, 7, end=0), fontsize=7, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(4.6, -0.6)  # fewer bars are no thicker
