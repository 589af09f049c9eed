"""A store under construction, which outlives its builder: no image that is safely written is decoded again.

`.<store's folder>.building/` lies beside the store's place and holds

`images.u8`  a place for every image of the split, corrupt ones included; sparse until it is full
`journal`    records, one a line: the CRC-32 of the rest in eight hex digits, a space, JSON. The first is the
             identity of what is built. Then come `{"ranks", "labels", "crcs", "originals", "corrupt": [[rank,
             name, reason], …]}`, each of images that were on the disk before the record was written, and
             `{"closing": true}` before the places of corrupt images are closed up.

The disk has the images before the journal speaks of them, so a builder may end anywhere: the next one believes
the journal up to the first record that is not whole. The journal is removed last; a folder with meta.json and
no journal is a store that only lacks its name. Whoever writes here holds the store's lock.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Block, Corrupt, Report
from alexnet_jax.errors import DataError, describe_os_error

JOURNAL = "journal"
KEEP_SECONDS = 5.0  # of work that the end of the process may cost
_PIECE = 8 << 20  # bytes moved at a time
_SAMPLE = 64  # images whose checksums are compared when a builder takes over


class Partial:
    """The files of a store under construction. Images come in any order of their ranks.

    Attributes:
      done: bool [count], the ranks that are written or known to be corrupt, by this builder or one before.
      corrupt: {rank: what is wrong with it}.
      kept: how many ranks the journal has.
    """

    def __init__(self, folder: pathlib.Path, identity: dict[str, Any], count: int, size: int):
        self.folder = folder
        self.done = np.zeros(count, bool)
        self.corrupt: dict[int, Corrupt] = {}
        self.kept = 0
        self._identity, self._size, self._bytes = identity, size, size * size * 3
        self._labels = np.full(count, -1, np.int32)
        self._crcs = np.zeros(count, np.uint32)
        self._originals = np.zeros((count, 2), np.uint32)  # 0: not known
        self._closing = False  # have places been closed up, perhaps not all?
        self._images = self._journal = -1
        self._written: list[tuple[int, int]] = []  # runs of ranks that the journal doesn't have yet
        self._skipped: list[Corrupt] = []
        self._keeper = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._keeping: concurrent.futures.Future | None = None
        self._kept_at = time.monotonic()

    # --- beginning and going on ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Makes the folder, with nothing in it yet."""
        self.folder.mkdir()
        self._open_files()
        self._append(self._identity)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)

    def _open_files(self) -> None:
        self._images = os.open(self.folder / store_lib.IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = os.open(self.folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def take_over(self) -> str:
        """Goes on with what an earlier builder left; if that is of no use, why."""
        try:
            content = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return "it has no journal"
        records, whole = parse(content)
        if not records:
            return "its journal is empty"
        if records[0] != self._identity:
            changed = [key for key in self._identity if records[0].get(key) != self._identity[key]]
            return f"what it was made from or by has changed: {', '.join(changed)}"
        self._open_files()
        os.ftruncate(self._journal, whole)
        for record in records[1:]:
            if "closing" in record:
                self._closing = True
                continue
            ranks = np.array(record["ranks"], np.int64)
            self._labels[ranks], self._crcs[ranks] = record["labels"], record["crcs"]
            if ranks.size and "originals" in record:
                self._originals[ranks] = record["originals"]
            self.done[ranks] = True
            for rank, name, reason in record["corrupt"]:
                self.corrupt[rank] = Corrupt(rank, name, reason)
                self.done[rank] = True
        self.kept = int(self.done.sum())
        written = np.flatnonzero(self.done & (self._labels >= 0))
        chosen = np.linspace(0, len(written) - 1, min(_SAMPLE, len(written))).astype(np.int64)
        # While places are closed up each image may be at either of its places; then all are looked at, later.
        if not self._closing and not all(self._is_at(rank, rank) for rank in written[chosen]):
            return "its images are not those of its journal"
        return ""

    def _is_at(self, rank: int, place: int) -> bool:
        return zlib.crc32(os.pread(self._images, self._bytes, int(place) * self._bytes)) == self._crcs[rank]

    def check_space(self) -> None:
        """Raises DataError if what is still to be written doesn't fit: better now than after hours of decoding."""
        taken = os.fstat(self._images).st_blocks * 512
        needed = max(0, len(self.done) * self._bytes - taken)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DataError(f"{self.folder.parent}: {needed:,} bytes are needed, {free:,} are free; make some "
                            "space or choose another disk (config.data.store or $ALEXNET_STORE_DIR)")

    # --- writing ------------------------------------------------------------------------------------------

    def put(self, block: Block) -> int:
        """Writes images: how many of them are new."""
        first, last = block.rank, block.rank + len(block.images)
        images = np.ascontiguousarray(block.images)
        self._labels[first:last] = block.labels
        self._originals[first:last] = 0 if block.originals is None else block.originals
        self._crcs[first:last] = [zlib.crc32(image) for image in images]
        self._write(self._images, images.reshape(-1).data, first * self._bytes)
        new = int((~self.done[first:last]).sum())
        self.done[first:last] = True
        self._written.append((first, last))
        return new

    def leave_out(self, corrupt: Corrupt) -> int:
        """Notes a corrupt image: 1 if it is new."""
        if self.done[corrupt.rank]:
            return 0
        self.corrupt[corrupt.rank] = corrupt
        self.done[corrupt.rank] = True
        self._skipped.append(corrupt)
        return 1

    def _write(self, file: int, content: memoryview | bytes, offset: int | None = None) -> None:
        """All of `content`, at `offset` or at the end of a file that is open for appending."""
        content = memoryview(content)
        while content:
            written = os.write(file, content) if offset is None else os.pwrite(file, content, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
            content = content[written:]
            offset = None if offset is None else offset + written

    def keep_now_and_then(self) -> None:
        """Sees to it, in the background, that few seconds of work are not in the journal."""
        if time.monotonic() - self._kept_at >= KEEP_SECONDS and (self._keeping is None or self._keeping.done()):
            self.keep(wait=False)

    def keep(self, *, wait: bool = True) -> None:
        """Makes what was put so far safe. Raises the OSError of an earlier attempt too."""
        if self._keeping is not None:
            self._keeping.result()
        written, self._written = self._written, []
        skipped, self._skipped = self._skipped, []
        self._keeping = self._keeper.submit(self._keep, written, skipped)
        self._kept_at = time.monotonic()
        if wait:
            self._keeping.result()

    def _keep(self, written: list[tuple[int, int]], skipped: list[Corrupt]) -> None:
        if not written and not skipped:
            return
        os.fsync(self._images)  # the journal must not speak of what the disk does not have
        ranks = np.concatenate([np.arange(*run) for run in written]) if written else np.zeros(0, np.int64)
        self._append({"ranks": ranks.tolist(), "labels": self._labels[ranks].tolist(),
                      "crcs": self._crcs[ranks].tolist(), "originals": self._originals[ranks].tolist(),
                      "corrupt": [list(c) for c in skipped]})
        self.kept += len(ranks) + len(skipped)

    def _append(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":")).encode()
        self._write(self._journal, b"%08x %s\n" % (zlib.crc32(text), text))
        os.fsync(self._journal)

    # --- ending -------------------------------------------------------------------------------------------

    def finish(self, meta: dict[str, Any], names: Sequence[str] | None = None) -> int:
        """Makes the folder a store: how many images it has.

        Args:
          meta: what meta.json says of the dataset; the rest is added.
          names: of the images, by rank.

        Raises:
          DataError: the images are not those that were written.
        """
        self.keep()
        missing = sorted(self.corrupt)
        kept = np.ones(len(self.done), bool)
        kept[missing] = False
        count = int(kept.sum())
        if missing:
            self._close_up(missing, kept)
        os.ftruncate(self._images, count * self._bytes)
        os.fsync(self._images)
        labels, crcs = self._labels[kept].astype("<i4"), self._crcs[kept].astype("<u4")
        small = {store_lib.LABELS: labels.tobytes(), store_lib.CHECKSUMS: crcs.tobytes()}
        if names is not None:
            lines = [f"{store_lib.escape(name)}\n" for name, here in zip(names, kept.tolist(), strict=True) if here]
            small[store_lib.NAMES] = "".join(lines).encode()
        if self._originals[kept].all():
            small[store_lib.ORIGINALS] = self._originals[kept].astype("<u4").tobytes()
        for name, content in small.items():
            self._write_file(name, content)
        listed = [{"name": self.corrupt[rank].name, "reason": self.corrupt[rank].reason} for rank in missing]
        checks = {name: zlib.crc32(content) for name, content in small.items()}
        meta = meta | {"size": self._size, "count": count, "corrupt": listed, "crc32": checks}
        self._write_file(store_lib.META, (json.dumps(meta) + "\n").encode())
        sync_folder(self.folder)
        (self.folder / JOURNAL).unlink()
        sync_folder(self.folder)
        return count

    def _write_file(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)
        sync(self.folder / name)

    def _close_up(self, missing: list[int], kept: np.ndarray) -> None:
        """Moves the images behind each corrupt one towards the front."""
        if not self._closing:
            self._append({"closing": True})
            self._closing = True
            for target, (first, last) in runs(missing, len(kept)):
                self._move(first * self._bytes, last * self._bytes, target * self._bytes)
            return
        # An earlier builder ended here. What it had not moved is where it was: a place is overwritten by what
        # belongs there, and only after the image that lay there has been moved.
        places = np.cumsum(kept) - 1
        for rank in np.flatnonzero(kept)[missing[0]:].tolist():
            if self._is_at(rank, places[rank]):
                continue
            if not self._is_at(rank, rank):
                self.kept = 0
                raise DataError(f"{self.folder}: an image was lost when the computer went down; it is removed, "
                                "and the same command builds it anew")
            self._move(rank * self._bytes, (rank + 1) * self._bytes, int(places[rank]) * self._bytes)

    def _move(self, first: int, last: int, target: int) -> None:
        # Towards the front only, so that a piece never overwrites what is still to be read.
        while first < last:
            piece = os.pread(self._images, min(_PIECE, last - first), first)
            if not piece:
                raise OSError(errno.EIO, "the file ends too early", str(self.folder / store_lib.IMAGES))
            self._write(self._images, piece, target)
            first, target = first + len(piece), target + len(piece)

    def discard(self) -> None:
        """Nothing in here is worth keeping: `close` is followed by the folder's removal."""
        self.kept = 0

    def close(self) -> None:
        self._keeper.shutdown()
        for file in (self._images, self._journal):
            if file >= 0:
                os.close(file)
        self._images = self._journal = -1


@contextlib.contextmanager
def under_construction(folder: pathlib.Path, identity: dict[str, Any], count: int, size: int,
                       report: Report) -> Iterator[Partial]:
    """A `Partial` in `folder`, which is left behind only if there is something in it that was safely written.

    Args:
      identity: of what is built, a dict fit for JSON: a folder of another identity is not gone on with.
      count: images of the split. size: side of a stored image.
    """
    with storing(folder):
        partial = _taken_over(folder, identity, count, size, report) or Partial(folder, identity, count, size)
    try:
        with storing(folder):
            if not partial.kept:
                partial.begin()
            partial.check_space()
        yield partial
    finally:
        partial.close()
        if not partial.kept:
            shutil.rmtree(folder, ignore_errors=True)


def _taken_over(folder: pathlib.Path, identity: dict[str, Any], count: int, size: int,
                report: Report) -> Partial | None:
    """What an earlier builder left in `folder`; None, with the folder gone, if there is nothing of use."""
    if not folder.exists():
        return None
    partial = Partial(folder, identity, count, size)
    try:
        reason = partial.take_over()
        if partial.kept and not reason:
            return partial
    except BaseException:
        partial.close()
        raise
    partial.close()
    if reason:
        report(f"{folder.name}: what an earlier builder left is of no use ({reason}); beginning anew")
    shutil.rmtree(folder)
    return None


def finished(folder: pathlib.Path) -> bool:
    """Is `folder` a whole store whose builder ended just before it gave it its name?"""
    try:
        if not (folder / store_lib.META).exists() or (folder / JOURNAL).exists():
            return False
        store_lib.open_store(folder)
    except (DataError, OSError):  # the latter: another user's, closed to this one
        return False
    return True


def parse(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """(the records of a journal up to the first that isn't whole, the bytes that they take)."""
    records, whole = [], 0
    for line in content.splitlines(keepends=True):
        check, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
            break
        records.append(json.loads(text))
        whole += len(line)
    return records, whole


def runs(missing: list[int], count: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(new place, (first, last)) of each run of images behind a gap."""
    for gaps, rank in enumerate(missing, 1):
        last = missing[gaps] if gaps < len(missing) else count
        if rank + 1 < last:
            yield rank + 1 - gaps, (rank + 1, last)


@contextlib.contextmanager
def storing(folder: pathlib.Path) -> Iterator[None]:
    """What the operating system refuses in here is about the store: say which setting chooses its place."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise DataError(f"{describe_os_error(error)} (config.data.store or $ALEXNET_STORE_DIR is where the "
                        "packed images go)") from error


def sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems do not sync folders
        sync(folder)
