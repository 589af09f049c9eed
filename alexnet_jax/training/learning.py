"""Did a run learn, and does that carry over to the images that it reports on? One rule, and its words.

Chance is the error of always naming the commonest class of the images in question. A count of mistakes is *at chance*
unless guesses that are wrong as often as that would make so few with a probability below `ALPHA` (exact binomial test,
one-sided). A run whose reported error is below chance needs no comment. The others:

    cannot be right     no reported image is of a class in training: the splits don't belong together
    never left chance   the training error is at chance too, and the training loss no lower than `LOSS` of what naming
                        each class with its share has: it did not learn
    fell back           so it is at the end, but the training error was below chance before
    hardly left chance  training error or loss is below chance, and the reported error is no higher than such a training
                        error would have it: too little has been learnt to show on so few images
    learns elsewhere    the training error is below chance, and the reported error is higher than it by more than
                        `SIGMAS` standard errors: it learns and does not transfer. Wrong labels, classes without
                        training images or overfitting do this, a learning rate does not

A run whose loss is no longer a finite number is none of these: it has the status "diverged".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.text import percent

ALPHA = 0.001
SIGMAS = 3.0
LOSS = 0.95

# A message begins with its case.
NEVER, FELL, HARDLY = "never left chance", "fell back to chance", "has hardly left chance"
ELSEWHERE, ONE_CLASS = "learns, but not for the reported images", "tells nothing of what was learnt"
UNSEEN = "cannot be right about any reported image"
_WHY = {NEVER: "runs that never left chance", FELL: "runs that fell back to chance",
        HARDLY: "runs that have hardly left chance", ELSEWHERE: "runs that learn, but not for the reported images",
        ONE_CLASS: "runs that report on one class alone", UNSEEN: "runs that report on classes that they never saw"}
_OLD = re.compile(rf"{NEVER}: its best error is .* always gives ([0-9.]+)%")


class Errors(NamedTuple):
    """`wrong` of `total` images, and the error of always naming the commonest class among them, a fraction."""

    wrong: int
    total: int
    chance: float

    @property
    def rate(self) -> float:
        return self.wrong / self.total

    @property
    def at_chance(self) -> bool:
        from scipy import special  # half a second that only the end of a run needs

        return not special.bdtr(self.wrong, self.total, self.chance) < ALPHA


def chance(labels: np.ndarray) -> float:
    """The error of always naming the commonest class. `labels`: int [images]."""
    return 1 - np.bincount(labels).max() / len(labels)


def blind_loss(labels: np.ndarray) -> float:
    """The mean loss, in nats, of predicting each class with its share of `labels`, for every image."""
    shares = np.bincount(labels) / len(labels)
    return float(-sum(share * math.log(share) for share in shares if share))


def higher(reported: Errors, train: Errors) -> bool:
    """Is the reported error higher than the training error, by more than `SIGMAS` standard errors of the difference?"""
    both = (reported.wrong + train.wrong) / (reported.total + train.total)
    error = math.sqrt(both * (1 - both) * (1 / reported.total + 1 / train.total))
    return reported.rate - train.rate > SIGMAS * error


def judge(train: Errors, reported: Errors, *, loss: float = math.inf, best: tuple[int, Errors] | None = None,
          unseen: int = 0, split: str = "") -> str:
    """'' or one line about a finished run: its case, the numbers, and advice that fits the case.

    Args:
      train: of the last epoch, while it learnt. reported: its headline.
      loss: the training loss of the last epoch over `blind_loss` of the training images.
      best: epoch and training error of the row with the lowest.
      unseen: reported images of classes without a training image.
      split: the name of the reported images.
    """
    if not reported.at_chance:
        return ""
    if reported.chance == 0:
        return f"{ONE_CLASS}: all {reported.total:,} reported images are of one class; report on several"
    if unseen == reported.total:
        return (f"{UNSEEN}: none of the {unseen:,} is of a class with a training image; choose splits that hold every "
                "class")
    near = " (too few images to tell the two apart)" if reported.rate < reported.chance else ""
    where = (f"{percent(reported.rate)} on the {reported.total:,} reported images, where naming one class always gives "
             f"{percent(train.chance)} and {percent(reported.chance)}{near}")
    extra = (f"; {unseen:,} of the reported images are of classes without a training image: choose splits that hold "
             "every class") if unseen else ""
    learnt = not train.at_chance
    if learnt and higher(reported, train):
        advice = (f"; are the labels and classes of '{split}' those of the training images? If so it overfits: more "
                  "images, dropout or fewer epochs may help")
        return f"{ELSEWHERE}: error {percent(train.rate)} in training and {where}{extra}{advice}"
    if learnt or loss < LOSS:
        return (f"{HARDLY}: error {percent(train.rate)} in training and {where}; more epochs, or more images to "
                f"report on, would show more{extra}")
    if best is not None and not best[1].at_chance:
        return (f"{FELL}: error {percent(train.rate)} in training ({percent(best[1].rate)} after epoch {best[0]}) and "
                f"{where}; a smaller config.optim.learning_rate may help{extra}")
    return (f"{NEVER}: error {percent(train.rate)} in training and {where}; more epochs, another "
            f"config.optim.learning_rate or a larger init_std may help{extra}")


def case(message: str) -> str:
    """The case that a finished run's message tells, one of those above; '' where it tells none."""
    return next((name for name in _WHY if message.startswith(name)), "")


def why(messages: Iterable[str]) -> str:
    """Why runs with these messages can't be compared: 'runs that never left chance'; '' where nothing speaks against
    it. The distance of such a run from one that learns is no effect."""
    return " and ".join(dict.fromkeys(_WHY[found] for message in messages if (found := case(message))))


def reread(result: Mapping[str, Any]) -> str:
    """The message of a result.json. An older one said "never left chance" of runs that learn, too.

    It told the chance of the reported images and none of the training images, which is taken to be the same.
    """
    message = str(result.get("message") or "")
    old, counts, train = _OLD.match(message), (result.get("eval") or {}).get("centre"), result.get("train") or {}
    images = (result.get("data") or {}).get("train_images")
    if not old or not counts or not images or train.get("top1_error") is None:
        return message
    at = float(old[1]) / 100
    judged = judge(Errors(round(train["top1_error"] * images), images, at),
                   Errors(counts["top1_wrong"], counts["total"], at),
                   split=str((result.get("data") or {}).get("eval_split", "")))
    return judged if case(judged) == ELSEWHERE else message
