"""What a run leaves behind, and how it is read: run.json, metrics.csv, timing.csv, result.json, events.

A run's folder (written here but for the last three):

`run.json`      what was run: `{"schema", "name", "id", "seed", "config" (nested, resolved), "overrides"
                (dotted), "images": {field of config.data: {"version", "images", "classes"}}, "classes": {"keys"
                (what identifies them in the dataset), "names"} in the order of the outputs, "about_data"
                (where there are any, "seen" and "classes" of result.json's "data"), "command",
                "git": {"revision", "dirty"} or {"unknown": why}, "versions", "device": {"platform", "kind",
                "count", "cores", "mesh", "products" (their precision)}, "environment" ({variable: text}, of
                alexnet_jax.numerics: what isn't at its default; absent from older runs, where it counts as {}),
                "started" (UTC, ISO 8601), "resumed": [UTC, …]}`. A resume under other circumstances than the
                run's beginning is {"at": UTC} with those of "git", "versions" and "device" that differ.
`metrics.csv`   one row an evaluation, deterministic quantities only; the columns are `METRICS`. Errors are
                fractions of 1, losses natural logarithms, train_* running means over the images since the
                last row, with dropout and augmentation on; eval_* the centre crop, tune_* likewise (empty
                without a tuning split). Top-5 errors are counted whatever the classes; of five or fewer
                they say nothing (see `tells_top5`).
`timing.csv`    one row an evaluation: `TIMING`. Seconds since the row before; `elapsed_seconds` since the process began
                to train. The last row is that of the final counts: nothing is trained, `images_per_second` is empty.
`result.json`   the end: `{"schema", "name", "id", "seed", "status", "message", "epochs", "steps",
                "train": {"loss", "top1_error"} (of the last row), "data": {"name", "version", "size", "crop",
                "train_split", "train_images", "eval_split", "eval_images", "corrupt"},
                "eval": {"centre": COUNTS, "ten_view": COUNTS, "five_view": COUNTS, "fit": COUNTS}}`, COUNTS =
                `{"top1_wrong", "top5_wrong", "total", "loss"}`, the first three integers. "five_view" is there where
                training never mirrors (alexnet_jax.training.views; older records have none), "fit" with
                `data.fit_split`: its centre crops by the last weights, without dropout and augmentation.
                Deterministic: no dates, no paths.
                "data" also has, where there are any, "seen" (reported images that were learnt from too) and "classes"
                (`data.classes.uneven`: classes without training images and the like).
                `epochs` and `steps` are those of the config; of a finished run that stopped before them
                (`train.stop_at_error`, `optim.plateau.stop`) those done, and a key "stopped" says so in words.
                `status`: "finished"; "diverged" (the loss was not finite) and "failed" (an error, named in
                `message`) have "eval" null, and so has "imported" (a network of others: run.json's key "imported" has
                the "file", "format" and "sha256" that it is from, alexnet_jax.weights). `message` of a finished run
                is "" or says why its error is that of chance (alexnet_jax.training.learning).
`outcomes.json` of each reported image, in the split's order, whether it was right: `{"schema", "images", "centre",
                "ten_view": {"top1_wrong", "top5_wrong"}}`, the last as bits, the highest of each byte first, in
                base64; "five_view" too, where result.json has it. Written before result.json, by runs that finish.
`input.npz`     what is subtracted from images, and the classes (alexnet_jax.training.inputs).
`progress.json` the state of a run under way: `PROGRESS`, replaced about once a second.
`log.txt`       what the run said. `events.out.tfevents.*` the rows of both CSVs for TensorBoard (training/events.py).
`checkpoints/`  alexnet_jax.training.checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.files import write_text

SCHEMA = 1
OUTCOMES = "outcomes.json"
METRICS = ("epoch", "step", "learning_rate", "train_loss", "train_top1_error", "eval_loss", "eval_top1_error",
           "eval_top5_error", "tune_loss", "tune_top1_error")
TIMING = ("epoch", "step", "train_seconds", "eval_seconds", "checkpoint_seconds", "compile_seconds",
          "images_per_second", "elapsed_seconds")
SECONDS = TIMING[2:6]  # of timing.csv: together, most of what a run took
PROGRESS = ("state", "epoch", "epochs", "step", "steps", "images_per_second", "train_top1_error",
            "eval_top1_error", "seconds_left", "updated")
STATUSES = ("finished", "diverged", "failed", "imported")
USABLE = ("finished", "imported")  # of runs whose folder holds a network to be looked at


def write_json(path: pathlib.Path, tree: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")


def read_json(path: pathlib.Path, shared: bool = False) -> dict[str, Any] | None:
    """The file's content; None if it is absent or not a JSON object (the caller decides what that means).

    Args:
      shared: equal innermost objects are shared in memory, and must not be changed: ten thousand configs have few
        different parts.
    """
    seen: dict[str, dict[str, Any]] = {}

    def one_of_equals(part: dict[str, Any]) -> dict[str, Any]:
        if any(isinstance(value, dict) for value in part.values()):
            return part
        return seen.setdefault(repr(part), part)

    try:
        tree = json.loads(path.read_text(encoding="utf-8"), object_hook=one_of_equals if shared else None)
        return tree if isinstance(tree, dict) else None
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_rows(path: pathlib.Path, lenient: bool = False) -> list[dict[str, Any]]:
    """`rows_of` a metrics.csv or timing.csv; [] if absent."""
    return rows_of(read_lines(path), lenient)


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a metrics.csv or timing.csv, its header first; [] if absent."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line and "\0" not in line]


def rows_of(lines: Sequence[str], lenient: bool = False) -> list[dict[str, Any]]:
    """A list of dicts of numbers, None for an empty cell, of the lines of a metrics.csv or timing.csv.

    Skips an incomplete row: a kill may leave one at the end.

    Args:
      lenient: skip garbled rows too, rather than raise ValueError.
    """
    columns = lines[0].split(",") if lines else []
    rows = []
    for line in lines[1:]:  # no cell is quoted: all are numbers
        cells = line.split(",")
        if len(cells) != len(columns):
            continue
        try:
            rows.append(dict(zip(columns, map(_number, cells), strict=True)))
        except ValueError:
            if not lenient:
                raise
    return rows


def _number(text: str) -> float | int | None:
    if text == "":
        return None
    return int(text) if text.lstrip("-").isdecimal() else float(text)


class Rows:
    """An append-only CSV that survives kills: a resume keeps the rows up to its step and drops the others."""

    def __init__(self, path: pathlib.Path, columns: Sequence[str], last_step: int):
        self.columns = tuple(columns)
        found = read_rows(path, lenient=True)
        kept = [row for row in found if row.get("step") is not None and row["step"] <= last_step]
        lines = [",".join(self.columns), *(self._line(row) for row in kept)]
        write_text(path, "\n".join(lines) + "\n")
        self.rows = kept
        self._file = path.open("a", encoding="utf-8", newline="")

    def _line(self, row: Mapping[str, Any]) -> str:
        # repr gives the shortest text that reads back as the same number: bit equality survives the file.
        values = [row.get(c) for c in self.columns]
        return ",".join("" if v is None else repr(v if isinstance(v, int) else float(v)) for v in values)

    def append(self, row: Mapping[str, Any]) -> None:
        self._file.write(self._line(row) + "\n")
        self._file.flush()
        self.rows.append(dict(row))

    def close(self) -> None:
        self._file.close()


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def error_rates(counts: Mapping[str, Any]) -> tuple[float, float]:
    """(top-1, top-5) as fractions, of a COUNTS entry of result.json."""
    return counts["top1_wrong"] / counts["total"], counts["top5_wrong"] / counts["total"]


def tells_top5(classes: int | None) -> bool:
    """Is a top-5 error meaningful? With five or fewer classes it is always 0, and left out everywhere.

    Args:
      classes: number of learnt classes; None (not recorded) counts as more than five.
    """
    return classes is None or classes > 5


def classes_of(about: Mapping[str, Any] | None) -> int | None:
    """The number of classes that a run learnt, from its run.json; None where an older one doesn't have it."""
    try:
        return int((about or {})["images"]["train_split"]["classes"])
    except (KeyError, TypeError, ValueError):
        return None


def packed_outcomes(outcomes: np.ndarray) -> dict[str, Any]:
    """{'top1_wrong', 'top5_wrong'} of outcomes.json. `outcomes`: int [images], as of `program.Counts`."""
    return {f"top{guesses}_wrong": base64.b64encode(np.packbits(outcomes >= least).tobytes()).decode()
            for least, guesses in ((1, 1), (2, 5))}


def write_outcomes(folder: pathlib.Path, images: int, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes outcomes.json. `outcomes`: of `packed_outcomes`, by views."""
    write_json(folder / OUTCOMES, {"schema": SCHEMA, "images": images, **dict(sorted(outcomes.items()))})


def wrong_images(outcomes: Mapping[str, Any] | None, views: str, counts: Mapping[str, Any],
                 key: str = "top1") -> np.ndarray | None:
    """bool [images]: which of the reported images were wrong. None if that was not kept or doesn't give `counts`.

    Args:
      outcomes: the content of outcomes.json. counts: of result.json, by these views.
    """
    try:
        tree: Any = outcomes or {}
        packed = np.frombuffer(base64.b64decode(tree[views][f"{key}_wrong"], validate=True), np.uint8)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    wrong = np.unpackbits(packed)[:counts["total"]].astype(bool)
    whole = len(wrong) == counts["total"] == tree.get("images")
    return wrong if whole and int(wrong.sum()) == counts[f"{key}_wrong"] else None
