"""A trained network taken from a run's folder: its kernels, its predictions, its last hidden layer.

The checkpoint may be of any mesh; here all columns are on one device.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import checkpoint, data, evaluate, inputs, records, workdir
from alexnet_jax import config as config_lib
from alexnet_jax.data import augment, loader
from alexnet_jax.data.comparing import about_data, about_data_words
from alexnet_jax.errors import ConfigError, DataError, WorkdirError
from alexnet_jax.mesh import make_mesh
from alexnet_jax.program import Program
from alexnet_jax.workdir import recorded_classes


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Trained:
    """The newest checkpoint of a run.

    Attributes:
      folder: the run's. config: resolved, with the mesh of one device. about: run.json.
      params: nested dicts of arrays by layer, with a leading column axis. step: updates done.

    Args:
      folder: the run's. say: told of newer checkpoints that had to be passed over; a line on stderr where not given.

    Raises:
      WorkdirError: no run there. CheckpointError: no checkpoint there that can be read.
    """

    def __init__(self, folder: pathlib.Path, say: Callable[[str], None] = _to_stderr):
        self.folder = folder
        self.about = records.read_json(folder / "run.json") or {}
        if not isinstance(self.about.get("config"), dict):
            raise WorkdirError(f"{folder}: no run of alexnet_jax.main or experiments.run there (no whole run.json)")
        self.config: ConfigDict = config_lib.resolve(config_lib.override(
            config_lib.from_json(self.about["config"]), {"mesh.data": "auto", "mesh.column": "auto"}))
        self._say = say
        arrays, host = checkpoint.read_newest(folder / "checkpoints", say, functools.partial(workdir.foreign, folder))
        self.params: Any = arrays["state"]["params"]
        self.step: int = host["step"]

    @property
    def classes(self) -> int:
        return int(self.params["fc8"]["bias"].shape[0])

    @functools.cached_property
    def program(self) -> Program:
        return Program(self.config, self.classes, make_mesh(self.config, jax.devices()[:1]))

    @functools.cached_property
    def known(self) -> data.Classes:
        """The classes of its outputs: as run.json keeps them; of an older run, those of its training images.

        Raises:
          ConfigError, DataError: they aren't kept, and the training images cannot be opened.
        """
        kept = recorded_classes(self.about) or (self.kept.known if self.kept else None)
        return kept or self._of_training(lambda training: training.known)

    @functools.cached_property
    def training(self) -> data.Split:
        """The images that it was trained on. Raises ConfigError or DataError."""
        return self._open(self.config.data, self.config.data.train_split)

    def _open(self, d: Any, split: str, classes: data.Classes | None = None, named: bool = False) -> data.Split:
        """A data dir that only the run remembers may have gone: a store of it serves, with a note."""
        return data.open_split(d, split, report=lambda line: self._say(line) if line.startswith("note: ") else None,
                               classes=classes, remembered=bool(d.dir) and not named)

    @functools.cached_property
    def consts(self) -> augment.Constants:
        """What is subtracted from images: as its folder keeps it; of an older run, from its training images.

        Raises:
          ConfigError, DataError: it isn't kept, and the training images cannot be opened.
        """
        if self.kept is not None:
            return self.kept.consts
        return self._of_training(lambda training: augment.constants(self.config, training.statistics()))

    @functools.cached_property
    def kept(self) -> inputs.Inputs | None:
        """The folder's input.npz; None of a run that was trained before there was one, until it gets it."""
        return inputs.read(self.folder, self.config)

    def _of_training(self, get: Callable[[data.Split], Any]) -> Any:
        """What `get` makes of the training images; the folder keeps what prediction needs of them from now on."""
        lacks = f"{self.folder}: its {inputs.FILE} is missing or damaged"
        if "imported" in self.about:
            raise DataError(f"{lacks}; import the network again")
        try:
            found = get(self.training)
            inputs.keep(self.folder, augment.constants(self.config, self.training.statistics()), self.training.known,
                        self.config)
            return found
        except (ConfigError, DataError) as error:
            raise type(error)(f"{lacks}, and the training images that could fill it are not to be had: {error}"
                              ) from error

    def open(self, split: str, name: str = "", own: bool = False, where: str = "the split") -> data.Split:
        """Images at this network's size, labelled by its classes. Raises ConfigError or DataError.

        Args:
          name: another dataset than the one that it was trained on.
          own: labelled by the dataset's own classes, for what doesn't compare the labels with the network's outputs.
          where: what asks for it, for messages.
        """
        d = config_lib.override(self.config, {"data.name": name or self.config.data.name}).data
        with data.naming(where):
            return self._open(d, split, None if own else self.known, named=bool(name))

    def about_data(self, split: data.Split) -> list[str]:
        """What would make an error on `split` mean less than it says: `data.comparing.about_data_words`."""
        d = self.config.data
        unknown = "so that whether it learnt from some of these images isn't known"
        if "imported" in self.about:
            return [f"an imported network, of whose training nothing is on record, {unknown}"]
        try:
            learnt = [self.training, *([self.open(d.fold_split)] if d.fold_split else [])]
        except (ConfigError, DataError) as error:
            return [f"its training images are not to be had here ({error}), {unknown}"]
        return about_data_words(about_data([part.of(self.known) for part in learnt], split))

    def log_probs(self, split: data.Split, views: str = "centre",
                  progress: Callable[[int, int], object] = lambda done, of: None) -> np.ndarray:
        """`evaluate.log_probs` of every image: float32 [images, classes]. `views`: of `alexnet_jax.views`."""
        seen = evaluate.places(self.config, views)
        return np.concatenate([np.asarray(evaluate.log_probs(self.program, self.params, self.consts, images, seen)
                                          )[weight > 0] for images, weight in self._batches(split, progress)])

    def hidden(self, split: data.Split,
               progress: Callable[[int, int], object] = lambda done, of: None) -> np.ndarray:
        """What the last hidden layer hands on for each image's centre crop: float32 [images, units of all columns]."""
        last = self.program.layers[-2].name
        place = augment.centre_view(self.config)[0]

        def look(params, images, consts):
            seen = {}
            self.program.model(params)(augment.test_view(images, place, consts, self.config),
                                       observe=lambda name, x: seen.update({name: x}))
            x = jnp.moveaxis(seen[last], 0, 1)  # [batch, column, ...]
            return x.reshape(x.shape[0], -1).astype(jnp.float32)

        compiled = jax.jit(self.program.exact(look))
        return np.concatenate([np.asarray(compiled(self.params, images, self.consts))[weight > 0]
                               for images, weight in self._batches(split, progress)])

    def _batches(self, split: data.Split, progress: Callable[[int, int], object]):
        done = 0
        for images, _, weight in loader.evaluation_batches(split, self.config.train.batch_size):
            yield images, weight
            done += int(np.sum(weight > 0))
            progress(done, len(split))
