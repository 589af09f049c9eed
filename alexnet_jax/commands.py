"""How commands read their options and how they end: with 0, or with one line and the exit code of the error.

The config flags of commands that take one are in `cli`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from alexnet_jax import messages, names, paths, signals, streams
from alexnet_jax.errors import RUN, USAGE, ConfigError, Interrupted, UserError, describe_os_error
from alexnet_jax.text import did_you_mean

_MOST = 200  # characters of a library's message


class Parser(argparse.ArgumentParser):
    """argparse for `python -m module`, with this project's errors: one line, exit code 2.

    A `type=pathlib.Path` is a path as users write it (`paths.given`). Options may come before, between or after the
    positional arguments.
    """

    def __init__(self, module: str, doc: str | None):
        super().__init__(prog=f"python -m {module}", description=doc, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)
        self.register("type", pathlib.Path, self._path)
        self._folder = ("", "", "")

    def _path(self, text: str) -> pathlib.Path:
        try:
            return paths.given(text, "")
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None

    def add_workdir(self, metavar: str, words: str, among: str = "") -> None:
        """Adds the folder that the command works on: `--workdir=FOLDER`, or the first positional argument.

        Args:
          metavar, words: for its help.
          among: `dest` of the command's other positional arguments, if it has any; without --workdir the first of them
            is the folder, and has to be a run's.
        """
        self._folder = (metavar, words, among or "folder")
        self.add_argument("--workdir", type=pathlib.Path, metavar=metavar,
                          help=f"{words}; may also be given first, without --workdir=")
        if not among:
            self.add_argument("folder", nargs="*", type=pathlib.Path, metavar=metavar, help=argparse.SUPPRESS)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; `workdir` of what it returns is the folder of `add_workdir`, given either way."""
        args = sys.argv[1:] if args is None else args
        # parse_intermixed_args loses what follows "--".
        options = (super().parse_args if "--" in args else self.parse_intermixed_args)(args, namespace)
        metavar, words, among = self._folder
        if not among:
            return options
        unnamed = getattr(options, among)
        alone = among == "folder"
        if options.workdir is None:
            if not unnamed:
                self.error(f"--workdir={metavar} is needed: {words}")
            if not alone and not (unnamed[0] / "run.json").exists():
                self.error(f"--workdir={metavar} is needed: {words}, which {unnamed[0]} is not (no run.json)")
            options.workdir = unnamed.pop(0)
        if alone and unnamed:
            self.error(f"{unnamed[0]}: only one folder is read, and {options.workdir} is given too")
        return options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but reports a misspelt option before the required one that is missing because of it."""
        known, args = self._option_string_actions, sys.argv[1:] if args is None else args
        for word in args:
            paths.check_text(word, "an argument")
        for word in itertools.takewhile(lambda word: word != "--", args):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in known:
                self.error(f"{name}: no such option{did_you_mean(name, known)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def whole_number(text: str) -> int:
    """An argparse type: a whole number of 1 or more."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def report(error: BaseException) -> int | None:
    """Prints one line about `error` and returns the exit code; None: not an error that users can fix."""
    if isinstance(error, UserError):
        print(f"error: {names.plain(str(error))}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        print(f"error: {names.plain(describe_os_error(error))}", file=sys.stderr)
        return RUN
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_code
    code, line = _of_libraries(error)
    if line:
        print(f"error: {names.plain(line)}", file=sys.stderr)
    return code


def _of_libraries(error: BaseException) -> tuple[int | None, str]:
    """(exit code, line) for errors of Python and libraries that the environment causes; (None, '') for others."""
    message = " ".join(str(error).split())[:_MOST]
    if messages.is_about_a_variable(error):
        return USAGE, f"{message}; set that variable of the environment to another value, or unset it"
    if messages.is_about_drawing(error):
        return USAGE, f"MPLBACKEND={os.environ.get('MPLBACKEND')}: not a backend of Matplotlib; unset it"
    if messages.is_about_devices(error):
        return USAGE, f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: no such devices here; unset it ({message})"
    if isinstance(error, Warning):
        return USAGE, (f"{type(error).__name__}: {message}; PYTHONWARNINGS or -W turns this warning into an error; "
                       "unset it")
    if isinstance(error, MemoryError):
        return RUN, (f"there is not enough memory{f' ({message})' if message else ''}; see whether a limit is set "
                     "(ulimit -v)")
    if messages.is_about_threads(error):
        return RUN, "this process can start no more threads; raise the limit on processes (ulimit -u)"
    return None, ""


def starts(package: str) -> None:
    """For the `__init__` of a package: how `python -m package.module` ends while its libraries are being imported.

    Until `run_main`, Ctrl-C ends the command with one word, and an error that users can fix with one line. Does nothing
    where the package is imported for another reason.
    """
    started = re.compile(rf"(-\w*m)?{package}(\..*)?")
    if sys.argv[:1] != ["-m"] or not any(map(started.fullmatch, sys.orig_argv)):
        return
    signals.end_imports(Interrupted.exit_code)
    sys.excepthook = _end_by


def _end_by(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    with streams.safe():
        code = report(error)
    if code is not None:
        sys.exit(code)
    sys.__excepthook__(kind, error, trace)


def run_main(main: Callable[[], int | None], prints: bool = True) -> None:
    """Calls `main` and ends the process: with 0, or with the exit code of the error, printed as one line.

    Meanwhile writing to stdout and stderr is safe (alexnet_jax.streams), and every signal that asks to stop acts like
    SIGINT (alexnet_jax.signals).

    Args:
      prints: the command's purpose is its output: it fails if that cannot be written. A reader that goes away
        (`… | head`) is no failure.
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
