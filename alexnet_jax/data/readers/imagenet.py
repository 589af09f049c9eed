"""ILSVRC-2012 from its official archives, `imagenet`, without unpacking them.

They are expected in `<data dir>/imagenet/` or the data dir itself:

`ILSVRC2012_img_train.tar`      split train: a tar archive of a tar archive for each class, n01440764.tar, …
`ILSVRC2012_img_val.tar`        split val: ILSVRC2012_val_00000001.JPEG, …
`ILSVRC2012_devkit_t12.tar.gz`  the classes and the labels of val; both splits need it

Labels are the positions of the classes' WordNet ids in sorted order (not the challenge's ILSVRC2012_ID); display names
are the devkit's words. Images are stored in the order of a hash of `<WordNet id>/<file>`, like `image_folder`'s of the
unpacked archives: the same on every machine, and shuffled, so that a slice such as train[-50000:] has all classes. They
are read in the archive's order.

The version is a fingerprint of sizes and both ends of the two archives.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import io
import os
import pathlib
import re
import tarfile
import time
import zlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.dataset import Asked, Block, Corrupt, Dataset, Reading, Report, Rule, ends, mixed
from alexnet_jax.data.readers import tar_index
from alexnet_jax.errors import ConfigError, DataError, describe_os_error, reading

SITE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
_FROM = f"from {SITE} (needs an account there)"
_ORDER = "mixed"  # part of the version, as another order changes the content
_WNID = re.compile(r"n\d{8}")
_VAL = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_DIGITS = 10  # of a version, before the suffix for the images' rule
_THREADS = 8  # for listing class archives, mostly waiting for the disk


class Archive(NamedTuple):
    """An official file: its name, its title on the site, and what identifies it."""

    file: str
    title: str
    identity: str
    example: str = ""  # the form of its members' names


ARCHIVES = {
    "train": Archive("ILSVRC2012_img_train.tar", "Training images (Task 1 & 2)",
                     "147,897,477,120 bytes, MD5 1d675b47d978889d74fa0da5fadfb00e", "n01440764.tar"),
    "val": Archive("ILSVRC2012_img_val.tar", "Validation images (all tasks)",
                   "6,744,924,160 bytes, MD5 29b22e2961454d5413ddabcf34fc5622", "ILSVRC2012_val_00000001.JPEG"),
    "devkit": Archive("ILSVRC2012_devkit_t12.tar.gz", "Development kit (Task 1 & 2)",
                      "MD5 fa75699e90414af021442c21a62c3abf"),
}
SPLITS = ("train", "val")


class Devkit(NamedTuple):
    """The content of the development kit.

    Attributes:
      wnids: the classes' WordNet ids, sorted: label → id. names: their words, for display.
      truth: int32 [n], the labels of the validation images 1 … n.
    """

    wnids: tuple[str, ...]
    names: tuple[str, ...]
    truth: np.ndarray


class Images(NamedTuple):
    """The images of a split in the store's order: names '<WordNet id>/<file>', labels int32 [n], and positions in the
    archive, int64 [n]."""

    names: list[str]
    labels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray


class ImageNet(Dataset):
    name = key = "imagenet"
    class_count = 1000

    def __init__(self, asked: Asked):
        if asked.rule.orientation != "stored":
            raise ConfigError("config.data.orientation: imagenet is read as its authors read it, whatever EXIF says; "
                              "set it to stored, or choose config.data.name=image_folder:imagenet for unpacked images")
        self._rule, data_dir = asked.rule, asked.folder
        self._root: pathlib.Path | None = None
        if data_dir is not None:
            files = [archive.file for archive in ARCHIVES.values()]
            inside = data_dir / "imagenet"
            there = not any((inside / file).exists() for file in files)
            self._root = data_dir if there and any((data_dir / file).exists() for file in files) else inside
        self._versions: dict[str, str] = {}

    def owns(self, meta: dict[str, Any]) -> bool:
        return meta["name"] == self.name and str(meta["version"])[_DIGITS:] == self._rule.suffix

    def split_sizes(self) -> dict[str, int | None]:
        return dict.fromkeys(SPLITS)

    def _path(self, archive: str) -> pathlib.Path:
        assert self._root is not None
        return self._root / ARCHIVES[archive].file

    def version(self, split: str) -> str | None:
        if split not in SPLITS:
            why = {"test": "; the labels of ILSVRC-2012's test images are not public, and results are reported on val",
                   "validation": "; its validation images are val"}.get(split, "")
            raise ConfigError(f"'{split}': no such split; imagenet has train and val{why}")
        if self._root is None or not all(self._path(archive).is_file() for archive in (split, "devkit")):
            return None
        if split not in self._versions:
            digest = hashlib.sha256(_ORDER.encode())
            with reading(self._path(split)):
                digest.update(hashlib.sha256(ends(self._path(split))).digest())
            with reading(self._path("devkit")):
                digest.update(hashlib.sha256(ends(self._path("devkit"))).digest())
            self._versions[split] = digest.hexdigest()[:_DIGITS] + self._rule.suffix
        return self._versions[split]

    def class_keys(self, split: str) -> tuple[str, ...]:
        return read_devkit(self._path("devkit")).wnids

    def check(self, split: str) -> None:
        archive, devkit = ARCHIVES[split], ARCHIVES["devkit"]
        if self._root is None:
            raise DataError("imagenet: config.data.dir (or ALEXNET_DATA_DIR) is not set; set it to the folder that "
                            f"holds imagenet/{archive.file} and imagenet/{devkit.file}, {_FROM}")
        for needed, path in ((archive, self._path(split)), (devkit, self._path("devkit"))):
            if not path.is_file():
                unpacked = (self._root / split).is_dir()
                raise DataError(f"{path}: no such file; put {needed.title!r} there, {needed.identity}, {_FROM}" + (
                    ", or choose config.data.name=image_folder:imagenet for images unpacked into class folders"
                    if unpacked else ""))
        _check_tar(split, self._path(split))

    def read(self, split: str, size: int, report: Report) -> Reading:
        self.check(split)
        path = self._path(split)
        devkit = read_devkit(self._path("devkit"))
        report(f"listing the images of {path}")
        with reading(path), _opened(path) as file:
            found = (list_train if split == "train" else list_val)(path, file, devkit, report)
        from alexnet_jax.data.readers.decode import made_by

        return Reading(len(found.names), devkit.names, devkit.wnids,
                       lambda done: _read(path, found, size, self._rule, done), str(path), made_by(*self._rule),
                       names=found.names)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def _not_official(path: pathlib.Path, archive: str, reason: str) -> DataError:
    known = ARCHIVES[archive]
    return DataError(f"{path}: {reason}; the official {known.title!r} ({known.identity}) is expected: copy or download "
                     f"it again {_FROM}")


def _check_tar(split: str, path: pathlib.Path) -> None:
    """Raises DataError unless both ends of `path` look like the split's archive."""
    example = ARCHIVES[split].example
    with reading(path), _opened(path) as file:
        size = os.fstat(file).st_size
        if os.pread(file, 2, 0) == b"\x1f\x8b":
            raise _not_official(path, split, "it is compressed")
        try:
            member = next(tar_index.members(file, 0, size), None)
        except ValueError as error:
            raise _not_official(path, split, str(error)) from error
        name = member.name.rpartition("/")[2] if member else "nothing"
        if re.sub(r"\d", "0", name) != re.sub(r"\d", "0", example):
            raise _not_official(path, split, f"it holds {name} where something like {example} should be")
        if os.pread(file, 1024, size - 1024) != bytes(1024):  # a complete archive ends with two blocks of zeros
            raise _not_official(path, split, f"truncated: its {size:,} bytes lack the end of an archive")


def read_devkit(path: pathlib.Path) -> Devkit:
    """Reads ILSVRC2012_devkit_t12.tar.gz. Raises DataError if it is damaged or another file."""
    import scipy.io

    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                wanted = next((end for end in (_META, _TRUTH) if f"/{member.name}".endswith(f"/{end}")), None)
                if wanted and (file := tar.extractfile(member)):
                    contents[wanted] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip's own (e.g. a wrong checksum) have none
            error.filename = error.filename or str(path)
            raise DataError(describe_os_error(error)) from error
        raise _not_official(path, "devkit", f"truncated or damaged ({' '.join(str(error).split())})") from error
    missing = [name for name in (_META, _TRUTH) if name not in contents]
    if missing:
        raise _not_official(path, "devkit", f"{missing[0]} is missing in it")
    try:
        synsets = np.atleast_1d(scipy.io.loadmat(io.BytesIO(contents[_META]), squeeze_me=True)["synsets"])
        # Nodes with children are above the classes in the hierarchy.
        leaves = [row for row in synsets if int(row["num_children"]) == 0]
        names = {str(row["WNID"]): str(row["words"]) for row in leaves}
        wnids = tuple(sorted(names))
        labels = {int(row["ILSVRC2012_ID"]): wnids.index(str(row["WNID"])) for row in leaves}
    except Exception as error:  # scipy raises many types
        raise _not_official(path, "devkit", f"{_META} in it is damaged ({' '.join(str(error).split())})") from error
    if not wnids or len(labels) != len(wnids) or not all(map(_WNID.fullmatch, wnids)):
        raise _not_official(path, "devkit", f"{_META} in it does not list classes")
    try:
        truth = np.array([labels[int(line)] for line in contents[_TRUTH].split()], np.int32)
    except (ValueError, KeyError) as error:
        raise _not_official(path, "devkit", f"{_TRUTH} in it has a line that is not a class ({error})") from error
    return Devkit(wnids, tuple(names[wnid] for wnid in wnids), truth)


def list_train(path: pathlib.Path, file: int, devkit: Devkit, report: Report) -> Images:
    """The images in the open archive of class archives. Raises DataError if it is incomplete."""
    labels = {f"{wnid}.tar": label for label, wnid in enumerate(devkit.wnids)}
    inner: dict[int, tar_index.Member] = {}
    others = []
    for member in _members(path, "train", file, 0, os.fstat(file).st_size):
        label = labels.get(member.name.rpartition("/")[2])
        if label is None:
            others.append(member.name)
        else:
            inner[label] = member
    strange = [name for name in others if _WNID.fullmatch(name.rpartition("/")[2].removesuffix(".tar"))]
    if strange:
        raise _not_official(path, "train", f"it holds {strange[0]}, which the devkit does not list as a class")
    absent = [wnid for label, wnid in enumerate(devkit.wnids) if label not in inner]
    if absent:
        raise _not_official(path, "train", f"it holds {len(inner)} of the {len(devkit.wnids)} class archives; "
                                           f"{absent[0]}.tar is missing")
    if others:
        report(f"{path}: {len(others)} files that are not class archives are ignored")

    def list_class(label: int) -> list[tar_index.Member]:
        wnid, (name, offset, size) = devkit.wnids[label], inner[label]
        form = re.compile(rf"{wnid}_\d+\.JPEG")
        found = [member._replace(name=f"{wnid}/{base}") for member in
                 _members(path, "train", file, offset, offset + size, f"{name} in it: ")
                 if form.fullmatch(base := member.name.rpartition("/")[2])]
        if not found:
            raise _not_official(path, "train", f"{name} in it has no images such as {wnid}_1.JPEG")
        return found

    said = time.monotonic()
    found: list[tuple[int, tar_index.Member]] = []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        # In the archive's order, for sequential reads.
        order = sorted(inner, key=lambda label: inner[label].offset)
        try:
            for number, (label, listed) in enumerate(zip(order, pool.map(list_class, order), strict=True), 1):
                found += [(label, member) for member in listed]
                if time.monotonic() - said > 10.0:
                    said = time.monotonic()
                    report(f"{path}: {number} of {len(order)} class archives listed, {len(found)} images")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _in_order(found)


def list_val(path: pathlib.Path, file: int, devkit: Devkit, report: Report) -> Images:
    """The images in the open archive of validation images. Raises DataError if it is incomplete."""
    found: dict[int, tar_index.Member] = {}
    others = 0
    for member in _members(path, "val", file, 0, os.fstat(file).st_size):
        base = member.name.rpartition("/")[2]
        match = _VAL.fullmatch(base)
        if match is None:
            others += 1
            continue
        number = int(match[1])
        if not 1 <= number <= len(devkit.truth):
            raise _not_official(path, "val", f"it holds {base}, but the devkit has the labels of "
                                             f"{len(devkit.truth)} images")
        found[number] = member._replace(name=f"{devkit.wnids[devkit.truth[number - 1]]}/{base}")
    if len(found) < len(devkit.truth):
        raise _not_official(path, "val", f"it holds {len(found)} of the {len(devkit.truth)} images that the devkit "
                                         "has labels for")
    if others:
        report(f"{path}: {others} files that are not validation images are ignored")
    return _in_order([(int(devkit.truth[number - 1]), member) for number, member in found.items()])


def _members(path: pathlib.Path, split: str, file: int, first: int, last: int,
             which: str = "") -> Iterator[tar_index.Member]:
    try:
        yield from tar_index.members(file, first, last)
    except ValueError as error:
        raise _not_official(path, split, f"{which}{error}") from error


def _in_order(found: list[tuple[int, tar_index.Member]]) -> Images:
    found.sort(key=lambda item: mixed(item[1].name))
    return Images([member.name for _, member in found],
                  np.array([label for label, _ in found], np.int32),
                  np.array([member.offset for _, member in found], np.int64),
                  np.array([member.size for _, member in found], np.int64))


def _read(path: pathlib.Path, images: Images, size: int, rule: Rule,
          done: np.ndarray) -> Generator[Block | Corrupt, None, None]:
    from alexnet_jax.data.readers.decode import Job, decode_all

    todo = np.flatnonzero(~done)
    with reading(path), _opened(path) as file:
        yield from decode_all((
            Job(rank, f"{path}: {images.names[rank]}", int(images.labels[rank]),
                functools.partial(tar_index.read, file, int(images.offsets[rank]), int(images.sizes[rank])))
            for rank in todo[np.argsort(images.offsets[todo])].tolist()), size, *rule)
