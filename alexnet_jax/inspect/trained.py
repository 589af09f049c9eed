"""A trained network, loaded from a run's folder: its parameters, its predictions, its layers' features.

    from alexnet_jax.inspect.trained import Trained
    network = Trained("runs/one")
    conv5, files = network.features_of_files("conv5", ["cat.jpg", "holiday"])    # float32 [n, h, w, channels]

The checkpoint may be of any mesh; here all columns are on one device.
"""

from __future__ import annotations

import functools
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import data, names, numerics, run_files
from alexnet_jax.data import loader
from alexnet_jax.data.classes import same
from alexnet_jax.data.comparing import about_data, about_data_words, learnt_too
from alexnet_jax.errors import CheckpointError, ConfigError, DataError, WorkdirError
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import augment, checkpoint, evaluate, inputs, workdir
from alexnet_jax.training.program import Program
from alexnet_jax.training.workdir import recorded_classes
from alexnet_jax.weight_files import fitting

if TYPE_CHECKING:
    from alexnet_jax.data.readers.photographs import Photographs

Progress = Callable[[int, int], object]  # called with (images done, of how many)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Trained:
    """The newest checkpoint of a run.

    Attributes:
      folder: the run's. config: resolved, with the mesh of one device. about: run.json.
      params: nested dicts of arrays by layer, with a leading column axis. step: updates done.

    Args:
      folder: the run's. say: called with notes, e.g. on newer checkpoints that were skipped; by default prints them on
        stderr.

    Raises:
      WorkdirError: no run there. CheckpointError: no readable checkpoint, or not one of this network.
    """

    def __init__(self, folder: str | os.PathLike[str], say: Callable[[str], None] = _to_stderr):
        self.folder = folder = pathlib.Path(folder)
        self.about = run_files.read_json(folder / "run.json") or {}
        if not isinstance(self.about.get("config"), dict):
            raise WorkdirError(f"{folder}: not a run of alexnet_jax.main or experiments.run (no complete run.json)")
        self.config: ConfigDict = config_lib.resolve(config_lib.override(
            config_lib.from_json(self.about["config"]), {"mesh.data": "auto", "mesh.column": "auto"}))
        self._say = say
        arrays, host = checkpoint.read_newest(folder / "checkpoints", say, functools.partial(workdir.foreign, folder))
        self.params: Any = arrays["state"]["params"]
        self.step: int = host["step"]
        fitting.check(self.params, self.config, str(folder))
        if workdir.altered_config(self.about):
            say(f"note: {folder}: the config in its run.json is not the one that the run was trained with: it has been "
                "altered, and the network's outputs may be wrong")
        self._looks: dict[str, Callable] = {}  # by layer, each compiled once

    @functools.cached_property
    def otherwise(self) -> list[str]:
        """Settings that could change a number and differ from those of the run (`numerics.differences`)."""
        platform = jax.devices()[0].platform
        device, then = (found if isinstance(found, dict) else {}
                        for found in (self.about.get("device"), self.about.get("environment")))
        if device.get("platform") != platform:
            return []  # another kind of device has other settings
        return numerics.differences(then, numerics.asked(platform))

    @property
    def classes(self) -> int:
        return int(self.params["fc8"]["bias"].shape[0])

    @property
    def layers(self) -> list[str]:
        return [layer.name for layer in self.program.layers]

    @functools.cached_property
    def program(self) -> Program:
        if self.otherwise:
            self._say(f"note: {self.folder}: this run was made in another environment: {'; '.join(self.otherwise[:3])}"
                      "; numbers computed here may differ")
        return Program(self.config, self.classes, make_mesh(self.config, jax.devices()[:1]))

    @functools.cached_property
    def known(self) -> data.Classes:
        """The classes of its outputs: from run.json, or for an older run from its training images.

        Raises:
          ConfigError, DataError: they aren't recorded, and the training images cannot be opened.
          WorkdirError: run.json has been altered.
        """
        here, there = recorded_classes(self.about, self.folder), self.kept.known if self.kept else None
        if here and there and list(map(same, here.keys)) != list(map(same, there.keys)):
            raise WorkdirError(f"{self.folder}: its run.json and its {inputs.FILE} name different classes, or order "
                               "them differently: one of them has been altered; put it back as it was")
        if here and there and here.names != there.names:
            self._say(f"note: {self.folder}: its run.json gives classes other names than its {inputs.FILE}; "
                      "those of run.json are used")
        known = here or there or self._of_training(lambda training: training.known)
        exact = "imported" in self.about or not self.config.model.classes
        if len(known) > self.classes or (exact and len(known) != self.classes):
            raise WorkdirError(f"{self.folder}: it names {len(known):,} classes, and the network has {self.classes:,} "
                               "outputs: its run.json has been altered; put it back as it was")
        return known

    @functools.cached_property
    def training(self) -> data.Split:
        """The images that it was trained on. Raises ConfigError or DataError."""
        return self._open(self.config.data, self.config.data.train_split)

    def _open(self, d: Any, split: str, classes: data.Classes | None = None, named: bool = False) -> data.Split:
        """Opens a split. If the run's data dir no longer exists, its packed store is used, with a note."""
        return data.open_split(d, split, report=lambda line: self._say(line) if line.startswith("note: ") else None,
                               classes=classes, remembered=bool(d.dir) and not named)

    @functools.cached_property
    def consts(self) -> augment.Constants:
        """What is subtracted from images: from its folder, or for an older run from its training images.

        Raises:
          ConfigError, DataError: it isn't recorded, and the training images cannot be opened.
        """
        if self.kept is not None:
            return self.kept.consts
        return self._of_training(lambda training: augment.constants(self.config, training.statistics()))

    @functools.cached_property
    def kept(self) -> inputs.Inputs | None:
        """The folder's input.npz; None for an older run without one."""
        return inputs.read(self.folder, self.config)

    def _of_training(self, get: Callable[[data.Split], Any]) -> Any:
        """Applies `get` to the training images, and writes the folder's input.npz from them."""
        lacks = f"{self.folder}: its {inputs.FILE} is missing or damaged"
        if "imported" in self.about:
            raise DataError(f"{lacks}; import the network again")
        try:
            self._check_training()
            found = get(self.training)
            inputs.keep(self.folder, augment.constants(self.config, self.training.statistics()), self.training.known,
                        self.config)
            return found
        except (ConfigError, DataError) as error:
            raise type(error)(f"{lacks}, and the training images that it can be made from are not available: {error}"
                              ) from error

    def _check_training(self) -> None:
        """Checks that the training images of an older run, which recorded little of them, are still the same.

        Raises:
          DataError: the number of images or of classes has changed.
        """
        now = self.training
        then = (self.about.get("images") or {}).get("train_split") or {}
        outputs = {"classes": len(now.known)} if self.config.model.classes else {"classes": self.classes}
        for what, number in (("images", len(now)), ("classes", len(now.known))):
            expected = then.get(what, outputs.get(what, number))
            if number != expected:
                raise DataError(f"config.data.train_split had {expected:,} {what} when this run began and has "
                                f"{number:,} now; put the data back as it was")
        if then.get("version", now.version) != now.version:
            self._say(f"note: {self.folder}: its training images were version {then['version']} and are {now.version} "
                      "now: the order of the classes, which this run kept no record of, is taken from these")

    def open(self, split: str, name: str = "", own: bool = False, where: str = "the split") -> data.Split:
        """Images at this network's size, labelled by its classes. Raises ConfigError or DataError.

        Args:
          name: another dataset than the one it was trained on.
          own: use the dataset's own classes, if labels are not compared with the network's outputs.
          where: the option or field that names the split, for messages.
        """
        # Another dataset has its own splits and class names.
        other = {"data.name": name, "data.val_fraction": 0.0, "data.names": ""} if name else {}
        d = config_lib.override(self.config, other).data
        with data.naming(where):
            return self._open(d, split, None if own else self.known, named=bool(name))

    def about_data(self, split: data.Split) -> list[str]:
        """What would make an error on `split` misleading: `data.comparing.about_data_words`."""
        unknown = "so it is not known whether it learnt from some of these images"
        if "imported" in self.about:
            return [f"an imported network, whose training is not on record, {unknown}"]
        try:
            return about_data_words(about_data([part.of(self.known) for part in self._learnt], split))
        except (ConfigError, DataError) as error:
            return [f"its training images are not available here ({error}), {unknown}"]

    def learnt_too(self, split: data.Split) -> int:
        """How many images of `split` it was trained on; 0 where its training images are not available."""
        if "imported" in self.about:
            return 0
        try:
            return learnt_too(self._learnt, split)
        except (ConfigError, DataError):
            return 0

    @functools.cached_property
    def _learnt(self) -> list[data.Split]:
        d = self.config.data
        return [self.training, *([self._open(d, d.fold_split)] if d.fold_split else [])]

    def photographs(self, paths: Iterable[str | os.PathLike[str]]) -> Photographs:
        """Image files, and those in folders, decoded as this network's training decodes: `photographs.read`.

        `images` of what it returns is what `log_probs`, `features` and `hidden` take, `names` the files in that order,
        `refused` those that can't be read. Raises DataError: there is none that can be read.
        """
        from alexnet_jax.data.readers import photographs  # Pillow, which a machine that only trains may lack

        return photographs.read(paths, self.config.data)

    def log_probs(self, images: data.Split | np.ndarray, views: str = "centre",
                  progress: Progress = lambda done, of: None, batch: int = 0) -> np.ndarray:
        """`evaluate.log_probs` of every image: float32 [images, classes].

        Args:
          images: a split, or uint8 [images, size, size, 3] with the size of config.data.size.
          views: of `alexnet_jax.training.views`.
          batch: the batch size; the last batch is padded, so that one size is compiled. 0: that of training, or less
            for a smaller array.
        """
        seen = evaluate.places(self.config, views)
        return np.concatenate([np.asarray(evaluate.log_probs(self.program, self.params, self.consts, some, seen)
                                          )[weight > 0] for some, weight in self._batches(images, progress, batch)])

    def hidden(self, images: data.Split | np.ndarray, progress: Progress = lambda done, of: None) -> np.ndarray:
        """The output of the last hidden layer for each image's centre crop: float32 [images, units of all columns]."""
        return np.concatenate([x.reshape(len(x), -1) for x in
                               self._handed_on(self.program.layers[-2].name, images, progress)])

    def features(self, layer: str, images: data.Split | np.ndarray, progress: Progress = lambda done, of: None
                 ) -> np.ndarray:
        """A layer's output for each image's centre crop, float32.

        After everything that belongs to the layer: activation, norm and pooling where it has them (in the config's
        order, which `describe` prints), and with `model.dropout_scale=test` the scaling that replaces dropout. So conv5
        of the full network is the output of its last pooling; fc8 gives the logits.

        Args:
          layer: conv1 … conv5, fc6, fc7 or fc8, of those that the network has.
          images: a split, or uint8 [n, size, size, 3] with the size of config.data.size.

        Returns:
          [n, h, w, channels] of a convolution, [n, units] of a dense layer; the columns are concatenated along the last
          axis.

        Raises:
          ConfigError: no such layer. DataError: images of another kind, or none. CheckpointError: not finite.
        """
        self._check_layer(layer)
        found, done = np.empty(0, np.float32), 0
        for x in self._handed_on(layer, images, progress):
            if x.ndim > 2:
                x = np.moveaxis(x, 1, -2).reshape(len(x), *x.shape[2:-1], -1)  # columns beside their channels
            if not done:
                found = _room((len(images), *x.shape[1:]))
            found[done:done + len(x)] = x
            done += len(x)
        if not np.isfinite(found).all():
            raise CheckpointError(f"{self.folder}: the outputs of {layer} are not finite; its training has diverged, "
                                  "or its weights are damaged")
        return found

    def features_of_files(self, layer: str, paths: Iterable[str | os.PathLike[str]],
                          progress: Progress = lambda done, of: None) -> tuple[np.ndarray, list[str]]:
        """(`features` of image files and of those in folders, the file of each). A file that can't be read is said.

        Raises:
          ConfigError: no such layer. DataError: no image that can be read.
        """
        self._check_layer(layer)
        photos = self.photographs(paths)
        for name, reason in photos.refused:
            self._say(names.plain(f"error: {name}: {reason}"))
        return self.features(layer, photos.images, progress), photos.names

    def _check_layer(self, layer: str) -> None:
        if layer not in self.layers:
            raise ConfigError(f"layer {layer!r}: this network has {', '.join(self.layers)}")

    def _handed_on(self, layer: str, images: data.Split | np.ndarray, progress: Progress) -> Iterator[np.ndarray]:
        """Batch by batch, float32 [batch, column, …]; [batch, classes] of the output layer."""
        look = self._look(layer)
        for some, weight in self._batches(images, progress):
            yield np.asarray(look(self.params, some, self.consts))[weight > 0]

    def _look(self, layer: str) -> Callable:
        if layer in self._looks:
            return self._looks[layer]
        place = augment.centre_view(self.config)[0]

        def look(params, images, consts):
            seen = {}
            self.program.model(params)(augment.test_view(images, place, consts, self.config),
                                       observe=lambda name, x: seen.update({name: x}))
            x = seen[layer]
            return (x if x.ndim == 2 else jnp.moveaxis(x, 0, 1)).astype(jnp.float32)

        return self._looks.setdefault(layer, jax.jit(self.program.exact(look)))

    def _batches(self, images: data.Split | np.ndarray, progress: Progress, batch: int = 0
                 ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, weight), weight 0 for the padding of the last batch."""
        full, done = self.config.train.batch_size, 0
        split: Any = images
        if not isinstance(images, data.Split):
            split = _Loose(np.asarray(images))
            size = self.config.data.size
            if split.images.shape[1:] != (size, size, 3) or split.images.dtype != np.uint8 or not len(split):
                raise DataError(f"images are uint8 [n, {size}, {size}, 3] for this network, not {split.images.dtype} "
                                f"{list(split.images.shape)}")
            full = batch_of(len(split), full)
        for some, _, weight in loader.evaluation_batches(split, batch or full):
            yield some, weight
            done += int(np.sum(weight > 0))
            progress(done, len(split))


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array. Raises DataError: not enough memory."""
    try:
        return np.empty(shape, np.float32)
    except MemoryError:
        raise DataError(f"features of {shape[0]:,} images take {4 * math.prod(shape) / 1e9:,.0f} GB of memory, which "
                        "isn't there; take a slice of them, such as --split='train[:10000]'") from None


class _Loose:
    """Images without labels, with the part of `Split` that batches need."""

    def __init__(self, images: np.ndarray):
        self.images, self.labels = images, np.zeros(len(images), np.int32)

    def read(self, index: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.take(self.images, index, axis=0, out=out, mode="clip")

    def __len__(self) -> int:
        return len(self.images)


def batch_of(images: int, most: int) -> int:
    """The batch size for so many images: one of few sizes, so that compiled programs are reused."""
    return min(most, 1 << max(0, images - 1).bit_length())
