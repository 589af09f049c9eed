"""A summary of prepared data for people: images of each class, sizes, what was left out, duplicates."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import names, streams
from alexnet_jax.data import classes, duplicates
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Report
from alexnet_jax.data.opening import open_splits
from alexnet_jax.data.split import Split
from alexnet_jax.names import short
from alexnet_jax.text import WIDTH, and_more, count, listed, size

_LEARNT = ("train_split", "fold_split")
# Pairs of splits that should have no image in common.
_APART = (("train_split", "eval_split"), ("train_split", "tune_split"), ("fold_split", "eval_split"),
          ("tune_split", "eval_split"))
_PAIRS = 3  # duplicates that are named


@streams.safe()
def prepare(data: Any, *, verify: bool = False, report: Report = names.say) -> dict[str, Split]:
    """Opens the splits that config.data names, packing them if needed, and reports a line on each: {field: split}.

    Args:
      verify: read every image of their stores and compare its checksum.

    Raises:
      ConfigError, DataError: as `open_splits`; an image's checksum is wrong.
    """
    verified = set()
    opened = open_splits(data, report=report)
    for field, split in opened.items():
        if verify and split.store.folder not in verified:
            store_lib.open_store(split.store.folder, verify=True)
            verified.add(split.store.folder)
        report(describe(field, split))
    return opened


def describe(field: str, split: Split) -> str:
    """One line: what a split is and where it lies."""
    shown = ", ".join(short(name.partition(",")[0], WIDTH) for name in split.classes[:3])
    more = f", … ({len(split.classes)})" if len(split.classes) > 3 else ""
    corrupt = f"; {count(split.corrupt, 'corrupt image')} left out of the whole split" if split.corrupt else ""
    return (f"{field:11} {split.split}: {len(split):,} images of {split.size}×{split.size}, "
            f"{split.images.nbytes:,} bytes, classes {shown}{more}{corrupt}; in {split.store.folder}")


def lines(opened: Mapping[str, Split]) -> list[str]:
    """The summary of {field of config.data: split}, a fact a line. Raises DataError: a store's file is damaged."""
    words: list[str] = []
    stores = set()
    for field, split in opened.items():
        words += [f"{field} {split.split}: {len(split):,} images, {size(split.images.nbytes)}",
                 *(f"  {line}" for line in _of_split(split))]
        if split.store.folder not in stores:
            stores.add(split.store.folder)
            words += [f"  {line}" for line in _of_store(split)]
    between = list(_between(opened))
    return [*words, *(["between splits", *(f"  {line}" for line in between)] if between else [])]


def _of_split(split: Split) -> Iterator[str]:
    counts = split.per_class
    least, most = int(counts.min()), int(counts.max())
    if least == most:
        yield f"images of each class: {most:,}, in {len(counts):,} classes"
    else:
        few, many = (f"{n:,} ({_of(counts == n, split.classes)})" for n in (least, most))
        yield f"images of a class: least {few}, median {np.median(counts):,.10g}, most {many}; {len(counts):,} classes"
    empty = counts == 0
    if empty.any():
        yield f"classes without an image: {empty.sum():,} ({_of(empty, split.classes)})"
    if split.store.originals is not None:
        yield from _originals(split.store.originals[np.asarray(split.rows)], split.size)
    again = duplicates.repeats(split)
    if not len(again):
        yield "duplicate images: none"
    else:
        named = [f"{name_of(split, first)} = {name_of(split, place)}" for first, place in again[:_PAIRS].tolist()]
        unlike = int((split.labels[again[:, 0]] != split.labels[again[:, 1]]).sum())
        yield (f"duplicate images: {len(again):,}" + (f", {unlike:,} of them in another class" if unlike else "") +
               f" ({and_more(named, len(again))})")


def _of(chosen: np.ndarray, names: Sequence[str]) -> str:
    return listed([names[i] for i in np.flatnonzero(chosen).tolist()])


def name_of(split: Split, place: int, most: int = WIDTH) -> str:
    """The name of the image at a position in the split: that in the dataset, or else its row in the store."""
    (row,) = split.places(np.array([place])).tolist()
    return f"image {row:,}" if split.store.names is None else short(split.store.names[row], most, end=most // 2)


def _originals(found: np.ndarray, side: int) -> Iterator[str]:
    """Of int [n, 2], heights and widths."""
    order = np.argsort(found.prod(axis=1), kind="stable")
    least, median, most = ("{:,}×{:,}".format(*found[order[i]]) for i in (0, len(found) // 2, -1))
    line = f"original sizes (height×width): {most}" if least == most and (found == found[0]).all() else \
        f"original sizes (height×width): least {least}, median {median}, most {most}"
    small = int((found.min(axis=1) < side).sum())
    yield line + (f"; {small:,} are enlarged to {side}" if small else "")


def _of_store(split: Split) -> Iterator[str]:
    """Of the whole split, of which `split` may be a part."""
    whole, meta = short(split.whole, WIDTH), split.store.meta
    names = dict(zip(split.class_keys, split.classes, strict=True))
    for kind, found in meta.get("left_out", {}).items():
        of = [f"{short(names.get(key, key) or 'no class', WIDTH)} {number:,}" for key, number in
              sorted(found.items(), key=lambda item: (-item[1], item[0]))]
        what = short(kind or "files of no known kind", WIDTH)
        yield f"left out of {whole}, {what}: {sum(found.values()):,} ({and_more(of[:5], len(of))})"
    if meta["corrupt"]:
        reasons = collections.Counter(entry["reason"] for entry in meta["corrupt"])
        named = [f"{short(entry['name'], 100, end=50)}: {entry['reason']}" for entry in meta["corrupt"][:_PAIRS]]
        kinds = f", of {len(reasons):,} kinds" if len(reasons) > 1 else ""
        yield f"corrupt images of {whole}, left out: {split.corrupt:,}{kinds} ({and_more(named, split.corrupt)})"


def _between(opened: Mapping[str, Split]) -> Iterator[str]:
    for one, other in _APART:
        if one in opened and other in opened:
            a, b = opened[one], opened[other]
            found = duplicates.shared(a, b)
            if not len(found):
                yield f"{one} and {other} have no image in common"
            else:
                named = [f"{name_of(a, first)} = {name_of(b, place)}" for first, place in found[:_PAIRS].tolist()]
                stand = "stands" if len(found) == 1 else "stand"
                yield (f"{len(found):,} of the {len(b):,} images of {other} {stand} in {one} too "
                       f"({and_more(named, len(found))})")
    learnt = [opened[field] for field in _LEARNT if field in opened]
    if learnt and "eval_split" in opened:
        reported, total = opened["eval_split"], np.sum([split.per_class for split in learnt], axis=0)
        yield from classes.words(classes.uneven(total, reported.per_class, reported.classes))
