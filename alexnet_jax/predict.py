"""A trained network's predictions for photographs: the five most probable classes of each.

    python -m alexnet_jax.predict --workdir=runs/one photo.jpg folder/
    python -m alexnet_jax.predict --workdir=runs/one --json folder/ > guesses.json
    python -m alexnet_jax.predict --workdir=runs/one --picture=guesses.png folder/

Images may have any size and are decoded like those that the network was trained on. Probabilities are averaged over the
views of the run's headline error; --views names others. Images that can't be read are named on stderr; the others are
predicted, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from alexnet_jax import commands, environment, errors, names, paths, run_files
from alexnet_jax.data import Classes
from alexnet_jax.data.readers import formats, photographs
from alexnet_jax.errors import CheckpointError
from alexnet_jax.inspect import figure4
from alexnet_jax.inspect.figure4 import Guess
from alexnet_jax.training import views as views_lib

GUESSES = 5


def guesses(log_probs: np.ndarray, known: Classes, count: int = GUESSES) -> list[Guess]:
    """The most probable classes of one image, fewer where there are fewer; of equal ones the lower first.

    Args:
      log_probs: [outputs]. known: the classes of the outputs; there may be outputs beyond them.

    Raises:
      CheckpointError: they are not finite.
    """
    if not np.isfinite(log_probs.max()):
        raise CheckpointError("the network's outputs are not finite; its training has diverged, or its weights are "
                              "damaged")
    shown = known.told_apart()
    best = np.argsort(-log_probs, kind="stable")[:count].tolist()
    named = [(known.keys[i], shown[i]) if i < len(known) else (f"output {i}", f"output {i}") for i in best]
    return [Guess(key, name, float(np.exp(log_probs[i]))) for i, (key, name) in zip(best, named, strict=True)]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("alexnet_jax.predict", __doc__)
    parser.add_argument("images", nargs="*", type=pathlib.Path, metavar="IMAGE", help="image files, folders of them")
    parser.add_workdir("RUN", "the run's folder", among="images")
    parser.add_argument("--views", choices=tuple(views_lib.NAMES), help="default: five_view for a run that never "
                        "mirrors, else ten_view")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--picture", default="", metavar="FILE", help="draw them like the paper's figure 4")
    options = parser.parse_args(argv)
    if not options.images:
        parser.error("IMAGE is needed: image files, or folders that hold some")
    return options


def prepare(workdir: pathlib.Path) -> None:
    """Prepares the environment for the run in this folder, unless JAX has already started."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large, and read all the same
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of how palettes are best converted
    if "jax" not in sys.modules:
        config = (run_files.read_json(workdir / "run.json") or {}).get("config") or {}
        environment.prepare((config.get("train") or {}).get("precision", "float32"))


def tell(name: str, reason: str) -> None:
    """The line about an image that can't be read."""
    print(names.plain(f"error: {name}: {reason}"), file=sys.stderr, flush=True)


def found(paths: Sequence[pathlib.Path]) -> photographs.Found:
    """`photographs.find`, with a line for what can't be read. Raises DataError: nothing is left."""
    there = photographs.find(paths)
    if not there.files:
        raise photographs.nothing(there)
    if there.left_out:
        print(f"note: left out of the folders: {names.plain(formats.words(there.left_out))}", file=sys.stderr)
    for name, reason in there.refused:
        tell(name, reason)
    return there


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    picture = paths.output(options.picture, "--picture") if options.picture else None
    there = found(options.images)
    prepare(options.workdir)
    from alexnet_jax.inspect.trained import Trained, batch_of

    network = Trained(options.workdir)
    views = options.views or views_lib.headline(dict.fromkeys(views_lib.counted(network.config), True))
    known = network.known
    network.consts  # noqa: B018  # fails before an image is decoded if something is missing
    refused = list(there.refused)
    told: list[dict[str, Any]] = []
    drawn: list[tuple[str, np.ndarray, list[Guess]]] = []
    if not options.json:
        names.say(f"{options.workdir}: step {network.step:,}, {views_lib.NAMES[views]}")
    batch = batch_of(len(there.files), network.config.train.batch_size)
    for some in _batches(photographs.decoded(there.files, network.config.data), batch, refused):
        log_probs = network.log_probs(np.stack([image for _, image in some]), views, batch=batch)
        for (name, image), values in zip(some, log_probs, strict=True):
            best = guesses(values, known)
            if options.json:
                told.append({"file": name, "top": [guess._asdict() for guess in best]})
            else:
                _show(name, best)
            if picture and len(drawn) < figure4.MOST:
                drawn.append((name, image, best))
    if options.json:
        print(json.dumps({"run": str(options.workdir), "step": network.step, "views": views, "images": told,
                          "refused": [{"file": name, "reason": reason} for name, reason in refused]}, indent=1))
    if picture and drawn:
        title = f"{options.workdir.absolute().name}, {views_lib.NAMES[views]}"  # no folders of this machine
        figure4.draw(drawn, title, len(there.files) - len(refused), picture)
    return errors.RUN if refused else 0


def _batches(decoded: Iterator[tuple[str, np.ndarray | str]], size: int, refused: list[tuple[str, str]]
             ) -> Iterator[list[tuple[str, Any]]]:
    """The images, `size` at a time. What can't be read is told and added to `refused`."""
    def images():
        for name, item in decoded:
            if isinstance(item, str):
                tell(name, item)
                refused.append((name, item))
            else:
                yield name, item

    readable = images()
    while some := list(itertools.islice(readable, size)):
        yield some


def _show(name: str, best: Sequence[Guess]) -> None:
    names.say(name)
    for guess in best:
        names.say(f"  {guess.probability:6.1%}  {guess.name}")


if __name__ == "__main__":
    commands.run_main(main)
