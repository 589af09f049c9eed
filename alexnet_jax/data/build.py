"""Builds a packed store: under a lock, in a temporary folder beside it, which is then renamed.

The lock (`.<folder>.lock`) is the operating system's: it ends with its process, however it dies. Only its holder writes
`.<folder>.building`; if that exists, a dead builder has left it and it is resumed (alexnet_jax.data.partial), so that
building may be stopped or killed at any moment. If it is another user's and not writable, a copy is resumed,
`.<folder>.<user>.building`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from alexnet_jax import environment, files, names, streams
from alexnet_jax import signals as signals_lib
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Block, Corrupt, Dataset, Reading, Report
from alexnet_jax.data.leftovers import copy, may_resume, place_of, progress
from alexnet_jax.data.partial import Partial, finished, storing, sync_folder, under_construction
from alexnet_jax.errors import DataError, Interrupted
from alexnet_jax.progress import Bar
from alexnet_jax.signals import Signals
from alexnet_jax.text import duration

_NAMED = 10  # corrupt images that are reported one by one; meta.json lists all


@streams.safe()
def build(dataset: Dataset, split: str, version: str, size: int, folder: pathlib.Path, *, on_corrupt: str,
          report: Report, check: Callable[[int], object] = lambda count: None) -> None:
    """Makes `folder` the store of the whole `split` of `dataset`, unless another process did so meanwhile.

    Resumes what an interrupted build of the same store has left. If this one is interrupted, its images are kept in a
    hidden folder beside the store for the next; a build of seconds leaves nothing.

    Args:
      version: of the split's content, from the dataset.
      on_corrupt: 'skip' leaves out images that cannot be read, 'refuse' ends at the first one.
      check: called with the number of images before any is read; may raise to end the build.

    Raises:
      DataError: the dataset is damaged or absent, an image is refused, or the store cannot be written.
      Interrupted: by SIGINT, SIGTERM or SIGHUP.
    """
    label = f"packing {dataset.name} {split} at {size}×{size}"
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if not environment.writable(folder.parent):
        raise DataError(f"{folder.parent}: this user may not write there, and {dataset.name} {split} is not packed "
                        "yet; config.data.store or $ALEXNET_STORE_DIR names another place for packed images")
    shared = folder.with_name(f".{folder.name}.building")
    own = folder.with_name(f".{folder.name}.{environment.user()}.building")
    with signals_lib.Signals(signals_lib.at_once) as signals:
        try:
            with lock(folder, report):
                if folder.exists():
                    return
                name = glob.escape(f".{folder.name}")
                for leftover in folder.parent.glob(f"{name}.building-*"):
                    shutil.rmtree(leftover, ignore_errors=True)  # of versions that could not resume
                for other in folder.parent.glob(".*.building"):
                    of, _ = progress(other)
                    if place_of(other) != folder and of and (of["name"], of["split"], of["size"]) == (
                            dataset.title, split, size):
                        # Another process may be building it, so it isn't removed here.
                        report(f"{other}: an unfinished store of another version; if nobody is building it, "
                               f"python -m alexnet_jax.data.prepare --delete={other.name} removes it")
                if not _named((own, shared), folder):
                    reading = dataset.read(split, size, report)
                    check(reading.count)
                    if reading.count == 0:
                        raise DataError(f"{reading.origin}: no images in it")
                    meta = {"schema": store_lib.SCHEMA, "name": dataset.title, "version": version, "split": split}
                    if dataset.folder is not None:
                        meta["folder"] = dataset.folder
                    closed = not may_resume(shared)
                    temporary = own if closed or own.exists() else shared
                    _fill(temporary, reading, size, on_corrupt, report, label, meta, signals,
                          shared if closed else None)
                    with storing(folder):
                        os.rename(temporary, folder)
                sync_folder(folder.parent)
                for leftover in folder.parent.glob(f"{name}.*building"):
                    if place_of(leftover) == folder:
                        shutil.rmtree(leftover, ignore_errors=True)
        except KeyboardInterrupt:
            raise Interrupted(f"{label}: stopped; the same command resumes") from None


def _named(places: Sequence[pathlib.Path], folder: pathlib.Path) -> bool:
    """Renames a finished store that was not renamed yet, if there is one and this user may; True if it did."""
    for place in filter(finished, places):
        with contextlib.suppress(PermissionError):
            os.rename(place, folder)
            return True
    return False


@contextlib.contextmanager
def lock(place: pathlib.Path, report: Report) -> Iterator[None]:
    """Holds `.<place>.lock` beside `place`; if another process holds it, reports that and waits."""
    path = place.with_name(f".{place.name}.lock")
    with contextlib.ExitStack() as stack:
        with storing(place):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not stack.enter_context(files.lock(path, seconds=0.0)):
                report(f"another process is building {place.name}; waiting for it")
                stack.enter_context(files.lock(path))
        yield


def _fill(folder: pathlib.Path, reading: Reading, size: int, on_corrupt: str, report: Report, label: str,
          meta: dict[str, Any], signals: Signals, theirs: pathlib.Path | None) -> None:
    """Makes `folder` a complete store, resuming from its content, or from a copy of another user's (`theirs`)."""
    start, count = time.monotonic(), reading.count
    meta = meta | {"classes": list(reading.classes), "class_keys": list(reading.class_keys)}
    if reading.left_out is not None:
        meta["left_out"] = {kind: dict(classes) for kind, classes in reading.left_out.items()}
    keys = zlib.crc32("\n".join(reading.class_keys).encode("utf-8", "surrogateescape"))
    identity = {key: meta[key] for key in ("schema", "name", "version", "split")} | {
        "size": size, "count": count, "class_keys": keys, "made_by": reading.made_by}
    if theirs is not None:
        with storing(folder):
            copy(theirs, folder, identity, report)
    with under_construction(folder, identity, count, size, report) as partial:
        before = int(partial.done.sum())
        if before:
            report(f"{label}: resuming after {before} of {count} images")
        try:
            _read(partial, reading, on_corrupt, report, label, signals)
            if len(partial.corrupt) == count:
                partial.discard()
                raise DataError(f"{reading.origin}: none of its {count} images can be read")
            if not partial.done.all():
                partial.discard()
                raise DataError(f"{reading.origin}: changed while it was read; try again")
            with storing(folder):
                images = partial.finish(meta, reading.names() if callable(reading.names) else reading.names)
        except DataError:
            if partial.kept:
                report(f"{label}: {partial.kept} of {count} images are kept in {folder}; the same command resumes")
            raise
    earlier = f", {before} of them earlier" if before else ""
    report(f"{label}: {images} images{earlier} in {duration(time.monotonic() - start)}")


def _read(partial: Partial, reading: Reading, on_corrupt: str, report: Report, label: str,
          signals: Signals) -> None:
    """Reads the missing images into `partial`."""
    if on_corrupt == "refuse" and partial.corrupt:
        first = partial.corrupt[min(partial.corrupt)]
        raise refusal(first.name, first.reason)
    if partial.done.all():
        return
    done = partial.done.copy()
    done.flags.writeable = False
    named = len(partial.corrupt)
    with (
        warnings.catch_warnings(),
        contextlib.closing(_each(reading.examples(done))) as examples,
        _Packing(label, int(done.sum()), reading.count, report) as bar,
        signals.acting(signals_lib.at_the_second),
    ):
        # Pillow's warnings (odd metadata, large images) don't matter here.
        warnings.simplefilter("ignore")
        for example in examples:
            if isinstance(example, Corrupt):
                # A file's name may not be valid UTF-8.
                name = example.name.encode("utf-8", "backslashreplace").decode()
                if on_corrupt == "refuse":
                    raise refusal(name, example.reason)
                new = partial.leave_out(example._replace(name=name))
                if new and len(partial.corrupt) <= _NAMED:
                    report(f"{name}: {example.reason}; skipped")
            else:
                with storing(partial.folder):
                    new = partial.put(example)
            with storing(partial.folder):
                partial.keep_now_and_then()
            bar.advance(new)
            if signals.received is not None:
                with storing(partial.folder):
                    partial.keep()
                raise Interrupted(f"{label}: stopped; {partial.kept} of {reading.count} images are kept, and the same "
                                  "command resumes")
    if len(partial.corrupt) > max(_NAMED, named):
        report(f"… {len(partial.corrupt)} corrupt images in all, listed in the store's meta.json")


def _each(examples: Iterable[Block | Corrupt]) -> Generator[Block | Corrupt, None, None]:
    """A generator, so that `close` also closes `examples`, if they can be closed."""
    yield from examples


def refusal(name: str, reason: str) -> DataError:
    """The error of on_corrupt='refuse'."""
    return DataError(f"{name}: {reason}; repair or remove it, or set config.data.on_corrupt=skip")


class _Packing(Bar):
    """The progress bar of a build.

    Its rate is since the first image: before that, a resumed build skips through an archive.

    Args:
      done: images that an earlier builder has written, of `count`.
    """

    def __init__(self, label: str, done: int, count: int, report: Report):
        # The first line after three seconds: quick builds say nothing in between.
        super().__init__(count, sys.stdout if report in (print, names.say) else None, report, seconds=10.0, first=3.0)
        self._label, self._before, self._count = label, done, count
        self._new = self._first = 0
        self._start: float | None = None  # when the `_first` new images were there

    def advance(self, images: int) -> None:
        self._new += images
        now = time.monotonic()
        if self._start is None:
            self._start, self._first = now, self._new
            return
        rate = (self._new - self._first) / max(now - self._start, 1e-3)
        done = self._before + self._new
        left = duration((self._count - done) / rate if rate else None)
        self.update(done, f"{self._label}: {done} of {self._count}", f"{rate:,.0f} images/s · {left} left")
