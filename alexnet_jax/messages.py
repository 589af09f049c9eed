"""Errors of libraries that only their text tells apart, each with the versions in which it was seen.

A library may reword its messages in any version; tests/test_ground_messages.py provokes most of them and fails then.
"""

from __future__ import annotations

import re

# XLA, on all platforms (jax 0.10.2, 0.11.2): the device, or the machine on a CPU, has too little memory.
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"

# JAX, while it is imported (jax 0.10.2, 0.11.2): "invalid truth value 'x' for environment 'JAX_…'", 'Invalid value "x"
# for JAX flag jax_…': a variable of the environment has a value that it doesn't know.
_VARIABLE = re.compile(r"^[Ii]nvalid (truth )?value .* for (environment|JAX flag) ")

# TensorStore (0.1.86, below Orbax 0.12.8), with ValueErrors that begin with a status, and the system's words
# in them: the file may be intact and only unreadable at the moment.
_NOT_NOW = re.compile(r"RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|PERMISSION_DENIED|ABORTED|[Oo]ut of memory|"
                      r"Too many open files|Stale file handle|Input/output error|Permission denied")

# Gloo and JAX's coordination service (jax 0.10.2), as Orbax and others pass it on: another process ended, or is slow.
_LOSS = re.compile(r"\b[Gg]loo\b|[Cc]oordination service|[Bb]arrier timed|UNAVAILABLE|DEADLINE_EXCEEDED|"
                   r"[Cc]onnection (closed|reset)")

# JAX, when devices are first requested (jax 0.10.2): "Unable to initialize backend 'x': …", 'Unknown backend x'.
_NO_BACKEND = re.compile(r"Unable to initialize backend|[Uu]nknown backend")

# Matplotlib, while it is imported (3.10): "Key backend: 'x' is not a valid value for backend; …", of $MPLBACKEND.
_DRAWING = re.compile(r"^Key backend: ")

# Python (3.11 to 3.14): the system gives this process no further thread.
_NO_THREAD = "can't start new thread"

# absl's flags (absl-py 2.5.1), after "flag --name=value: ".
_NO_WHOLE_NUMBER, _NO_BOOLEAN = "invalid literal for int()", "boolean"


def is_out_of_memory(error: BaseException) -> bool:
    """`error` is a `jax.errors.JaxRuntimeError`."""
    return _OUT_OF_MEMORY in str(error)


def is_about_a_variable(error: BaseException) -> bool:
    """Is it JAX's complaint of a variable of the environment?"""
    return isinstance(error, ValueError) and bool(_VARIABLE.search(str(error)))


def is_about_drawing(error: BaseException) -> bool:
    """Is it Matplotlib's complaint of MPLBACKEND?"""
    return isinstance(error, ValueError) and bool(_DRAWING.search(str(error)))


def is_about_devices(error: BaseException) -> bool:
    """Does JAX find none of the requested devices?"""
    return isinstance(error, RuntimeError) and bool(_NO_BACKEND.search(str(error)))


def is_about_threads(error: BaseException) -> bool:
    """May this process start no further thread?"""
    return isinstance(error, RuntimeError) and _NO_THREAD in str(error)


def is_for_now(error: BaseException, folder: str) -> bool:
    """Is this failure to read in `folder` temporary, so that it says nothing about the files? The folder's own name is
    ignored."""
    return bool(_NOT_NOW.search(str(error).replace(folder, "")))


def is_loss(error: BaseException) -> bool:
    """Is it about a process that no longer answers? Not for messages that contain paths."""
    return bool(_LOSS.search(str(error)))


def of_flag(error: BaseException) -> str:
    """The message of an absl flag error, in one line of this project's style."""
    message = " ".join(str(error).removeprefix("flag ").split())
    flag, colon, why = message.partition(": ")
    value = flag.partition("=")[2]
    if colon and why.startswith(_NO_WHOLE_NUMBER):
        return f"{flag}: {value!r} is not a whole number"
    if colon and _NO_BOOLEAN in why:
        return f"{flag}: {value!r} is not True or False"
    return message
