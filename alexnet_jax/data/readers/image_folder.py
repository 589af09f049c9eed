"""Folders or archives of images, `image_folder:<folder>`, in the layouts that docs/data.md shows.

`image_folder` alone is the data dir itself. `layouts` finds the splits, `listing` their images; this module makes a
dataset of them.

Stores number classes in the sorted order of `train`'s class folders, or of the split's own if `train` lacks one of
them; runs go by class names (`data.Split`). `labels.txt` (class, tab, name) has the classes' display names. Images
are recognised by their content (`formats`). They are stored in the order of a hash of class and path: the same on every
machine, and shuffled, so that a slice such as train[:90%] has all classes.

The version is a fingerprint of names, sizes and formats (for archives: size and both ends), so that changed content
gives another store. For class folders of only JPEG and PNG files it is the same as before other formats were supported.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import unicodedata
import zlib
from collections.abc import Generator
from typing import Any

import numpy as np

from alexnet_jax import paths
from alexnet_jax.data import classes as classes_lib
from alexnet_jax.data import splits
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Asked, Block, Corrupt, Dataset, Reading, Report, ends, safe
from alexnet_jax.data.readers import contradictions, formats, layouts, trees
from alexnet_jax.data.readers.layouts import Layout, Place
from alexnet_jax.data.readers.listing import Listing, cut_each, listing, renamed, unpadded
from alexnet_jax.errors import ConfigError, DataError
from alexnet_jax.text import did_you_mean

_ORDER = "mixed"  # part of the version, as another order changes the content
_NOTES = ".listings"  # the store's folder for cached listings of archives and large folders


class ImageFolder(Dataset):
    def __init__(self, asked: Asked):
        self.name, self._data_dir, self._store = asked.name, asked.folder, asked.store
        self._root = _packed(_root(self._data_dir, asked.rest))
        self._spelling = _spelling(self._data_dir, asked.rest)
        self.key = f"image_folder-{safe(self._spelling)}" if self._spelling else "image_folder"
        self.folder = os.path.realpath(self._root) if self._root is not None else None
        self._rule, self._suffix = asked.rule, asked.rule.suffix
        self._found: Layout | None = None
        self._asked: dict[str, Place] = {}  # splits that aren't listed and were requested by name
        self._fingerprints: dict[str, str] = {}
        self._listings: dict[str, Listing] = {}
        self._compared: set[str] = set()  # splits whose folders were compared with the lists beside them

    @property
    def title(self) -> str:
        return f"image_folder:{self._spelling}" if self._spelling else "image_folder"

    def owns(self, meta: dict[str, Any]) -> bool:
        kind, _, folder = meta["name"].partition(":")
        if kind != "image_folder" or str(meta["version"]).partition("-")[1:] != self._suffix.partition("-")[1:]:
            return False
        if _spelling(self._data_dir, folder) == self._spelling:
            return True
        where = meta.get("folder") or _root(self._data_dir, folder)
        try:
            return where is not None and self._root is not None and os.path.samefile(where, self._root)
        except OSError:
            return False

    # --- splits -------------------------------------------------------------------------------------------

    @property
    def _layout(self) -> Layout:
        if self._found is None:
            there = self._root is not None and self._root.exists()
            self._found = layouts.find(self._root, self._store / _NOTES) if there and self._root else Layout()
        return self._found

    def _places(self) -> dict[str, Place]:
        """{split: its place}, train first."""
        places = self._layout.splits | self._asked
        return dict(sorted(places.items(), key=lambda item: (item[0] != "train", item[0])))

    def split_sizes(self) -> dict[str, int | None]:
        return dict.fromkeys(self._places())

    def resolve(self, split: str) -> str:
        layout = self._layout
        found = splits.resolve(split, layout.splits)
        if len(found) > 1:
            raise ConfigError(f"'{split}': {self.name} has {' and '.join(found)}; name the one that is meant")
        if found:
            return found[0]
        if split in layout.others:
            self._asked[split] = layout.others[split]
            return split
        stored = {meta["split"] for _, meta in store_lib.stores_of(self._store, self.owns)}
        if not layout.splits or split in stored:  # stored, without files
            found = splits.resolve(split, sorted(stored))
            if len(found) == 1:
                return found[0]
        failed = splits.resolve(split, [name for name in layout.problems if name])
        problem = layout.problems.get(failed[0] if failed else "")
        if problem and (failed or not layout.splits):
            raise DataError(problem)
        if (self.name == "image_folder" and splits.role(split, plain=True) and layout.splits
                and splits.ALL not in layout.splits and not any(map(splits.role, layout.splits))):
            raise ConfigError(f"'{split}': no such split; {self._root} has the folders "
                              f"{classes_lib.named(layout.splits)}: if these are datasets, name one, "
                              f"e.g. config.data.name=image_folder:{min(layout.splits)}")
        if len(layout.splits) == 1 and splits.role(split, plain=True):
            (only,) = layout.splits
            raise ConfigError(f"'{split}': no such split; all images of {self.name} are in {only}: set "
                              "config.data.val_fraction=0.2 for splits train and val, or name slices, "
                              f"config.data.train_split={only}[:80%] and config.data.eval_split={only}[80%:]")
        return split

    def check(self, split: str) -> None:
        if (place := self._places().get(split)) is not None:
            if split not in self._compared and self._root is not None:
                listed = self._list(split)
                listed.notes.extend(contradictions.check(place, listed, self._root, self._store / _NOTES))
                self._compared.add(split)
            return
        forms = f"{split}/<class>/*, {split}.tar or {split}.zip"
        if self._root is None:
            raise DataError(f"{self.name}: config.data.dir (or ALEXNET_DATA_DIR) is not set; set it to the "
                            f"folder that holds {self.name.partition(':')[2] or forms}")
        if not self._root.exists():
            others = [path.stem if path.is_file() else path.name for path in self._root.parent.glob("*")]
            raise DataError(f"{self._root}: no such folder{did_you_mean(self._root.name, others)}; it should hold "
                            f"{forms}, or <class>/* without splits")
        problems = self._layout.problems
        failed = splits.resolve(split, [name for name in problems if name])
        raise DataError(problems.get(failed[0] if failed else "") or problems.get("") or
                        f"{self._root}: holds no {forms}")

    # --- versions -----------------------------------------------------------------------------------------

    def version(self, split: str) -> str | None:
        plain = self._version(split)
        return None if plain is None else plain + self._suffix

    def _version(self, split: str) -> str | None:
        places = self._places()
        if split not in places:
            return None
        own = self._fingerprint(split)
        labels = self._names_file()
        names = zlib.crc32(labels) if labels is not None else 0
        # Labels are positions among train's classes, so other splits' versions depend on train.
        train = self._train_version(places) if split != "train" else ""
        return hashlib.sha256(f"{_ORDER} {own} {train} {names:08x}".encode()).hexdigest()[:10]

    def _train_version(self, places: dict[str, Place]) -> str:
        if "train" in places:
            return self._version("train") or ""
        found = {meta["version"].partition("-")[0]: None for _, meta in store_lib.stores_of(self._store, self.owns)
                 if meta["split"] == "train"}
        if len(found) > 1:
            raise DataError(f"{self.name}: the training images are absent and the stores {', '.join(found)} "
                            f"of them differ; delete all but one in {self._store}")
        return "".join(found)

    def _fingerprint(self, split: str) -> str:
        if split not in self._fingerprints:
            self._fingerprints[split] = self._digest(split, self._places()[split])
        return self._fingerprints[split]

    def _digest(self, split: str, place: Place) -> str:
        if not place.tree.archived or place.table is not None:
            return self._digest_of(place, self._list(split))
        # Listing takes seconds; for an archive, identified by its ends, it is done once.
        what = f"digest {place.name}\0{place.base}\0".encode("utf-8", "surrogateescape") + ends(place.tree.path)
        note = trees.Note(self._store / _NOTES, what)
        known = note.read()
        if known:
            return known[0]
        listed = self._list(split)
        digest = self._digest_of(place, listed)
        # Not cached if it depends on what the installation can read.
        sure = not ({file.kind for file in listed.files} | set(listed.left_out)) & set(formats.OPTIONAL)
        if sure and place.tree.path.stat().st_size >= trees.LARGE:
            note.write([digest])
        return digest

    def _digest_of(self, place: Place, listed: Listing) -> str:
        digest = hashlib.sha256()
        if place.tree.archived:
            digest.update(ends(place.tree.path))
        if not place.tree.archived or not _as_ever(place, listed):
            for (folder, path), file in zip(listed.entries, listed.files, strict=True):
                kind = "" if file.kind in (*formats.PLAIN, formats.UNKNOWN) else f"\0{file.kind}"
                digest.update(f"{folder}/{path}\0{file.size}{kind}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _list(self, split: str) -> Listing:
        places = self._places()
        if split not in self._listings:
            found = listing(places[split], split == "train" or "train" not in places)
            self._listings[split] = self._named(split, places[split], found)
        return self._listings[split]

    def _named(self, split: str, place: Place, listed: Listing) -> Listing:
        """Translates numeric classes into training's class names. Raises DataError."""
        training = splits.resolve("train", self._places())
        if not all(map(str.isdecimal, listed.classes)) or split in training or len(training) != 1:
            return listed
        known = set(self._list(training[0]).classes)
        if all(map(str.isdecimal, known)):
            return unpadded(place, listed, known)
        return listed if place.table is None else renamed(place, listed, known)

    # --- reading ------------------------------------------------------------------------------------------

    def count(self, split: str) -> int | None:
        place = self._places().get(split)
        listed = place is not None and (not place.tree.archived or split in self._listings)
        return len(self._list(split).entries) if listed else None

    def class_keys(self, split: str) -> tuple[str, ...] | None:
        return tuple(sorted(map(_composed, self._list(split).classes)))

    def read(self, split: str, size: int, report: Report) -> Reading:
        self.check(split)
        places = self._places()
        place = places[split]
        report(f"reading {place.where}")
        listed = self._list(split)
        for note in listed.notes:
            report(note)
        if listed.left_out:
            counts = {kind: sum(of.values()) for kind, of in listed.left_out.items()}
            report(f"{place.where}: left out: {formats.words(counts)}")
        own = sorted(map(_composed, listed.classes))
        classes = own if split == "train" else self._train_classes(places, own)
        # The numbering is arbitrary: `data.Split` goes by names, and refuses classes that training lacks.
        classes = own if classes_lib.missing(classes, own) else classes
        labels = {_composed(name): label for label, name in enumerate(classes)}
        own_labels = [labels[_composed(folder)] for folder, _ in listed.entries]
        names = self._display_names()
        from alexnet_jax.data.readers.decode import made_by

        return Reading(len(listed.entries), tuple(names.get(c, c) for c in classes), tuple(classes),
                       lambda done: self._read(place, listed, own_labels, size, done), place.where,
                       made_by(*self._rule), names=lambda: ["/".join(entry) for entry in listed.entries],
                       left_out=listed.left_out)

    def _train_classes(self, places: dict[str, Place], own: list[str]) -> list[str]:
        """The classes of train: from a store, else from the listing, else the split's own."""
        version = self.version("train") if "train" in places else None
        for _, meta in store_lib.stores_of(self._store, self.owns):
            if meta["split"] == "train" and version in (None, meta["version"]):
                return meta["class_keys"]
        return sorted(map(_composed, self._list("train").classes)) if "train" in places else own

    def _names_file(self) -> bytes | None:
        if self._root is None or not self._root.exists():
            return None
        tree = next((place.tree for place in self._places().values()), None)
        if self._root.is_dir():
            file = self._root / "labels.txt"
            return file.read_bytes() if file.is_file() else None
        return tree.read("labels.txt") if tree is not None and "labels.txt" in tree.children("")[1] else None

    def _display_names(self) -> dict[str, str]:
        content = self._names_file()
        if content is None:
            return {}
        lines = content.decode("utf-8-sig", "replace").splitlines()
        pairs = (line.partition("\t") for line in lines)
        return {key.strip(): name.strip() for key, tab, name in pairs if tab and name.strip()}

    def _read(self, place: Place, listed: Listing, labels: list[int], size: int,
              done: np.ndarray) -> Generator[Block | Corrupt, None, None]:
        from alexnet_jax.data.readers.decode import Job, decode_all

        wanted = ((rank, file) for rank, file in enumerate(listed.files) if not done[rank])

        def jobs() -> Generator[Job, None, None]:
            for rank, file, content in place.tree.contents(wanted):
                name = f"{place.tree.path}: {'/'.join(listed.entries[rank])}" if place.tree.archived else file.handle
                yield Job(rank, name, labels[rank], content)

        return decode_all(jobs(), size, *self._rule)


def _composed(name: str) -> str:
    """Unicode's composed form: letters with accents are one character on some systems, two on others."""
    return unicodedata.normalize("NFC", name)


def _as_ever(place: Place, listed: Listing) -> bool:
    """Is an archive read as when only JPEG and PNG were supported? Then its ends alone identify it, as before."""
    if place.base or place.table is not None or not isinstance(place.tree, trees.Tar):
        return False
    before = {}
    for file in place.tree.walk(""):
        folder, slash, path = cut_each(file.path, place.name).partition("/")
        if slash and (file.path.lower().endswith(formats.EXTENSIONS) or file.kind in formats.PLAIN):
            before[folder, path] = (file.handle, file.kind)
    now = {entry: (file.handle, file.kind) for entry, file in zip(listed.entries, listed.files, strict=True)}
    return before == now and all(kind in (*formats.PLAIN, formats.UNKNOWN) for _, kind in now.values())


def _packed(root: pathlib.Path | None) -> pathlib.Path | None:
    """The folder, or an archive of its name in its place."""
    if root is None or root.exists():
        return root
    return next((path for e in trees.ARCHIVES if (path := root.with_name(root.name + e)).is_file()), root)


def _root(data_dir: pathlib.Path | None, folder: str) -> pathlib.Path | None:
    """The images' folder; None if `folder` is relative and there is no data dir."""
    path = paths.given(folder, "config.data.name")
    return data_dir / path if data_dir is not None else path if path.is_absolute() else None


def _spelling(data_dir: pathlib.Path | None, folder: str) -> str:
    """A canonical spelling of a folder: relative to the data dir if inside ('': the data dir itself), else absolute."""
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

