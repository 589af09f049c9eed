"""What a command says on stdout and stderr must not end it, whatever they are.

They may be closed, full, a pipe that nobody reads, None (a program without a console), a notebook's object, or a
console that knows few signs. A sign that cannot be shown becomes a question mark; what cannot be written is dropped.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

_NAMES = ("stdout", "stderr")
_PATIENCE = 1.0  # seconds for a terminal that another program has set to refuse what it has no room for


class Stream:
    """Passes on to a text stream what that takes. Never raises what it raises.

    Attributes:
      failure: what ended the writing; None: nothing.
    """

    def __init__(self, stream: Any):
        self.stream = stream
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        if self.failure is None:
            try:
                self._write(text)
            except BlockingIOError:  # no room: some of it is lost, the rest is not
                pass
            except Exception as error:
                self.failure = error
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeError:
            try:
                self.stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except UnicodeError:  # it names another encoding than it has
                self.stream.write(text.encode("ascii", "replace").decode())

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> bool:
        """Has all that was written gone its way?"""
        if self.failure is None:
            try:
                try:
                    self.stream.flush()
                except BlockingIOError:
                    select.select([], [self.stream], [], _PATIENCE)
                    self.stream.flush()
            except BlockingIOError:
                return False
            except AttributeError:
                pass  # a stream that holds nothing back
            except Exception as error:
                self.failure = error
        return self.failure is None

    def isatty(self) -> bool:
        try:
            return self.failure is None and bool(self.stream.isatty())
        except Exception:
            return False

    def fileno(self) -> int:
        try:
            return self.stream.fileno()
        except AttributeError:
            raise io.UnsupportedOperation("fileno") from None

    @property
    def encoding(self) -> str:
        try:
            return codecs.lookup(self.stream.encoding).name
        except (AttributeError, LookupError, TypeError):  # it has none, or none that is known
            return "utf-8"

    @property
    def closed(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def safe() -> Iterator[None]:
    """In here nothing that is written to sys.stdout and sys.stderr raises an error."""
    with contextlib.ExitStack() as stack:
        for name in _NAMES:
            stream = getattr(sys, name)
            if isinstance(stream, Stream):
                continue
            mine = stream if stream is not None else stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            setattr(sys, name, Stream(mine))
            stack.callback(setattr, sys, name, stream)
        yield


@contextlib.contextmanager
def of_process() -> Iterator[list[str]]:
    """The same for a whole process, from its beginning to its end: for what runs a command.

    Yields:
      A list that in the end has a line for each stream to which something could not be written, unless it was closed
      or its reader went away (`… | head`).
    """
    _open_descriptors()
    lost: list[str] = []
    for name in _NAMES:  # also for those who have taken hold of the stream before, as loggers do
        with contextlib.suppress(Exception):
            getattr(sys, name).reconfigure(errors="replace")
    with safe():
        mine = {name: getattr(sys, name) for name in _NAMES}
        try:
            yield lost
        finally:
            for name, stream in mine.items():
                if not stream.flush():
                    _silence(stream.stream)
                if isinstance(stream.failure, OSError) and not isinstance(stream.failure, BrokenPipeError):
                    why = stream.failure.strerror or str(stream.failure)
                    lost.append(f"{name}: {why}; what was written to it after that is lost")


def _open_descriptors() -> None:
    """Gives closed descriptors 0 to 2 to the null device, or the next file that is opened would take their place and
    what libraries write to stderr."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                if null != descriptor:
                    os.dup2(null, descriptor)
                    os.close(null)
                os.set_inheritable(descriptor, True)


def _silence(stream: Any) -> None:
    """What a process's own stream still holds goes nowhere: Python would complain about it at its very end."""
    if stream is not None and any(stream is own for own in (sys.__stdout__, sys.__stderr__)):
        with contextlib.suppress(Exception):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
