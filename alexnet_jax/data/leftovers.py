"""What builders of stores leave in the store folder when they end before their time, perhaps other users'.

`.<store's folder>.building` is under construction (alexnet_jax.data.partial). `.<store's folder>.<number>.building` is
too, by the user of that number, to whom the former was closed; or the process of that number was deleting it.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import stat
from typing import Any

from alexnet_jax import environment
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Report
from alexnet_jax.data.partial import JOURNAL, parse, sync, sync_folder


def whose(folder: pathlib.Path) -> tuple[str, str, int] | None:
    """(config.data.name, split, size) of a folder under construction; None if it doesn't say."""
    identity = _identity(folder)
    return (identity["name"], identity["split"], identity["size"]) if identity else None


def _identity(folder: pathlib.Path) -> dict[str, Any] | None:
    """Of what is under construction; None if it doesn't say."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            records, _ = parse(file.readline())
    except OSError:
        return None
    return records[0] if records else None


def progress(folder: pathlib.Path) -> tuple[dict[str, Any] | None, int]:
    """(the identity of what is under construction in `folder`, how many images are safe); (None, 0) if it says none."""
    try:
        records, _ = parse((folder / JOURNAL).read_bytes())
    except OSError:
        return None, 0
    done = sum(len(record.get("ranks", ())) + len(record.get("corrupt", ())) for record in records[1:])
    return (records[0], done) if records else (None, 0)


def copy(theirs: pathlib.Path, folder: pathlib.Path, identity: dict[str, Any], report: Report) -> None:
    """Makes `folder` what another user's builder left, if that is of use and there is nothing in `folder` yet.

    The journal comes last, so that a copy that was cut off is none.
    """
    if (folder / JOURNAL).exists():
        return
    line = f"{theirs.name} is another user's and this one may not write there"
    if _identity(theirs) != identity:
        report(f"{line}; beginning anew")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        shutil.copyfile(theirs / store_lib.IMAGES, folder / store_lib.IMAGES)
        sync(folder / store_lib.IMAGES)
        shutil.copyfile(theirs / JOURNAL, folder / f"{JOURNAL}.copy")
        sync(folder / f"{JOURNAL}.copy")
    except OSError as error:
        shutil.rmtree(folder)
        if not isinstance(error, PermissionError):
            raise
        report(f"{line}, nor read it; beginning anew")
        return
    (folder / f"{JOURNAL}.copy").rename(folder / JOURNAL)
    sync_folder(folder)
    report(f"{line}; going on with a copy")


def may_go_on(folder: pathlib.Path) -> bool:
    """May this user write what a builder left in `folder`, and give it another name?"""
    try:
        folder.stat()
        files = [path for name in (store_lib.IMAGES, JOURNAL) if (path := folder / name).exists()]
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return may_change(folder) and all(os.access(path, os.R_OK | os.W_OK) for path in files)


def may_change(folder: pathlib.Path) -> bool:
    """May this user make and remove files in `folder`, and give it another name?"""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or not os.access(folder.parent, os.W_OK | os.X_OK):
        return False
    found, parent = folder.stat(), folder.parent.stat()
    # In a folder like /tmp only its owner gives a file another name.
    return not parent.st_mode & stat.S_ISVTX or environment.user() in (0, found.st_uid, parent.st_uid)


def place_of(folder: pathlib.Path) -> pathlib.Path | None:
    """The store that is under construction in `folder`; None if its name is not that of such a folder."""
    match = re.fullmatch(r"\.(.+?)(\.\d+)?\.building(-.*)?", folder.name, re.DOTALL)
    return folder.with_name(match[1]) if match else None
