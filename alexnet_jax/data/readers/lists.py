"""Label lists: text files with lines `path,label`, with or without a header, and the images that they name.

Columns are separated by tabs, semicolons, commas or spaces; quotes are as in CSV, including multi-line ones. A header's
columns are recognised by their usual names (`PATHS`, `LABELS`, `SPLITS`), that of paths also by its content. Without a
header the first column is the path and the second the label; with a single column the label is the path's folder.
Paths are relative to the file, to the dataset, or to a folder of images in it; they may lack their suffix and have
backslashes.
"""

from __future__ import annotations

import collections
import csv
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from alexnet_jax.data.readers import formats
from alexnet_jax.data.readers.trees import File, Tree
from alexnet_jax.errors import DataError
from alexnet_jax.text import and_more

IMAGES = ("images", "image", "imgs", "img", "jpg", "jpeg", "jpegs", "png", "jpegimages", "photos", "pictures",
          "data", "frames")  # folders between a split and its classes, or its images, that say nothing
ENDINGS = (".csv", ".tsv", ".txt", ".lst", ".list")
# If a header has several, the first here counts.
PATHS = ("path", "filepath", "file_path", "image_path", "img_path", "imagepath", "filename", "file_name", "file",
         "files", "image_name", "img_name", "imagename", "image_file", "image", "images", "img", "image_id", "imageid",
         "img_id", "id_code", "photo", "photo_id", "picture", "name", "id", "uuid", "fname", "filepaths", "filenames",
         "image_paths", "image_names", "isic_id")
LABELS = ("label", "class", "class_name", "classname", "class_label", "label_name", "category", "category_name",
          "target", "wnid", "synset", "class_id", "classid", "label_id", "category_id", "labels", "breed", "species",
          "diagnosis", "dx", "predictionstring", "y", "name")
SPLITS = ("split", "subset", "set", "partition", "phase", "usage", "data_set")
_LARGEST = 1 << 28  # bytes; larger files aren't lists
_DOT = r"\.(?:jpe?g|jpe|jfif|png|bmp|gif|webp|tiff?|p[pgbn]m|avif|jp2|j2k|jpx|heic|heif)"
_ENDING = re.compile(f"{_DOT}$", re.I)
_SPACED = re.compile(rf"\s*(.+?{_DOT})\s+(\S.*)", re.I)
_NUMBER = re.compile(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*")
_LINES = re.compile("\r\n|\r|\n")
_SIGN_LINE = re.compile("sep=.", re.I)
_LOOKS = 20  # rows examined
_OTHERS = 2  # numbers besides the path and a number; if there are more, they may be coordinates in the image
_NAMED = 3  # lines or images named in a message


class Row(NamedTuple):
    """`line` in the file, from 1; `label` None if the list has no labels; `split` '' if it has no such column."""

    line: int
    path: str
    label: str | None
    split: str


class Table(NamedTuple):
    """The content of a list.

    Attributes:
      where: its place, for messages.
      header: the column names, if any.
      vague: a row, without a header, with further words or many numbers, whose label is therefore ambiguous.
      note: what else could be the labels.
      labelled: does a header name the labels?
    """

    where: str
    rows: list[Row]
    header: list[str]
    vague: Row | None = None
    note: str = ""
    labelled: bool = False


class Found(NamedTuple):
    """A list's images, (label, path in the list, file) each, and the rows whose file is missing.

    `unnamed` counts the images beside them that no list names.
    """

    entries: list[tuple[str, str, File]]
    missing: list[Row]
    again: int  # rows that repeat an image with the same label
    unnamed: int = 0


def parse(content: bytes, where: str) -> Table | None:
    """Parses a file; None if it isn't a list. Raises DataError for a malformed list."""
    if len(content) > _LARGEST:
        return None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    elif b"\0" in content[:4096]:
        return None
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    lines = [(number, line) for number, line in enumerate(_LINES.split(text), 1)
             if line.strip() and not line.startswith("#")]
    if lines and _SIGN_LINE.fullmatch(lines[0][1].strip()):
        del lines[0]  # Excel's line with the separator
    if not lines:
        return None
    found = _cells(lines, where)
    numbers, cells = [number for number, _ in found], [row for _, row in found]
    first = _header(cells[0])
    path, label, split = _column(first, PATHS), _column(first, LABELS), _column(first, SPLITS)
    if path == label:
        label = None  # a column `name`
    by_content = _paths(cells)
    if path is None and by_content is not None and not _ENDING.search(cells[0][by_content]):
        path = by_content  # with another name
    is_header = path is not None and not _ENDING.search(cells[0][path]) and len(cells) > 1
    if not is_header:
        path, label, split = by_content or 0, 1 if max(map(len, cells[:50])) > 1 else None, None
        if label == path:
            label = 2 if max(map(len, cells[:50])) > 2 else 0
    elif label is None:
        others = [place for place in range(len(first)) if place not in (path, split)]
        if len(others) == 1:
            label = others[0]
        elif others:
            raise DataError(f"{where}: none of its columns ({', '.join(first)}) has a name such as "
                            f"{', '.join(LABELS[:3])}; rename the one that has the labels to label")
    assert path is not None
    rows = []
    vague = None
    for number, row in zip(numbers[is_header:], cells[is_header:], strict=True):
        if (is_header and len(row) > len(first)) or (is_header and len(row) <= path):
            raise DataError(f"{where}, line {number}: {len(row)} columns instead of {len(first)}; quote the cells "
                            "that contain the separator")
        if len(row) <= path:
            return None  # a text that happens to mention images
        value = None if label is None else row[label].strip() if label < len(row) else ""
        if value and is_header and first[label or 0] == "predictionstring":
            value = value.split()[0]  # Kaggle's ImageNet: a class and its box
        rows.append(Row(number, row[path].strip(), value, row[split].strip() if split is not None and
                        split < len(row) else ""))
        if vague is None and not is_header and _more(row, path, label, value):
            vague = rows[-1]
    note = _others(first, cells[1:], label) if is_header and label is not None else ""
    return Table(where, rows, first if is_header else [], vague, note,
                 is_header and label is not None and first[label] in LABELS)


def _more(row: Sequence[str], path: int, label: int | None, value: str | None) -> bool:
    """Does a row without a header have other possible labels: words, or many numbers?"""
    others = [cell for place, cell in enumerate(row) if place not in (path, label)]
    return (len(others) > _OTHERS and bool(_NUMBER.fullmatch(value or "-"))) or any(
        cell.strip() and not _NUMBER.fullmatch(cell) for cell in others)


def _header(row: Sequence[str]) -> list[str]:
    return [re.sub(r"[\s.:-]+", "_", cell.strip().lower()) for cell in row]


def _paths(cells: Sequence[Sequence[str]]) -> int | None:
    """The only column with names of images, judging by the first rows after a possible header."""
    rows = cells[1:_LOOKS] or cells[:1]
    found = [place for place in range(len(rows[0]))
             if all(place < len(row) and _ENDING.search(row[place].strip()) for row in rows)]
    return found[0] if len(found) == 1 else None


def _others(header: Sequence[str], cells: Sequence[Sequence[str]], label: int) -> str:
    """A note if another column could be the labels too and groups the images differently."""
    chosen = [row[label].strip() if label < len(row) else "" for row in cells]
    for place, name in enumerate(header):
        if place == label or name not in LABELS or name in (*PATHS, "y"):
            continue
        values = [row[place].strip() if place < len(row) else "" for row in cells]
        if len(set(values)) > 1 and len(set(zip(chosen, values, strict=True))) > len(set(chosen)):
            return f"its column {header[label]} is read as the labels, not {name}; rename or remove the wrong one"
    return ""


def _column(header: Sequence[str], known: Iterable[str]) -> int | None:
    return next((header.index(name) for name in known if name in header), None)


def _cells(lines: list[tuple[int, str]], where: str) -> list[tuple[int, list[str]]]:
    """(line number, columns) of each row. Raises DataError: a list with an unclosed quote."""
    for sign in "\t;,|":
        if sign not in lines[0][1]:
            continue
        rows, unclosed = _separated(lines, sign)
        if unclosed and _column(_header(rows[0][1]), PATHS) is not None:
            raise DataError(f"{where}, line {unclosed}: a quote that is never closed; close it, or remove it")
        if all(len(row) > 1 for _, row in rows[:50]):
            return rows
    found = []
    for number, line in lines:
        match = None if '"' in line else _SPACED.fullmatch(line)
        if match:
            row = [match[1], *match[2].split()]
        elif '"' in line:
            row = next(csv.reader([" ".join(line.split())], delimiter=" ", skipinitialspace=True))
        elif _ENDING.search(line.strip()):
            row = [line.strip()]  # only a path, with spaces
        else:
            row = line.split()
        found.append((number, row))
    return found


def _separated(lines: list[tuple[int, str]], sign: str) -> tuple[list[tuple[int, list[str]]], int]:
    """(rows, which quotes may extend over several lines; the first line with an unclosed quote, else 0)."""
    csv.field_size_limit(_LARGEST)
    reader = csv.reader((f"{line}\n" for _, line in lines), delimiter=sign, skipinitialspace=True, strict=True)
    rows, place = [], 0
    try:
        for row in reader:
            rows.append((lines[place][0], row))
            place = reader.line_num
        return rows, 0
    except csv.Error:  # the quotes may be ordinary characters
        unclosed = next((number for number, line in lines if line.count('"') % 2), 0)
        return [(number, next(csv.reader([line], delimiter=sign, skipinitialspace=True))) for number, line in
                lines], unclosed


def _same(path: str) -> str:
    """The path in composed Unicode: accented letters are one character on some systems, two on others."""
    return unicodedata.normalize("NFC", path)


class Images:
    """The images below a folder of a tree, found by their names in a list."""

    def __init__(self, tree: Tree, base: str, files: Sequence[File] | None = None):
        """`files`: the images, if known."""
        self._tree, self._base = tree, base
        self.files = files if files is not None else [
            file for file in tree.kinds(tree.walk(base)) if formats.readable(file.kind)]
        self._full = {_same(file.path): file for file in self.files}
        self._short: dict[str, list[File]] = collections.defaultdict(list)
        for file in self.files:
            self._short[_same(_ENDING.sub("", file.path))].append(file)
        holding = {file.path.rpartition("/")[0] for file in self.files}
        self.folders = sorted({folder[:end] for folder in holding for end in
                               [*(found.start() for found in re.finditer("/", folder)), len(folder)]})

    def match(self, table: Table, folder: str, near: Callable[[str], bool],
              foreign: Callable[[str], bool] = lambda folder: False) -> Found | None:
        """The images that a list names; None if it names hardly any.

        Args:
          table: the list. folder: the list's folder, relative to the base.
          near, foreign: is the list likely to be about this folder of images (relative to the base), or surely not? In
            the latter case only paths that name the folder are searched.

        Raises:
          DataError: a name is ambiguous, or an image has two labels or an empty one.
        """
        tiers = [[folder], [""], [f for f in self.folders if near(f)], [f for f in self.folders if not foreign(f)]]
        sample = [_plain(row.path, self._tree, self._base) for row in table.rows[:20]]
        deepest = max((path.count("/") for path in sample), default=0)
        # How many leading folders of the paths don't exist, and where to search. It is the same for all rows: an image
        # missing from one folder must not be taken from another.
        for cut, far in itertools.product(range(deepest + 1), range(len(tiers))):
            if any(self._find(path.split("/", cut)[-1], tiers[far], table, row) for path, row in
                   zip(sample, table.rows, strict=False)):
                break
        else:
            return None
        found: dict[str, tuple[str, str, File]] = {}
        lines: dict[str, int] = {}
        missing, again, empty = [], 0, []
        for row in table.rows:
            path = _plain(row.path, self._tree, self._base).split("/", cut)[-1]
            file = next((f for tier in tiers[:far + 1] if (f := self._find(path, tier, table, row))), None)
            if file is None:
                missing.append(row)
                continue
            label = file.path.split("/")[-2] if row.label is None and "/" in path else row.label
            if not label:
                empty.append(row)
                continue
            if file.path in found:
                if found[file.path][0] != label:
                    raise DataError(f"{table.where}, lines {lines[file.path]} and {row.line}: two labels for "
                                    f"{row.path}, {found[file.path][0]!r} and {label!r}; keep one")
                again += 1
                continue
            name = path if path.rpartition("/")[2] == file.path.rpartition("/")[2] or "/" in path else \
                file.path.rpartition("/")[2]
            found[file.path] = (label, name, file)
            lines[file.path] = row.line
        if len(missing) * 2 > len(table.rows):
            return None
        if table.vague is not None:
            what = "numbers" if _NUMBER.fullmatch(table.vague.label or "") else "words"
            raise DataError(f"{table.where}, line {table.vague.line}: {what} after {table.vague.path} and "
                            f"{table.vague.label}, and no header that names them; add a first line that names the "
                            "columns, path and label, and quote the labels that contain the separator")
        if empty:
            if len(empty) + len(missing) == len(table.rows):
                raise DataError(f"{table.where}: names images but no labels; add a column label")
            more = f", and none on {len(empty) - 1} other lines" if len(empty) > 1 else ""
            raise DataError(f"{table.where}, line {empty[0].line}: no label for {empty[0].path}{more}; add what is "
                            "missing or remove the line")
        return Found(list(found.values()), missing, again)

    def _find(self, path: str, folders: list[str], table: Table, row: Row) -> File | None:
        """The image with that path below one of the folders."""
        key = _same(path)
        bare = not _ENDING.search(key)
        found = {}
        for folder in folders:
            place = os.path.normpath(f"{_same(folder)}/{key}" if folder else key)
            file = self._full.get(place)
            for one in [file] if file else self._short.get(place, []) if bare else []:
                found[one.path] = one
        # Masks may have the same names as images.
        likely = [path for path in found if path.rpartition("/")[0].rpartition("/")[2].lower() in IMAGES]
        if len(found) > 1 and len(likely) == 1:
            return found[likely[0]]
        if len(found) > 1:
            raise DataError(f"{table.where}, line {row.line}: {row.path} may be {' or '.join(sorted(found)[:2])}; "
                            "write the folder into the list")
        return next(iter(found.values()), None)


def _plain(path: str, tree: Tree, base: str) -> str:
    """A list's path in the form of a tree's paths, relative to the base if it was absolute."""
    path = path.replace("\\", "/")
    own = os.fspath(tree.path / base) + "/"
    if path.startswith(own):
        path = path[len(own):]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts[1:] if parts and re.fullmatch("[A-Za-z]:", parts[0]) else parts)


def check_classes(table: Table, found: Found) -> None:
    """Raises DataError if a training list has a different label for each image, e.g. checksums or numbers."""
    own = {label for label, _, _ in found.entries}
    if table.rows[0].label is not None and not table.labelled and len(own) == len(found.entries) > 2:
        raise DataError(f"{table.where}: has a different value for each image ({', '.join(sorted(own)[:2])}), hardly "
                        "its class; if it is, add a first line that names the columns, path and label")


def one_to_one(pairs: Collection[tuple[str, str]]) -> bool:
    """Do the pairs form a one-to-one mapping?"""
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def is_list(table: Table) -> bool:
    """Does it name images, judging by its column names and paths?"""
    return bool(table.header and set(table.header) & set(LABELS)) or any(
        _ENDING.search(row.path) for row in table.rows[:1])


def named(rows: Sequence[Row]) -> str:
    """'a.jpg (line 3), b.jpg (line 7) and 5 more'."""
    return and_more([f"{row.path} (line {row.line})" for row in rows[:_NAMED]], len(rows))
