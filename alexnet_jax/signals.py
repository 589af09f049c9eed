"""What asks a process to stop, and the one handler of all commands for it.

A terminal sends SIGINT and SIGHUP; those who end jobs send SIGTERM, and batch systems before their limits SIGUSR1,
SIGUSR2 or SIGXCPU, as they are told; an `alarm` that was set before `exec`, the oldest of time limits, sends SIGALRM,
and a failing supply of power SIGPWR. All of them would end the process otherwise.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM", "SIGPWR", "SIGBREAK")  # the last is
# Windows' SIGHUP
NUMBERS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
_ONE = 1.0  # seconds within which signals are one: a keystroke that a wrapper passes on arrives twice


class Stop(Exception):
    """A signal came."""


class Signals:
    """Takes the signals that ask to stop, from `with` to its end.

    One that is ignored when that begins (nohup, the background of a shell) stays ignored, and one that something else
    than Python handles is left to that. Outside the main thread all are somebody else's business.

    Args:
      act: what is done at once, after the attributes are set.
      always: signals that are taken even if they are ignored.

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
            for number in NUMBERS:
                old = signal.getsignal(number)
                if number in self._always or (old not in (signal.SIG_IGN, None) and not _timer(number, old)):
                    signal.signal(number, self._take)
                    self._old[number] = old
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
    """Is it the alarm clock of the program that calls this library?"""
    ours = isinstance(getattr(handler, "__self__", None), Signals)
    return signal.Signals(number).name == "SIGALRM" and handler != signal.SIG_DFL and not ours


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
    """Ctrl-C, asked for again: at once, at the cost of what isn't saved."""
    if signals.count > 1 and signals.received == signal.SIGINT:
        raise KeyboardInterrupt
