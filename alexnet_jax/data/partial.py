"""An unfinished store, which survives its builder: an image that is safely written is not decoded again.

`.<store's folder>.building/`, beside the store's place, holds

`images.u8`     a slot for every image of the split, corrupt ones included; a sparse file until it is full
`progress.npz`  what is being built (`identity`, JSON); by rank which images are on the disk, their labels, checksums
                and original sizes; `corrupt`, JSON: [[rank, name, reason], …]
`moving`        while the slots of corrupt images are being closed up: the images being moved, preceded by their new
                slot in decimal digits

Every file but `images.u8` is replaced atomically, and `progress.npz` only once its images are on the disk, so a builder
may end anywhere: the next one resumes from the last `progress.npz`. With meta.json, written last, the folder is a store
that only needs renaming. Writers hold the store's lock.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import io
import json
import os
import pathlib
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax import files
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Block, Corrupt, Report
from alexnet_jax.errors import DataError, describe_os_error

PROGRESS = "progress.npz"
KEEP_SECONDS = 20.0  # of work that are lost at most when the process dies
_MOVING, _DIGITS = "moving", 20
_PIECE = 64 << 20  # bytes moved at a time
_SAMPLE = 64  # images whose checksums are compared when a builder takes over


class Partial:
    """The files of an unfinished store. Images are put in any order of their ranks.

    Attributes:
      done: bool [count], the ranks that are written or known to be corrupt, by this builder or one before.
      corrupt: {rank: what is wrong with it}.
      kept: how many ranks progress.npz has.
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
        self._images = -1
        self._keeper = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._keeping: concurrent.futures.Future | None = None
        self._kept_at = time.monotonic()

    # --- beginning and resuming ----------------------------------------------------------------------------

    def begin(self, report: Report) -> None:
        """Makes the folder, or resumes what an earlier builder left in it."""
        if self.folder.exists():
            reason = self._take_over()
            if reason:
                report(f"{self.folder.name}: an earlier builder's files can't be used ({reason}); starting again")
            if self.kept:
                return
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._images = os.open(self.folder / store_lib.IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
        self.keep()
        sync_folder(self.folder.parent)

    def _take_over(self) -> str:
        """Loads what an earlier builder left; returns why it is of no use, or ''."""
        found = read_progress(self.folder)
        if found is None:
            return f"nothing says what it holds: {PROGRESS} is missing or damaged"
        if found["identity"] != self._identity:
            changed = [key for key in self._identity if found["identity"].get(key) != self._identity[key]]
            return f"what it was made from or by has changed: {', '.join(changed)}"
        self._images = os.open(self.folder / store_lib.IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
        written = np.setdiff1d(np.flatnonzero(found["done"]), [rank for rank, *_ in found["corrupt"]])
        chosen = written[np.linspace(0, len(written) - 1, min(_SAMPLE, len(written))).astype(np.int64)].tolist()
        # While slots are being closed up, images have already moved.
        if not (self.folder / _MOVING).exists() and any(
                zlib.crc32(self._image(rank)) != found["crcs"][rank] for rank in chosen):
            self._close_images()
            return "its images are not those that were written"
        self.done, self._labels, self._crcs, self._originals = (
            found[key] for key in ("done", "labels", "crcs", "originals"))
        self.corrupt = {rank: Corrupt(rank, name, reason) for rank, name, reason in found["corrupt"]}
        self.kept = int(self.done.sum())
        return ""

    def _image(self, rank: int) -> bytes:
        return os.pread(self._images, self._bytes, int(rank) * self._bytes)

    def check_space(self) -> None:
        """Raises DataError if the disk is too full for the rest: better now than after hours of decoding."""
        taken = os.fstat(self._images).st_blocks * 512
        needed = max(0, len(self.done) * self._bytes - taken)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DataError(f"{self.folder.parent}: {needed:,} bytes are needed, {free:,} are free; make some "
                            "space or choose another disk (config.data.store or $ALEXNET_STORE_DIR)")

    # --- writing ------------------------------------------------------------------------------------------

    def put(self, block: Block) -> int:
        """Writes images; returns how many of them are new."""
        first, last = block.rank, block.rank + len(block.images)
        images = np.ascontiguousarray(block.images)
        self._write(self._images, images.reshape(-1).data, first * self._bytes)
        self._labels[first:last] = block.labels
        self._originals[first:last] = 0 if block.originals is None else block.originals
        self._crcs[first:last] = [zlib.crc32(image) for image in images]
        new = int((~self.done[first:last]).sum())
        self.done[first:last] = True
        return new

    def leave_out(self, corrupt: Corrupt) -> int:
        """Records a corrupt image; returns 1 if it is new, else 0."""
        if self.done[corrupt.rank]:
            return 0
        self.corrupt[corrupt.rank] = corrupt
        self.done[corrupt.rank] = True
        return 1

    def _write(self, file: int, content: memoryview | bytes, offset: int) -> None:
        content = memoryview(content)
        while content:
            written = os.pwrite(file, content, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
            content, offset = content[written:], offset + written

    def _save(self, name: str, content: bytes) -> None:
        """Replaces a file of the folder durably (fsync)."""
        with files.replacing(self.folder / name) as temporary:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                self._write(file, content, 0)
                os.fsync(file)
            finally:
                os.close(file)
        sync_folder(self.folder)

    def keep_now_and_then(self) -> None:
        """Calls `keep` in the background once `KEEP_SECONDS` have passed since the last time."""
        if time.monotonic() - self._kept_at >= KEEP_SECONDS and (self._keeping is None or self._keeping.done()):
            self.keep(wait=False)

    def keep(self, *, wait: bool = True) -> None:
        """Writes progress.npz, durably. Also raises the OSError of an earlier attempt in the background."""
        if self._keeping is not None:
            self._keeping.result()
        self._keeping = self._keeper.submit(
            self._keep, self.done.copy(), self._labels.copy(), self._crcs.copy(), self._originals.copy(),
            json.dumps(list(self.corrupt.values())))
        self._kept_at = time.monotonic()
        if wait:
            self._keeping.result()

    def _keep(self, done: np.ndarray, labels: np.ndarray, crcs: np.ndarray, originals: np.ndarray,
              corrupt: str) -> None:
        os.fsync(self._images)  # the images first: progress.npz lists only what is on the disk
        content = io.BytesIO()
        np.savez(content, identity=json.dumps(self._identity), done=done, labels=labels, crcs=crcs,
                 originals=originals, corrupt=corrupt)
        self._save(PROGRESS, content.getvalue())
        self.kept = int(done.sum())

    # --- ending -------------------------------------------------------------------------------------------

    def finish(self, meta: dict[str, Any], names: Sequence[str] | None = None) -> int:
        """Makes the folder a store; returns its number of images.

        Args:
          meta: the dataset's part of meta.json; the rest is added.
          names: of the images, by rank.
        """
        self.keep()
        missing = sorted(self.corrupt)
        kept = np.ones(len(self.done), bool)
        kept[missing] = False
        count = int(kept.sum())
        if missing:
            self._close_up(kept)
        os.ftruncate(self._images, count * self._bytes)
        os.fsync(self._images)
        small = {store_lib.LABELS: self._labels[kept].astype("<i4").tobytes(),
                 store_lib.CHECKSUMS: self._crcs[kept].astype("<u4").tobytes()}
        if names is not None:
            lines = [f"{store_lib.escape(name)}\n" for name, here in zip(names, kept.tolist(), strict=True) if here]
            small[store_lib.NAMES] = "".join(lines).encode()
        if self._originals[kept].all():
            small[store_lib.ORIGINALS] = self._originals[kept].astype("<u4").tobytes()
        for name, content in small.items():
            self._save(name, content)
        listed = [{"name": self.corrupt[rank].name, "reason": self.corrupt[rank].reason} for rank in missing]
        checks = {name: zlib.crc32(content) for name, content in small.items()}
        meta = meta | {"size": self._size, "count": count, "corrupt": listed, "crc32": checks}
        self._save(store_lib.META, (json.dumps(meta) + "\n").encode())
        _clear(self.folder)
        return count

    def _close_up(self, kept: np.ndarray) -> None:
        """Moves images towards the front, over the slots of corrupt ones.

        The images being moved are in a file of their own before they overwrite anything, so that after a kill the next
        builder writes them once more and continues after them.
        """
        ranks, place = np.flatnonzero(kept), int(np.argmin(kept))
        step = max(1, _PIECE // self._bytes)
        if (self.folder / _MOVING).exists():
            place = self._land((self.folder / _MOVING).read_bytes())
        while place < len(ranks):
            piece = b"".join(map(self._image, ranks[place:place + step]))
            content = f"{place:0{_DIGITS}}".encode() + piece
            self._save(_MOVING, content)
            place = self._land(content)

    def _land(self, content: bytes) -> int:
        """Writes a piece to its slot; returns the slot after it."""
        place, piece = int(content[:_DIGITS]), memoryview(content)[_DIGITS:]
        self._write(self._images, piece, place * self._bytes)
        os.fsync(self._images)
        return place + len(piece) // self._bytes

    def discard(self) -> None:
        """Marks the content as not worth keeping: the folder is removed after `close`."""
        self._keeper.shutdown()  # a write in progress would set `kept`
        self.kept = 0

    def close(self) -> None:
        self._keeper.shutdown()
        self._close_images()

    def _close_images(self) -> None:
        if self._images >= 0:
            os.close(self._images)
        self._images = -1


@contextlib.contextmanager
def under_construction(folder: pathlib.Path, identity: dict[str, Any], count: int, size: int,
                       report: Report) -> Iterator[Partial]:
    """A `Partial` in `folder`, which is left behind only if there is something in it that was safely written.

    Args:
      identity: of what is built, a dict fit for JSON: a folder of another identity is not resumed.
      count: images of the split. size: side of a stored image.
    """
    partial = Partial(folder, identity, count, size)
    try:
        with storing(folder):
            partial.begin(report)
            partial.check_space()
        yield partial
    finally:
        partial.close()
        if not partial.kept:
            shutil.rmtree(folder, ignore_errors=True)


def finished(folder: pathlib.Path) -> bool:
    """Is `folder` a whole store that only lacks its name, its builder having ended there? Then it is made only that."""
    try:
        if not (folder / store_lib.META).exists():
            return False
        store_lib.open_store(folder)
    except (DataError, OSError):  # the latter: another user's, closed to this one
        return False
    with contextlib.suppress(OSError):
        _clear(folder)
    return True


def _clear(folder: pathlib.Path) -> None:
    """Removes what is no part of a store."""
    for path in folder.iterdir():
        if path.name not in store_lib.FILES:
            path.unlink()
    sync_folder(folder)


def read_progress(folder: pathlib.Path, *keys: str) -> dict[str, Any] | None:
    """What progress.npz says, all of it or the `keys` alone; None if there is none that is whole."""
    try:
        with np.load(folder / PROGRESS) as found:
            content = {key: found[key] for key in keys or found.files}
        return content | {key: json.loads(str(content[key])) for key in ("identity", "corrupt") if key in content}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


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
