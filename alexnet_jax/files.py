"""Files that several processes look at: replaced in one move, locked by one process at a time.

Locks are the operating system's (flock): they end with their process, however that dies, and leave an empty file
behind. Looking at one needs no permission to write.
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

_TICK = 0.05  # seconds between two tries of a lock that another process has
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_OLD = 60.0  # seconds after which a dead process's temporary file is nobody's, on whichever machine that ran


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary file's place beside `path`, to be written; at the end it becomes `path` in one move.

    So no reader and no interruption ever sees half of a file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the one that means something to a user
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: pathlib.Path, text: str) -> None:
    """Replaces a file's content in one move, in UTF-8.

    What cannot be encoded, such as the bytes of a file's name that is no text, is written as Python writes it in a
    literal ('\\udcff'), which JSON reads back as it was.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def clear(folder: pathlib.Path, old: float = _OLD) -> None:
    """Removes what processes that were killed while `replacing` a file have left in `folder`.

    Args:
      old: seconds since it was written; 0 for whoever has the folder to itself.
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
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


@contextlib.contextmanager
def lock(path: pathlib.Path, seconds: float | None = None) -> Iterator[bool]:
    """Holds the lock file `path`, made if absent; False if another process keeps it.

    Args:
      seconds: how long to wait for that process; None: as long as it takes.

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
    """A descriptor that holds the lock file `path`, made if absent, until it is closed; None: another process keeps it.

    A process that is started with it (`pass_fds`) holds the lock too, whatever becomes of this one.

    Args:
      shared: others may hold it too, if they share it likewise.
    """
    return _locked(path, shared)


def held(path: pathlib.Path) -> bool | None:
    """Does a process hold this lock now? None: that cannot be known here. Needs permission to read only."""
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
    """The descriptor of the file, locked; None if another process has it."""
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
        return None  # another process's, or no longer the file of that name
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
    """Locks an open file; False if another process has locked it. A shared lock can be had of a file open to read."""
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
