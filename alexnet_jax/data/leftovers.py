"""What interrupted builds leave in the store folder, perhaps those of other users.

`.<store's folder>.building` is an unfinished store (alexnet_jax.data.partial). So is
`.<store's folder>.<number>.building`, of the user with that id, who may not write the former; or the process with that
id was deleting it.
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
    """(the identity of the unfinished store in `folder`, how many of its images are safe); (None, 0) if unknown."""
    found = read_progress(folder, "identity", "done")
    return (found["identity"], int(found["done"].sum())) if found else (None, 0)


def copy(theirs: pathlib.Path, folder: pathlib.Path, identity: dict[str, Any], report: Report) -> None:
    """Copies another user's unfinished store to `folder`, if it is of use and `folder` has none yet.

    `progress.npz` is copied last, so that an interrupted copy doesn't count.
    """
    if (folder / PROGRESS).exists():
        return
    line = f"{theirs.name} belongs to another user, and this user may not write there"
    if progress(theirs)[0] != identity:
        report(f"{line}; starting again")
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
        report(f"{line}, nor read all of it; starting again")
        return
    last.rename(folder / PROGRESS)
    sync_folder(folder)
    report(f"{line}; resuming from a copy")


def may_resume(folder: pathlib.Path) -> bool:
    """May this user write to the unfinished store in `folder`, and rename it?"""
    try:
        folder.stat()
        files = [path for name in (store_lib.IMAGES, PROGRESS) if (path := folder / name).exists()]
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return may_change(folder) and all(os.access(path, os.R_OK | os.W_OK) for path in files)


def may_change(folder: pathlib.Path) -> bool:
    """May this user create and remove files in `folder`, and rename it?"""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or not os.access(folder.parent, os.W_OK | os.X_OK):
        return False
    found, parent = folder.stat(), folder.parent.stat()
    # In a folder like /tmp (sticky) only its owner may rename a file.
    return not parent.st_mode & stat.S_ISVTX or environment.user() in (0, found.st_uid, parent.st_uid)


def place_of(folder: pathlib.Path) -> pathlib.Path | None:
    """The store that `folder` will become; None if it isn't the folder of an unfinished store."""
    match = re.fullmatch(r"\.(.+?)(\.\d+)?\.building(-.*)?", folder.name, re.DOTALL)
    return folder.with_name(match[1]) if match else None
