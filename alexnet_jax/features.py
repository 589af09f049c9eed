"""Writes the output of a trained network's layer for images, of a dataset's split or of photographs, to a file.

    python -m alexnet_jax.features --workdir=runs/one --layer=conv5 --split=val --out=conv5.npz
    python -m alexnet_jax.features --workdir=runs/one --layer=fc7 --data=image_folder:pets --split=train --out=fc7.npz
    python -m alexnet_jax.features --workdir=runs/one --layer=conv5 --out=mine.safetensors photo.jpg folder/

Of each image's centre crop, after all that belongs to the layer (`Trained.features`). In the file:

    features    float32 [n, h, w, channels] of a convolution, [n, units] of a dense layer
    names       [n] files; "" where the dataset has none
    labels      int32 [n], positions in class_keys; class_keys, class_names: what identifies the dataset's classes, and
                what they are called. Of photographs: no labels.
    layer, run, step, images    where the features are from

In .npz all are arrays (no pickles); in .safetensors features and labels are tensors, the others metadata in JSON.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import commands, errors, files, paths, predict
from alexnet_jax import names as names_lib
from alexnet_jax.data import Split
from alexnet_jax.data.readers import photographs
from alexnet_jax.errors import ConfigError

FORMATS = (".npz", ".safetensors")


def of_split(split: Split) -> dict[str, Any]:
    """names, labels, class_keys and class_names of a split, as the file has them."""
    return {"names": split.names_of(np.arange(len(split))), "labels": np.asarray(split.labels, np.int32),
            "class_keys": list(split.class_keys), "class_names": list(split.classes)}


def write(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes arrays, lists of texts, texts and numbers in one move, in the format of the name's ending."""
    arrays = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
    with files.replacing(path) as temporary, temporary.open("wb") as out:
        if path.suffix.lower() == ".npz":
            np.savez(out, **{key: np.asarray(value) for key, value in content.items()})  # type: ignore[arg-type]
        else:
            from safetensors.numpy import save

            texts = {key: json.dumps(value) for key, value in content.items() if key not in arrays}
            out.write(save({key: np.ascontiguousarray(value) for key, value in arrays.items()}, metadata=texts))


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser("alexnet_jax.features", __doc__)
    parser.add_argument("images", nargs="*", type=pathlib.Path, metavar="IMAGE", help="image files, folders of them")
    parser.add_workdir("RUN", "the run's folder", among="images")
    parser.add_argument("--layer", required=True, help="conv1 … conv5, fc6, fc7, or fc8: the logits")
    parser.add_argument("--data", default="", help="another dataset than the run's, as config.data.name")
    parser.add_argument("--split", default="", help="its images (default: those that the run reports on)")
    parser.add_argument("--out", required=True, metavar="FILE", help=" or ".join(FORMATS))
    options = parser.parse_args(argv)
    if options.images and (options.data or options.split):
        raise ConfigError(f"{options.images[0]}: give image files, or a dataset by --data and --split, not both")
    out = paths.output(options.out, "--out", FORMATS)
    there = predict.found(options.images) if options.images else None
    predict.prepare(options.workdir)
    from alexnet_jax.inspect.trained import Trained

    network = Trained(options.workdir)
    if options.layer not in network.layers:
        raise ConfigError(f"--layer={options.layer}: this network has {', '.join(network.layers)}")
    network.consts  # noqa: B018  # what is lacking is said before an image is decoded
    refused: list[tuple[str, str]] = []
    images: Any
    if there is not None:
        photos = photographs.decode_found(there, network.config.data)
        refused, about = photos.refused, {"names": photos.names}
        for name, reason in refused[len(there.refused):]:
            predict.tell(name, reason)
        what, images = f"{len(photos.images):,} photographs", photos.images
    else:
        # Nothing is compared with the network's outputs: images of another dataset may be of classes of their own.
        split = network.open(options.split or network.config.data.eval_split, options.data, own=bool(options.data),
                             where="--split" if options.split else "config.data.eval_split")
        about, what, images = of_split(split), f"{split.name} {split.split}", split
        if split.store.names is None:
            print(f"note: {names_lib.plain(split.name)}: these packed images have no file names",
                  file=sys.stderr)
    found = network.features(options.layer, images)
    write(out, {"features": found, **about, "layer": options.layer, "run": str(options.workdir), "step": network.step,
                "images": what})
    names_lib.say(f"{out}: {options.layer} of {what}, float32 {list(found.shape)}")
    return errors.RUN if refused else 0


if __name__ == "__main__":
    commands.run_main(main)
