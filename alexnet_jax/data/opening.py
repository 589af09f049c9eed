"""From a split string of a config to its images: the dataset, its packed store (built if there is none), the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from alexnet_jax import environment, names
from alexnet_jax.data import classes as classes_lib
from alexnet_jax.data import loader, order, registry, splits
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.classes import Classes
from alexnet_jax.data.dataset import Dataset, Report
from alexnet_jax.data.split import Split, common
from alexnet_jax.errors import ConfigError, DataError
from alexnet_jax.text import did_you_mean

FIELDS = ("train_split", "fold_split", "eval_split", "tune_split", "fit_split")  # of config.data, that name images


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is known of a split without decoding an image.

    Attributes:
      split: the split string. name: the split that it is a slice of.
      places: the slice's positions in that split, which two slices are compared by; None: unknown.
      keys: the identifiers of its classes, if known. every: those of the whole dataset's labels.
    """

    split: str
    name: str
    places: range | None
    keys: tuple[str, ...] | None
    every: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.places or ())

    def overlap(self, other: _Known) -> int:
        """How many images the two have in common, as far as that is known."""
        if self.name != other.name or self.places is None or other.places is None:
            return 0
        return common(self.places, other.places)


def find(data: Any) -> Dataset:
    """The dataset of config.data. Raises ConfigError, DataError: there is none of that name, or not there."""
    return registry.find(data, store_lib.root(data.store))


def check_splits(data: Any, dataset: Dataset | None = None, batch_size: int = 0) -> tuple[str, ...] | None:
    """Checks every split that the config names, its classes and its images, as far as that is known without decoding.

    Builds and writes nothing.

    Args:
      data: config.data. dataset: its dataset, if already found. batch_size: checked against the training images.

    Returns:
      The identifiers of the run's classes; None if they are known only after reading.

    Raises:
      ConfigError, DataError: as `open_splits`.
    """
    dataset = dataset or find(data)
    registry.check_dir(data, dataset)
    found = {}
    for field in FIELDS:
        if text := getattr(data, field):
            with naming(f"config.data.{field}"):
                found[field] = _known(data, text, dataset)
    training = found["train_split"]
    if training.keys is not None:
        classes_lib.check_several(training.keys, data.name)
        for split in found.values():
            # A class of the dataset without training images isn't an error: it is counted and reported.
            classes_lib.check(training.every or (), data.name, split.keys or (), split.split)
    if data.names:
        classes_lib.read_names(data.names)
    known = {field: split for field, split in found.items() if split.places is not None}
    check_apart(known)
    for field in ("train_split", "fold_split"):
        if batch_size and field in known:
            loader.steps_per_epoch(known[field], batch_size)
    return training.every


def downloads(data: Any) -> list[str]:
    """The addresses from which a run's images would be downloaded."""
    dataset = find(data)
    return list(dict.fromkeys(filter(None, map(dataset.fetched, _unpacked(data, dataset)))))


def check_store(data: Any, dataset: Dataset) -> None:
    """Raises DataError if images are still to be packed and this user may not write where their store would be."""
    root = store_lib.root(data.store)
    if _unpacked(data, dataset) and not environment.writable(root):
        raise DataError(f"{root}: no folder that this user may write to (config.data.store or $ALEXNET_STORE_DIR is "
                        "where the packed images go)")


def _unpacked(data: Any, dataset: Dataset) -> list[str]:
    """The whole splits that the config names slices of and that have no packed store yet."""
    root, found = store_lib.root(data.store), []
    for text in (text for field in FIELDS if (text := getattr(data, field))):
        whole = _whole(dataset, splits.parse(text), data, root)
        folder = _find(dataset, whole, data.size, root)
        if folder is None or not folder.exists():
            found.append(whole)
    return list(dict.fromkeys(found))


def check_apart(found: Mapping[str, Any]) -> None:
    """Checks that tuning images are neither trained on nor reported on, and that `fit_split` is trained on.

    Args:
      found: {field of config.data: a split with `split`, a length and `overlap`}.

    Raises:
      ConfigError: a split has images that it must not have.
    """
    tune, fit, train = (found.get(field) for field in ("tune_split", "fit_split", "train_split"))
    for field in ("train_split", "eval_split"):
        other = found.get(field)
        if tune is not None and other is not None and tune.overlap(other):
            raise ConfigError(f"config.data.tune_split: {tune.overlap(other):,} images of '{tune.split}' are in "
                              f"config.data.{field} = '{other.split}' too; choose slices that do not overlap")
    if fit is not None and train is not None and fit.overlap(train) < len(fit):
        raise ConfigError(f"config.data.fit_split: {len(fit) - fit.overlap(train):,} images of '{fit.split}' are not "
                          f"in config.data.train_split = '{train.split}'; choose some of these")


def classes_of(data: Any) -> tuple[int, str] | None:
    """(number of a run's classes, where that is known from), without decoding; None if that needs reading."""
    root = store_lib.root(data.store)
    try:
        dataset = registry.find(data, root)
        if dataset.class_count is not None:
            return dataset.class_count, dataset.title
        wanted = splits.parse(data.train_split)
        whole = _whole(dataset, wanted, data, root)
        packed = [(folder, len(meta["class_keys"])) for folder, meta in store_lib.stores_of(root, dataset.owns)
                  if meta["split"] == whole]
        if len({count for _, count in packed}) == 1:  # of any size and version
            return packed[0][1], f"the packed images in {packed[0][0]}"
        if not packed and _count(dataset, whole) is None:
            return None  # an archive, which would have to be read
        known = _known(data, data.train_split, dataset)
    except (ConfigError, DataError):
        return None
    return None if known.every is None else (len(known.every), f"the images of {dataset.title}")


def open_splits(data: Any, *, report: Report = names.say, dataset: Dataset | None = None) -> dict[str, Split]:
    """Every split that the config names, {field: split}, with labels by the classes of the training split.

    All splits and their classes are checked before the first image is decoded, as far as that can be known.

    Args:
      data: config.data.
      report: takes lines about the building.
      dataset: `find`'s, if `check_splits` has checked it.

    Raises:
      ConfigError, DataError: as `open_split`; a split has classes that training lacks, or training has one class only.
    """
    if dataset is None:
        dataset = find(data)
        check_splits(data, dataset)
    opened: dict[str, Split] = {}
    for field in FIELDS:
        if text := getattr(data, field):
            with naming(f"config.data.{field}"):
                known = opened["train_split"].known if opened else None
                opened[field] = open_split(data, text, report=report, classes=known, dataset=dataset)
    check_apart(opened)
    train = opened["train_split"]
    classes_lib.check_several(train.class_keys, data.name)
    if data.names:
        unknown = classes_lib.missing(train.class_keys, classes_lib.read_names(data.names))
        if unknown:
            report(f"note: config.data.names: no class is called {classes_lib.named(unknown)}")
    return opened


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Prefixes errors about a split with the field or option that names it: 'config.data.eval_split', '--queries'."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith(("config.", "--", "ALEXNET_", "TFDS_")):
            raise
        raise ConfigError(f"{where}: {error}") from error


def open_split(data: Any, split: str, *, report: Report = names.say, classes: Classes | None = None,
               dataset: Dataset | None = None, remembered: bool = False) -> Split:
    """Opens the images of a split string, first packing the whole split if it has no store.

    Args:
      data: config.data (name, dir, store, size, order, val_fraction, val_seed, orientation, resize, names
        and on_corrupt are read).
      split: a split string, e.g. 'train[:40000]'.
      report: called with lines about the building.
      classes: the run's, by which images are labelled; by default the dataset's own.
      dataset: what `registry.find` gives for `data`, if already found.
      remembered: `data` is from an earlier command: if its data dir is gone since, the packed store is used.

    Raises:
      ConfigError: an unknown dataset or split, or a slice that is empty or out of range.
      DataError: files are missing or damaged, or the store cannot be written; corrupt images under
        on_corrupt='refuse'; images of none of the `classes`.
    """
    wanted = splits.parse(split)
    root = store_lib.root(data.store)
    dataset = dataset or registry.find(data, root)
    if not remembered:
        registry.check_dir(data, dataset)
    whole = _whole(dataset, wanted, data, root)
    folder = _find(dataset, whole, data.size, root)
    if folder is not None and folder.exists() and dataset.version(whole) is None:
        report(f"note: the files of {dataset.name} {whole} are missing; using the images packed from them earlier, "
               f"{folder}")
    if folder is None or not folder.exists():
        if classes is not None:
            _check_unbuilt(dataset, wanted, whole, _cut(wanted, data))
            strange = classes_lib.missing(classes.keys, dataset.class_keys(whole) or ())
            if strange and (strange := list(dataset.present(whole, strange))):
                classes_lib.check(classes.keys, dataset.title, strange, split)
        folder = _build(dataset, wanted, whole, data, root, report)
    store = _open(folder, data)
    rows, (start, stop) = _slice(store, wanted, data, dataset)
    if data.order == "spread":
        rows = np.asarray(rows)
        rows = rows[order.spread(store.labels[rows])]
    found = Split(store, split, rows[start:stop], classes)
    if classes is None and data.names:
        found = found.of(found.known.shown(classes_lib.read_names(data.names)))
    return found


def _whole(dataset: Dataset, wanted: splits.Slice, data: Any, root: pathlib.Path) -> str:
    """The stored split that `wanted` is a slice of: itself, or the one that `data.val_fraction` divides."""
    if not data.val_fraction:
        return dataset.resolve(wanted.name)
    stored = (meta["split"] for _, meta in store_lib.stores_of(root, dataset.owns))
    known = list(dataset.split_sizes()) or sorted(set(stored))
    own = splits.resolve("val", known)
    if own:
        raise ConfigError(f"config.data.val_fraction: {dataset.name} has a split of its own for that, {own[0]}; set "
                          f"config.data.val_fraction to 0, or move {own[0]} away")
    training = splits.resolve("train", known)
    if len(training) != 1 and len(known) > 1:
        raise ConfigError(f"config.data.val_fraction: cuts train and val from one split, and {dataset.name} has "
                          f"{', '.join(known)}; set it to 0 and name slices of them")
    base = (training or known or ["train"])[0]
    if wanted.name in ("train", "val"):
        return base
    if wanted.name == base:
        raise ConfigError(f"'{wanted.text}': config.data.val_fraction cuts {base} into train and val; name one "
                          "of the two")
    return dataset.resolve(wanted.name)


def _cut(wanted: splits.Slice, data: Any) -> bool:
    """Is it a slice of a split that `data.val_fraction` makes, not of a stored one?"""
    return bool(data.val_fraction) and wanted.name in ("train", "val")


def _rows(store: store_lib.Store, wanted: splits.Slice, data: Any) -> tuple[Any, dict[str, int]]:
    """The rows of the store, front to back, that the split is a slice of; and sizes of splits, for messages."""
    rows: Any = range(len(store))
    sizes = {store.meta["split"]: len(store)}
    if _cut(wanted, data):
        out = order.held_out(store.labels, data.val_fraction, data.val_seed)
        rows = np.flatnonzero(out if wanted.name == "val" else ~out)
        sizes = {"train": int((~out).sum()), "val": int(out.sum())}
    return rows, sizes


def _known(data: Any, split: str, dataset: Dataset) -> _Known:
    """What is known of a split without decoding. Raises ConfigError or DataError for what can already be refused."""
    wanted = splits.parse(split)
    root = store_lib.root(data.store)
    whole = _whole(dataset, wanted, data, root)
    name = wanted.name if _cut(wanted, data) else whole
    folder = _find(dataset, whole, data.size, root)
    if folder is not None and folder.exists():
        store = _open(folder, data)
        keys = store.meta["class_keys"]
        own = tuple(keys[label] for label in np.unique(store.labels))
        return _Known(split, name, range(*_slice(store, wanted, data, dataset)[1]), own, tuple(keys))
    _check_unbuilt(dataset, wanted, whole, _cut(wanted, data))
    keys = dataset.class_keys(whole)
    keys = None if keys is None else tuple(keys)
    count, rows = _count(dataset, whole), None
    if count is not None and not _cut(wanted, data):
        rows = range(*wanted.bounds(count, splits.describe(dataset.name, dataset.split_sizes() | {whole: count})))
    return _Known(split, name, rows, keys, keys)


def _open(folder: pathlib.Path, data: Any) -> store_lib.Store:
    store = store_lib.open_store(folder)
    if store.corrupt and data.on_corrupt == "refuse":
        from alexnet_jax.data.build import refusal

        first = store.meta["corrupt"][0]
        raise refusal(first["name"], first["reason"])
    return store


def _slice(store: store_lib.Store, wanted: splits.Slice, data: Any, dataset: Dataset
           ) -> tuple[Any, tuple[int, int]]:
    """(the rows of the store that the wanted split is a slice of, front to back; the slice's bounds)."""
    rows, sizes = _rows(store, wanted, data)
    return rows, wanted.bounds(len(rows), splits.describe(dataset.name, dataset.split_sizes() | sizes))


def _find(dataset: Dataset, name: str, size: int, root: pathlib.Path) -> pathlib.Path | None:
    """The store's folder, existing or to be built; None if its files are absent and no store stands in."""
    version = dataset.version(name)
    if version is not None:
        place = root / store_lib.folder_name(dataset.key, version, name, size)
        if place.exists():
            return place
        # Under another spelling of the dataset's name, perhaps.
        same = (folder for folder, meta in store_lib.stores_of(root, dataset.owns)
                if (meta["version"], meta["split"], meta["size"]) == (version, name, size))
        return next(same, place)
    fitting = [folder for folder, meta in store_lib.stores_of(root, dataset.owns)
               if meta["split"] == name and meta["size"] == size]
    if len(fitting) > 1:
        raise DataError(f"{dataset.name}: its files are missing and {len(fitting)} packed stores could be "
                        f"used instead ({', '.join(f.name for f in fitting)}); delete all but one in {root}")
    return fitting[0] if fitting else None


def _count(dataset: Dataset, whole: str) -> int | None:
    """Images of a whole split, where that is known before any is decoded."""
    known = dataset.split_sizes().get(whole)
    return dataset.count(whole) if known is None else known


def _check_unbuilt(dataset: Dataset, wanted: splits.Slice, whole: str, cut: bool) -> str:
    """The version of a split whose store has to be built. Raises ConfigError or DataError if it can't be."""
    known = dataset.split_sizes()
    described = splits.describe(dataset.name, known)
    if "+" in whole and whole not in known:
        raise splits.join(wanted.text)
    if known and whole not in known:
        raise ConfigError(f"'{wanted.text}': no such split{did_you_mean(whole, known)}; {described}")
    dataset.check(whole)
    count = _count(dataset, whole)
    if count is not None and not cut:
        wanted.bounds(count, described)
    version = dataset.version(whole)
    if version is None:
        raise DataError(f"{dataset.name}: the files of {whole} are missing")
    return version


def _build(dataset: Dataset, wanted: splits.Slice, whole: str, data: Any, root: pathlib.Path,
           report: Report) -> pathlib.Path:
    version = _check_unbuilt(dataset, wanted, whole, _cut(wanted, data))
    folder = root / store_lib.folder_name(dataset.key, version, whole, data.size)

    def check(count: int) -> None:
        if not _cut(wanted, data):
            wanted.bounds(count, splits.describe(dataset.name, dataset.split_sizes() | {whole: count}))

    from alexnet_jax.data.build import build

    build(dataset, whole, version, data.size, folder, on_corrupt=data.on_corrupt, report=report, check=check)
    return folder
