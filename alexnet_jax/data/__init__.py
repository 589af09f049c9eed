"""Data: packed stores of uint8 images, the splits that a config names, and batches of them.

`open_split` is the way in. Opening a store that exists needs numpy and nothing else; only building one
imports TFDS and Pillow.
"""

from __future__ import annotations

import difflib
import pathlib
from typing import Any

from alexnet_jax.data import sources, splits
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.split import Classes, Split
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.errors import ConfigError, DataError

__all__ = ["Classes", "Split", "Statistics", "open_split"]


def open_split(data: Any, split: str, *, report: sources.Report = print) -> Split:
    """Opens what `split` denotes, building the packed store of the whole split first if there is none.

    Args:
      data: config.data (name, dir, store, size and on_corrupt are read).
      split: a split string, e.g. 'train[:40000]'.
      report: takes lines about the building.

    Raises:
      ConfigError: an unknown dataset or split, or a slice that is empty or out of range.
      DataError: files are missing or damaged, or the store cannot be written; corrupt images under
        on_corrupt='refuse'.
    """
    wanted = splits.parse(split)
    root = store_lib.root(data.store)
    source = sources.find(data, root)
    folder = _find(source, wanted.name, data.size, root)
    if folder is None or not folder.exists():
        folder = _build(source, wanted, data, root, report)
    store = store_lib.open_store(folder)
    if store.corrupt and data.on_corrupt == "refuse":
        from alexnet_jax.data.build import refusal

        first = store.meta["corrupt"][0]
        raise refusal(first["name"], first["reason"])
    sizes = splits.describe(source.name, source.split_sizes() | {wanted.name: len(store)})
    return Split(store, split, range(*wanted.bounds(len(store), sizes)))


def _find(source: sources.Source, name: str, size: int, root: pathlib.Path) -> pathlib.Path | None:
    """The store's folder, existing or to be built; None if the source is absent and no store stands in."""
    version = source.version(name)
    if version is not None:
        place = root / store_lib.folder_name(source.key, version, name, size)
        if place.exists():
            return place
        # Under another spelling of the dataset's name, perhaps.
        same = (folder for folder, meta in store_lib.stores_of(root, source.owns)
                if (meta["version"], meta["split"], meta["size"]) == (version, name, size))
        return next(same, place)
    fitting = [folder for folder, meta in store_lib.stores_of(root, source.owns)
               if meta["split"] == name and meta["size"] == size]
    if len(fitting) > 1:
        raise DataError(f"{source.name}: its files are absent and {len(fitting)} packed stores could stand "
                        f"in for them ({', '.join(f.name for f in fitting)}); delete all but one in {root}")
    return fitting[0] if fitting else None


def _build(source: sources.Source, wanted: splits.Slice, data: Any, root: pathlib.Path,
           report: sources.Report) -> pathlib.Path:
    known = source.split_sizes()
    described = splits.describe(source.name, known)
    if known and wanted.name not in known:
        near = difflib.get_close_matches(wanted.name, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"'{wanted.text}': no such split{hint}; {described}")
    count = known.get(wanted.name)
    if count is not None:
        wanted.bounds(count, described)
    source.check(wanted.name)
    version = source.version(wanted.name)
    if version is None:
        raise DataError(f"{source.name}: the files of {wanted.name} are missing")
    folder = root / store_lib.folder_name(source.key, version, wanted.name, data.size)

    def check(count: int) -> None:
        wanted.bounds(count, splits.describe(source.name, known | {wanted.name: count}))

    from alexnet_jax.data.build import build

    build(source, wanted.name, version, data.size, folder, on_corrupt=data.on_corrupt, report=report,
          check=check)
    return folder
