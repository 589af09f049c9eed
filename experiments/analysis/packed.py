"""The compact form of a recorded sweep: five files for all of its runs, where a workdir has five for each.

`plan.json`     as a workdir's (experiments.sweep.plan), without "runs".
`runs.jsonl`    the table of runs, one a line: `{"id", "dir", "seed", "config" (the planned one), "run" (run.json),
                "result" (result.json)}`. Of each key the first line that has it holds it whole; every later line says
                the difference from that: `{key: value}`, nested where both are objects; "-" lists the missing keys,
                "=" replaces the whole. The config within "run" is compared with its own line's "config": `{}` if they
                are equal.
`metrics.csv`   the table of epochs: the rows of every run's metrics.csv, prefixed with the run's id.
`timing.csv`    likewise for timing.csv; separate, as repeating a run changes it, but not metrics.csv.
`outcomes.npz`  all outcomes.json: "runs" (ids) and "images" (of each); for each views "VIEWS" (the rows of "runs" that
                have them), "VIEWS.top1_wrong" and "VIEWS.top5_wrong" (their bytes, concatenated over runs).

All but the outcomes is text: git shows what a new run adds, and `grep` finds a number. Reading restores exactly what
was written, every key and digit. Workdirs keep their own form; `workdirs` reads both.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from alexnet_jax import files, run_files
from alexnet_jax.errors import WorkdirError

RUNS = "runs.jsonl"
TABLES = {"metrics.csv": run_files.METRICS, "timing.csv": run_files.TIMING}
OUTCOMES = "outcomes.npz"
TREES = {"run": "run.json", "result": "result.json"}
_ANEW, _LACKS = "=", "-"
_KINDS = ("top1_wrong", "top5_wrong")
AGAIN = "restore it from git, or record the sweep again (python -m experiments.recording)"


class RunFiles(Protocol):
    """The files of one run, in a workdir or in a record."""

    @property
    def folder(self) -> pathlib.Path:
        """The run's folder; in a record only a name for it."""

    def has(self, name: str) -> bool:
        """Does the file exist, complete or not?"""

    def tree(self, name: str) -> dict[str, Any] | None:
        """The content of a JSON file; None if it is missing or truncated."""

    def lines(self, name: str) -> list[str]:
        """The lines of a CSV file, header first; [] if it is missing."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files in a run's own folder."""

    folder: pathlib.Path

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def tree(self, name: str) -> dict[str, Any] | None:
        return run_files.read_json(self.folder / name)

    def lines(self, name: str) -> list[str]:
        return run_files.read_lines(self.folder / name)


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run of a plan, with its files."""

    id: str
    dir: str
    seed: int
    config: dict[str, Any]
    files: RunFiles


@dataclasses.dataclass(frozen=True)
class _Recorded:
    """The files of a run in a record."""

    folder: pathlib.Path
    id: str
    trees: Mapping[str, dict[str, Any]]
    record: Record

    def has(self, name: str) -> bool:
        return (self.tree(name) if name.endswith(".json") else self.lines(name)) not in (None, [])

    def tree(self, name: str) -> dict[str, Any] | None:
        return self.record.outcomes.get(self.id) if name == run_files.OUTCOMES else self.trees.get(name)

    def lines(self, name: str) -> list[str]:
        return self.record.table(name).get(self.id, []) if name in TABLES else []


class Record:
    """A record in its compact form.

    Attributes:
      plan: plan.json. runs: the plan's runs by id.
    """

    def __init__(self, folder: pathlib.Path):
        """Raises WorkdirError if a file is damaged or missing; tables and outcomes raise it when they are read."""
        self.folder = folder
        self.plan = run_files.read_json(folder / "plan.json") or {}
        self.runs: dict[str, Planned] = {}
        first: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(_lines(folder / RUNS), 1):
            try:
                row = json.loads(line)
                config = patched(row["config"], first.setdefault("config", {}))
                first["config"] = first["config"] or config
                trees = {}
                for key, name in TREES.items():
                    if key in row:
                        bare = patched(row[key], first.get(key, {}))
                        first.setdefault(key, bare)
                        trees[name] = _with_config(bare, patched, config)
                run = Planned(row["id"], row["dir"], int(row["seed"]), config,
                              _Recorded(folder / row["dir"], row["id"], trees, self))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise WorkdirError(f"{folder / RUNS}: line {number} is damaged ({error}); {AGAIN}") from error
            if run.id in self.runs:
                raise WorkdirError(f"{folder / RUNS}: line {number} is damaged (repeats {run.id}); {AGAIN}")
            self.runs[run.id] = run

    def table(self, name: str) -> dict[str, list[str]]:
        """{run id: lines} of 'metrics.csv' or 'timing.csv', header first."""
        return self._tables[name]

    @functools.cached_property
    def _tables(self) -> dict[str, dict[str, list[str]]]:
        tables: dict[str, dict[str, list[str]]] = {}
        for name in TABLES:
            head, *rows = _lines(self.folder / name) or [""]
            if head.partition(",")[0] != "run":
                raise WorkdirError(f"{self.folder / name}: not a record's table; {AGAIN}")
            columns, by = head.partition(",")[2], tables.setdefault(name, {})
            for row in rows:
                run, _, cells = row.partition(",")
                if run not in self.runs or cells.count(",") != columns.count(","):
                    raise WorkdirError(f"{self.folder / name}: a row is damaged ({row[:60]!r}); {AGAIN}")
                by.setdefault(run, [columns]).append(cells)
        return tables

    @functools.cached_property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """{run id: outcomes.json}, for the runs that kept it."""
        path = self.folder / OUTCOMES
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                ids, images = arrays["runs"].tolist(), arrays["images"].tolist()
                outcomes: dict[str, dict[str, Any]] = {
                    id_: {"schema": run_files.SCHEMA, "images": count} for id_, count in zip(ids, images, strict=True)}
                for views in sorted({name for name in arrays.files if "." not in name} - {"runs", "images"}):
                    at, whole = 0, {kind: arrays[f"{views}.{kind}"] for kind in _KINDS}
                    for row in arrays[views].tolist():
                        end = at + _bytes(images[row])
                        outcomes[ids[row]][views] = {kind: base64.b64encode(bits[at:end].tobytes()).decode()
                                                     for kind, bits in whole.items()}
                        at = end
                    if any(len(bits) != at for bits in whole.values()):
                        raise ValueError(f"{views}: wrong number of bytes for its images")
            return outcomes
        except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as error:
            raise WorkdirError(f"{path}: damaged ({error}); {AGAIN}") from error


def is_packed(folder: pathlib.Path) -> bool:
    """Is this a record in its compact form?"""
    return (folder / RUNS).exists()


def write(folder: pathlib.Path, plan: Mapping[str, Any], runs: Iterable[Planned]) -> None:
    """Writes a record.

    Args:
      folder: created if missing. plan: plan.json, without its "runs".

    Raises:
      WorkdirError: a run's outcomes.json is damaged; nothing is written.
    """
    first: dict[str, dict[str, Any]] = {}
    lines, kept = [], list(runs)
    tables = {name: [f"run,{','.join(columns)}"] for name, columns in TABLES.items()}
    for run in kept:
        row: dict[str, Any] = {"id": run.id, "dir": run.dir, "seed": run.seed,
                               "config": difference(run.config, first.setdefault("config", {}))}
        first["config"] = first["config"] or run.config
        for key, name in TREES.items():
            tree = run.files.tree(name)
            if tree is not None:
                bare = _with_config(tree, difference, run.config)
                row[key] = difference(bare, first.get(key, {}))
                first.setdefault(key, bare)
        lines.append(json.dumps(row, ensure_ascii=False))
        for name, columns in TABLES.items():
            tables[name] += [f"{run.id},{line}" for line in _in_columns(run.files.lines(name), columns)]
    outcomes = _packed_outcomes(kept)
    folder.mkdir(parents=True, exist_ok=True)
    if outcomes:
        with files.replacing(folder / OUTCOMES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **outcomes)  # type: ignore[arg-type]
    else:
        (folder / OUTCOMES).unlink(missing_ok=True)
    for name, rows in tables.items():
        files.write_text(folder / name, "\n".join(rows) + "\n")
    files.write_text(folder / RUNS, "\n".join(lines) + "\n")
    run_files.write_json(folder / "plan.json", {key: value for key, value in plan.items() if key != "runs"})


def difference(tree: Any, base: Any) -> Any:
    """The patch that turns `base` into `tree` (`patched`): the keys that differ, recursively."""
    if not (isinstance(tree, dict) and isinstance(base, dict)):
        return tree
    patch = {key: difference(value, base.get(key)) for key, value in tree.items()
             if key not in base or _text(value) != _text(base[key])}
    lacking = [key for key in base if key not in tree]
    if lacking:
        patch[_LACKS] = lacking
    # A key of that very name, or another order of keys: rare, but must be preserved.
    return patch if _text(patched(patch, base)) == _text(tree) else {_ANEW: tree}


def patched(patch: Any, base: Any) -> Any:
    """The inverse of `difference`."""
    if not (isinstance(patch, dict) and isinstance(base, dict)):
        return patch
    if _ANEW in patch:
        return patch[_ANEW]
    lacking = patch.get(_LACKS, ())
    tree = {key: value for key, value in base.items() if key not in lacking}
    tree.update((key, patched(value, base.get(key))) for key, value in patch.items() if key != _LACKS)
    return tree


def _text(tree: Any) -> str:
    return json.dumps(tree)


def _with_config(tree: dict[str, Any], change: Callable[[Any, Any], Any], planned: dict[str, Any]) -> dict[str, Any]:
    """The tree with its "config", if any, replaced by `change` (`difference` or `patched`) against the planned one."""
    return {key: change(value, planned) if key == "config" else value for key, value in tree.items()}


def _in_columns(lines: list[str], columns: tuple[str, ...]) -> list[str]:
    """The complete rows of a CSV file, reordered to these columns."""
    named = lines[0].split(",") if lines else []
    rows = [line.split(",") for line in lines[1:]]
    whole = [dict(zip(named, cells, strict=True)) for cells in rows if len(cells) == len(named)]
    return [",".join(row.get(column, "") for column in columns) for row in whole]


def _bytes(images: int) -> int:
    return -(-images // 8)


def _packed_outcomes(runs: Iterable[Planned]) -> dict[str, np.ndarray]:
    """The arrays of outcomes.npz; {} if no run kept any."""
    ids: list[str] = []
    images: list[int] = []
    rows: dict[str, list[int]] = {}
    parts: dict[str, list[bytes]] = {}
    for run in runs:
        tree = run.files.tree(run_files.OUTCOMES)
        if tree is None:
            continue
        try:
            for views in sorted(tree.keys() - {"schema", "images"}):
                rows.setdefault(views, []).append(len(ids))
                for kind in _KINDS:
                    bits = base64.b64decode(tree[views][kind], validate=True)
                    if len(bits) != _bytes(tree["images"]):
                        raise ValueError(f"{views}: wrong number of bytes for its images")
                    parts.setdefault(f"{views}.{kind}", []).append(bits)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise WorkdirError(f"{run.files.folder / run_files.OUTCOMES}: damaged ({error}); without it the run "
                               "can be recorded") from error
        ids.append(run.id)
        images.append(tree["images"])
    if not ids:
        return {}
    return {"runs": np.array(ids), "images": np.array(images), **{v: np.array(at) for v, at in rows.items()},
            **{name: np.frombuffer(b"".join(bits), np.uint8) for name, bits in parts.items()}}


def _lines(path: pathlib.Path) -> list[str]:
    try:
        # Not splitlines: messages may contain other line separators.
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise WorkdirError(f"{path}: missing or damaged; {AGAIN}") from error
