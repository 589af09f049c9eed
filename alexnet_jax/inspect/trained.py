"""A trained network taken from a run's folder: its kernels, its predictions, what its layers make of images.

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

Progress = Callable[[int, int], object]  # told (images done, of how many)


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
      WorkdirError: no run there. CheckpointError: no checkpoint there that can be read, or none of its network.
    """

    def __init__(self, folder: str | os.PathLike[str], say: Callable[[str], None] = _to_stderr):
        self.folder = folder = pathlib.Path(folder)
        self.about = run_files.read_json(folder / "run.json") or {}
        if not isinstance(self.about.get("config"), dict):
            raise WorkdirError(f"{folder}: no run of alexnet_jax.main or experiments.run there (no whole run.json)")
        self.config: ConfigDict = config_lib.resolve(config_lib.override(
            config_lib.from_json(self.about["config"]), {"mesh.data": "auto", "mesh.column": "auto"}))
        self._say = say
        arrays, host = checkpoint.read_newest(folder / "checkpoints", say, functools.partial(workdir.foreign, folder))
        self.params: Any = arrays["state"]["params"]
        self.step: int = host["step"]
        fitting.check(self.params, self.config, str(folder))
        if workdir.altered_config(self.about):
            say(f"note: {folder}: the config of its run.json is not the one that the run was trained by: it has been "
                "altered, and what the network gives may be wrong")
        self._looks: dict[str, Callable] = {}  # compiled once each

    @functools.cached_property
    def otherwise(self) -> list[str]:
        """What could change a number here and isn't as it was for the run (`numerics.differences`)."""
        platform = jax.devices()[0].platform
        device, then = (found if isinstance(found, dict) else {}
                        for found in (self.about.get("device"), self.about.get("environment")))
        if device.get("platform") != platform:
            return []  # what is asked of another kind of device has other names
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
                      "; what is computed here could be other numbers")
        return Program(self.config, self.classes, make_mesh(self.config, jax.devices()[:1]))

    @functools.cached_property
    def known(self) -> data.Classes:
        """The classes of its outputs: as run.json keeps them; of an older run, those of its training images.

        Raises:
          ConfigError, DataError: they aren't kept, and the training images cannot be opened.
          WorkdirError: run.json has been altered.
        """
        here, there = recorded_classes(self.about, self.folder), self.kept.known if self.kept else None
        if here and there and list(map(same, here.keys)) != list(map(same, there.keys)):
            raise WorkdirError(f"{self.folder}: its run.json and its {inputs.FILE} name other classes, or in another "
                               "order: one of them has been altered; put it back as it was")
        if here and there and here.names != there.names:
            self._say(f"note: {self.folder}: its run.json calls classes by other names than its {inputs.FILE}; taken "
                      "are those of run.json")
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
            self._check_training()
            found = get(self.training)
            inputs.keep(self.folder, augment.constants(self.config, self.training.statistics()), self.training.known,
                        self.config)
            return found
        except (ConfigError, DataError) as error:
            raise type(error)(f"{lacks}, and the training images that could fill it are not to be had: {error}"
                              ) from error

    def _check_training(self) -> None:
        """Are the training images of an older run, which kept nothing of them, those that its outputs are of?

        Raises:
          DataError: there are more or fewer of them, or of their classes.
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
          name: another dataset than the one that it was trained on.
          own: labelled by the dataset's own classes, for what doesn't compare the labels with the network's outputs.
          where: what asks for it, for messages.
        """
        # Another dataset's splits are its own; what they are called and shown by isn't this one's affair.
        other = {"data.name": name, "data.val_fraction": 0.0, "data.names": ""} if name else {}
        d = config_lib.override(self.config, other).data
        with data.naming(where):
            return self._open(d, split, None if own else self.known, named=bool(name))

    def about_data(self, split: data.Split) -> list[str]:
        """What would make an error on `split` mean less than it says: `data.comparing.about_data_words`."""
        unknown = "so that whether it learnt from some of these images isn't known"
        if "imported" in self.about:
            return [f"an imported network, of whose training nothing is on record, {unknown}"]
        try:
            return about_data_words(about_data([part.of(self.known) for part in self._learnt], split))
        except (ConfigError, DataError) as error:
            return [f"its training images are not to be had here ({error}), {unknown}"]

    def learnt_too(self, split: data.Split) -> int:
        """How many images of `split` it has learnt from, as far as its training images are to be had."""
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
          batch: images that are looked at together, the last of them filled up: one size is compiled once. 0: those
            of training, or of an array as many as it has if they are fewer.
        """
        seen = evaluate.places(self.config, views)
        return np.concatenate([np.asarray(evaluate.log_probs(self.program, self.params, self.consts, some, seen)
                                          )[weight > 0] for some, weight in self._batches(images, progress, batch)])

    def hidden(self, images: data.Split | np.ndarray, progress: Progress = lambda done, of: None) -> np.ndarray:
        """What the last hidden layer hands on for each image's centre crop: float32 [images, units of all columns]."""
        return np.concatenate([x.reshape(len(x), -1) for x in
                               self._handed_on(self.program.layers[-2].name, images, progress)])

    def features(self, layer: str, images: data.Split | np.ndarray, progress: Progress = lambda done, of: None
                 ) -> np.ndarray:
        """What a layer hands on to the next for each image's centre crop, float32.

        That is the end of all that belongs to the layer: activation, then norm and pooling where it has them (in the
        config's order, `describe` prints it), and with `model.dropout_scale=test` the factor that stands for dropout.
        conv5 of the full network is thus what its last pooling gives; the output layer's are the logits.

        Args:
          layer: conv1 … conv5, fc6, fc7 or fc8, of those that the network has.
          images: a split, or uint8 [n, size, size, 3] with the size of config.data.size.

        Returns:
          [n, h, w, channels] of a convolution, [n, units] of a dense layer; columns stand side by side along the last
          axis, the first column first.

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
            raise CheckpointError(f"{self.folder}: what {layer} gives are not numbers; its training has diverged, or "
                                  "its weights are damaged")
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
        """(images, weight: 0 of those that fill up the last batch)."""
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
    """float32, to be filled. Raises DataError."""
    try:
        return np.empty(shape, np.float32)
    except MemoryError:
        raise DataError(f"features of {shape[0]:,} images take {4 * math.prod(shape) / 1e9:,.0f} GB of memory, which "
                        "isn't there; take a slice of them, such as --split='train[:10000]'") from None


class _Loose:
    """Images without labels, as much of a split as batches are made of."""

    def __init__(self, images: np.ndarray):
        self.images, self.labels = images, np.zeros(len(images), np.int32)

    def read(self, index: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.take(self.images, index, axis=0, out=out, mode="clip")

    def __len__(self) -> int:
        return len(self.images)


def batch_of(images: int, most: int) -> int:
    """How many of so many images to look at together: few kinds of batches, so that compiled programs serve again."""
    return min(most, 1 << max(0, images - 1).bit_length())
