"""What lies in a store folder: every packed store and what is unfinished, listed and deleted by name."""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from alexnet_jax import files, names, text
from alexnet_jax.data import leftovers, partial
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Report
from alexnet_jax.errors import ConfigError, DataError, reading

_HEAD = ("name", "dataset", "split", "size", "images", "classes", "version", "on disk", "written", "")


class Entry(NamedTuple):
    """A folder of a store folder: a store, or one that is under construction or was.

    `place` is the store's own folder, which the other kinds will or would have become; `about` is what meta.json or
    progress.npz says, {} if that cannot be read; `images` are there; `state` is what is to be said of it, "" if sound.
    """

    folder: pathlib.Path
    place: pathlib.Path
    about: dict[str, Any]
    images: str
    state: str

    @property
    def name(self) -> str:
        return store_lib.escape(self.folder.name)


def entries(root: pathlib.Path) -> list[Entry]:
    """All that is in the folder `root`, which need not exist, in the order of names. Raises DataError."""
    return [_entry(path, place) for path, place in _folders(root)]


def _folders(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """(folder, the store's own folder) of all that has to do with stores."""
    with reading(root):
        paths = sorted(root.iterdir()) if root.exists() else []
    for path in paths:
        if path.name.startswith("."):
            place = leftovers.place_of(path)
            if place is not None and path.is_dir():
                yield path, place
        elif re.fullmatch(r".+-\d+", path.name, re.DOTALL) and path.is_dir() and _is_store(path):
            yield path, path


def _is_store(path: pathlib.Path) -> bool:
    try:
        return (path / store_lib.META).exists() or (path / store_lib.IMAGES).exists()
    except OSError:  # another user's, closed to this one
        return True


def _entry(folder: pathlib.Path, place: pathlib.Path) -> Entry:
    about: dict[str, Any] = {}
    images, state = "", ""
    if folder == place:
        try:
            about = store_lib.read_meta(folder)
            images = f"{about['count']:,}"
        except DataError as error:
            state = str(error).removeprefix(f"{folder / store_lib.META}: ").partition(";")[0]
    else:
        held = files.held(_lock(place))
        state = {True: "being built", False: "unfinished", None: "unfinished, perhaps being built"}[held]
        identity, done = leftovers.progress(folder)
        if identity:
            about, images = identity, f"{done:,} of {identity['count']:,}"
    if folder.is_symlink():
        state = f"a link to {names.plain(os.readlink(folder))}" + (f"; {state}" if state else "")
    return Entry(folder, place, about, images, state)


def _lock(place: pathlib.Path) -> pathlib.Path:
    return place.with_name(f".{place.name}.lock")


def _taken(folder: pathlib.Path) -> int:
    """Bytes that a folder occupies on disk, as far as it is readable."""
    total = 0
    for where, _, below in os.walk(folder):
        for name in below:
            try:
                found = os.lstat(os.path.join(where, name))
            except OSError:
                continue
            total += found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
    return total


def _written(folder: pathlib.Path) -> str:
    for name in (store_lib.META, partial.PROGRESS, "."):
        try:
            return datetime.datetime.fromtimestamp((folder / name).stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        except OSError:
            continue
    return ""


def lines(root: pathlib.Path) -> list[str]:
    """A table of all stores in `root`. Raises DataError."""
    found = entries(root)
    if not found:
        return [f"no packed images in {root}"]
    rows, total = [_HEAD], 0
    for entry in found:
        about, taken = entry.about, _taken(entry.folder)
        total += taken
        side = about.get("size")
        rows.append((entry.name, names.plain(about.get("name", "")), names.plain(about.get("split", "")),
                     f"{side}×{side}" if side else "", entry.images,
                     f"{len(about['classes']):,}" if "classes" in about else "", about.get("version", ""),
                     text.size(taken), _written(entry.folder), entry.state))
    return [*text.table(rows), f"{text.size(total)} in {root}"]


def delete(root: pathlib.Path, name: str, report: Report) -> None:
    """Deletes the store, finished or not, that `lines` lists as `name`.

    Raises:
      ConfigError: there is none of that name, or it is a link.
      DataError: a process is building it, or it is another user's.
    """
    found = {entry.name: entry for entry in entries(root)}
    if name not in found:
        raise ConfigError(f"--delete={name}: no packed store in {root} has that name{text.did_you_mean(name, found)}; "
                          "--list shows those that are there")
    folder, place = found[name].folder, found[name].place
    if folder.is_symlink():
        raise ConfigError(f"--delete={name}: a link to {os.readlink(folder)}, which is not deleted from here; remove "
                          "the link by hand")
    if not leftovers.may_change(folder):
        raise DataError(f"{folder}: this user may not delete it; ask its owner")
    with reading(folder), files.lock(_lock(place), seconds=0.0) as free:
        if not free:
            raise DataError(f"{folder}: a process is building it; stop that first")
        taken = _taken(folder)
        _remove(folder, place)
        if not any(other == place for _, other in _folders(root)):
            _lock(place).unlink()
    report(f"{name}: deleted, {text.size(taken)}")


def _remove(folder: pathlib.Path, place: pathlib.Path) -> None:
    """Renames a store before deleting it, so that an interruption leaves no incomplete store."""
    if folder == place:
        folder = folder.rename(place.with_name(f".{place.name}.{os.getpid()}.building"))
    shutil.rmtree(folder)
