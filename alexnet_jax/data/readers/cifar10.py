"""CIFAR-10 from the official binary version, as an archive or unpacked.

Search order: `<data dir>/cifar-10-batches-bin/`, the data dir itself if it is that folder,
`<data dir>/cifar-10-binary.tar.gz`, the data dir if it is that file, `<store>/downloads/`. If all are missing, the
archive is downloaded once from its official address. Every file's MD5 is checked. A folder without test_batch.bin still
has the split `train`. An image library is only needed for sizes other than 32.

The order of the images is that of the files: train[:40000] is batches 1 to 4, train[40000:] batch 5.
"""

from __future__ import annotations

import hashlib
import http.client
import pathlib
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Generator, Iterator, Mapping

import numpy as np

from alexnet_jax import files
from alexnet_jax.data.dataset import Asked, Block, Corrupt, Dataset, Reading, Report
from alexnet_jax.errors import DataError, reading

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
SIDE = 32
EACH = 10000  # images per file
RECORD = 1 + SIDE * SIDE * 3  # a label, then the red, green and blue planes, row by row
VERSION = "1.0.0"
_BLOCK = 1000  # images per block
_SECONDS = 10  # timeout of the connection and of each read


def records_to_images(records: np.ndarray) -> np.ndarray:
    """uint8 [n, 32, 32, 3] of uint8 [n, RECORD]."""
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


class Cifar10(Dataset):
    name = key = "cifar10"
    class_count = len(CLASSES)

    def __init__(self, asked: Asked):
        self._dir, self._store = asked.folder, asked.store

    def split_sizes(self) -> dict[str, int | None]:
        return {"train": len(TRAIN) * EACH, "test": len(TEST) * EACH}

    def version(self, split: str) -> str | None:
        return VERSION

    def class_keys(self, split: str) -> tuple[str, ...]:
        return CLASSES

    def _folder(self) -> pathlib.Path | None:
        """The unpacked folder, or None."""
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
        self._locate(split)

    def fetched(self, split: str) -> str:
        return URL if self._locate(split) is None else ""

    def _locate(self, split: str) -> pathlib.Path | None:
        """The folder or archive with the split; None if there is neither.

        Raises DataError if there is only a folder and it lacks a needed file.
        """
        folder, archive = self._folder(), self._archive()
        if folder is None:
            return archive
        missing = [name for name in _files(split) if not (folder / name).is_file()]
        if missing and archive is None:
            remedy = f"put it there, or {ARCHIVE} beside the folder (from {URL})"
            if split == "test":
                remedy = "the splits train[:40000] and train[40000:] are available without it; or " + remedy
            raise DataError(f"{missing[0]} is missing in {folder}: {remedy}")
        return archive if missing else folder

    def read(self, split: str, size: int, report: Report) -> Reading:
        place = self._locate(split) or download(self._store, self._dir, report)
        report(f"reading {place}")
        made_by = "the files' own pixels"
        if size != SIDE:
            from alexnet_jax.data.readers import decode

            made_by = decode.made_by()
        return Reading(len(_files(split)) * EACH, CLASSES, CLASSES, lambda done: _read(place, split, size, done),
                       f"{place}, split {split}", made_by)


def _files(split: str) -> Mapping[str, str]:
    """{name: MD5} of a split's files, in the order of its images."""
    return TRAIN if split == "train" else TEST


def _read(place: pathlib.Path, split: str, size: int, done: np.ndarray) -> Generator[Block | Corrupt, None, None]:
    """The images of a folder or an archive, file by file. Raises DataError for files that aren't the official ones."""
    first = {name: number * EACH for number, name in enumerate(_files(split))}
    wanted = {name: md5 for name, md5 in _files(split).items() if not done[first[name]:first[name] + EACH].all()}
    for name, records in (read_archive if place.is_file() else read_folder)(place, wanted):
        for start in range(0, len(records), _BLOCK):
            some = records[start:start + _BLOCK]
            images, labels = records_to_images(some), some[:, 0].astype(np.int32)
            if size != SIDE:
                from alexnet_jax.data.readers import decode

                images = np.stack([decode.square_array(image, size) for image in images])
            yield Block(first[name] + start, images, labels, np.full((len(some), 2), SIDE))


def _checked(content: bytes, where: str, md5: str) -> np.ndarray:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        size = EACH * RECORD
        what = f"MD5 {found}" if len(content) == size else f"{len(content):,} bytes instead of {size:,}"
        raise DataError(f"{where}: not the official file ({what}); copy or download it again from {URL}")
    return np.frombuffer(content, np.uint8).reshape(-1, RECORD)


def read_folder(folder: pathlib.Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """(file name, uint8 [EACH, RECORD]) for each of the `wanted` files, {name: MD5}, in a folder.

    Raises:
      DataError: a file can't be read, or isn't the official one.
    """
    for name, md5 in wanted.items():
        with reading(folder / name):
            content = (folder / name).read_bytes()
        yield name, _checked(content, str(folder / name), md5)


def read_archive(archive: pathlib.Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """The same from cifar-10-binary.tar.gz, in the archive's order."""
    missing = dict(wanted)
    try:
        with reading(archive), tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = pathlib.PurePosixPath(member.name).name
                if name in missing and member.isfile() and (file := tar.extractfile(member)):
                    yield name, _checked(file.read(), f"{archive}: {name}", missing.pop(name))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: truncated or damaged ({error}); delete it and copy or download it again "
                        f"from {URL}") from error
    if missing:
        raise DataError(f"{archive}: {next(iter(missing))} is missing in it; download it again from {URL}")


def download(store: pathlib.Path, data_dir: pathlib.Path | None, report: Report) -> pathlib.Path:
    """Downloads the archive into `<store>/downloads`, once, under a lock against other processes.

    Raises:
      DataError: the download failed; says which file to put where.
    """
    folder, lock = store / "downloads", store / f".{ARCHIVE}.lock"
    if files.held(lock):
        report(f"another process is downloading {ARCHIVE}; waiting for it")
    with reading(folder), files.lock(lock):
        return folder / ARCHIVE if (folder / ARCHIVE).is_file() else _fetch(folder, data_dir, report)


def _fetch(folder: pathlib.Path, data_dir: pathlib.Path | None, report: Report) -> pathlib.Path:
    target = folder / ARCHIVE
    place = f"in {data_dir}" if data_dir else "in a folder and set config.data.dir or ALEXNET_DATA_DIR to it"
    remedy = f"put {ARCHIVE} from {URL}, or the folder {FOLDER} of it, {place}"
    report(f"downloading {URL} (170 MB)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.md5(usedforsecurity=False)
        with files.replacing(target) as part:
            with urllib.request.urlopen(URL, timeout=_SECONDS) as answer, part.open("wb") as file:
                while piece := answer.read(1 << 20):
                    file.write(piece)
                    digest.update(piece)
            if digest.hexdigest() != ARCHIVE_MD5:
                raise DataError(f"the download from {URL} is not the official archive (MD5 {digest.hexdigest()}); "
                                f"{remedy}")
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"cifar10 is missing and cannot be downloaded ({' '.join(str(reason).split())}); "
                        f"{remedy}") from error
    return target
