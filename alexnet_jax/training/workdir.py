"""A run's folder: its lock, its owner, the checks before a resume, its log and its clock."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import files, names, numerics, run_files
from alexnet_jax.data import Classes, Split
from alexnet_jax.data.classes import missing, named, same
from alexnet_jax.data.store import crc32
from alexnet_jax.errors import WorkdirError

# Files that a run may have left before its run.json was complete.
EARLY = ("log.txt", "run.json", "progress.json", "result.json", "checkpoints")


@contextlib.contextmanager
def lock(workdir: pathlib.Path):
    """Locks the run for this process; the system releases the lock when the process dies."""
    # A process that tests whether the run is in use holds the lock for a moment.
    with files.lock(workdir / ".lock", seconds=0.3) as mine:
        if not mine:
            raise WorkdirInUse(f"{workdir}: in use by another process, which is training this run")
        files.clear(workdir, old=0.0)
        yield


class WorkdirInUse(WorkdirError):
    """Another process trains in this workdir."""

    exit_code = 75  # EX_TEMPFAIL: try again later


def check_owner(config: ConfigDict, workdir: pathlib.Path) -> None:
    path = workdir / "run.json"
    run = run_files.read_json(path)
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        others = [p.name for p in workdir.iterdir() if not p.name.startswith(".") and p.name not in EARLY]
        if path.exists() and others:
            raise WorkdirError(f"{path}: damaged; restore it or choose another --workdir")
        if others:
            raise WorkdirError(f"{workdir}: holds other files ({', '.join(sorted(others)[:3])}); choose an empty "
                               "or new --workdir")
        return
    if config_lib.run_id(config) not in (run.get("id"), config_lib.recorded_id(run["config"])):
        mine = config_lib.flatten(config_lib.to_json(config))
        theirs = config_lib.flatten(run["config"])
        changed = [f"{k} = {theirs.get(k)!r} there, {v!r} here" for k, v in mine.items()
                   if config_lib.FIELDS[k].identity and theirs.get(k, config_lib.FIELDS[k].default) != v]
        raise WorkdirError(f"{workdir}: belongs to another config ({'; '.join(changed[:3])}); choose another --workdir")


def id_of(config: ConfigDict, workdir: pathlib.Path) -> str:
    """The id that the run in this folder started under, even if its config is spelt differently now."""
    known = (run_files.read_json(workdir / "run.json") or {}).get("id")
    return known if isinstance(known, str) else config_lib.run_id(config)


def check_environment(workdir: pathlib.Path, asked: Mapping[str, str]) -> None:
    """Raises WorkdirError if a setting that could change a number (`numerics.asked`) differs from the run's start."""
    run = run_files.read_json(workdir / "run.json")
    then = (run or {}).get("environment") or {}
    differ = numerics.differences(then, asked) if run else []
    if differ:
        raise WorkdirError(f"{workdir}: this run began in another environment: {'; '.join(differ[:3])}; set it as it "
                           "was, or choose another --workdir, as the numbers could differ")


def images_of(splits: Mapping[str, Split]) -> dict[str, dict[str, Any]]:
    """The entry of run.json about a run's images: {field of config.data: {version, images, classes}}."""
    return {field: {"version": split.version, "images": len(split), "classes": len(split.classes)}
            for field, split in splits.items()}


def fingerprints(splits: Mapping[str, Split]) -> dict[str, str]:
    """What all processes of a run must share: {field: a checksum of its images, labels and classes}."""
    found = {}
    for field, split in splits.items():
        rows = np.asarray(split.rows)
        parts = (split.store.checksums[rows], split.labels, np.frombuffer(json.dumps(split.class_keys).encode(),
                                                                         np.uint8))
        found[f"config.data.{field}"] = f"{len(rows)} images " + "-".join(f"{crc32(part):08x}" for part in parts)
    return found


def classes_of(known: Classes) -> dict[str, list[str]]:
    """The entry of run.json about a run's classes, in the order of its outputs."""
    return {"keys": list(known.keys), "names": list(known.names)}


def recorded_classes(run: Mapping[str, Any] | None, folder: pathlib.Path) -> Classes | None:
    """The classes in a run.json; None for an older one without them.

    Raises:
      WorkdirError: they have been altered, so that labels would get wrong names.
    """
    kept = (run or {}).get("classes")
    if not kept:
        return None
    keys, names = (kept.get("keys"), kept.get("names")) if isinstance(kept, dict) else (None, None)
    known = Classes(tuple(keys), tuple(names)) if isinstance(keys, list) and isinstance(names, list) else None
    if known is None or not known.whole():
        raise WorkdirError(f"{folder / 'run.json'}: its classes have been altered (keys and names have to be lists of "
                           "strings, equally long, without a repeated key); put the file back as it was")
    return known


def imported_id(run_id: str, sha256: str) -> str:
    """The id of an imported run: two files imported with the same config are two runs."""
    return hashlib.sha256(f"{run_id} {sha256}".encode()).hexdigest()[:10]


def altered_config(run: Mapping[str, Any]) -> bool:
    """Does the config of a run.json no longer match its id, in a field that is part of the run's identity?"""
    own, imported = run.get("id"), run.get("imported")
    ids = {config_lib.recorded_id(run["config"]), config_lib.recorded_id(run["config"], respelt=False)} - {None}
    if imported is not None:
        sha256 = imported.get("sha256") if isinstance(imported, dict) else None
        ids = {imported_id(str(known), str(sha256)) for known in ids}
    return isinstance(own, str) and bool(ids) and own not in ids


def check_images(workdir: pathlib.Path, now: Mapping[str, Mapping[str, Any]], known: Classes) -> list[str]:
    """Notes on images that have changed since the run in this folder started (`images_of`; older runs kept none).

    Raises:
      WorkdirError: their number or classes have changed, and with them the meaning of steps and outputs.
    """
    run, notes = run_files.read_json(workdir / "run.json"), []
    for field, then in ((run or {}).get("images") or {}).items():
        own = now.get(field, then)
        for what in ("images", "classes"):
            if own[what] != then[what]:
                raise WorkdirError(f"{workdir}: config.data.{field} had {then[what]:,} {what} when this run began and "
                                   f"has {own[what]:,} now; put the data back as it was or choose another --workdir")
        if own["version"] != then["version"]:
            notes.append(f"note: config.data.{field} was version {then['version']} when this run began and is "
                         f"{own['version']} now: other images, or another archive of them")
    before = recorded_classes(run, workdir)
    if before is not None and list(map(same, before.keys)) != list(map(same, known.keys)):
        gone, new = (named(missing(b.keys, a.keys)) for a, b in ((before, known), (known, before)))
        raise WorkdirError(f"{workdir}: the classes differ from those when this run began "
                           f"({gone or 'the same'} then, {new or 'in another order'} now); put the data back as it was "
                           "or choose another --workdir")
    return notes


def foreign(workdir: pathlib.Path, host: Mapping[str, Any], due: Callable[[int], bool] = lambda step: True) -> str:
    """Why a checkpoint's host part, compared with its row in metrics.csv, is another run's; '' if it may be this one's.

    Args:
      due: is there an evaluation after this step? A checkpoint saved during one is ahead of its row.
    """
    row = next((row for row in run_files.read_rows(workdir / "metrics.csv", lenient=True)
                if row.get("step") == host["evaluated"]), None)
    within = host["evaluated"] != host["step"] and due(host["step"])
    if row is None or within or row.get("eval_loss") == host["centre"]["loss"]:
        return ""
    return (f"its evaluation loss is {host['centre']['loss']!r} where metrics.csv has {row.get('eval_loss')!r}: "
            "another run's checkpoint")


class Log:
    """log.txt, and if wanted the terminal: one line a call."""

    def __init__(self, path: pathlib.Path, echo: bool):
        self._file, self._echo = path.open("a", encoding="utf-8", errors="backslashreplace"), echo

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __call__(self, text: str) -> None:
        text = names.plain(text)
        self._file.write(f"{run_files.now()} {text}\n")
        self._file.flush()
        if self._echo:
            print(text, flush=True)


@dataclasses.dataclass
class Clock:
    """Seconds by kind, and images trained on, since the last row of timing.csv (`started`)."""

    train: float = 0.0
    eval: float = 0.0
    checkpoint: float = 0.0
    compile: float = 0.0
    images: int = 0
    started: float = dataclasses.field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def measure(self, kind: str):
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, kind, getattr(self, kind) + time.perf_counter() - start)

    def rate(self) -> float | None:
        return self.images / self.train if self.train > 0 else None
