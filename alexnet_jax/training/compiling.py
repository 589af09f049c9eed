"""A run's programs, compiled ahead of their first call: concurrently, and once for all runs that share a cache.

A jitted function is lowered from the shapes and shardings of its arguments and compiled in a thread, while XLA lets
other threads run. When it is called JAX finds it compiled. It is the same program, with the same options, as if it were
compiled at its first call.

Several runs that start together, such as the seeds of an arm, need the same programs. The first compiles; the others
wait and read the result from JAX's persistent cache. If the first one dies, the next one compiles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from importlib import metadata
from typing import Any

import jax

from alexnet_jax import files

_WAIT = 900.0  # seconds for another run's compilation; then this one compiles too
_TICK = 0.1
_HIT = "/jax/compilation_cache/cache_hits"

Function = tuple[Any, tuple]  # of `jax.jit`, and its arguments or their `jax.ShapeDtypeStruct`

_of_thread = threading.local()


def _heard(event: str, **_: Any) -> None:
    if event == _HIT:
        _of_thread.hits = getattr(_of_thread, "hits", 0) + 1


jax.monitoring.register_event_listener(_heard)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Seconds that a program took, those of them that it `waited` for another run, and if it came from the cache."""

    seconds: float
    waited: float
    cached: bool

    def __str__(self) -> str:
        how = ["from the cache"] if self.cached else []
        how += [f"{self.waited:.1f} s of it waiting for another run"] if self.waited >= 0.05 else []
        return f"{self.seconds:.1f} s" + (f" ({', '.join(how)})" if how else "")


class Compiling:
    """The compilations of a run. A context manager that ends with none in progress.

    Args:
      check: raises if the run has been told to stop.
      threads: how many compile at once; 0: `ready` compiles when it is called, one after the other.

    Attributes:
      eager: do programs compile from `begin` on?
    """

    def __init__(self, check: Callable[[], object] = lambda: None, threads: int = 0):
        self._check = check
        self.eager = threads > 0
        self._pool = futures.ThreadPoolExecutor(max(1, threads), thread_name_prefix="compile")
        self._wanted: dict[str, Function] = {}
        self._lowered: dict[str, Any] = {}  # kept: JAX finds what is compiled by it
        self._under_way: dict[str, futures.Future[Compiled]] = {}
        self._told: set[str] = set()
        self._over = threading.Event()

    def __enter__(self) -> Compiling:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # Wait for them: the process may end next, and XLA's threads cannot outlive it.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, wanted: Mapping[str, Function]) -> None:
        """Sets the run's programs, {name for people: program}, longest first. If `eager`, starts to compile them."""
        self._wanted |= wanted
        if self.eager:
            for name in wanted:
                self._start(name)

    def ready(self, *names: str) -> None:
        """Waits until these are compiled. Programs not given to `begin` compile when they are called."""
        for name in names:
            if name in self._wanted:
                self._start(name)
                while not futures.wait([self._under_way[name]], _TICK).done:
                    self._check()
                self._under_way[name].result()

    def told(self) -> str:
        """A line about the programs compiled since the last such line; '' if there are none."""
        new = {name: future.result() for name, future in self._under_way.items()
               if name not in self._told and future.done()}
        self._told |= new.keys()
        return f"compiled: {', '.join(f'{name} {how}' for name, how in new.items())}" if new else ""

    def _start(self, name: str) -> None:
        if name not in self._under_way:
            begun = time.perf_counter()
            function, arguments = self._wanted[name]
            self._lowered[name] = lowered = function.lower(*arguments)
            self._under_way[name] = self._pool.submit(self._compile, lowered, time.perf_counter() - begun)

    def _compile(self, lowered: Any, seconds: float) -> Compiled:
        begun, _of_thread.hits = time.perf_counter(), 0
        with self._once(lowered) as waited:
            if self._over.is_set():
                raise futures.CancelledError
            lowered.compile()
        return Compiled(seconds + time.perf_counter() - begun, waited, _of_thread.hits > 0)

    @contextlib.contextmanager
    def _once(self, lowered: Any) -> Iterator[float]:
        """Waits until no other process is compiling this program, and yields the seconds waited.

        Holds the lock meanwhile if none has compiled it.
        """
        path, begun, mine = _lock(lowered), time.monotonic(), None
        with contextlib.suppress(OSError):  # a file system without locks, or one that is full
            while path and not _done(path) and not self._over.is_set() and time.monotonic() < begun + _WAIT:
                if (mine := files.hold(path)) is not None:
                    break
                self._over.wait(_TICK)
        if path and mine is not None and _done(path):
            os.close(mine)  # just compiled by another run: it is in the cache, or too small for it
            mine = None
        try:
            yield time.monotonic() - begun
            if path and mine is not None:
                with contextlib.suppress(OSError):
                    path.write_text("compiled\n", encoding="utf-8")  # in place: this file is the lock
        finally:
            if mine is not None:
                os.close(mine)


def _done(path: pathlib.Path) -> bool:
    """Has some process compiled it?"""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _lock(lowered: Any) -> pathlib.Path | None:
    """The lock of a program, beside the cache's entries; None where there is no cache on a file system."""
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    if not folder or "://" in folder or not config.jax_enable_compilation_cache:
        return None
    about = (lowered.as_text(), metadata.version("jax"), metadata.version("jaxlib"), jax.devices()[0].device_kind,
             os.environ.get("XLA_FLAGS", ""), str(len(jax.devices())))
    key = hashlib.sha256("\0".join(about).encode()).hexdigest()
    place = pathlib.Path(folder) / "compiling"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return place / key
