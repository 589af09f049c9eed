"""CIFAR-10 from the official binary version, an archive or the folder that it unpacks to.

Looked for, in this order: `<data dir>/cifar-10-batches-bin/`, the data dir itself if it is that folder,
`<data dir>/cifar-10-binary.tar.gz`, the data dir if it is that file, `<store>/downloads/`. With nothing there
the archive is fetched, once, from its official address. Every file is compared with its published MD5. A
folder without test_batch.bin still serves the split `train`.

The order of the images is that of the files: train[:40000] is batches 1 to 4, train[40000:] batch 5.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pathlib
import tarfile
import urllib.error
import urllib.request
import zlib

import numpy as np

from alexnet_jax import environment
from alexnet_jax.data.dataset import Asked, Dataset, Reading, Report
from alexnet_jax.errors import DataError, describe_os_error

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
TRAIN = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
}
TEST = {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 32 * 32 * 3  # a label, then the red, green and blue planes, row by row
VERSION = "1.0.0"
_SECONDS = 10  # until the server answers, and between two pieces of the answer


def records_to_images(records: np.ndarray) -> np.ndarray:
    """uint8 [n, 32, 32, 3] of uint8 [n, RECORD]."""
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class Cifar10(Dataset):
    name = key = "cifar10"
    class_count = len(CLASSES)

    def __init__(self, asked: Asked):
        self._dir, self._store = asked.folder, asked.store

    def split_sizes(self) -> dict[str, int | None]:
        return {"train": 50000, "test": 10000}

    def version(self, split: str) -> str | None:
        return VERSION

    def class_keys(self, split: str) -> tuple[str, ...]:
        return CLASSES

    def _prepared(self, split: str) -> pathlib.Path | None:
        """A folder of TFDS files that holds the split, if it has been written."""
        configs = ("complete", "train_only") if split == "train" else ("complete",)
        places = [base / "cifar10_binary" / config / VERSION for base in self._bases() for config in configs]
        return next((place for place in places if (place / "dataset_info.json").exists()), None)

    def _bases(self) -> list[pathlib.Path]:
        """Where TFDS files may lie: those of all, and of this user where others' are closed to it."""
        return [self._store / "tfds", self._store / f"tfds-{environment.user()}"]

    def _folder(self) -> pathlib.Path | None:
        """The unpacked folder, if there is one."""
        if self._dir is None:
            return None
        inside = self._dir / FOLDER
        if inside.is_dir():
            return inside
        return self._dir if any((self._dir / name).exists() for name in (*TRAIN, *TEST)) else None

    def _archive(self) -> pathlib.Path | None:
        places = [self._store / "downloads" / ARCHIVE]
        if self._dir is not None:
            places = [self._dir / ARCHIVE, *([self._dir] if self._dir.name == ARCHIVE else []), *places]
        return next((place for place in places if place.is_file()), None)

    def check(self, split: str) -> None:
        if self._prepared(split) is None:
            self._locate(split)

    def fetched(self, split: str) -> str:
        return URL if self._prepared(split) is None and self._locate(split) is None else ""

    def _locate(self, split: str) -> pathlib.Path | None:
        """The folder or archive that has the split; None if there is nothing at all.

        Raises DataError if there is a folder, no archive, and the folder lacks a file that is needed.
        """
        folder, archive = self._folder(), self._archive()
        needed = TRAIN if split == "train" else TRAIN | TEST
        if folder is None:
            return archive
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing and archive is None:
            remedy = f"put it there, or {ARCHIVE} beside the folder (from {URL})"
            if missing == list(TEST):
                remedy = "the splits train[:40000] and train[40000:] are available without it; or " + remedy
            raise DataError(f"{missing[0]} is missing in {folder}: {remedy}")
        return archive if missing else folder

    def read(self, split: str, size: int, report: Report) -> Reading:
        from alexnet_jax.data.tfds_source import read_prepared

        prepared = self._prepared(split) or self._prepare(split, report)
        return read_prepared(prepared, split, size)

    def _prepare(self, split: str, report: Report) -> pathlib.Path:
        from alexnet_jax.data import build, cifar10_builder

        open_to_me = (base for base in self._bases() if environment.writable(base / "cifar10_binary" / "complete"))
        base = next(open_to_me, self._bases()[0])
        with build.lock(base / "cifar10_binary", report):  # the two splits may be asked for by two processes
            place = self._locate(split) or download(self._store / "downloads", self._dir, report)
            complete = place.is_file() or all((place / name).is_file() for name in TEST)
            report(f"reading {place}")
            wanted = TRAIN | TEST if complete else TRAIN
            records = read_archive(place, wanted) if place.is_file() else read_folder(place, wanted)
            return self._prepared(split) or cifar10_builder.prepare(base, records)


def _checked(content: bytes, where: str, md5: str) -> np.ndarray:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        size = 10000 * RECORD
        what = f"MD5 {found}" if len(content) == size else f"{len(content):,} bytes in place of {size:,}"
        raise DataError(f"{where}: not the official file ({what}); copy or download it again from {URL}")
    return np.frombuffer(content, np.uint8).reshape(-1, RECORD)


def read_folder(folder: pathlib.Path, wanted: dict[str, str]) -> dict[str, np.ndarray]:
    """{file name: uint8 [10000, RECORD]} of a folder. Raises DataError for what is not the official file."""
    records = {}
    for name, md5 in wanted.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise DataError(describe_os_error(error)) from error
        records[name] = _checked(content, str(folder / name), md5)
    return records


def read_archive(archive: pathlib.Path, wanted: dict[str, str]) -> dict[str, np.ndarray]:
    """The same of cifar-10-binary.tar.gz."""
    records = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = pathlib.PurePosixPath(member.name).name
                if name in wanted and member.isfile() and (file := tar.extractfile(member)):
                    records[name] = _checked(file.read(), f"{archive}: {name}", wanted[name])
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: truncated or damaged ({error}); delete it and copy or download it again "
                        f"from {URL}") from error
    except OSError as error:
        error.filename = error.filename or str(archive)
        raise DataError(describe_os_error(error)) from error
    missing = [name for name in wanted if name not in records]
    if missing:
        raise DataError(f"{archive}: {missing[0]} is missing in it; download it again from {URL}")
    return records


def download(folder: pathlib.Path, data_dir: pathlib.Path | None, report: Report) -> pathlib.Path:
    """Fetches the archive into `folder`, trying once. Raises DataError that says which file to put where."""
    target = folder / ARCHIVE
    part = folder / f"{ARCHIVE}.{os.getpid()}.part"
    place = f"in {data_dir}" if data_dir else "in a folder and set config.data.dir or ALEXNET_DATA_DIR to it"
    remedy = f"put {ARCHIVE} from {URL}, or the folder {FOLDER} of it, {place}"
    report(f"downloading {URL} (170 MB)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(URL, timeout=_SECONDS) as answer, part.open("wb") as file:
            while piece := answer.read(1 << 20):
                file.write(piece)
                digest.update(piece)
        if digest.hexdigest() != ARCHIVE_MD5:
            raise DataError(f"what {URL} sent is not the official archive (MD5 {digest.hexdigest()}); "
                            f"{remedy}")
        os.replace(part, target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"cifar10 is not here and cannot be downloaded ({' '.join(str(reason).split())}); "
                        f"{remedy}") from error
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise DataError(describe_os_error(error)) from error
    finally:
        part.unlink(missing_ok=True)
    return target
