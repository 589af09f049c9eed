"""The packed store: whole splits as raw uint8 files, opened as read-only memory maps.

One folder `<store>/<dataset>-<version>-<split>-<size>/` per dataset, version, whole split and size:

`images.u8`      uint8 [count, size, size, 3], C order, nothing else
`labels.i32`     little-endian int32 [count]
`checksums.u32`  little-endian uint32 [count]: the CRC-32 of each image's bytes
`meta.json`      {"schema", "name", "version", "split", "size", "count", "classes", "class_keys",
                 "corrupt": [{"name", "reason"}], "crc32": {<the other small files>},
                 "left_out": {kind: {class key: files that were not read}},
                 "folder": the real path of a folder of images}
`names.txt`      each image's name in the dataset, one a line, with control characters escaped (`escape`)
`originals.u32`  little-endian uint32 [count, 2]: height and width of each image before scaling
`statistics-<first>-<last>.npz`  of a slice, added when first needed (alexnet_jax.data.statistics)

`names.txt`, `originals.u32`, "left_out" and "folder" are missing in older stores, and for datasets without them.

A store appears complete, by one rename (alexnet_jax.data.build), and is never changed afterwards. Opening it needs only
numpy, checks sizes, labels and a sample of the images, and writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import re
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_jax import environment, paths
from alexnet_jax.errors import DataError, describe_os_error

SCHEMA = 1
IMAGES, LABELS, CHECKSUMS, META = "images.u8", "labels.i32", "checksums.u32", "meta.json"
NAMES, ORIGINALS = "names.txt", "originals.u32"
FILES = (IMAGES, LABELS, CHECKSUMS, META, NAMES, ORIGINALS)
_SMALL = 1 << 15  # bytes of an image up to which NumPy indexes the map: 16 × as fast as a loop at 32 pixels
_SAMPLE = 64  # images whose checksums are compared at each opening, evenly spaced, the first and last included


def root(given: str) -> pathlib.Path:
    """The folder of all packed stores: config.data.store, $ALEXNET_STORE_DIR or `environment.store_folder`."""
    if given:
        return paths.given(given, "config.data.store")
    if given := os.environ.get("ALEXNET_STORE_DIR", ""):
        return paths.given(given, "ALEXNET_STORE_DIR")
    return environment.store_folder()


def folder_name(key: str, version: str, split: str, size: int) -> str:
    """A store's folder name; split names that some file systems refuse are shortened and hashed."""
    if len(split) > 64 or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", split):
        digest = hashlib.blake2b(split.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        split = "_".join([*re.findall("[A-Za-z0-9]+", split[:40]), digest])
    return f"{key}-{version}-{split}-{size}"


class Store:
    """An open store, read-only: `images` uint8 [count, size, size, 3], `labels` int32 [count] and `checksums`
    uint32 [count], the CRC-32 of each image's bytes."""

    def __init__(self, folder: pathlib.Path, meta: dict[str, Any], images: np.ndarray, labels: np.ndarray,
                 checksums: np.ndarray):
        self.folder = folder
        self.meta = meta
        self.images = images
        self.labels = labels
        self.checksums = checksums
        self._bytes = int(np.prod(images.shape[1:]))  # of an image

    @functools.cached_property
    def _descriptor(self) -> int:
        """Descriptor of the image file, for `read`."""
        found = os.open(self.folder / IMAGES, os.O_RDONLY)
        weakref.finalize(self, os.close, found)
        if hasattr(os, "posix_fadvise"):  # otherwise the system may read ahead far too much
            os.posix_fadvise(found, 0, 0, os.POSIX_FADV_RANDOM)
        return found

    def read(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`images[rows]`, into `out` where that is given. Several threads may read at once.

        Large images are read with `preadv` in file order, consecutive ones in one call: through the map, an uncached
        image would be loaded a few pages at a time, with the more of its surroundings the larger the file is
        (benchmarks/RESULTS.md, "What was tried").

        Raises:
          DataError: the file has been cut short since it was opened.
          IndexError: a row is out of range; negative rows too.
        """
        if len(rows) and not 0 <= np.min(rows) <= np.max(rows) < len(self):
            raise IndexError(f"rows {np.min(rows)} to {np.max(rows)} of {len(self)} images")
        if self._bytes <= _SMALL or not hasattr(os, "preadv"):  # Windows
            # "raise", the default, would copy through a buffer; the rows were checked above.
            return np.take(np.asarray(self.images), rows, axis=0, out=out, mode="raise" if out is None else "clip")
        out = np.empty((len(rows), *self.images.shape[1:]), np.uint8) if out is None else out
        if not len(rows):
            return out
        order = np.argsort(rows, kind="stable")
        begins = np.flatnonzero((np.diff(rows[order], prepend=-2) != 1) | (np.diff(order, prepend=-2) != 1))
        memory = memoryview(out).cast("B")
        for place, row, count in zip(order[begins].tolist(), rows[order[begins]].tolist(),
                                     np.diff(begins, append=len(rows)).tolist(), strict=True):
            part, offset = memory[place * self._bytes:(place + count) * self._bytes], row * self._bytes
            while part:
                done = os.preadv(self._descriptor, [part], offset)
                if not done:
                    raise _damaged(self.folder / IMAGES, "cut short")
                part, offset = part[done:], offset + done
        return out

    def __len__(self) -> int:
        return self.meta["count"]

    @functools.cached_property
    def names(self) -> list[str] | None:
        """Each image's name in the dataset; None for a store without names. Raises DataError."""
        content = self._optional(NAMES)
        if content is None:
            return None
        names = [unescape(line) for line in content.decode("utf-8").split("\n")[:-1]]
        if len(names) != len(self):
            raise _damaged(self.folder / NAMES, f"{len(names):,} names instead of {len(self):,}")
        return names

    @functools.cached_property
    def originals(self) -> np.ndarray | None:
        """int64 [count, 2]: (height, width) of each image before scaling; None if unknown. Raises DataError."""
        content = self._optional(ORIGINALS)
        return None if content is None else np.frombuffer(content, "<u4").reshape(len(self), 2).astype(np.int64)

    def _optional(self, name: str) -> bytes | None:
        """The content of an optional file, or None."""
        if name not in self.meta["crc32"]:
            return None
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise _refused(error) from error
        if zlib.crc32(content) != self.meta["crc32"][name]:
            raise _damaged(self.folder / name, "its bytes are not those that were written")
        return content

    @property
    def corrupt(self) -> int:
        """Number of images of the split that could not be read and are left out."""
        return len(self.meta["corrupt"])


def _damaged(file: pathlib.Path, what: str) -> DataError:
    return DataError(f"{file}: {what}; delete the folder {file.parent} and it will be built again")


def _refused(error: OSError) -> DataError:
    return DataError(f"{describe_os_error(error)} (config.data.store or $ALEXNET_STORE_DIR is where the packed images "
                     "are)")


def read_meta(folder: pathlib.Path) -> dict[str, Any]:
    """The store's meta.json. Raises DataError if it isn't one of this schema."""
    file = folder / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        for key in ("name", "version", "split", "size", "count", "classes", "class_keys", "corrupt", "crc32"):
            meta[key]
    except FileNotFoundError:
        raise _damaged(file, "missing") from None
    except OSError as error:
        raise _refused(error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "damaged") from error
    if meta.get("schema") != SCHEMA:
        raise _damaged(file, f"written in schema {meta.get('schema')}, this program reads {SCHEMA}")
    return meta


def _map(file: pathlib.Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    expected = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    try:
        found = file.stat().st_size
        if found != expected:
            raise _damaged(file, f"{found:,} bytes instead of {expected:,}")
        return np.memmap(file, dtype=dtype, mode="r", shape=shape)
    except FileNotFoundError:
        raise _damaged(file, "missing") from None
    except OSError as error:
        raise _refused(error) from error


def open_store(folder: pathlib.Path, *, verify: bool = False) -> Store:
    """Opens and checks a store; `verify` reads every image.

    Raises:
      DataError: a file is missing, of the wrong size or has other bytes than were written.
    """
    meta = read_meta(folder)
    count, size = meta["count"], meta["size"]
    images = _map(folder / IMAGES, np.uint8, (count, size, size, 3))
    labels = np.array(_map(folder / LABELS, "<i4", (count,)), np.int32)
    checksums = np.array(_map(folder / CHECKSUMS, "<u4", (count,)), np.uint32)
    for name, array in ((LABELS, labels), (CHECKSUMS, checksums)):
        if crc32(array) != meta["crc32"][name]:
            raise _damaged(folder / name, "its bytes are not those that were written")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(meta["classes"]):
        raise _damaged(folder / LABELS, "labels beyond the classes")
    chosen = range(count) if verify else np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))
    for index in chosen:
        if zlib.crc32(images[index]) != checksums[index]:
            raise _damaged(folder / IMAGES, f"image {index} has other bytes than were written")
    labels.flags.writeable = checksums.flags.writeable = False
    return Store(folder, meta, images, labels, checksums)


def escape(name: str) -> str:
    """`name` as one line of valid UTF-8: control characters, backslashes and undecodable bytes as \\uXXXX."""
    return re.sub(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda sign: f"\\u{ord(sign[0]):04x}", name)


def unescape(line: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"\\u([0-9a-f]{4})", lambda sign: chr(int(sign[1], 16)), line)


def crc32(array: np.ndarray) -> int:
    """The CRC-32 of an array's bytes, little-endian on every machine."""
    return zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))


def stores_of(store: pathlib.Path, owns: Callable[[dict[str, Any]], bool]) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Every store below `store` whose meta a dataset `owns` (`Dataset.owns`), with its meta, sorted by folder."""
    found = []
    for meta in sorted(store.glob(f"[!.]*/{META}")):
        try:
            content = read_meta(meta.parent)
        except DataError:
            continue
        if owns(content):
            found.append((meta.parent, content))
    return found
