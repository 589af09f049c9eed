"""The errors that a user can cause, each with its exit code (`commands.run_main` ends the process with it).

Every message is one line that names the field or file, says what is wrong and what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

USAGE = 2  # the command or the config is wrong: nothing was started
RUN = 1  # the command was right and could not be carried out


class UserError(Exception):
    """Something that the user can fix. `str(error)` is the whole message, in one line."""

    exit_code = RUN


class ConfigError(UserError):
    """A config file, a field of it or a command-line argument is wrong."""

    exit_code = USAGE


class DataError(UserError):
    """A data file is missing, truncated, corrupt or of the wrong kind."""


class WorkdirError(UserError):
    """A workdir belongs to another config, is in use, or cannot be read or written."""


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit the network."""


class TrainingError(UserError):
    """Training itself cannot continue, e.g. the loss is not finite."""


class ProcessLost(TrainingError):
    """Another process of the same run has ended or cannot be reached."""

    exit_code = 75  # EX_TEMPFAIL: start all of them again


class Interrupted(UserError):
    """Stopped by a signal, with everything saved: the same command resumes what was stopped."""

    exit_code = 130


_NO_LOCKS = ("the file system has no locks, without which two processes could write to one place; mount it with "
             "locks, or choose a folder on another one")


def describe_os_error(error: OSError) -> str:
    """One line for what the operating system refused: disk full, no permission, a missing file."""
    where = f"{error.filename}: " if error.filename else ""
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "permission denied; choose a place that you may read and write",
        errno.EPERM: "not permitted; choose a folder that you may write to",
        errno.EROFS: "the file system is read-only; choose a folder that you may write to",
        errno.ENOLCK: _NO_LOCKS,
        errno.ENOSYS: _NO_LOCKS,
        errno.EOPNOTSUPP: _NO_LOCKS,
        errno.ESTALE: "the network file system has lost it; run the same command again",
        errno.EIO: "the disk cannot be read or written; see the system's log",
        errno.ENOENT: "no such file or folder",
        errno.EEXIST: "something else has this name, a file or a broken link; choose another name",
        errno.ENOTDIR: "a part of this path is a file, not a folder; choose another place",
        errno.EISDIR: "this is a folder, where a file is needed",
        errno.ENAMETOOLONG: "longer than the file system allows; choose a shorter one",
        errno.ELOOP: "symbolic links lead in a circle; choose another place",
        errno.EFBIG: "larger than this process or the file system allows; raise the limit (ulimit -f), or "
                     "choose a folder on another file system",
        errno.EMFILE: "too many open files for this process; raise the limit (ulimit -n)",
    }
    if not where and error.errno == errno.ENOENT and not _has_place():
        return "the current folder is no longer there; change to another one and run the same command again"
    if not where and error.strerror and error.strerror != os.strerror(error.errno or 0):
        return error.strerror  # a library's own words say more than the number
    return where + remedies.get(error.errno or 0, error.strerror or str(error))


@contextlib.contextmanager
def reading(path: os.PathLike[str] | str) -> Iterator[None]:
    """Turns an OSError within the block into a DataError, about `path` where it names no file itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise DataError(describe_os_error(error)) from error


def _has_place() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False
