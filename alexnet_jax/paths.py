"""Paths that a user names, on a command line, in a config or in the environment."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from alexnet_jax.errors import ConfigError

PICTURES = (".svg", ".png", ".pdf")


def given(text: str, field: str) -> pathlib.Path:
    """The path that `text` names; `~` and `~name` at its beginning are home folders.

    Shells leave the `~` of `--workdir=~/runs` as it is.

    Args:
      field: what to call it in a message, e.g. '--workdir'.

    Raises:
      ConfigError: bytes that are not UTF-8, which checkpoints and events can't be written below; a zero byte; a home
        folder that isn't known; an address, such as gs://bucket, which would be a folder called 'gs:'.
    """
    check_text(text, field)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise ConfigError(f"{field}: {text} is an address, not a folder on this machine; mount it, and name it by its "
                          "path")
    try:
        path = pathlib.Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{field}: the home folder of {pathlib.PurePath(text).parts[0]} is not known; write the path "
                          f"out instead of {text}") from None
    return path


def check_text(text: str, field: str) -> None:
    """Raises ConfigError if `text` has bytes that are not UTF-8, or a zero byte."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{field}: {text!a} holds bytes that are not UTF-8; rename it, or name another") from None
    if "\0" in text:
        raise ConfigError(f"{field}: {text!a} holds a zero byte")


def check_workdir(folder: pathlib.Path, field: str) -> None:
    r"""Raises ConfigError if checkpoints cannot be kept below the absolute path `folder`.

    Orbax treats the path as a glob pattern: below `[x]` it would not find what it has written, and below `x*` perhaps
    another run's files. TensorStore refuses a backslash.
    """
    check_text(str(folder), field)
    signs = [sign for sign in "*?[\\" if sign in str(folder) and sign != os.sep]
    if signs:
        raise ConfigError(f"{field}: {folder} has {' and '.join(signs)} in its name, and "
                          "checkpoints below it are not found again; rename it, or name another")


def output(file: str, option: str = "--draw", formats: Sequence[str] = PICTURES) -> pathlib.Path:
    """The path of an output file, with one of the suffixes `formats`.

    Raises:
      ConfigError: another suffix; a folder that doesn't exist or isn't writable.
    """
    path = given(file, option)
    if path.suffix.lower() not in formats:
        raise ConfigError(f"{option}={file}: the name has to end in {', '.join(formats)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{option}={file}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise ConfigError(f"{option}={file}: may not be written; choose another place")
    return path
