"""Finds the splits in a folder of images: `root/<split>/<class>/*`, `root/<class>/*`, label lists, archives.

Decided from names and a few files; alexnet_jax.data.readers.listing finds the images of a split.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from alexnet_jax import text
from alexnet_jax.data.readers import formats, lists, trees
from alexnet_jax.data.readers.trees import Tree, join
from alexnet_jax.data.splits import ALL, role
from alexnet_jax.errors import DataError

IMAGES = lists.IMAGES
NOTES = ("meta", "metadata", "annotations", "annotation", "labels", "lists", "list", "splits", "imagesets",
          "imagelists", "info", "filelist", "filelists", "groundtruth", "gt", "devkit")  # folders that lists lie in
_INVENTED = re.compile("submission|submit", re.I)  # lists of made-up labels: Kaggle's example submissions
AGREEING = 0.9  # fraction of images on which a list and class folders agree if they mean the same
_LOOKS = 20  # files or folders examined to find out what a folder contains
_DEEP = 4  # depth of the search for images
_LISTS = 20  # lists examined per folder


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a split: a folder of a tree, and the list of its labels if its classes aren't folders."""

    name: str
    tree: Tree
    base: str
    table: lists.Table | None = None
    found: lists.Found | None = None

    @property
    def stem(self) -> str:
        """The name of its list, without the suffix."""
        assert self.table is not None
        return self.table.where.rpartition("/")[2].rpartition(".")[0]

    @property
    def where(self) -> str:
        return self.table.where if self.table is not None else self.tree.where(self.base)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The content of a folder.

    Attributes:
      splits: the available splits.
      others: splits that can be requested by name but aren't listed.
      problems: {split: why it can't be read}; '': why there is none.
      classes: is there a single split, of class folders directly in the folder?
    """

    splits: dict[str, Place] = dataclasses.field(default_factory=dict)
    others: dict[str, Place] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    classes: bool = False


class _Dirs(NamedTuple):
    """The entries of a folder. `roles`: of folders and archives that are named like splits."""

    folders: dict[str, str]  # name → path
    archives: dict[str, str]  # name without suffix → name
    roles: dict[str, str]
    images: bool


def texts(files: Iterable[str]) -> list[str]:
    """Those of a folder's files that may be lists, the most likely first."""
    found = (name for name in files if name.lower().endswith(lists.ENDINGS) and not _INVENTED.search(name))
    # One text file per image is not a label list.
    return sorted(found, key=lambda n: (role(n.rpartition(".")[0]) is None, n.lower().endswith(".txt"), n))[:_LISTS]


def find(path: pathlib.Path, memo: pathlib.Path) -> Layout:
    """The layout of a folder or an archive; `memo` as in `trees.opened`. Raises DataError if it is unreadable."""
    return _Finder(trees.opened(path, memo), memo).find("")


class _Finder:
    def __init__(self, tree: Tree, memo: pathlib.Path):
        self.tree, self.memo = tree, memo
        self._children: dict[str, tuple[list[str], list[str]]] = {}
        self._images: dict[str, bool] = {}

    # --- looking ------------------------------------------------------------------------------------------

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        if folder not in self._children:
            self._children[folder] = self.tree.children(folder)
        return self._children[folder]

    def images(self, folder: str) -> bool:
        """Are there images directly in the folder?"""
        if folder not in self._images:
            names = self.children(folder)[1]
            odd = [n for n in names if not n.lower().endswith((*lists.ENDINGS, *trees.ARCHIVES))][:_LOOKS]
            self._images[folder] = any(map(formats.looks_like_image, names)) or any(
                file.kind in formats.PILLOW for file in self.tree.kinds(self.tree.files_in(folder, odd)))
        return self._images[folder]

    def deep(self, folder: str, depth: int = _DEEP) -> bool:
        """Are there images in or below the folder, within the search limits?"""
        return self.images(folder) or (depth > 0 and any(
            self.deep(join(folder, name), depth - 1) for name in self.children(folder)[0][:_LOOKS]))

    def nested(self, folder: str) -> bool:
        return bool(self.children(folder)[0])

    def _listed(self, base: str, here: _Dirs, name: str) -> bool:
        """Is this a split whose images are one folder deeper, with a list beside it? E.g. `cars_train/cars_train/*`."""
        (inner, files), path = self.children(here.folders[name]), here.folders[name]
        if len(inner) != 1 or files or self.nested(join(path, inner[0])) or not self.images(join(path, inner[0])):
            return False
        known = inner[0].lower() in (*IMAGES, name.lower()) or role(inner[0]) == here.roles[name]
        notes = [base, *(place for folder, place in here.folders.items() if folder.lower() in NOTES)]
        return known and any(role(file.rpartition(".")[0]) == here.roles[name] for place in notes
                             for file in texts(self.children(place)[1]))

    def _look(self, base: str) -> _Dirs:
        names, files = self.children(base)
        folders = {name: join(base, name) for name in names}
        archives = {trees.stem(f): f for f in files if trees.ending(f) and trees.stem(f) not in folders}
        both = [*folders, *archives]
        roles = {name: what for name in both if (what := role(name, plain=True))}
        if not roles:
            roles = {name: what for name in both if (what := role(name))}
            if len(set(roles.values())) < 2:
                roles = {}  # probably a class called 'test…'
        return _Dirs(folders, archives, roles, self.images(base))

    # --- deciding -----------------------------------------------------------------------------------------

    def find(self, base: str) -> Layout:
        here = self._look(base)
        others = {name: Place(name, self.tree, path) for name, path in here.folders.items() if self.nested(path)}
        bare = [name for name, path in here.folders.items()
                if name in here.roles and ((self.images(path) and not self.nested(path)) or
                                           self._listed(base, here, name))]
        apart = [n for n in here.roles if n not in bare]
        if (apart and not self.tree.archived) or any(name in here.folders for name in apart):
            splits = self._all_places(base, here, bare)
            tables = self._lists(base, here, set(here.roles.values()) - {here.roles[n] for n in bare}, bare)
            problems = {n: self._unlabelled(here.folders[n]) for n in bare if n not in tables.splits} | tables.problems
            return Layout(tables.splits | splits, others, {k: v for k, v in problems.items() if k})
        tables = self._lists(base, here, set(), bare)
        named = [name for name in tables.splits if name != ALL]
        if tables.splits.keys() == {ALL} and (unsure := self._unsure(tables.splits[ALL])):
            return Layout(others=others, problems={"": unsure})
        holding = [name for name, path in here.folders.items() if self.deep(path)]
        classes = not bare or (len({here.roles[n] for n in bare}) == 1 and len(holding) > 2)
        folders = self._folders(base, here, holding, others) if classes else Layout(others=others)
        if named or (tables.splits and (not folders.classes or self._better(tables.splits[ALL]))):
            return dataclasses.replace(tables, others=others | folders.splits | tables.others)
        if folders.splits:
            own = {name: line for name, line in tables.problems.items() if name}
            return dataclasses.replace(folders, problems=own | folders.problems)
        said = tables.problems.get("")
        problems = {n: said or self._unlabelled(here.folders[n]) for n in bare} | folders.problems | tables.problems
        return Layout({}, others, problems if problems.get("") else problems | {"": self._describe(base, here)})

    def _all_places(self, base: str, here: _Dirs, bare: list[str]) -> dict[str, Place]:
        """Every folder or archive that may be a split."""
        places = {name: Place(name, self.tree, path) for name, path in here.folders.items()
                  if name not in bare and (name in here.roles or self.nested(path))}
        return places | self._archived(base, here)

    def _archived(self, base: str, here: _Dirs) -> dict[str, Place]:
        if self.tree.archived:
            return {}
        return {name: Place(name, trees.opened(self.tree.path / base / file, self.memo), "")
                for name, file in here.archives.items()}

    def _folders(self, base: str, here: _Dirs, holding: list[str], others: dict[str, Place]) -> Layout:
        """Folders that aren't named like splits: classes, splits with custom names, or a wrapper."""
        whole = Layout({ALL: Place(ALL, self.tree, base)}, others, classes=True)
        if not holding:
            if len(here.archives) == 1 and not self.tree.archived:
                (name, file), = here.archives.items()
                path = self.tree.path / base / file
                place = Place(name, trees.opened(path, self.memo), "")
                return self._wrapped(name, place, find(path, self.memo), others)
            if len(here.folders) == 1 and not here.archives:
                (name, only), = here.folders.items()
                if (inner_layout := self.find(only)).splits:
                    return self._wrapped(name, Place(name, self.tree, only), inner_layout, others)
            return Layout(self._archived(base, here), others)
        paths = [here.folders[name] for name in holding]
        if len(holding) == 1:
            if self.images(paths[0]) and not self.nested(paths[0]):
                return Layout({}, others)
            return self._wrapped(holding[0], Place(holding[0], self.tree, paths[0]), self.find(paths[0]), others)
        if any(map(self.images, paths)):
            return whole
        inner = [[name for name in self.children(path)[0] if self.deep(join(path, name))] for path in paths]
        seen = collections.Counter(name for names in inner for name in names if name.lower() not in IMAGES)
        domains = any(count > 1 for count in seen.values()) or all(
            len(names) == 1 and names[0].lower() in IMAGES and not self.images(join(path, names[0]))
            for path, names in zip(paths, inner, strict=True))
        if not domains:
            return whole
        if all(role(name, plain=True) for name in seen) and any(
                self.images(join(path, name)) for path, names in zip(paths, inner, strict=True) for name in names):
            return Layout({}, others, {"": (
                f"{self.tree.where(base)}: {text.listed(holding)} each hold folders named like splits "
                f"({text.listed(list(seen))}); if they are classes, move them to <split>/<class>/*")})
        return Layout({n: others[n] for n in holding if n in others} | self._archived(base, here), others)

    def _wrapped(self, name: str, place: Place, inner: Layout, others: dict[str, Place]) -> Layout:
        """A folder with a single folder (or archive): a split of any name, or a wrapper around splits."""
        if inner.classes:
            return Layout({name: place}, others)
        return dataclasses.replace(inner, others=inner.others | others)

    # --- lists --------------------------------------------------------------------------------------------

    def _lists(self, base: str, here: _Dirs, taken: set[str], bare: list[str]) -> Layout:
        """The splits defined by label lists, except those of `taken` roles.

        Args:
          bare: folders named like splits with images but no classes.
        """
        problems: dict[str, str] = {}
        tables = list(self._tables(base, here, taken, bare, problems))
        if not tables:
            return Layout(problems=problems)
        images = lists.Images(self.tree, base)
        found: dict[str, list[Place]] = collections.defaultdict(list)
        vague: dict[str, str] = {}
        for folder, what, table in tables:
            inside = next((n for n in bare if here.folders[n] == folder), None)
            about = inside or next((n for n in bare if here.roles[n] == what), "")
            any_found = False
            try:
                for place in self._matched(base, folder, images, self._parts(table, what, inside, here, bare), bare):
                    found[place.name].append(place)
                    any_found = True
            except DataError as error:
                problems[about] = str(error)
                if table.vague is not None:  # no other list may replace it, as it may have other labels
                    vague[what or ALL] = str(error)
                continue
            if not any_found and lists.is_list(table):
                problems.setdefault(about, f"{table.where}: most of the images that it names are missing, e.g. "
                                    f"{lists.named(table.rows[:2])}; names must agree letter by letter, with their "
                                    "suffixes")
        return _chosen(found, vague, images, problems)

    def _tables(self, base: str, here: _Dirs, taken: set[str], bare: list[str],
                problems: dict[str, str]) -> Iterator[tuple[str, str | None, lists.Table]]:
        """(folder, role by its name, content) of every list; malformed ones go to `problems`."""
        places = [base, *(path for name, path in here.folders.items() if name.lower() in NOTES or name in bare)]
        if taken and not bare:
            places = [base]  # if train is a folder it has no list, but one for val may be here
        for folder in places:
            for name in texts(self.children(folder)[1]):
                what = role(name.rpartition(".")[0])
                if what in taken or (taken and not bare and what is None):
                    continue
                path = join(folder, name)
                try:
                    table = lists.parse(self.tree.read(path), self.tree.where(path))
                except DataError as error:
                    problems[""] = str(error)
                    continue
                if table is not None:
                    yield folder, what, table

    def _matched(self, base: str, folder: str, images: lists.Images, parts: dict[str, lists.Table],
                 bare: list[str]) -> Iterator[Place]:
        """The splits of one list's `parts` whose images exist. Raises DataError."""
        for name, part in parts.items():
            def near(place: str, meant: str | None = role(name)) -> bool:
                return meant is not None and any(role(piece) == meant for piece in place.split("/"))

            def foreign(place: str, meant: str | None = role(name)) -> bool:
                # Evaluation images may be in train's folder, one for all images, but not vice versa.
                strange = {"train": ("val", "test"), "val": ("test",), "test": ("val",)}.get(meant or "", ())
                return not near(place, meant) and any(role(piece, plain=True) in strange for piece in place.split("/"))

            match = images.match(part, folder[len(base):].strip("/"), near, foreign)
            if match is not None:
                if name == ALL or role(name) == "train":
                    lists.check_classes(part, match)
                for own, entries in self._by_folder(name, match, bare).items():
                    yield Place(own, self.tree, base, part, entries)

    def _parts(self, table: lists.Table, what: str | None, inside: str | None, here: _Dirs,
               bare: list[str]) -> dict[str, lists.Table]:
        """{split: its rows}."""
        if inside is not None:
            return {inside: table}
        if any(row.split for row in table.rows):
            empty = next((row for row in table.rows if not row.split), None)
            if empty is not None:
                raise DataError(f"{table.where}, line {empty.line}: no split for {empty.path}; add it")
            names = dict.fromkeys(row.split for row in table.rows)
            return {name: table._replace(rows=[row for row in table.rows if row.split == name]) for name in names}
        if what is not None:
            return {next((n for n in bare if here.roles[n] == what), what): table}
        return {ALL: table} if table.rows and table.rows[0].label is not None else {}

    def _by_folder(self, name: str, match: lists.Found, bare: list[str]) -> dict[str, lists.Found]:
        """Divides one list of all images by the folders, named like splits, that contain them."""
        tops = {file.path.partition("/")[0] for _, _, file in match.entries}
        if name != ALL or not tops <= set(bare):
            return {name: match}
        return {top: match._replace(entries=[e for e in match.entries if e[2].path.startswith(f"{top}/")])
                for top in sorted(tops)}

    def _better(self, place: Place) -> bool:
        """Does a list have other labels than the images' folders?"""
        assert place.table is not None
        header = place.table.header
        return (not header or bool(set(header) & set(lists.LABELS))) and not lists.one_to_one(self._by_top(place))

    def _unsure(self, place: Place) -> str:
        """The problem with a list without a header that groups images differently from their folders, or ''."""
        assert place.table is not None
        pairs = self._by_top(place)
        folders = sorted({folder for folder, _ in pairs})
        usual = {folder: max((n, label) for (of, label), n in pairs.items() if of == folder) for folder in folders}
        mostly = len({label for _, label in usual.values()}) == len(folders) and (  # then one of the two is wrong
            sum(n for n, _ in usual.values()) >= AGREEING * pairs.total())
        if place.table.header or place.table.rows[0].label is None or len(folders) < 2 or mostly:
            return ""
        return (f"{place.where}: groups the images differently from the folders that they lie in, "
                f"{text.listed(folders)}; if it has their labels, add a first line that names its columns, path and "
                "label; otherwise remove it")

    def _by_top(self, place: Place) -> collections.Counter[tuple[str, str]]:
        """The number of a list's images with each (folder, label)."""
        assert place.found is not None
        skip = len(place.base) + 1 if place.base else 0
        return collections.Counter((file.path[skip:].partition("/")[0], label) for label, _, file in
                                   place.found.entries)

    # --- what isn't understood ----------------------------------------------------------------------------

    def _unlabelled(self, folder: str) -> str:
        number = len(self.tree.walk(folder))
        inside = f"in {self.tree.where(folder)}"
        return (f"{self.tree.where(folder)}: {number:,} files directly in it, no class folders, and no list of "
                f"labels; make class folders {inside}, or add labels.csv with lines of path,label")

    def _describe(self, base: str, here: _Dirs) -> str:
        folders, files = self.children(base)
        where = self.tree.where(base)
        images = sum(map(formats.looks_like_image, files))
        packed = len([f for f in files if trees.ending(f)])
        parts = [text.count(len(folders), "folder") + (f" ({text.listed(folders)})" if folders else ""),
                 text.count(images, "image"), *([text.count(packed, "archive")] if packed else []),
                 text.count(len(files) - images - packed, "other file")]
        deeper = [join(base, f) for f in folders]
        below = [n for f in deeper for n in self.children(f)[1]]
        nested = sum(len(self.children(f)[0]) for f in deeper)
        if folders:
            parts.append(f"in these folders {text.count(nested, 'folder')}, "
                         f"{text.count(sum(map(formats.looks_like_image, below)), 'image')}")
        if packed and self.tree.archived:
            nearest = "unpack the archives that it holds"
        elif images:
            nearest = "put them into class folders, <class>/*, or add labels.csv with lines of path,label"
        else:
            nearest = ("supported: <class>/*, or train/<class>/* and val/<class>/*, or labels.csv with lines of "
                       "path,label")
        none = f", not even {text.listed(texts(files))}" if texts(files) else ""
        return f"{where}: holds {', '.join(parts)}, and nothing says which class an image belongs to{none}; {nearest}"


def _chosen(found: Mapping[str, list[Place]], vague: Mapping[str, str], images: lists.Images,
            problems: dict[str, str]) -> Layout:
    """Chooses one list for each split; lists that contradict it, or may, are problems.

    Args:
      found: {split: its places, one per list}. vague: {role: why a list of it can't be used}. problems: so far.
    """
    splits: dict[str, Place] = {}
    others: dict[str, Place] = {}
    named = {path for candidates in found.values() for place in candidates for path in _labels(place)}
    for name, candidates in found.items():
        candidates = [c for c in candidates if c.table and c.table.rows[0].label is not None] or candidates
        first, *more = sorted(candidates, key=lambda place: -len(_labels(place)))
        if name == ALL and (more or len(found) > 1):  # lists of parts, under names of their own
            others |= {place.stem: dataclasses.replace(place, name=place.stem) for place in candidates}
        differing = next((c for c in more if not _agree(first, c, partly=name == ALL)), None)
        if (role(name) or name) in vague:
            problems[name] = vague[role(name) or name]
        elif differing is not None:
            problems[name] = (f"{first.where} and {differing.where}: two lists of labels for one split, {name}, "
                              "which differ; keep one")
        else:
            splits[name] = _with_unnamed(first, images, named)
    if len(splits) > 1 and ALL in splits:
        others[ALL] = splits.pop(ALL)
    if differ := _contradicting(splits):
        problems |= dict.fromkeys(splits, differ)
        splits = {}
    if any(name in problems for name in found):
        problems.setdefault("", next(iter(problems.values())))
    parts = {} if splits.keys() == {ALL} else {n: place for n, place in others.items() if n != ALL}
    return Layout(splits | parts, others, problems)


def _contradicting(splits: Mapping[str, Place]) -> str:
    """The problem of an image with two labels in lists of two splits; '' if there is none."""
    known: dict[str, tuple[str, Place]] = {}
    for place in splits.values():
        for path, label in _labels(place).items():
            other, by = known.setdefault(path, (label, place))
            if other != label:
                return (f"{by.where} and {place.where}: two labels for {path}, {other!r} and {label!r}; keep one, or "
                        "write the folders of the images into the lists")
    return ""


def _labels(place: Place) -> dict[str, str]:
    assert place.found is not None
    return {file.path: label for label, _, file in place.found.entries}


def _with_unnamed(place: Place, images: lists.Images, named: set[str]) -> Place:
    """Adds the number of images beside those of its list that no list names."""
    assert place.found is not None
    folders = {path.rpartition("/")[0] for path in _labels(place)}
    unnamed = sum(f.path.rpartition("/")[0] in folders and f.path not in named for f in images.files)
    return dataclasses.replace(place, found=place.found._replace(unnamed=unnamed))


def _agree(one: Place, other: Place, partly: bool) -> bool:
    """Do two lists agree, on their common images (`partly`) or on all?"""
    mine, theirs = _labels(one), _labels(other)
    return all(mine.get(path, label) == label for path, label in theirs.items()) if partly else mine == theirs
