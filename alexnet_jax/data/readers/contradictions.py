"""Detects class folders and label lists that disagree about some images, so that one of them must be wrong.

A list may name the same classes differently (by numbers, say), or group the images in another way: then one of the two
is used (alexnet_jax.data.readers.layouts), and the other is mentioned.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterator

from alexnet_jax import text
from alexnet_jax.data.readers import layouts, lists, trees
from alexnet_jax.data.readers.layouts import Place
from alexnet_jax.data.readers.listing import Listing
from alexnet_jax.data.readers.trees import Tree, join
from alexnet_jax.data.splits import role
from alexnet_jax.errors import DataError


def check(place: Place, listed: Listing, root: pathlib.Path, memo: pathlib.Path) -> list[str]:
    """Compares a split's class folders with the label lists beside them.

    Args:
      place, listed: of the split. root: the folder or archive of the dataset. memo: as in `trees.opened`.

    Returns:
      Notes about lists or folders with other classes that aren't used.

    Raises:
      DataError: they agree about most images, but not all.
    """
    if place.found is not None:
        labelled = [(label, file.path.rpartition("/")[0], file.path) for label, _, file in place.found.entries]
        folders = sorted({folder for _, folder, _ in labelled})
        if _compare(place.where, place.tree.where(place.base), labelled) and len(folders) > 1:
            return [f"note: {place.where}: its labels are used, not the folders that hold the images, "
                    f"{text.listed(folders)}"]
        return []
    notes = []
    names = [trees.File("/".join(entry), 0, None, None) for entry in listed.entries]
    images = None
    for tree, path in _beside(place, root, memo):
        try:
            table = lists.parse(tree.read(path), tree.where(path))
            if table is None or table.rows[0].label is None:
                continue
            images = images or lists.Images(place.tree, place.base, names)
            found = images.match(_of_split(table, place), "", lambda folder: False)
        except DataError:  # not a label list, or an unusable one
            continue
        if found is None:
            continue
        labelled = [(label, file.path.partition("/")[0], file.path) for label, _, file in found.entries]
        others = _compare(table.where, place.where, labelled)
        plainly = set(table.header) & set(lists.LABELS) - {"y"}  # "y" may be a coordinate
        if others and plainly and 2 * len(labelled) >= len(names):
            notes.append(f"note: {table.where}: groups the images differently from the class folders of "
                         f"{place.where}, which are used; to use the list, put the images into one folder")
    return notes


def _compare(where: str, folders: str, labelled: list[tuple[str, str, str]]) -> bool:
    """Do a list's labels group images differently from their folders? Raises DataError if only a few images differ.

    Args:
      where, folders: the list and the parent of the folders, for messages.
      labelled: (label, folder, path) of each image.
    """
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for label, folder, _ in labelled:
        counts[folder][label] += 1
    usual = {folder: labels.most_common(1)[0] for folder, labels in counts.items()}
    same = len({label for label, _ in usual.values()}) == len(usual) > 1
    differing = [(label, folder, path) for label, folder, path in labelled if label != usual[folder][0]]
    if not same or len(differing) > (1 - layouts.AGREEING) * len(labelled):
        return True
    if differing:
        label, folder, path = differing[0]
        more = f" (and {text.count(len(differing) - 1, 'more image')} like it)" if len(differing) > 1 else ""
        raise DataError(f"{where}: labels {path} as {text.listed([label])}, but it lies in the class folder {folder} "
                        f"of {folders}{more}; move the images, correct the list, or remove it")
    return False


def _beside(place: Place, root: pathlib.Path, memo: pathlib.Path) -> Iterator[tuple[Tree, str]]:
    """Text files that may list the split's labels: in its folder, its parent, and folders for lists."""
    around = place.base.rpartition("/")[0]
    folders = [(place.tree, place.base)]
    if place.base:
        folders.append((place.tree, around))
    elif place.tree.archived and place.tree.path != root:
        folders.append((trees.opened(place.tree.path.parent, memo), ""))
    for tree, folder in folders:
        below = [join(folder, name) for name in tree.children(folder)[0] if name.lower() in layouts.NOTES]
        for inside in (folder, *below):
            for name in layouts.texts(tree.children(inside)[1]):
                if role(name.rpartition(".")[0]) in (None, role(place.name)):
                    yield tree, join(inside, name)


def _of_split(table: lists.Table, place: Place) -> lists.Table:
    """The table without rows of other splits, judging by a split column or by the folders in their paths."""
    own = role(place.name)

    def foreign(row: lists.Row) -> bool:
        named = [row.split] if row.split else row.path.replace("\\", "/").split("/")[:-1]
        return any(role(name, plain=True) not in (None, own) for name in named)

    return table._replace(rows=[row for row in table.rows if not foreign(row)] or table.rows)
