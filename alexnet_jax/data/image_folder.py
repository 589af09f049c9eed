"""Folders or archives of images, `image_folder:<folder>`: `<data dir>/<folder>/train/<class>/*`, `val/…`.

A split is a folder of class folders or, where there is no such folder, an archive of one: `train.tar`,
`train.tar.gz` or `train.tgz`, with or without a leading `train/` in it. Any name will do (train, val, test,
validation, …). `image_folder` alone is the data dir itself.

Labels are the positions of the class folders of `train` in sorted order, for every split; a class that train
lacks is an error. `labels.txt` (folder name, tab, name) gives the classes their names for display.
Images are JPEG or PNG by content, in folders of any depth below their class. They are stored in the order of a
hash of class and path: the same everywhere, and mixed, so that a slice such as train[:90%] holds all classes. Other
files are ignored unless they are named like images, when they count as corrupt. Hidden files are ignored.

The version is a fingerprint of names and sizes (of archives: size and both ends), so that changed content
gives another store.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import pathlib
import tarfile
import zlib
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax import paths
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.sources import Block, Corrupt, Reading, Report, Source, ends, mixed, safe
from alexnet_jax.errors import DataError, describe_os_error

_ORDER = "mixed"  # part of the version: another order is another content
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


class Listing(NamedTuple):
    """The images of a split: (class, path below it) in the order of the store, and what to read each by.

    A handle is a path, or the number of the archive's member.
    """

    entries: list[tuple[str, str]]
    handles: list[pathlib.Path | int]
    ignored: int


class ImageFolder(Source):
    def __init__(self, name: str, data_dir: pathlib.Path | None, folder: str, store: pathlib.Path):
        self.name = name
        self._data_dir = data_dir
        self._root = _root(data_dir, folder)
        self._spelling = _spelling(data_dir, folder)
        self.key = f"image_folder-{safe(self._spelling)}" if self._spelling else "image_folder"
        self.folder = os.path.realpath(self._root) if self._root is not None else None
        self._store = store
        self._fingerprints: dict[str, str] = {}
        self._listings: dict[str, Listing] = {}

    @property
    def title(self) -> str:
        return f"image_folder:{self._spelling}" if self._spelling else "image_folder"

    def owns(self, meta: dict[str, Any]) -> bool:
        kind, _, folder = meta["name"].partition(":")
        if kind != "image_folder":
            return False
        if _spelling(self._data_dir, folder) == self._spelling:
            return True
        where = meta.get("folder") or _root(self._data_dir, folder)
        try:
            return where is not None and self._root is not None and os.path.samefile(where, self._root)
        except OSError:
            return False

    def split_sizes(self) -> dict[str, int | None]:
        return dict.fromkeys(self._places())

    def _places(self) -> dict[str, pathlib.Path]:
        """{split: its folder or archive}, train first."""
        places: dict[str, pathlib.Path] = {}
        try:
            paths = sorted(self._root.iterdir()) if self._root is not None else []
        except OSError:
            return {}
        for path in paths:
            ending = next((e for e in _ARCHIVES if path.name.endswith(e)), None)
            if path.name.startswith("."):
                continue
            if path.is_dir():
                places[path.name] = path  # what was unpacked goes before the archive it came from
            elif ending:
                places.setdefault(path.name.removesuffix(ending), path)
        return dict(sorted(places.items(), key=lambda item: (item[0] != "train", item[0])))

    def check(self, split: str) -> None:
        if split in self._places():
            return
        forms = f"{split}/<class>/*, {split}.tar or {split}.tar.gz"
        if self._root is None:
            raise DataError(f"{self.name}: config.data.dir (or ALEXNET_DATA_DIR) is not set; set it to the "
                            f"folder that holds {self.name.partition(':')[2] or forms}")
        if not self._root.is_dir():
            raise DataError(f"{self._root}: no such folder; it should hold {forms}")
        raise DataError(f"{self._root}: holds neither {split}/, {split}.tar nor {split}.tar.gz")

    def version(self, split: str) -> str | None:
        places = self._places()
        if split not in places:
            return None
        own = self._fingerprint(places[split])
        labels = self._root / "labels.txt" if self._root is not None else pathlib.Path()
        names = zlib.crc32(labels.read_bytes()) if labels.is_file() else 0
        # Labels are positions among train's classes, so train is part of what a split of another name is.
        train = self._train_version(places) if split != "train" else ""
        return hashlib.sha256(f"{_ORDER} {own} {train} {names:08x}".encode()).hexdigest()[:10]

    def _train_version(self, places: dict[str, pathlib.Path]) -> str:
        if "train" in places:
            return self.version("train") or ""
        found = {meta["version"]: None for _, meta in store_lib.stores_of(self._store, self.owns)
                 if meta["split"] == "train"}
        if len(found) > 1:
            raise DataError(f"{self.name}: the training images are absent and the stores {', '.join(found)} "
                            f"of them differ; delete all but one in {self._store}")
        return "".join(found)

    def _fingerprint(self, place: pathlib.Path) -> str:
        if str(place) not in self._fingerprints:
            self._fingerprints[str(place)] = self._digest(place)
        return self._fingerprints[str(place)]

    def _digest(self, place: pathlib.Path) -> str:
        digest = hashlib.sha256()
        try:
            if place.is_dir():
                listing = self._list(place)
                for (folder, path), handle in zip(listing.entries, listing.handles, strict=True):
                    assert isinstance(handle, pathlib.Path)
                    try:
                        size = handle.stat().st_size
                    except OSError:
                        size = -1  # a broken link, say: it will count as corrupt
                    digest.update(f"{folder}/{path}\0{size}\n".encode("utf-8", "surrogateescape"))
            else:
                digest.update(ends(place))
        except OSError as error:
            raise DataError(describe_os_error(error)) from error
        return digest.hexdigest()

    def _list(self, place: pathlib.Path) -> Listing:
        if str(place) not in self._listings:
            self._listings[str(place)] = list_folder(place) if place.is_dir() else list_archive(place)
        return self._listings[str(place)]

    def count(self, split: str) -> int | None:
        place = self._places().get(split)
        listed = place is not None and (place.is_dir() or str(place) in self._listings)
        return len(self._list(place).entries) if place is not None and listed else None

    def class_keys(self, split: str) -> tuple[str, ...] | None:
        return tuple(sorted({folder for folder, _ in self._list(self._places()[split]).entries}))

    def read(self, split: str, size: int, report: Report) -> Reading:
        self.check(split)
        places = self._places()
        place = places[split]
        report(f"reading {place}" + ("" if place.is_dir() else " (twice: once for the names)"))
        listing = self._list(place)
        if listing.ignored:
            report(f"{place}: {listing.ignored} files that are no images are ignored")
        own = sorted({folder for folder, _ in listing.entries})
        classes = own if split == "train" else self._train_classes(places, own)
        strange = sorted(set(own) - set(classes))
        if strange:
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            raise DataError(f"{place}: classes that train does not have: {', '.join(strange[:5])}{more}")
        labels = {folder: label for label, folder in enumerate(classes)}
        own_labels = [labels[folder] for folder, _ in listing.entries]
        names = self._display_names()
        read = _read_folder if place.is_dir() else _read_archive
        from alexnet_jax.data.decode import made_by

        return Reading(len(listing.entries), tuple(names.get(c, c) for c in classes), tuple(classes),
                       lambda done: read(place, listing, own_labels, size, done), str(place), made_by(),
                       names=lambda: ["/".join(entry) for entry in listing.entries])

    def _train_classes(self, places: dict[str, pathlib.Path], own: list[str]) -> list[str]:
        """The class folders of train: as a store of it recorded them, else listed, else the split's own."""
        if "train" in places:
            version = self.version("train")
            for _, meta in store_lib.stores_of(self._store, self.owns):
                if meta["split"] == "train" and meta["version"] == version:
                    return meta["class_keys"]  # spares another pass over a large archive
            return sorted({folder for folder, _ in self._list(places["train"]).entries})
        for _, meta in store_lib.stores_of(self._store, self.owns):
            if meta["split"] == "train":
                return meta["class_keys"]
        return own

    def _display_names(self) -> dict[str, str]:
        file = self._root / "labels.txt" if self._root is not None else pathlib.Path()
        if not file.is_file():
            return {}
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        pairs = (line.partition("\t") for line in lines)
        return {key.strip(): name.strip() for key, tab, name in pairs if tab and name.strip()}


def _root(data_dir: pathlib.Path | None, folder: str) -> pathlib.Path | None:
    """Where the images lie; None if `folder` is relative and there is no data dir."""
    path = paths.given(folder, "config.data.name")
    return data_dir / path if data_dir is not None else path if path.is_absolute() else None


def _spelling(data_dir: pathlib.Path | None, folder: str) -> str:
    """One spelling for all of a folder: relative to the data dir if it lies there ('': that itself), else absolute."""
    root = _root(data_dir, folder)
    if root is None:
        plain = os.path.normpath(folder)
        return "" if plain == "." else plain
    if data_dir is not None:
        for resolved in (os.path.realpath, os.path.abspath):
            path, base = pathlib.Path(resolved(root)), pathlib.Path(resolved(data_dir))
            if path.is_relative_to(base):
                return "/".join(path.relative_to(base).parts)
    return os.path.realpath(root)


def _wanted(path: str, head: bytes | None) -> bool | None:
    """Is it an image, going by its name or its first bytes? None: look at the first bytes."""
    if path.lower().endswith(_IMAGES):
        return True
    if head is None:
        return None
    from alexnet_jax.data.decode import is_image

    return is_image(head)


def list_folder(place: pathlib.Path) -> Listing:
    """The images below `place`/<class>/. A link to a folder that it lies in leads to nothing new."""
    found: list[tuple[tuple[str, str], pathlib.Path]] = []
    above: dict[str, frozenset[tuple[int, int]]] = {}  # folder → those that hold it
    ignored = 0

    def fail(error: OSError) -> None:
        raise error

    try:
        for folder, below, files in os.walk(place, followlinks=True, onerror=fail):
            about = os.stat(folder)
            holding = above.pop(folder, frozenset()) | {(about.st_dev, about.st_ino)}
            below[:] = [name for name in below if not name.startswith(".") and not _is_one_of(folder, name, holding)]
            above.update({os.path.join(folder, name): holding for name in below})
            parts = pathlib.Path(folder).relative_to(place).parts
            for name in files:
                path = pathlib.Path(folder, name)
                wanted = not name.startswith(".") and bool(parts)
                if wanted and _wanted(name, None) is None:
                    wanted = path.exists() and _looks_wanted(path)  # or a link that leads nowhere
                if wanted:
                    found.append(((parts[0], "/".join((*parts[1:], name))), path))
                else:
                    ignored += 1
    except OSError as error:
        raise DataError(describe_os_error(error)) from error
    found.sort(key=lambda item: mixed("/".join(item[0])))
    if not found:
        raise _nothing(place, ignored)
    return Listing([entry for entry, _ in found], [path for _, path in found], ignored)


def _is_one_of(folder: str, name: str, folders: frozenset[tuple[int, int]]) -> bool:
    about = os.stat(os.path.join(folder, name))
    return (about.st_dev, about.st_ino) in folders


def _looks_wanted(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return bool(_wanted(path.name, file.read(8)))


def _nothing(place: pathlib.Path, ignored: int) -> DataError:
    return DataError(f"{place}: no images of the form <class>/<file> in it" +
                     (f", only {ignored} other files" if ignored else "") + "; JPEG and PNG are read")


class _Watched:
    """A file that remembers what was last read of it, for tarfile's sake."""

    def __init__(self, file: gzip.GzipFile | io.BufferedReader):
        self.last = b""
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last


Member = tuple[int, tarfile.TarInfo, tarfile.TarFile]


def _members(archive: pathlib.Path) -> Generator[Member, None, None]:
    """The files of an archive, front to back, numbered. Raises DataError if it is cut off or damaged."""
    remedy = "truncated or damaged; copy or download it again"
    number = 0
    try:
        with archive.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            watched = _Watched(gzip.GzipFile(fileobj=raw) if zipped else raw)
            with tarfile.open(fileobj=watched, mode="r:") as tar:  # type: ignore[call-overload]
                while (member := tar.next()) is not None:
                    tar.members.clear()  # it would keep every one: a gigabyte for ImageNet
                    if not member.isdir():
                        yield number, member, tar
                        number += 1
            # tarfile takes anything between two files that is no header for the end of the archive. A whole
            # archive ends in zeros, and reading on to the very end makes gzip compare its checksum.
            if watched.last != bytes(512):
                raise DataError(f"{archive}: {remedy} (it has no end)")
            while watched.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: {remedy} ({error})") from error
    except OSError as error:
        if error.errno is None:  # gzip's own, e.g. a wrong checksum
            raise DataError(f"{archive}: {remedy} ({error})") from error
        error.filename = error.filename or str(archive)
        raise DataError(describe_os_error(error)) from error


def _class_and_path(member: str, split: str) -> tuple[str, str] | None:
    """('n01443537', 'val_68.JPEG') of './val/n01443537/val_68.JPEG'; None for what no class folder holds."""
    parts = [part for part in member.split("/") if part not in ("", ".")]
    if split in parts[:-2]:
        parts = parts[parts.index(split) + 1 :]
    if len(parts) < 2 or any(part.startswith(".") for part in parts):
        return None
    return parts[0], "/".join(parts[1:])


def list_archive(archive: pathlib.Path) -> Listing:
    """The images of an archive; one that is in it twice counts once, the last one, as tar unpacks it."""
    split = archive.name.split(".tar")[0].removesuffix(".tgz")
    found: dict[tuple[str, str], int] = {}
    others, inner = 0, False
    with contextlib.closing(_members(archive)) as members:
        for number, member, tar in members:
            inner = inner or member.name.endswith(_ARCHIVES)
            entry = _class_and_path(member.name, split)
            wanted = entry is not None and (member.isfile() or member.islnk() or member.issym())
            if wanted and not _wanted(member.name, None):
                file = tar.extractfile(member) if member.isfile() else None
                wanted = file is not None and bool(_wanted(member.name, file.read(8)))
            if wanted and entry is not None:
                found[entry] = number
            else:
                others += 1
    if not found:
        if inner:
            raise DataError(f"{archive}: holds archives in place of <class>/<file>; unpack them into "
                            f"{split}/<class>/")
        raise _nothing(archive, others)
    entries = sorted(found, key=lambda entry: mixed("/".join(entry)))
    return Listing(entries, [found[entry] for entry in entries], others)


def _read_folder(place: pathlib.Path, listing: Listing, labels: list[int], size: int,
                 done: np.ndarray) -> Generator[Block | Corrupt, None, None]:
    from alexnet_jax.data.decode import Job, decode_all

    pairs = enumerate(zip(listing.handles, labels, strict=True))
    return decode_all((Job(rank, str(path), label, path.read_bytes) for rank, (path, label) in pairs
                       if isinstance(path, pathlib.Path) and not done[rank]), size)


def _read_archive(archive: pathlib.Path, listing: Listing, labels: list[int], size: int,
                  done: np.ndarray) -> Generator[Block | Corrupt, None, None]:
    from alexnet_jax.data.decode import Job, decode_all

    ranks = {number: rank for rank, number in enumerate(listing.handles)}

    def jobs() -> Generator[Job, None, None]:
        with contextlib.closing(_members(archive)) as members:
            for number, member, tar in members:
                rank = ranks.get(number)
                if rank is not None and not done[rank]:
                    file = tar.extractfile(member) if member.isfile() else None
                    # A link's content may lie behind us in the stream; decoding b"" names it as corrupt.
                    yield Job(rank, f"{archive}: {member.name}", labels[rank], file.read() if file else b"")

    with contextlib.closing(jobs()) as stream:
        yield from decode_all(stream, size)
