"""Lists the images of one split of a folder of images, and what is left out and why."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Collection, Sequence

from alexnet_jax.data.dataset import mixed
from alexnet_jax.data.readers import formats, lists, trees
from alexnet_jax.data.readers.layouts import IMAGES, NOTES, Place
from alexnet_jax.data.readers.trees import File
from alexnet_jax.data.splits import role
from alexnet_jax.errors import DataError
from alexnet_jax.text import and_more
from alexnet_jax.text import listed as named

# Kinds of left-out files that depend on their place, not their format.
OUTSIDE, MISSING, UNNAMED = formats.PLACES
_NAMED = 5  # names in a message
_AROUND = (*IMAGES, "dataset", "datasets", "categories")  # folders around classes
_NO_CLASSES = (*_AROUND, *NOTES, "masks", "mask", "trimaps", "segmentations", "segmentation", "ground_truth", "docs",
               "doc", "assets", "figures", "examples")
_CLASSES = ("classes.txt", "synsets.txt", "synset.txt", "synset_words.txt", "wnids.txt", "class_names.txt", "names.txt",
            "labels.txt")  # files that may name numbered classes


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a split.

    Attributes:
      entries: (class, path below it) in the store's order. files: the file of each.
      left_out: {kind: {class, or '' for none: number of files}}.
      notes: lines for the user.
    """

    entries: list[tuple[str, str]]
    files: list[File]
    left_out: dict[str, dict[str, int]]
    notes: list[str]

    @property
    def classes(self) -> list[str]:
        return sorted({name for name, _ in self.entries})


def listing(place: Place, alone: bool) -> Listing:
    """All images of a split.

    Args:
      place: the split's.
      alone: may the split define a run's classes, or are they those of another split?

    Raises:
      DataError: there are no images; their classes are unknown; they are one level too deep.
    """
    if place.found is not None:
        return _of_list(place, place.found)
    files = place.tree.kinds(place.tree.walk(place.base))
    if place.tree.archived and not place.base:
        paths = _cut([file.path for file in files], place.name)
        files = [file._replace(path=path) for file, path in zip(files, paths, strict=True)]
    files, outside = _unwrapped(files, place.name)
    unread = formats.lacking({file.kind or "" for file in files})
    wanted = [f for f in files if formats.readable(f.kind) and f.kind not in unread]
    classes = {file.path.partition("/")[0] for file in wanted if "/" in file.path}
    if not classes or (len(classes) == 1 and _says_nothing(next(iter(classes)), place.name)):
        listed = _by_own_list(place)
        if listed is not None:
            return listed
        if classes or any(f.path.count("/") == 0 for f in wanted):
            number = sum(f.path.count("/") == (1 if classes else 0) for f in wanted)
            inside = f" in {next(iter(classes))}" if classes else ""
            raise DataError(f"{place.where}: no images of the form <class>/<file> in it, only {number:,}{inside} "
                            "without a class; make class folders, or add labels.csv with lines of path,label there")
    left_out: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    chosen = {}  # of duplicate paths in an archive the last counts
    read = {id(file) for file in wanted}
    for file in files:
        name, slash, path = file.path.partition("/")
        if id(file) in read and slash:
            chosen[name, path] = file
        elif file.kind is not None:
            left_out[OUTSIDE if id(file) in read else file.kind][name if slash else ""] += 1
    for file in outside:
        left_out[OUTSIDE if file.kind in formats.PILLOW else file.kind or ""][""] += 1
    if not chosen:
        raise _nothing(place, left_out, files)
    return _checked(place, _sorted(list(chosen.items()), left_out), alone, files)


def _sorted(chosen: list[tuple[tuple[str, str], File]], left_out: dict) -> Listing:
    chosen.sort(key=lambda item: mixed("/".join(item[0])))
    return Listing([entry for entry, _ in chosen], [file for _, file in chosen],
                   {kind: dict(classes) for kind, classes in left_out.items()}, [])


def cut_each(path: str, split: str) -> str:
    """The part of an archive's path after the split's own name ('wrapped/train/cat/1.jpg'), else the path."""
    parts = path.split("/")
    return "/".join(parts[parts.index(split) + 1:]) if split in parts[:-2] else path


def _cut(paths: list[str], split: str) -> list[str]:
    """The same for all paths, or for none, as a class may have the split's name."""
    cut = [cut_each(path, split) for path in paths]
    deep = [(a, b) for a, b in zip(paths, cut, strict=True) if "/" in a and formats.looks_like_image(a)]
    return cut if all(a != b for a, b in deep) else paths


def _unwrapped(files: list[File], split: str) -> tuple[list[File], list[File]]:
    """(files, without uninformative folders as in `train/images/<class>/*`; files outside of these)."""
    outside: list[File] = []
    while True:
        images = [f for f in files if formats.readable(f.kind)]
        tops = {file.path.partition("/")[0] if "/" in file.path else "" for file in images}
        top = next(iter(tops)) if len(tops) == 1 else ""
        if not top or not _says_nothing(top, split) or not all(file.path.count("/") > 1 for file in images):
            return files, outside
        outside += [file for file in files if not file.path.startswith(f"{top}/")]
        files = [file._replace(path=file.path[len(top) + 1:]) for file in files if file.path.startswith(f"{top}/")]


def _says_nothing(folder: str, split: str) -> bool:
    """Is a folder's name uninformative, a word for images or the split's name?"""
    return folder.lower() in (*IMAGES, split.lower()) or (role(folder, plain=True) or "-") == role(split)


def _by_own_list(place: Place) -> Listing | None:
    """The images of a split by a list directly in its folder, as in Tiny-ImageNet's val."""
    inner, _ = place.tree.children(place.base)
    only = inner[0] if len(inner) == 1 and inner[0].lower() in IMAGES else None
    folders = [place.base] if only is None else [place.base, trees.join(place.base, only)]
    names = [trees.join(folder, n) for folder in folders for n in place.tree.children(folder)[1]
             if n.lower().endswith(lists.ENDINGS)]
    images, problem = None, None
    for path in names:
        try:
            table = lists.parse(place.tree.read(path), place.tree.where(path))
            if table is None:
                continue
            images = images or lists.Images(place.tree, place.base)
            found = images.match(table, "", lambda folder: folder.lower() in IMAGES)
            if found is not None and role(place.name) in (None, "train"):
                lists.check_classes(table, found)
        except DataError as error:
            problem = error
            continue
        if found is not None:
            found = found._replace(unnamed=len(images.files) - len(found.entries))
            return _of_list(dataclasses.replace(place, table=table, found=found), found)
    if problem is not None:
        raise problem
    return None


def _of_list(place: Place, found: lists.Found) -> Listing:
    left_out: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    assert place.table is not None
    for row in found.missing:
        left_out[MISSING][row.label or ""] += 1
    if found.unnamed:
        left_out[UNNAMED][""] = found.unnamed
    files = place.tree.kinds([file for _, _, file in found.entries])
    unread = formats.lacking({file.kind or "" for file in files})
    chosen = []
    for (label, path, _), file in zip(found.entries, files, strict=True):
        if file.kind in unread or not formats.readable(file.kind):
            left_out[file.kind or ""][label] += 1
        else:
            chosen.append(((label, path), file))
    if not chosen:
        raise _nothing(place, left_out, [])
    listed = _sorted(chosen, left_out)
    if found.missing:
        listed.notes.append(f"{place.where}: {len(found.missing):,} of the images that it names are missing: "
                            f"{lists.named(found.missing)}")
    if found.again:
        listed.notes.append(f"{place.where}: {found.again:,} lines repeat an image with the same label")
    if place.table.note:
        listed.notes.append(f"note: {place.where}: {place.table.note}")
    _note_alike(place, listed)
    lost = {label for label, _, _ in found.entries} - set(listed.classes)
    if lost:
        listed.notes.append(_lost(place, lost, left_out))
    return listed


def renamed(place: Place, listed: Listing, known: set[str]) -> Listing:
    """Replaces numbers by class names, from a file of names that has all of `known`.

    Raises:
      DataError: there is no such file, or it is unclear whether its first line is 0 or 1.
    """
    numbers = {int(name) for name in listed.classes}
    for file in place.tree.children("")[1]:
        if file.lower() not in _CLASSES:
            continue
        lines = place.tree.read(file).decode("utf-8-sig", "surrogateescape").splitlines()
        names = [line.partition("\t")[0].strip() for line in lines if line.strip()]
        names = names if known <= set(names) else [name.split(" ")[0] for name in names]
        first = 0 if 0 in numbers else 1
        if known <= set(names) and len(set(names)) == len(names) and max(numbers) - first < len(names) and (
                0 in numbers or len(names) in numbers):
            chosen = [((names[int(name) - first], path), entry)
                      for (name, path), entry in zip(listed.entries, listed.files, strict=True)]
            left_out = {kind: {names[int(n) - first] if n.isdecimal() and 0 <= int(n) - first < len(names) else n: count
                               for n, count in of.items()} for kind, of in listed.left_out.items()}
            notes = [*listed.notes, f"{place.where}: its numbers are taken as lines of {file}, the first as {first}"]
            return dataclasses.replace(_sorted(chosen, left_out), notes=notes)
    raise DataError(f"{place.where}: its classes are numbers but those of training are names, "
                    f"{named(sorted(known))}; write names into the list, or put classes.txt into {place.tree.path}: "
                    "one name a line, the first for 0")


def unpadded(place: Place, listed: Listing, known: set[str]) -> Listing:
    """Writes numbers as training does ('00007' for '7'), if that is unambiguous."""
    written = collections.defaultdict(list)
    for name in known:
        written[int(name)].append(name)
    names = {name: of[0] for name in listed.classes if len(of := written[int(name)]) == 1}
    if set(listed.classes) <= known or len(names) < len(listed.classes) or len(set(names.values())) < len(names):
        return listed
    chosen = [((names[name], path), file) for (name, path), file in zip(listed.entries, listed.files, strict=True)]
    left_out = {kind: {names.get(name, name): count for name, count in of.items()}
                for kind, of in listed.left_out.items()}
    old, new = next((old, new) for old, new in names.items() if old != new)
    notes = [*listed.notes, f"{place.where}: its classes are renamed to those of training, {old} to {new}"]
    return dataclasses.replace(_sorted(chosen, left_out), notes=notes)


def _checked(place: Place, listed: Listing, alone: bool, files: Sequence[File]) -> Listing:
    """Notes oddities in the classes; raises DataError for what can't be intended."""
    classes = listed.classes
    below: dict[str, set[str]] = collections.defaultdict(set)
    right = set()  # classes with images directly in their folder
    for name, path in listed.entries:
        if "/" in path:
            below[name].add(path.partition("/")[0])
        else:
            right.add(name)
    if alone and len(classes) == 1 and len(below[classes[0]]) > 1:
        only, deeper = classes[0], sorted(below[classes[0]])
        raise DataError(f"{place.where}: has only one class folder, {only}, and that holds {named(deeper)}; if these "
                        f"are the classes they lie one level too deep: move them up, out of {only}")
    written = collections.Counter(unicodedata.normalize("NFC", name) for name in classes)
    twice = [name for name, number in written.items() if number > 1]
    if twice:
        raise DataError(f"{place.where}: two folders are called {twice[0]}, with accents encoded in two ways; "
                        "merge them")
    _note_alike(place, listed)
    if alone and len(classes) > 1 and all(name.lower() in _NO_CLASSES for name in classes):
        raise DataError(f"{place.where}: holds {named(classes)}, which are not class names; supported: "
                        "<class>/*, or images and labels.csv with lines of path,label")
    nested = [name for name in classes if name not in right and len(below[name]) > 1]
    if alone and right and len(nested) == 1:
        (only,) = nested
        line = (f"{place.where}: of {named(classes)} only {only} holds folders, {named(sorted(below[only]))}; if these "
                f"are the classes, name {only} itself, config.data.name=image_folder:<folder>/{only}")
        if only.lower() in _AROUND:
            raise DataError(f"{line}, else rename it")
        listed.notes.append(f"note: {line}")
    if len(classes) > 1 and not right:
        common = set.intersection(*(below[name] for name in classes))
        if len(common) > 1 and all(role(name, plain=True) for name in classes):
            raise DataError(f"{place.where}: holds the splits {named(classes)}, not classes; name that folder itself, "
                            f"config.data.name=image_folder:<folder>, or move {named(classes)} out of it")
        if any(len(below[name]) > 1 for name in classes):
            deeper = sorted(common if len(common) > 1 else set.union(*(below[name] for name in classes)))
            listed.notes.append(f"note: {place.where}: the classes are {named(classes)}, and their images lie in "
                                f"folders deeper, {named(deeper)}; if these are the classes, they lie one level too "
                                "deep: move them up")
    inner = next((name for name in classes if name not in right and len(below[name] & set(classes)) > 1), None)
    if inner is not None and right:
        raise DataError(f"{place.where}: {inner} is among the class folders and has folders named like "
                        f"classes, {named(sorted(below[inner] & set(classes)))}; move it away, or its images to these")
    tops = {file.path.partition("/")[0] for file in files if "/" in file.path}
    empty = set(place.tree.children(place.base)[0]) - tops if tops & set(place.tree.children(place.base)[0]) else set()
    lost = (tops | empty) - set(classes)
    if lost:
        listed.notes.append(_lost(place, lost, listed.left_out))
    if hidden := place.tree.hidden(place.base):
        listed.notes.append(f"note: {place.where}: hidden folders that hold images are ignored: {named(hidden)}")
    return listed


def _note_alike(place: Place, listed: Listing) -> None:
    folded = collections.defaultdict(list)
    for name in listed.classes:
        folded[name.casefold()].append(name)
    for same in folded.values():
        if len(same) > 1:
            listed.notes.append(f"note: {place.where}: {' and '.join(same)} are read as different classes")


def _lost(place: Place, lost: Collection[str], left_out: dict) -> str:
    parts = [f"{name} ({formats.words({kind: of[name] for kind, of in left_out.items() if of.get(name)})})"
             for name in sorted(lost)[:_NAMED]]
    return f"note: {place.where}: no image can be read from {and_more(parts, len(lost))}"


def _nothing(place: Place, left_out: dict, files: Sequence[File]) -> DataError:
    counts = {kind: sum(of.values()) for kind, of in left_out.items()}
    if any(map(trees.ending, (file.path for file in files))):
        return DataError(f"{place.where}: holds archives instead of <class>/<file>; unpack them into "
                         f"{place.name}/<class>/")
    return DataError(f"{place.where}: no images of the form <class>/<file> in it" +
                     (f", only {formats.words(counts)}" if counts else "") +
                     f"; supported: {', '.join(formats.PILLOW)}")
