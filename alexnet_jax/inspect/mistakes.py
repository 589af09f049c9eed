"""A network's mistakes on a split: errors by class, the confusion matrix, and the worst mistakes by their files.

An image is a mistake by its most probable class, ties going to the lower one, as in `training.evaluate`. The worst
mistakes are those whose true class got the lowest probability: the largest losses.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import files, names, text
from alexnet_jax.data import Split
from alexnet_jax.inspect import figure4
from alexnet_jax.inspect.figure4 import Guess

GUESSES = 5
_LINES, _MATRIX = 10, 12  # classes of the table, and at most of a printed matrix
_SIGNS = 12  # of a class in a matrix


class Answers:
    """A network's predictions for the images of a split.

    Attributes:
      top: int32 [n, 5 or as many outputs as there are], the most probable first. probabilities: float32, theirs.
      right: float32 [n], the log of the right class's probability.
      finite: are the network's outputs numbers? Else nothing of this means anything.

    Args:
      outputs: of the network; there may be some beyond the split's classes.
    """

    def __init__(self, split: Split, outputs: int):
        self.split, self.outputs = split, outputs
        self.top = np.zeros((len(split), min(GUESSES, outputs)), np.int32)
        self.probabilities = np.zeros(self.top.shape, np.float32)
        self.right = np.zeros(len(split), np.float32)
        self.finite, self._done = True, 0

    def add(self, log_probs: np.ndarray) -> None:
        """Takes in the next images, in the split's order: [some, outputs]."""
        here = slice(self._done, self._done + len(log_probs))
        self._done = here.stop
        best = np.argsort(-log_probs, axis=1, kind="stable")[:, :GUESSES]
        self.top[here], self.probabilities[here] = best, np.exp(np.take_along_axis(log_probs, best, axis=1))
        self.right[here] = log_probs[np.arange(len(log_probs)), self.split.labels[here]]
        self.finite &= not bool(np.isnan(log_probs).any())

    @property
    def wrong(self) -> np.ndarray:
        return self.top[:, 0] != self.split.labels

    @property
    def wrong_at_five(self) -> np.ndarray:
        return (self.top != self.split.labels[:, None]).all(axis=1)

    def confusion(self) -> np.ndarray:
        """int64 [classes, outputs]: how many images of each class were taken for each."""
        pairs = self.split.labels.astype(np.int64) * self.outputs + self.top[:, 0]
        classes = len(self.split.known)
        return np.bincount(pairs, minlength=classes * self.outputs).reshape(classes, self.outputs)

    def by_class(self, which: np.ndarray) -> np.ndarray:
        """int64 [classes]: of how many images of each class `which`, bool [n], holds."""
        return np.bincount(self.split.labels[which], minlength=len(self.split.known))

    def worst(self, count: int) -> np.ndarray:
        """Places of the worst mistakes within the split, the worst first."""
        places = np.flatnonzero(self.wrong)
        return places[np.argsort(self.right[places], kind="stable")][:count]

    # Classes by what identifies them and by what they are called.

    def keys(self) -> list[str]:
        """Of the outputs."""
        own = self.split.class_keys
        return [*own, *(f"output {i}" for i in range(len(own), self.outputs))]

    def shown(self) -> list[str]:
        own = self.split.known.told_apart()
        return [*own, *(f"output {i}" for i in range(len(own), self.outputs))]

    def guesses(self, place: int) -> list[Guess]:
        """The most probable classes of an image."""
        keys, shown = self.keys(), self.shown()
        return [Guess(keys[i], shown[i], float(p))
                for i, p in zip(self.top[place].tolist(), self.probabilities[place].tolist(), strict=True)]

    def label(self, place: int) -> Guess:
        """The right class of an image, with the probability that it was given."""
        right = int(self.split.labels[place])
        return Guess(self.split.class_keys[right], self.shown()[right], float(np.exp(self.right[place])))


def tree(answers: Answers, count: int) -> dict[str, Any]:
    """For JSON: 'classes' (in the order of the outputs: 'key', 'name', 'images', 'wrong', 'wrong_at_five' and 'given',
    the confusion matrix's row without its zeros) and 'worst' ('file', '' where none is known; 'place' within the split;
    'right' and 'given', the most probable first)."""
    keys, per = answers.keys(), answers.split.per_class.tolist()
    wrong, five = (answers.by_class(which).tolist() for which in (answers.wrong, answers.wrong_at_five))
    rows = answers.confusion()
    classes = [{"key": key, "name": name, "images": per[i], "wrong": wrong[i], "wrong_at_five": five[i],
                "given": {keys[j]: int(rows[i, j]) for j in np.flatnonzero(rows[i])}}
               for i, (key, name) in enumerate(zip(answers.split.class_keys, answers.split.classes, strict=True))]
    places = answers.worst(count)
    worst = [{"file": name, "place": place, "right": answers.label(place)._asdict(),
              "given": [guess._asdict() for guess in answers.guesses(place)]}
             for name, place in zip(answers.split.names_of(places), places.tolist(), strict=True)]
    return {"classes": classes, "worst": worst}


def write_confusion(answers: Answers, file: pathlib.Path) -> None:
    """As CSV, a row a class: key, name, images, wrong, wrong_at_five, then how many were taken for each output."""
    wrong, five = answers.by_class(answers.wrong), answers.by_class(answers.wrong_at_five)
    with files.replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["key", "name", "images", "wrong", "wrong_at_five", *answers.keys()])
        for i, row in enumerate(answers.confusion().tolist()):
            rows.writerow([answers.split.class_keys[i], answers.split.classes[i], answers.split.per_class[i], wrong[i],
                           five[i], *row])


def lines(answers: Answers, count: int) -> list[str]:
    """For people: the classes of the largest error, the matrix where it has few classes, the worst mistakes."""
    matrix, shown = answers.confusion(), [text.short(name, text.WIDTH) for name in answers.shown()]
    found = _of_classes(answers, matrix, shown)
    seen = np.flatnonzero((matrix.sum(axis=0) > 0) | np.pad(matrix.sum(axis=1) > 0, (0, answers.outputs - len(matrix))))
    if 2 < len(seen) <= _MATRIX:
        found += ["", "confusion matrix: a row a class, a column what it was taken for", *_matrix(matrix, shown, seen)]
    places = answers.worst(count)
    if len(places):
        wrong = int(answers.wrong.sum())
        found += ["", f"the {len(places)} worst of {wrong:,} mistakes: file, right class, given class",
                  *_worst(answers, places)]
    return found


def _of_classes(answers: Answers, matrix: np.ndarray, shown: Sequence[str]) -> list[str]:
    images, wrong = answers.split.per_class, answers.by_class(answers.wrong)
    present = np.flatnonzero(images)
    order = present[np.argsort(-wrong[present] / images[present], kind="stable")]
    rows = [("class", "images", "wrong", "error", "most often taken for")]
    for i in order[:_LINES].tolist():
        others = matrix[i].copy()
        others[i] = 0
        most = [f"{shown[j]} ({others[j]:,})" for j in np.argsort(-others, kind="stable")[:2].tolist() if others[j]]
        rows.append((shown[i], f"{images[i]:,}", f"{wrong[i]:,}", text.percent(wrong[i] / images[i]), ", ".join(most)))
    head = "error by class" + (f", the {_LINES} largest of {len(order):,}" if len(order) > _LINES else "")
    return ["", head, *text.table(rows, [False, True, True, True, False])]


def _matrix(matrix: np.ndarray, shown: Sequence[str], seen: np.ndarray) -> list[str]:
    called = {i: names.short(shown[i], _SIGNS) for i in seen.tolist()}
    rows = [("", *called.values()), *((called[i], *(f"{matrix[i, j]:,}" for j in called))
                                      for i in called if i < len(matrix) and matrix[i].any())]
    return text.table(rows, [False, *[True] * len(called)])


def _worst(answers: Answers, places: np.ndarray) -> list[str]:
    rows = []
    for name, place in zip(answers.split.names_of(places), places.tolist(), strict=True):
        right, given = answers.label(place), answers.guesses(place)[0]
        rows.append((names.plain(name) or f"image {place:,}", *(f"{text.short(guess.name, text.WIDTH)} "
                                                               f"{guess.probability:.1%}" for guess in (right, given))))
    return text.table(rows)


def draw(answers: Answers, title: str, count: int, file: pathlib.Path) -> int:
    """Draws the worst mistakes, `figure4.MOST` at most, with right and given classes; returns how many.

    Args:
      file: of which `paths.output` approves. Nothing is written where there is no mistake.
    """
    places = answers.worst(min(count, figure4.MOST))
    if len(places):
        called = [name or f"image {place:,}" for name, place in zip(answers.split.names_of(places), places.tolist(),
                                                                    strict=True)]
        rows = [(name, image, answers.guesses(place))
                for name, image, place in zip(called, answers.split.read(places), places.tolist(), strict=True)]
        figure4.draw(rows, title, int(answers.wrong.sum()), file, [answers.label(place) for place in places.tolist()])
    return len(places)
