"""What asks a process to stop, and the one handler of all commands for it.

A terminal sends SIGINT, SIGQUIT and SIGHUP; those who end jobs send SIGTERM, and batch systems before their limits
SIGUSR1, SIGUSR2, SIGXCPU or whatever they are told to; a timer that was set before `exec`, the oldest of time limits,
sends SIGALRM, SIGVTALRM or SIGPROF, and a failing supply of power SIGPWR. All that would end the process otherwise is
taken, except for SIGKILL and what tells of a fault within it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

# Faults; signals that Python turns into errors; those that stop or continue a process, or do nothing to it.
_OTHERS = ("SIGABRT", "SIGBUS", "SIGEMT", "SIGFPE", "SIGILL", "SIGKILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGPIPE",
           "SIGXFSZ", "SIGCHLD", "SIGCONT", "SIGINFO", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")
_TIMERS = tuple(getattr(signal, name) for name in ("SIGALRM", "SIGVTALRM", "SIGPROF") if hasattr(signal, name))
NUMBERS = (signal.SIGINT, *sorted(signal.valid_signals() - {signal.SIGINT} - {
    getattr(signal, name) for name in _OTHERS if hasattr(signal, name)}))
_ONE = 1.0  # seconds within which signals are one: a keystroke that a wrapper passes on arrives twice


class Stop(Exception):
    """A signal came."""


class Signals:
    """Takes the signals that ask to stop, from `with` to its end.

    One that is ignored when that begins (nohup, the background of a shell) stays ignored, and one that something else
    than Python handles is left to that. Outside the main thread all are somebody else's business. An ignored SIGCHLD is
    an exception: processes that are started would seem to have ended well, whatever became of them.

    Args:
      act: what is done at once, after the attributes are set.
      always: signals that are taken even if they are ignored or blocked.

    Attributes:
      received: the newest signal; None: none has come.
      count: how many have come, those within a second of each other being one.
    """

    def __init__(self, act: Callable[[Signals], object] = lambda signals: None, always: Collection[int] = ()):
        self.received: int | None = None
        self.count = 0
        self._act, self._always = act, always
        self._at = 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not the main thread
            if self._always and hasattr(signal, "pthread_sigmask"):  # a process is started with what its parent blocks
                signal.pthread_sigmask(signal.SIG_UNBLOCK, self._always)
            for number in NUMBERS:
                old = signal.getsignal(number)
                if number in self._always or (old not in (signal.SIG_IGN, None) and not _timer(number, old)):
                    signal.signal(number, self._take)
                    self._old[number] = old
            if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._old[signal.SIGCHLD] = signal.SIG_IGN
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old.clear()

    def _take(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if not self.count or now - self._at > _ONE:
            self.count += 1
        self._at, self.received = now, number
        self._act(self)

    @property
    def hurry(self) -> bool:
        """Has Ctrl-C been asked for again: an end at once, at the cost of what isn't saved?"""
        return self.count > 1 and self.received == signal.SIGINT

    @contextlib.contextmanager
    def acting(self, act: Callable[[Signals], object]) -> Iterator[None]:
        """In here another `act`."""
        self._act, old = act, self._act
        try:
            yield
        finally:
            self._act = old

    def check(self) -> None:
        """Raises Stop if a signal has come."""
        if self.received is not None:
            raise Stop


def _timer(number: int, handler: Any) -> bool:
    """Is it a timer of the program that calls this library?"""
    ours = isinstance(getattr(handler, "__self__", None), Signals)
    return number in _TIMERS and handler != signal.SIG_DFL and not ours


def end_imports(code: int) -> None:
    """From now on, until `Signals` are taken, Ctrl-C ends the process at once, in one word: there is nothing to save.

    Not by an exception: extension modules that are being imported abort the process on one.
    """
    def end(*_: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(code)

    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


@contextlib.contextmanager
def afterwards() -> Iterator[None]:
    """What comes in here ends the command at its end. For imports: extension modules abort the process on an exception.
    """
    with Signals() as taken:
        yield
    if taken.received is not None:
        at_once(taken)


def at_once(signals: Signals) -> None:
    """As Python does on SIGINT: for work that has nothing to save."""
    raise KeyboardInterrupt


def at_the_second(signals: Signals) -> None:
    """As Python does on SIGINT, where there is a hurry."""
    if signals.hurry:
        raise KeyboardInterrupt
