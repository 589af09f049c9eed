"""A picture of what the network will see in training: stored images, and beside each its crops, mirrors and colours.

The views are those of `augment.training_views` at the start of training, with these images as a batch: images that
share a crop there (`augment.chunk`) share it here.
"""

from __future__ import annotations

import pathlib

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import environment
from alexnet_jax.data import Split
from alexnet_jax.data.summary import name_of
from alexnet_jax.names import short

IMAGES, VIEWS = 16, 5
_COLUMNS = 2  # of images with their views
_THUMB, _GAP, _LINE = 1.1, 0.06, 0.2  # inches: a picture's side, between pictures, a line of text
_DOTS = 160  # an inch


def chosen(split: Split, count: int = IMAGES) -> np.ndarray:
    """int64 [at most count]: places of images of as many classes as there are, evenly among them."""
    by_class = np.argsort(split.labels, kind="stable")
    first = np.searchsorted(split.labels[by_class], np.arange(len(split.classes)))
    round_ = np.arange(len(split)) - first[split.labels[by_class]]  # an image's number within its class
    labels = split.labels[by_class]
    present = np.unique(labels)
    wanted = present[np.linspace(0, len(present) - 1, min(count, len(present))).astype(np.int64)]
    pool = np.flatnonzero(np.isin(labels, wanted))
    order = pool[np.lexsort((labels[pool], round_[pool]))][:count]
    return by_class[order[np.lexsort((round_[order], labels[order]))]]


def views(config: ConfigDict, split: Split, places: np.ndarray, number: int = VIEWS, seed: int = 0) -> np.ndarray:
    """uint8 [images, number, crop, crop, 1 or 3]: what the network is given in `number` steps, made visible.

    On the 0–255 scale: `augment.divide` undone and the mean colour of the training images added; what leaves the scale
    is cut off.

    Args:
      split: of training. places: of the images within it.
    """
    import jax
    import jax.numpy as jnp

    from alexnet_jax import numerics
    from alexnet_jax.training import augment, optim

    consts = augment.constants(config, split.statistics())
    noise = optim.noise_amount(config, 0.0)
    images = split.read(places)

    @jax.jit
    def step(images, key):
        rows = jnp.arange(len(places), dtype=jnp.int32)
        return augment.training_views(images, key, rows, jnp.float32(noise), consts, config)

    with numerics.pinned(config.train.precision):
        key = numerics.key(seed)
        seen = np.stack([np.asarray(step(images, jax.random.fold_in(key, i))) for i in range(number)], axis=1)
    divide = np.asarray(config.augment.divide or 1.0, np.float32)
    visible = seen * divide + np.mean(consts.mean, axis=(0, 1))
    return np.clip(visible + 0.5, 0, 255).astype(np.uint8)


def draw(config: ConfigDict, split: Split, file: pathlib.Path) -> None:
    """Writes the picture.

    Args:
      config: resolved. split: of training. file: of which `paths.output` approves.
    """
    environment.prepare_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from alexnet_jax.inspect.lettering import Letters

    places = chosen(split)
    stored, seen = split.read(places), views(config, split, places)
    down = -(-len(places) // _COLUMNS)
    pitch, row = _THUMB + _GAP, _THUMB + _LINE + 2 * _GAP
    block = pitch * (1 + VIEWS) + 3 * _GAP
    width, height = _COLUMNS * block + _GAP, down * row + 2 * _LINE + _GAP
    labels = [_label(split, int(place)) for place in places]
    title = _title(config, split)
    letters = Letters([title, *labels])
    with letters.style({"svg.hashsalt": "alexnet"}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)

        def text(x, y, line, size, room):
            figure.text(x / width, y / height, letters.fitted(line, room, size), fontsize=size, va="bottom",
                        color="#222222")

        def picture(x, y, image):
            axes = figure.add_axes((x / width, y / height, _THUMB / width, _THUMB / height))
            axes.set_axis_off()
            grey = image.shape[-1] == 1
            axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255,
                        interpolation="nearest")

        text(2 * _GAP, height - 1.6 * _LINE, f"{title}. {letters.note}".rstrip(". "), 8, width - 4 * _GAP)
        for i, label in enumerate(labels):
            x, y = (i // down) * block + 2 * _GAP, height - 2 * _LINE - (i % down + 1) * row + _GAP
            text(x, y + _THUMB + 0.03, label, 7, block - 4 * _GAP)
            for j, image in enumerate((stored[i], *seen[i])):
                picture(x + j * pitch + (_GAP if j else 0), y, image)
        figure.savefig(file, dpi=_DOTS, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)


def _title(config: ConfigDict, split: Split) -> str:
    size, crop, augment = config.data.size, config.data.crop, config.augment
    kinds = [f"{crop}×{crop} crops" if augment.crop_offsets != 1 else f"the centre {crop}×{crop}"]
    kinds += ["mirrored half of the time"] * augment.mirror + ["grey"] * augment.grey
    kinds += [f"both alike for {augment.chunk} images"] * (augment.chunk > 1)
    kinds += ["with colour noise"] * bool(augment.pca.amount)
    what = f"{short(config.data.name, 60)}, {short(split.split, 60)}"
    return (f"{what}: each image as it is stored ({size}×{size}), then as the network is given it in {VIEWS} steps "
            f"({', '.join(kinds)})")


def _label(split: Split, place: int) -> str:
    return f"{short(split.classes[split.labels[place]], 45)}  —  {name_of(split, place, 45)}"
