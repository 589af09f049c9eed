"""The signals that ask a process to stop, and the one handler of all commands for them.

A terminal sends SIGINT, SIGQUIT and SIGHUP; `kill` and job managers send SIGTERM; batch systems send SIGUSR1, SIGUSR2,
SIGXCPU or any other before a time limit; timers set before `exec` send SIGALRM, SIGVTALRM or SIGPROF, a failing power
supply SIGPWR. Every signal that would end the process is handled, but for SIGKILL and those that report a fault in it.
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
_ONE = 1.0  # seconds within which signals count as one: a keystroke that a wrapper passes on arrives twice


class Stop(Exception):
    """A signal came."""


class Signals:
    """Handles the signals that ask to stop, within a `with` block.

    A signal that is already ignored (nohup, a shell's background) stays ignored, and one with a handler outside Python
    keeps it. Outside the main thread nothing is handled. An ignored SIGCHLD is reset: with it, child processes would
    all seem to have succeeded.

    Args:
      act: called at once, after the attributes are set.
      always: signals that are handled even if they are ignored or blocked.

    Attributes:
      received: the latest signal; None: none so far.
      count: how many have come, counting those within a second of each other as one.
    """

    def __init__(self, act: Callable[[Signals], object] = lambda signals: None, always: Collection[int] = ()):
        self.received: int | None = None
        self.count = 0
        self._act, self._always = act, always
        self._at = 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not the main thread
            if self._always and hasattr(signal, "pthread_sigmask"):  # a process inherits what its parent blocks
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
        """Has Ctrl-C been pressed again, to end at once and lose what isn't saved?"""
        return self.count > 1 and self.received == signal.SIGINT

    @contextlib.contextmanager
    def acting(self, act: Callable[[Signals], object]) -> Iterator[None]:
        """Replaces `act` within a `with` block."""
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
    """Is it a timer that the calling program has set?"""
    ours = isinstance(getattr(handler, "__self__", None), Signals)
    return number in _TIMERS and handler != signal.SIG_DFL and not ours


def end_imports(code: int) -> None:
    """Until `Signals` is entered, makes Ctrl-C end the process at once, with one word: there is nothing to save.

    Not by an exception: one raised while an extension module is imported aborts the process.
    """
    def end(*_: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(code)

    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


@contextlib.contextmanager
def afterwards() -> Iterator[None]:
    """A signal within the block takes effect at its end. For imports: an exception in an extension module aborts the
    process."""
    with Signals() as taken:
        yield
    if taken.received is not None:
        at_once(taken)


def at_once(signals: Signals) -> None:
    """Raises KeyboardInterrupt: for work that has nothing to save."""
    raise KeyboardInterrupt


def at_the_second(signals: Signals) -> None:
    """Raises KeyboardInterrupt at the second Ctrl-C."""
    if signals.hurry:
        raise KeyboardInterrupt
