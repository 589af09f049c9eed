"""Folders of files, on disk or in an archive, with a common interface.

Archives are zip, tar, and tar compressed with gzip, bzip2 or xz. Files from archivers and file managers (`__MACOSX`,
`Thumbs.db`, hidden files) are ignored.
"""

from __future__ import annotations

import bz2
import collections
import concurrent.futures
import contextlib
import functools
import gzip
import hashlib
import json
import lzma
import os
import pathlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from alexnet_jax import files as files_lib
from alexnet_jax.data.dataset import ends
from alexnet_jax.data.readers import formats
from alexnet_jax.errors import DataError, describe_os_error, reading

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".zip")
_JUNK = re.compile(r"\..*|__MACOSX|thumbs\.db|ehthumbs\.db|desktop\.ini|\$RECYCLE\.BIN|@eaDir|Icon\r", re.I | re.S)
_MANY = 256  # files in a folder from which on their kinds are cached
LARGE = 1 << 20  # bytes of an archive, likewise
_THREADS = 8  # for reading the beginnings of files, mostly waiting for the disk
_REMEDY = "truncated or damaged; copy or download it again"


class File(NamedTuple):
    """A file of a tree.

    `path` is relative to the folder that was walked. `size` is in bytes, -1 if unknown (for a broken link, say). `kind`
    is from `formats.kind`, None if not examined yet. `handle` identifies it in the tree.
    """

    path: str
    size: int
    kind: str | None
    handle: Any


Content = bytes | Callable[[], bytes]


class Tree:
    """A folder on disk or in an archive. Paths in it are separated by `/`; '' is the tree itself.

    Attributes:
      path: of the folder or the archive.
      archived: in an archive?
    """

    path: pathlib.Path
    archived = False

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in a folder, sorted. Raises DataError."""
        raise NotImplementedError

    def hidden(self, folder: str) -> list[str]:
        """The names of hidden folders with images in a folder. Raises DataError."""
        return []

    def walk(self, folder: str) -> list[File]:
        """Every file below a folder. Raises DataError."""
        raise NotImplementedError

    def files_in(self, folder: str, names: Iterable[str]) -> list[File]:
        """Files of one folder, with paths relative to the tree."""
        raise NotImplementedError

    def kinds(self, files: Sequence[File]) -> list[File]:
        """The same files with their kinds. Raises DataError."""
        raise NotImplementedError

    def contents(self, files: Iterable[tuple[int, File]]) -> Generator[tuple[int, File, Content], None, None]:
        """(number, file, its content) of files, in the fastest order to read."""
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        """The content of one file. Raises DataError."""
        raise NotImplementedError

    def where(self, path: str) -> str:
        """The name of `path` in messages."""
        if self.archived:
            return f"{self.path}: {path}" if path else str(self.path)
        return str(self.path / path)


def ending(name: str) -> str:
    """The suffix of an archive's name, '' for other files."""
    return max((e for e in ARCHIVES if name.lower().endswith(e)), key=len, default="")


def stem(name: str) -> str:
    """The name without an archive's suffix."""
    return name[:len(name) - len(ending(name))]


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def junk(name: str) -> bool:
    return _JUNK.fullmatch(name) is not None


def opened(path: pathlib.Path, memo: pathlib.Path) -> Tree:
    """The tree of a folder or an archive; `memo` is a folder for cached listings."""
    if path.is_dir():
        return Folder(path, memo)
    return (Zip if path.name.lower().endswith(".zip") else Tar)(path, memo)


class Note:
    """A cached result about files, stored under a digest that identifies them."""

    def __init__(self, folder: pathlib.Path, about: bytes):
        self._path = folder / hashlib.sha256(b"1 " + about).hexdigest()[:32]

    def read(self) -> list | None:
        try:
            return json.loads(gzip.decompress(self._path.read_bytes()))
        except (OSError, ValueError, EOFError, zlib.error):
            return None

    def write(self, rows: list) -> None:
        with contextlib.suppress(OSError):  # e.g. another user's folder: then there is no cache
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with files_lib.replacing(self._path) as temporary:
                temporary.write_bytes(gzip.compress(json.dumps(rows).encode(), 1))


class Folder(Tree):
    def __init__(self, path: pathlib.Path, memo: pathlib.Path):
        self.path = path
        self._memo = memo

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        files: list[str] = []
        with reading(self.path / folder), os.scandir(self.path / folder) as entries:
            for entry in entries:
                if not junk(entry.name):
                    (folders if _is_dir(entry) else files).append(entry.name)
        return sorted(folders), sorted(files)

    def hidden(self, folder: str) -> list[str]:
        with reading(self.path / folder), os.scandir(self.path / folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(".") and _is_dir(entry)
                          and any(map(formats.looks_like_image, os.listdir(entry.path))))

    def walk(self, folder: str) -> list[File]:
        found: list[File] = []
        with reading(self.path / folder):
            self._walk(os.path.join(self.path, folder) if folder else os.fspath(self.path), "", (), found)
        return found

    def _walk(self, place: str, prefix: str, above: tuple[tuple[int, int], ...], found: list[File]) -> None:
        status = os.stat(place)
        own = (status.st_dev, status.st_ino)
        if own in above:
            return  # a link to a parent folder, whose images are listed already
        below = []
        with os.scandir(place) as entries:
            for entry in entries:
                if junk(entry.name):
                    continue
                if _is_dir(entry):
                    below.append(entry)
                    continue
                size, what = -1, None
                with contextlib.suppress(OSError):
                    about = entry.stat()
                    size = about.st_size
                    what = None if stat.S_ISREG(about.st_mode) else "special"
                found.append(File(prefix + entry.name, size, what, entry.path))
        for entry in below:
            self._walk(entry.path, f"{prefix}{entry.name}/", (*above, own), found)

    def files_in(self, folder: str, names: Iterable[str]) -> list[File]:
        return [File(join(folder, name), -1, None, str(self.path / folder / name)) for name in names]

    def kinds(self, files: Sequence[File]) -> list[File]:
        def look(file: File) -> File:
            if file.kind is not None:
                return file
            try:
                with open(file.handle, "rb") as content:
                    head = content.read(formats.HEAD)
            except OSError:
                named = formats.looks_like_image(file.path)
                return file._replace(kind=formats.UNKNOWN if named else "unreadable")
            return file._replace(kind=formats.kind(head, file.path))

        if len(files) < _MANY:
            return [look(file) for file in files]
        # Opening a million files takes minutes on some disks, so it is done once for these names and sizes.
        about = "\n".join(f"{file.path}\0{file.size}" for file in files)
        note = Note(self._memo, about.encode("utf-8", "surrogateescape"))
        known = note.read()
        if known is not None:
            others = dict(known)
            return [file._replace(kind=file.kind or others.get(file.path, "JPEG")) for file in files]
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(look, files, chunksize=64))
        note.write([(file.path, file.kind) for file in found if file.kind != "JPEG"])
        return found

    def contents(self, files: Iterable[tuple[int, File]]) -> Generator[tuple[int, File, Content], None, None]:
        for number, file in files:
            yield number, file, pathlib.Path(file.handle).read_bytes

    def read(self, path: str) -> bytes:
        with reading(self.path / path):
            return (self.path / path).read_bytes()


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


class _Archive(Tree):
    archived = True

    def __init__(self, path: pathlib.Path, memo: pathlib.Path):
        self.path = path
        self._memo = memo

    def _scan(self) -> Iterator[tuple[int, str, int, str]]:
        """(number, name, size, kind) of every file, links included. Raises DataError."""
        raise NotImplementedError

    @functools.cached_property
    def digest(self) -> bytes:
        """Identifies the archive without reading all of it. Raises DataError."""
        with reading(self.path):
            return ends(self.path)

    @functools.cached_property
    def files(self) -> dict[str, File]:
        """{path: file}. Of duplicates the last counts, as in unpacking.

        Listing requires reading the whole archive, so the result is cached.
        """
        note = Note(self._memo, self.digest)
        known = note.read()
        if known is not None:
            return {path: File(path, size, kind, number) for number, path, size, kind in known}
        found: dict[str, File] = {}
        for number, name, size, kind in self._scan():
            parts = [part for part in name.split("/") if part not in ("", ".")]
            while parts[:1] == [".."]:  # unpacking omits these
                del parts[0]
            if parts and ".." not in parts and not any(map(junk, parts)):
                path = "/".join(parts)
                found[path] = File(path, size, kind, number)
        if self.path.stat().st_size >= LARGE:
            note.write([(file.handle, path, file.size, file.kind) for path, file in found.items()])
        return found

    @functools.cached_property
    def _folders(self) -> dict[str, tuple[set[str], set[str]]]:
        found: dict[str, tuple[set[str], set[str]]] = collections.defaultdict(lambda: (set(), set()))
        for path in self.files:
            folder, _, name = path.rpartition("/")
            found[folder][1].add(name)
            while folder:
                above, _, own = folder.rpartition("/")
                if own in found[above][0]:
                    break
                found[above][0].add(own)
                folder = above
        return dict(found)

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = self._folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def walk(self, folder: str) -> list[File]:
        start = f"{folder}/" if folder else ""
        return [file._replace(path=path[len(start):]) for path, file in self.files.items() if path.startswith(start)]

    def files_in(self, folder: str, names: Iterable[str]) -> list[File]:
        return [self.files[join(folder, name)] for name in names]

    def kinds(self, files: Sequence[File]) -> list[File]:
        return list(files)

    def read(self, path: str) -> bytes:
        file = self.files[path]
        with contextlib.closing(self.contents([(0, file)])) as contents:
            for _, _, content in contents:
                try:
                    return content if isinstance(content, bytes) else content()
                except (OSError, ValueError) as error:
                    raise DataError(f"{self.where(path)}: {error}") from error
        raise DataError(f"{self.where(path)}: no longer there")


class _Watched:
    """A file that remembers the last bytes read, to check tarfile's end of archive."""

    def __init__(self, file: Any):
        self.last = b""
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last


_COMPRESSED: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)), (b"BZh", bz2.BZ2File), (b"\xfd7zXZ", lzma.LZMAFile))


class Tar(_Archive):
    """An archive that can only be read front to back."""

    def _members(self) -> Generator[tuple[int, tarfile.TarInfo, tarfile.TarFile], None, None]:
        """Its files, in order, numbered. Raises DataError if it is truncated."""
        number = 0
        with self.path.open("rb") as raw:
            begin = raw.read(6)
            raw.seek(0)
            unpack = next((how for magic, how in _COMPRESSED if begin.startswith(magic)), lambda file: file)
            watched = _Watched(unpack(raw))
            with tarfile.open(fileobj=watched, mode="r:") as tar:  # type: ignore[call-overload]
                while (member := tar.next()) is not None:
                    tar.members.clear()  # otherwise it keeps all: a gigabyte for ImageNet
                    if not member.isdir():
                        yield number, member, tar
                        number += 1
            # tarfile takes anything between two files that isn't a header for the end of the archive. A complete
            # archive ends with zeros, and reading to the very end makes gzip verify its checksum.
            if watched.last != bytes(512):
                raise DataError(f"{self.path}: {_REMEDY} (its end is missing)")
            while watched.read(1 << 20):
                pass

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Generator[tuple[int, tarfile.TarInfo, tarfile.TarFile], None, None]]:
        """`_members`, with errors in reading turned into DataError."""
        try:
            with contextlib.closing(self._members()) as members:
                yield members
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise DataError(f"{self.path}: {_REMEDY} ({error})") from error
        except OSError as error:
            if error.errno is None:  # gzip's own, e.g. a wrong checksum
                raise DataError(f"{self.path}: {_REMEDY} ({error})") from error
            error.filename = error.filename or str(self.path)
            raise DataError(describe_os_error(error)) from error

    def _scan(self) -> Iterator[tuple[int, str, int, str]]:
        with self._reading() as members:
            for number, member, tar in members:
                if member.isfile():
                    file = tar.extractfile(member)
                    head = file.read(formats.HEAD) if file else b""
                    yield number, member.name, member.size, formats.kind(head, member.name)
                elif member.islnk() or member.issym():
                    yield number, member.name, -1, formats.kind(b"", member.name)

    def contents(self, files: Iterable[tuple[int, File]]) -> Generator[tuple[int, File, Content], None, None]:
        wanted = {file.handle: (number, file) for number, file in files}
        with self._reading() as members:
            for place, member, tar in members:
                if place in wanted:
                    content = tar.extractfile(member) if member.isfile() else None
                    # A link's content may be earlier in the stream.
                    yield (*wanted[place], content.read() if content else _no_content)


def _no_content() -> bytes:
    raise ValueError("it is a link in an archive, which isn't followed")


class Zip(_Archive):
    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            with reading(self.path):
                return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: {_REMEDY} ({error})") from error

    def _scan(self) -> Iterator[tuple[int, str, int, str]]:
        for number, about in enumerate(self._zip.infolist()):
            if about.is_dir():
                continue
            if about.flag_bits & 1:
                raise DataError(f"{self.path}: {about.filename} in it is encrypted; unpack it")
            name = about.filename
            if not about.flag_bits & 0x800:  # names in no declared encoding: most programs write UTF-8
                with contextlib.suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            if "/" not in name:
                name = name.replace("\\", "/")  # some programs on Windows
            try:
                with self._zip.open(about) as file:
                    head = file.read(formats.HEAD)
            except NotImplementedError as error:
                raise DataError(f"{self.path}: {about.filename} in it is compressed in a way that isn't read here "
                                f"({error}); unpack it") from error
            except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError):
                head = b""  # damaged: it counts as an image by its name
            yield number, name, about.file_size, formats.kind(head, name)

    def contents(self, files: Iterable[tuple[int, File]]) -> Generator[tuple[int, File, Content], None, None]:
        listed = self._zip.infolist()
        for number, file in sorted(files, key=lambda item: listed[item[1].handle].header_offset):
            yield number, file, functools.partial(self._content, listed[file.handle])

    def _content(self, about: zipfile.ZipInfo) -> bytes:
        try:
            return self._zip.read(about)
        except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"damaged in the archive ({error})") from error
