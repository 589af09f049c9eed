"""The errors that a user can cause, and how a command ends on them.

Every message is one line: it names the field or the file, says what is wrong and what to do.
`run_main` prints that line without a traceback and ends with the exit code of its kind.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from alexnet_jax import names, signals, streams

USAGE = 2  # the command or the config is wrong: nothing was started
RUN = 1  # the command was right and could not be carried out


class UserError(Exception):
    """Something that the user can mend. `str(error)` is the whole message, in one line."""

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
    """Training itself cannot go on, e.g. the loss is not finite."""


class ProcessLost(TrainingError):
    """Another process of the same run has ended or cannot be reached."""

    exit_code = 75  # EX_TEMPFAIL: start all of them again


class Interrupted(UserError):
    """Stopped by a signal, with everything saved: the same command goes on."""

    exit_code = 130


class Parser(argparse.ArgumentParser):
    """argparse for `python -m module`, with this project's errors: one line, exit code 2.

    A `type=pathlib.Path` is a path as users write it (`paths.given`).
    """

    def __init__(self, module: str, doc: str | None):
        super().__init__(prog=f"python -m {module}", description=doc, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)
        self.register("type", pathlib.Path, self._path)

    def _path(self, text: str) -> pathlib.Path:
        from alexnet_jax import paths  # which needs this module

        try:
            return paths.given(text, "")
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but a misspelt option is named before one that is missing because of that."""
        from alexnet_jax import paths  # which needs this module

        known, args = self._option_string_actions, sys.argv[1:] if args is None else args
        for word in args:
            paths.check_text(word, "an argument")
        for word in itertools.takewhile(lambda word: word != "--", args):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                self.error(f"{name}: no such option" + (f" (did you mean {near[0]}?)" if near else ""))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


# What JAX says of a variable of its own that it cannot read: `invalid truth value 'x' for environment 'JAX_…'`.
_VARIABLE = re.compile(r"^[Ii]nvalid (truth )?value .* for (environment|JAX flag) ")
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
        errno.EIO: "the disk cannot be read or written; see what the system's log says of it",
        errno.ENOENT: "no such file or folder",
        errno.EEXIST: "something else of this name is there, be it a file or a broken link; choose another name",
        errno.ENOTDIR: "a part of this path is a file and no folder; choose another place",
        errno.EISDIR: "this is a folder, where a file is needed",
        errno.ENAMETOOLONG: "longer than the file system allows; choose a shorter one",
        errno.ELOOP: "symbolic links lead in a circle; choose another place",
        errno.EMFILE: "too many open files for this process; raise the limit (ulimit -n)",
    }
    if not where and error.errno == errno.ENOENT and not _has_place():
        return "the current folder is no longer there; change to another one and run the same command again"
    return where + remedies.get(error.errno or 0, error.strerror or str(error))


def _has_place() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _of_environment(error: BaseException) -> bool:
    """Is it JAX's complaint, as it is imported, of a variable with a value that it does not know?"""
    return isinstance(error, ValueError) and bool(_VARIABLE.search(str(error)))


def report(error: BaseException) -> int | None:
    """Prints the line that tells a user of `error`; returns the exit code. None: it is not one that users can mend."""
    if isinstance(error, UserError):
        print(f"error: {names.plain(str(error))}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        print(f"error: {names.plain(describe_os_error(error))}", file=sys.stderr)
        return RUN
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_code
    if _of_environment(error):
        print(f"error: {names.plain(str(error))}; set that variable of the environment to another value, or unset it",
              file=sys.stderr)
        return USAGE
    return None


def run_main(main: Callable[[], int | None], prints: bool = True) -> None:
    """Call `main` and end the process: 0, or the exit code of the error, printed as one line.

    Meanwhile stdout and stderr are safe to write to (alexnet_jax.streams), and all that asks to stop does what SIGINT
    does (alexnet_jax.signals).

    Args:
      prints: what the command is for is what it prints: it has failed if that cannot be written. A reader that goes
        away (`… | head`) is no failure.
    """
    code = 0
    with streams.of_process() as lost:
        try:
            with signals.Signals(signals.at_once):
                code = main() or 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else RUN if end.code else 0
        except BaseException as error:
            found = report(error)
            if found is None:
                raise
            code = found
    for line in lost:
        with streams.safe():
            print(f"{'error' if prints else 'note'}: {line}", file=sys.stderr)
    sys.exit(code or (RUN if lost and prints else 0))
