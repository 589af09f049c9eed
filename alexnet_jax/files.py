"""Files that several processes use: replaced atomically, locked by one process at a time.

Locks are the operating system's (flock): they end with their process, however it dies, and leave an empty file behind.
Testing whether one is held needs only permission to read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import sys
import time
from collections.abc import Iterator

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TICK = 0.05  # seconds between two attempts at a lock that another process holds
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_OLD = 60.0  # seconds after which a temporary file of a dead process, here or on another machine, may be removed


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The path of a temporary file beside `path`, to be written; at the end it replaces `path` atomically.

    So no reader ever sees half a file, and no interruption leaves one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the path that the user knows
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file's content atomically, in UTF-8.

    What cannot be encoded, such as undecodable bytes of a file's name, is written as in a Python literal ('\\udcff'),
    which JSON reads back unchanged.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def clear(folder: pathlib.Path, old: float = _OLD) -> None:
    """Removes the temporary files that processes killed while `replacing` a file have left in `folder`.

    Args:
      old: how many seconds old a file must be; 0 if no other process uses the folder.
    """
    for path in folder.glob(".*.*.tmp"):
        number = path.name.split(".")[-2]
        with contextlib.suppress(OSError):
            if number.isdecimal() and not _alive(int(number)) and time.time() - path.stat().st_mtime >= old:
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a process number
        return True
    return True


@contextlib.contextmanager
def lock(path: pathlib.Path, seconds: float | None = None) -> Iterator[bool]:
    """Holds the lock file `path`, created if absent; yields False if another process holds it.

    Args:
      seconds: how long to wait for that process; None: without limit.

    Raises:
      OSError: with the path: the file cannot be opened, or its file system has no locks.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while (file := _locked(path)) is None:
        if end is not None and time.monotonic() >= end:
            yield False
            return
        time.sleep(_TICK)
    try:
        yield True
    finally:
        os.close(file)


def hold(path: pathlib.Path, shared: bool = False) -> int | None:
    """A descriptor that holds the lock file `path`, created if absent, until closed; None: another process holds it.

    A child process that inherits it (`pass_fds`) holds the lock too, even after this one has ended.

    Args:
      shared: other processes may hold it too, if they also share it.
    """
    return _locked(path, shared)


def held(path: pathlib.Path) -> bool | None:
    """Does any process hold this lock now? None: unknown: it can't be opened. Needs only permission to read."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        return not _take(file, shared=True)
    except OSError:
        return None
    finally:
        os.close(file)


def _locked(path: pathlib.Path, shared: bool = False) -> int | None:
    """The descriptor of the locked file; None if another process holds the lock."""
    file = _open(path)
    try:
        if _take(file, shared):
            try:
                now = os.stat(path)
            except FileNotFoundError:
                now = None
            if now is not None and os.path.samestat(now, os.fstat(file)):
                return file
        os.close(file)
        return None  # held by another process, or no longer the file of that name
    except OSError as error:
        os.close(file)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _open(path: pathlib.Path) -> int:
    # Without O_CREAT first: some systems refuse that for others' files in folders that all may write to.
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY)  # another user's: enough for a lock
        raise


def _take(file: int, shared: bool) -> bool:
    """Locks an open file; False if another process holds the lock. For a shared lock, read-only will do."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True
