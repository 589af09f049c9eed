"""stdout and stderr that never raise: printing must not end a command.

They may be closed, full, a pipe without a reader, None (a program without a console), a notebook's object, or a console
with few characters. A character that cannot be shown becomes a question mark; what cannot be written is dropped.
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
_PATIENCE = 1.0  # seconds to wait for a terminal that another program has made non-blocking


class Stream:
    """Wraps a text stream; never raises what that raises.

    Attributes:
      failure: the error that ended the writing, if any.
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
            except UnicodeError:  # its real encoding isn't the one it reports
                self.stream.write(text.encode("ascii", "replace").decode())

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> bool:
        """Has everything been written out?"""
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
                pass  # an unbuffered stream
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
        except (AttributeError, LookupError, TypeError):  # it has none, or an unknown one
            return "utf-8"

    @property
    def closed(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def safe() -> Iterator[None]:
    """Within it, writing to sys.stdout and sys.stderr raises nothing."""
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
    """`safe` for a whole process, from start to end.

    Yields:
      A list that at the end has a line for each stream that failed, unless it was closed or its reader went away
      (`… | head`).
    """
    _open_descriptors()
    lost: list[str] = []
    for name in _NAMES:  # also for loggers and others that already hold the stream
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
    """Opens closed descriptors 0 to 2 on the null device: otherwise the next file that is opened would become one of
    them, and get what libraries write to stderr."""
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
    """Discards what a process's own stream still buffers: Python would complain about it at exit."""
    if stream is not None and any(stream is own for own in (sys.__stdout__, sys.__stderr__)):
        with contextlib.suppress(Exception):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
