"""`config.data.name` → dataset: one line for each dataset (docs/data.md, "A dataset of your own")."""

from __future__ import annotations

import difflib
import importlib
import os
import pathlib
from typing import Any

from alexnet_jax import paths
from alexnet_jax.data.dataset import Asked, Dataset, Rule
from alexnet_jax.errors import ConfigError, DataError

# As config.data.name is written, with what may follow a colon → the class that reads it. It is imported when it is
# asked for: what one dataset needs, the others do without.
DATASETS = {
    "shapes": "alexnet_jax.data.readers.shapes.Shapes",
    "cifar10": "alexnet_jax.data.readers.cifar10.Cifar10",
    "imagenet": "alexnet_jax.data.readers.imagenet.ImageNet",
    "image_folder:<folder>": "alexnet_jax.data.readers.image_folder.ImageFolder",
    "tfds:<name>": "alexnet_jax.data.readers.tfds.Tfds",
}


def find(data: Any, store: pathlib.Path) -> Dataset:
    """The dataset that config.data.name means.

    Args:
      data: config.data.
      store: the folder of the packed stores.

    Raises:
      ConfigError: there is no such dataset.
    """
    kind, colon, rest = data.name.partition(":")
    forms = {form.partition(":")[0]: form for form in DATASETS}
    form = forms.get(kind, "")
    if not form or (colon and not (rest and ":" in form)):
        near = difflib.get_close_matches(kind.lower(), forms, n=1, cutoff=0.5)
        hint = f"; did you mean {forms[near[0]]}?" if near else ""
        raise ConfigError(f"config.data.name: {data.name!r} is not one of {', '.join(DATASETS)}{hint}")
    module, _, reader = DATASETS[form].rpartition(".")
    return getattr(importlib.import_module(module), reader)(
        Asked(data.name, rest, data_dir(data), store, Rule.of(data)))


def data_dir(data: Any) -> pathlib.Path | None:
    """config.data.dir, or $ALEXNET_DATA_DIR; None if neither is given."""
    if data.dir:
        return paths.given(data.dir, "config.data.dir")
    given = os.environ.get("ALEXNET_DATA_DIR", "")
    return paths.given(given, "ALEXNET_DATA_DIR") if given else None


def check_dir(data: Any, dataset: Dataset) -> None:
    """Raises DataError if the data dir that a config or the environment names, and that is needed, doesn't exist.

    A packed store would do without it, but naming a folder means its present images.
    """
    folder = data_dir(data)
    if folder is None or dataset.embedded or folder.exists():
        return
    named = "config.data.dir" if data.dir else "ALEXNET_DATA_DIR"
    raise DataError(f"{named}: {folder}: no such folder; name the one that holds the datasets' folders")
