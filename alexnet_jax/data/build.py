"""Builds a packed store: under a lock, in a folder next to its place, moved there in one rename.

The lock (`.<folder>.lock`) is the operating system's: it ends with its process, however that dies. Only the
holder writes `.<folder>.building-*`, so any such folder that it finds is a dead builder's and is removed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from alexnet_jax.data import store as store_lib
from alexnet_jax.data.sources import Block, Corrupt, Reading, Report, Source
from alexnet_jax.errors import DataError, describe_os_error

_NAMED = 10  # corrupt images that are reported one by one; meta.json lists all
_PIECE = 8 << 20  # bytes moved at a time


def build(source: Source, split: str, version: str, size: int, folder: pathlib.Path, *, on_corrupt: str,
          report: Report, check: Callable[[int], object] = lambda count: None) -> None:
    """Makes `folder` the store of the whole `split` of `source`, unless another process did so meanwhile.

    Args:
      version: of the split's content, as the source names it.
      on_corrupt: 'skip' leaves images out that cannot be read, 'refuse' ends at the first.
      check: called with the number of images before any is read; what it raises ends the building.

    Raises:
      DataError: the source is damaged or absent, an image is refused, or the store cannot be written. No
        part of a store is left behind.
    """
    with _storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, report):
        if folder.exists():
            return
        for leftover in folder.parent.glob(f".{folder.name}.building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        reading = source.read(split, size, report)
        check(reading.count)
        if reading.count == 0:
            raise DataError(f"{reading.origin}: no images in it")
        with _storing(folder):
            temporary = folder.with_name(f".{folder.name}.building-{os.getpid()}")
            temporary.mkdir()
        try:
            _fill(temporary, reading, size, on_corrupt, report,
                  {"schema": store_lib.SCHEMA, "name": source.name, "version": version, "split": split})
            with _storing(folder):
                os.rename(temporary, folder)
            _sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def lock(place: pathlib.Path, report: Report) -> Iterator[None]:
    """Holds `.<place>.lock` beside `place`, waiting for another process that does, and saying so."""
    import filelock

    with _storing(place):
        held = filelock.FileLock(place.with_name(f".{place.name}.lock"))
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            report(f"another process is building {place.name}; waiting for it")
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def _storing(folder: pathlib.Path) -> Iterator[None]:
    """What the operating system refuses in here is about the store: say which setting chooses its place."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise DataError(f"{describe_os_error(error)} (config.data.store or $ALEXNET_STORE_DIR is where the "
                        "packed images go)") from error


def _fill(folder: pathlib.Path, reading: Reading, size: int, on_corrupt: str, report: Report,
          meta: dict) -> None:
    """Writes the four files of a store into `folder`."""
    start = time.monotonic()
    label = f"packing {meta['name']} {meta['split']} at {size}×{size}"
    corrupt: dict[int, Corrupt] = {}
    writer = _Writer(folder, reading.count, size)
    with contextlib.closing(writer), contextlib.closing(reading.examples), warnings.catch_warnings():
        # What Pillow warns of (odd metadata, large images) changes nothing here.
        warnings.simplefilter("ignore")
        for example in _with_progress(reading.examples, reading.count, label, report):
            if isinstance(example, Corrupt):
                # A file's name may be no text at all.
                name = example.name.encode("utf-8", "backslashreplace").decode()
                if on_corrupt == "refuse":
                    raise refusal(name, example.reason)
                corrupt[example.rank] = example._replace(name=name)
                if len(corrupt) <= _NAMED:
                    report(f"{name}: {example.reason}; skipped")
            else:
                writer.put(example)
        if len(corrupt) > _NAMED:
            report(f"… and {len(corrupt) - _NAMED} corrupt images more, all listed in the store's meta.json")
        if len(corrupt) == reading.count:
            raise DataError(f"{reading.origin}: none of its {reading.count} images can be read")
        count, crcs = writer.finish(sorted(corrupt), reading.origin)
    listed = [{"name": c.name, "reason": c.reason} for _, c in sorted(corrupt.items())]
    meta |= {"size": size, "count": count, "classes": list(reading.classes),
             "class_keys": list(reading.class_keys), "corrupt": listed, "crc32": crcs}
    with _storing(folder):
        (folder / store_lib.META).write_text(json.dumps(meta) + "\n", encoding="utf-8")
        _sync(folder / store_lib.META)
    _sync_folder(folder)
    report(f"{label}: {count} images in {time.monotonic() - start:.0f} s")


def refusal(name: str, reason: str) -> DataError:
    """What on_corrupt='refuse' ends with."""
    return DataError(f"{name}: {reason}; mend or remove it, or set config.data.on_corrupt=skip")


class _Writer:
    """images.u8, labels.i32 and checksums.u32, written in any order of the ranks."""

    def __init__(self, folder: pathlib.Path, count: int, size: int):
        self._folder = folder
        self._bytes = size * size * 3
        self._labels = np.full(count, -1, np.int32)
        self._crcs = np.zeros(count, np.uint32)
        with _storing(folder / store_lib.IMAGES):
            self._file = os.open(folder / store_lib.IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
            needed = count * self._bytes
            free = shutil.disk_usage(folder).free
            if free < needed:  # better now than after hours of decoding
                os.close(self._file)
                raise DataError(f"{folder.parent}: {needed:,} bytes are needed, {free:,} are free; make some "
                                "space or choose another disk (config.data.store or $ALEXNET_STORE_DIR)")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def put(self, block: Block) -> None:
        first, last = block.rank, block.rank + len(block.images)
        images = np.ascontiguousarray(block.images)
        self._labels[first:last] = block.labels
        self._crcs[first:last] = [zlib.crc32(image) for image in images]
        with _storing(self._folder / store_lib.IMAGES):
            self._write(images.reshape(-1).data, first * self._bytes)

    def _write(self, content: memoryview | bytes, offset: int) -> None:
        content = memoryview(content)
        while content:
            written = os.pwrite(self._file, content, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            content, offset = content[written:], offset + written

    def finish(self, missing: list[int], origin: str) -> tuple[int, dict[str, int]]:
        """Closes the gaps that `missing` ranks left and completes the files: (images, CRCs for meta.json)."""
        kept = np.ones(len(self._labels), bool)
        kept[missing] = False
        if (self._labels[kept] < 0).any():
            raise DataError(f"{origin}: changed while it was read; try again")
        count = int(kept.sum())
        labels = self._labels[kept].astype("<i4")
        crcs = self._crcs[kept].astype("<u4")
        with _storing(self._folder / store_lib.IMAGES):
            for target, (first, last) in _runs(missing, len(kept)):
                self._move(first * self._bytes, last * self._bytes, target * self._bytes)
            os.ftruncate(self._file, count * self._bytes)
            os.fsync(self._file)
            for name, array in ((store_lib.LABELS, labels), (store_lib.CHECKSUMS, crcs)):
                (self._folder / name).write_bytes(array.tobytes())
                _sync(self._folder / name)
        return count, {store_lib.LABELS: store_lib.crc32(labels), store_lib.CHECKSUMS: store_lib.crc32(crcs)}

    def _move(self, first: int, last: int, target: int) -> None:
        # Towards the front only, so that a piece never overwrites what is still to be read.
        while first < last:
            piece = os.pread(self._file, min(_PIECE, last - first), first)
            self._write(piece, target)
            first, target = first + len(piece), target + len(piece)


def _runs(missing: list[int], count: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(new place, (first, last)) of each run of images behind a gap."""
    for gaps, rank in enumerate(missing, 1):
        last = missing[gaps] if gaps < len(missing) else count
        if rank + 1 < last:
            yield rank + 1 - gaps, (rank + 1, last)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems do not sync folders
        _sync(folder)


def _size(example: Block | Corrupt) -> int:
    return len(example.images) if isinstance(example, Block) else 1


def _with_progress(examples: Iterable, count: int, label: str, report: Report) -> Iterator:
    """Passes `examples` on and shows how far they are: a bar on a terminal, else a line now and then."""
    if report is print and sys.stdout.isatty():
        from rich import progress

        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(),
                   progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        with progress.Progress(*columns, transient=True) as bar:
            task = bar.add_task(label, total=count)
            for example in examples:
                yield example
                bar.advance(task, _size(example))
        return
    done, start = 0, time.monotonic()
    said = start - 7.0  # the first line after three seconds: quick builds say nothing in between
    for example in examples:
        yield example
        done += _size(example)
        if time.monotonic() - said > 10.0:
            said = time.monotonic()
            report(f"{label}: {done} of {count}, {(count - done) * (said - start) / done:.0f} s left")
