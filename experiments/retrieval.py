"""The paper's figure 4: some images' most probable classes, and their nearest neighbours by the last hidden layer.

    python -m experiments.retrieval runs/one
    python -m experiments.retrieval --workdir=runs/cifar --arm=baseline --record=experiments/results/retrieval

Draws `retrieval.png` for the first run, and gives over all runs the fraction of neighbours (`--neighbours`, six as in
the paper) of the query's class: by the last hidden layer, by raw pixels, by chance. Queries are reported images,
neighbours come from the training images; `--data`, `--queries` and `--gallery` choose others, of any dataset.
`retrieval.json` has the numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_jax import commands, environment, names, run_files
from alexnet_jax.data import Split, duplicates
from alexnet_jax.errors import ConfigError
from alexnet_jax.training import augment
from experiments import recording
from experiments.analysis import neighbours, selection, statistics, verdicts

if TYPE_CHECKING:
    from alexnet_jax.inspect.trained import Trained


def limited(split: Split, most: int) -> Split:
    """The split itself, or its first `most` images."""
    return split if len(split) <= most else split.part(slice(0, most))


def pixels(split: Split, config: Any) -> np.ndarray:
    """float32 [images, values], 0–255: the centre crops, as the network sees them."""
    y, x, _ = augment.centre_view(config)[0]
    crop = config.data.crop
    return np.asarray(split.images[:, y : y + crop, x : x + crop], np.float32).reshape(len(split), -1)


def chosen(text: str, images: int) -> list[int]:
    """The images to draw: '8' for eight evenly spread ones, '3,14,15' for these. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError(f"--images={text}: write how many (8) or which (3,14,15)")
    numbers = [int(part) for part in parts]
    if len(numbers) == 1 and "," not in text:
        if not 1 <= numbers[0] <= min(12, images):
            raise ConfigError(f"--images={text}: between 1 and {min(12, images)} can be drawn")
        return [int(i) for i in np.linspace(0, images - 1, numbers[0]).round()]
    if max(numbers) >= images or len(numbers) > 12:
        raise ConfigError(f"--images={text}: at most twelve, each below {images}, the number of queries")
    return numbers


def opened(network: Trained, options: argparse.Namespace) -> tuple[Split, Split]:
    """(queries, gallery) of the options, labelled by their common classes. Raises ConfigError, DataError."""
    d = network.config.data
    # Only the neighbours' labels are compared, so another dataset may have other classes than the network.
    named = {"--queries" if options.queries else "config.data.eval_split": options.queries or d.eval_split,
             "--gallery" if options.gallery else "config.data.train_split": options.gallery or d.train_split}
    queries, gallery = (limited(network.open(text, options.data, bool(options.data), where), options.most)
                        for where, text in named.items())
    both = queries.known.extended(gallery.known)
    queries, gallery = queries.of(both), gallery.of(both)
    if queries.overlap(gallery):
        raise ConfigError(f"--gallery: {queries.overlap(gallery):,} images are queries too, and each its own "
                          "nearest neighbour; name another split")
    return queries, gallery


def notes_on(network: Trained, queries: Split, gallery: Split) -> list[str]:
    """Which queries make the numbers misleading: duplicates of gallery images, and training images."""
    notes = []
    if again := duplicates.between(gallery, queries):
        notes.append(f"{again:,} of the {len(queries):,} queries are in the gallery too (the same pixels), each "
                     "its own nearest neighbour")
    if learnt := network.learnt_too(queries):
        notes.append(f"{learnt:,} of the {len(queries):,} queries were learnt from")
    return notes


def look(network: Trained, queries: Split, gallery: Split, count: int) -> dict[str, Any]:
    """The neighbours by both distances, and each query's fraction of the same class."""
    if len(gallery) < count:
        raise ConfigError(f"--neighbours={count}: the gallery has {len(gallery)} images")
    hidden = network.hidden(queries)
    nearest = {"hidden": neighbours.nearest(hidden, network.hidden(gallery), count),
             "pixels": neighbours.nearest(pixels(queries, network.config), pixels(gallery, network.config), count)}
    fractions = {k: neighbours.same_class(queries.labels, gallery.labels, rows) for k, rows in nearest.items()}
    return {"rows": nearest, "units": hidden.shape[1], "fractions": fractions}


def main(argv: Sequence[str] | None = None) -> int:
    parser = selection.parser("experiments.retrieval", __doc__)
    parser.add_argument("--data", default="", help="another dataset than the run's, as config.data.name")
    parser.add_argument("--queries", default="", help="split of the queries (default: the run's eval_split)")
    parser.add_argument("--gallery", default="", help="split of the neighbours (default: the run's train_split)")
    parser.add_argument("--most", type=commands.whole_number, default=10_000, help="images of either split, at most")
    parser.add_argument("--neighbours", type=commands.whole_number, default=6)
    parser.add_argument("--images", default="8", help="to draw: how many, or which (3,14,15)")
    options = parser.parse_args(argv)
    sweep = selection.sweep_of(options)
    arm = selection.arm_of(sweep, options.arm)
    runs, folder = selection.finished(arm), selection.place(options)
    from alexnet_jax.inspect.trained import Trained  # imports JAX
    from experiments.figures import retrieval as retrieval_figure
    from experiments.figures import style

    rows: list[dict[str, Any]] = []
    for number, run in enumerate(runs):
        network = Trained(run.folder)
        queries, gallery = opened(network, options)
        notes = notes_on(network, queries, gallery)
        for line in notes:
            print(f"note: {line}")
        seen = look(network, queries, gallery, options.neighbours)
        mean = {k: float(v.mean()) for k, v in seen["fractions"].items()}
        by_image = statistics.estimate(list(seen["fractions"]["hidden"] - seen["fractions"]["pixels"]))
        rows.append({"run": run.id, "seed": run.seed, **mean,
                     "chance": neighbours.chance(queries.labels, gallery.labels)})
        names.say(f"{run.folder.name}: of the {options.neighbours} nearest of {len(gallery):,} images, same class: "
              f"{mean['hidden']:.1%} by the last hidden layer, {mean['pixels']:.1%} by pixels, "
              f"{rows[-1]['chance']:.1%} by chance ({len(queries):,} queries)")
        if number == 0:
            drawn = chosen(options.images, len(queries))
            own = queries.part(drawn)
            style.save(retrieval_figure.draw(own, np.exp(network.log_probs(own)), network.known.names, gallery,
                                             seen["rows"]["hidden"][drawn], f"{run.folder.name}, {queries.name} "
                                             f"{queries.split}, step {network.step:,}"), folder / "retrieval.png")
            print(folder / "retrieval.png")
    # The interval is over runs if there are several, else over images.
    difference = by_image if len(rows) == 1 else statistics.estimate([r["hidden"] - r["pixels"] for r in rows])
    assert difference.mean is not None
    interval = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    verdict = verdicts.neighbours(difference)
    hidden, by_pixels = (np.mean([row[key] for row in rows]) for key in ("hidden", "pixels"))
    text = (f"{hidden:.1%} of {options.neighbours} nearest neighbours among {len(gallery):,} images of the same class "
            f"by the {seen['units']}-d layer, {by_pixels:.1%} by pixels, {rows[0]['chance']:.1%} by chance; hidden "
            f"less pixels {difference.mean:+.3f}{interval}" + "".join(f"; {line}" for line in notes))
    print(f"{text}, over {'runs' if len(rows) > 1 else 'images'}. {verdict.word}: {verdict.why}")
    tree: dict[str, Any] = {"schema": 1, "neighbours": options.neighbours, "queries": [queries.split, len(queries)],
                            "gallery": [gallery.split, len(gallery)], "dataset": queries.name, "runs": rows,
                            **({"notes": notes} if notes else {})}
    path = folder / "retrieval.json"
    if options.record is not None:
        about, hours = recording.about(selection.only(sweep, arm, runs),
                                       selection.command("experiments.retrieval", argv))
        about |= {"dataset": f"{queries.name} {queries.version}", "eval_split": queries.split}
        path = recording.write_claim(folder, "retrieval", "retrieval", recording.Measured(
            text, difference.mean, difference.low, difference.high, "fraction", len(rows)), verdict, about, hours)
        tree = (run_files.read_json(path) or {}) | {"retrieval": tree}
    run_files.write_json(path, tree)
    print(path, file=sys.stdout)
    return 0


if __name__ == "__main__":
    environment.prepare_xla()  # the same settings as in training
    commands.run_main(main)
