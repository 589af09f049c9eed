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
from alexnet_jax.data.partial import PROGRESS, read_progress, sync, sync_folder


def progress(folder: pathlib.Path) -> tuple[dict[str, Any] | None, int]:
    """(the identity of what is under construction in `folder`, how many images are safe); (None, 0) if it says none."""
    found = read_progress(folder, "identity", "done")
    return (found["identity"], int(found["done"].sum())) if found else (None, 0)


def copy(theirs: pathlib.Path, folder: pathlib.Path, identity: dict[str, Any], report: Report) -> None:
    """Makes `folder` what another user's builder left, if that is of use and there is nothing in `folder` yet.

    What says what the folder holds comes last, so that a copy that was cut off is none.
    """
    if (folder / PROGRESS).exists():
        return
    line = f"{theirs.name} is another user's and this one may not write there"
    if progress(theirs)[0] != identity:
        report(f"{line}; beginning anew")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    last = folder / f"{PROGRESS}.copy"
    try:
        for path in theirs.iterdir():
            if path.name != PROGRESS:
                shutil.copyfile(path, folder / path.name)
                sync(folder / path.name)
        shutil.copyfile(theirs / PROGRESS, last)
        sync(last)
    except OSError as error:
        shutil.rmtree(folder)
        if not isinstance(error, PermissionError):
            raise
        report(f"{line}, nor read it; beginning anew")
        return
    last.rename(folder / PROGRESS)
    sync_folder(folder)
    report(f"{line}; resuming from a copy")


def may_resume(folder: pathlib.Path) -> bool:
    """May this user write what a builder left in `folder`, and give it another name?"""
    try:
        folder.stat()
        files = [path for name in (store_lib.IMAGES, PROGRESS) if (path := folder / name).exists()]
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
