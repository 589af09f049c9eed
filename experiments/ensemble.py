"""Averages several trained networks: the error of each, and of the mean of their softmax outputs.

    python -m experiments.ensemble runs/one runs/two runs/three
    python -m experiments.ensemble --workdir=runs/cifar --arm=baseline

The paper's table 2 averages five networks (40.7% → 38.1% top-1) and seven. Here: every number of networks, over all
subsets of that size (or `--subsets` random ones), on the runs' reported images, by ten views (five if no run mirrors in
training). `ensemble.json` has the counts of wrong images; `--record` adds the claim.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import commands, environment, run_files
from alexnet_jax.data.classes import missing, named
from alexnet_jax.errors import ConfigError
from alexnet_jax.training import views as views_lib
from experiments import recording
from experiments.analysis import selection, statistics, verdicts

MANY = 5  # the paper's first ensemble: claim 2012-5
PAPER = (-2.6, -1.8)  # table 2: 40.7/18.2 → 38.1/16.4


def subsets(members: int, size: int, most: int, seed: int = 0) -> list[tuple[int, ...]]:
    """All subsets of `size` members, or `most` distinct random ones."""
    if math.comb(members, size) <= most:
        return list(itertools.combinations(range(members), size))
    rng = np.random.default_rng((seed, size))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < most:
        drawn.add(tuple(sorted(map(int, rng.choice(members, size, replace=False)))))
    return sorted(drawn)


def wrong(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool [2, images]: top-1 wrong, top-5 wrong."""
    import jax.numpy as jnp  # imported late: the checks before don't need JAX

    from alexnet_jax.training.program import count_mistakes

    outcome = np.asarray(count_mistakes(jnp.asarray(log_probs), jnp.asarray(labels), jnp.ones(len(labels))).outcome)
    return np.stack([outcome >= 1, outcome >= 2])


def mean(log_probs: np.ndarray) -> np.ndarray:
    """log of the mean of probabilities: [networks, images, classes] → [images, classes], float32."""
    return np.log(np.exp(log_probs.astype(np.float64)).mean(axis=0)).astype(np.float32)


def by_size(log_probs: np.ndarray, labels: np.ndarray, most: int) -> list[dict[str, Any]]:
    """One row per number of networks: its subsets, their counts of wrong images, and the mean, min and max of these."""
    rows = []
    for size in range(1, len(log_probs) + 1):
        chosen = subsets(len(log_probs), size, most)
        counts = [[int(n) for n in wrong(mean(log_probs[list(s)]), labels).sum(axis=1)] for s in chosen]
        rows.append({"networks": size, "subsets": [list(s) for s in chosen],
                     "top1_wrong": [c[0] for c in counts], "top5_wrong": [c[1] for c in counts]})
    return rows


def gain(log_probs: np.ndarray, labels: np.ndarray) -> list[statistics.Estimate]:
    """Top-1 and top-5 error of the average of all minus the mean error of the single networks, in points.

    The interval is over images (one difference each), for these networks; it doesn't cover the choice of networks.
    """
    together = wrong(mean(log_probs), labels).astype(float)
    alone = np.mean([wrong(one, labels) for one in log_probs], axis=0)
    return [statistics.estimate(list(100 * d)) for d in together - alone]


def table(rows: Sequence[dict[str, Any]], total: int, top5: bool = True) -> str:
    """One line per number of networks. `top5`: is that error meaningful?"""
    lines = ["networks  subsets  top-1 error (lowest to highest)" + "   top-5 error" * top5]
    for row in rows:
        one, five = (100 * np.asarray(row[key]) / total for key in ("top1_wrong", "top5_wrong"))
        lines.append(f"{row['networks']:8d}{len(row['subsets']):9d}  {one.mean():6.2f}% ({one.min():.2f} to "
                     f"{one.max():.2f})" + f"          {five.mean():6.2f}%" * top5)
    return "\n".join(lines)


def predict(runs, split_text: str, views: str, say) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(log probabilities [networks, images, classes], labels, what makes the errors misleading), on the same images.

    Classes are in the order of the first network's.

    Raises:
      ConfigError: the networks' reported images or classes differ.
    """
    from alexnet_jax.inspect.trained import Trained  # imports JAX

    networks = [Trained(run.folder) for run in runs]
    first = networks[0]
    text = split_text or first.config.data.eval_split
    for other in networks[1:]:
        for name in ("name", *(() if split_text else ("eval_split",))):
            if other.config.data[name] != first.config.data[name]:
                raise ConfigError(f"{other.folder}: config.data.{name} is {other.config.data[name]!r} there and "
                                  f"{first.config.data[name]!r} in {first.folder}; averaging needs the same images"
                                  + ("" if name == "name" else " (--split=… chooses them for all)"))
        if other.classes != first.classes:
            raise ConfigError(f"{other.folder}: {other.classes} classes there, {first.classes} in {first.folder}")
        strange = missing(first.known.keys, other.known.keys), missing(other.known.keys, first.known.keys)
        if any(strange):
            raise ConfigError(f"{other.folder}: its classes differ from those of {first.folder} (only in the former: "
                              f"{named(strange[0]) or 'none'}; only in the latter: {named(strange[1]) or 'none'})")
    where = "--split" if split_text else "config.data.eval_split"
    log_probs, images = [], first.open(text, where=where)
    notes: dict[str, list[str]] = {}
    for number, network in enumerate(networks, start=1):
        own = network.open(text, where=where)
        if own.store.folder != images.store.folder or not np.array_equal(own.rows, images.rows):
            raise ConfigError(f"{network.folder}: '{text}' has other images there than in {first.folder} "
                              "(config.data.order, val_fraction, val_seed, size or another version)")
        for line in network.about_data(own):
            notes.setdefault(line, []).append(network.folder.name)
            say(f"{network.folder.name}: note: {line}")
        # Outputs in the order of the first network's classes, followed by outputs without a class.
        places = [*network.known.places(first.known.keys), *range(len(network.known), network.classes)]
        log_probs.append(network.log_probs(own, views)[:, places])
        say(f"{number} of {len(networks)}: {network.folder.name}, step {network.step}")
    return np.stack(log_probs), images.labels, [
        line if len(of) == len(networks) else f"{line} (by {', '.join(of)})" for line, of in notes.items()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = selection.parser("experiments.ensemble", __doc__)
    parser.add_argument("--views", choices=list(views_lib.NAMES),
                        help="default: five views if no run's training mirrors, else ten")
    parser.add_argument("--split", default="", help="images to count on (default: those that the runs report on)")
    parser.add_argument("--subsets", type=commands.whole_number, default=100, help="of one size, at most")
    options = parser.parse_args(argv)
    sweep = selection.sweep_of(options)
    arm = selection.arm_of(sweep, options.arm)
    runs = selection.finished(arm)
    if len(runs) < 2:
        raise ConfigError(f"{arm.name}: only one finished run; averaging needs at least two")
    folder = selection.place(options)
    views = options.views or views_lib.shared((run.config, None) for run in runs)  # None: counted here, not recorded
    log_probs, labels, notes = predict(runs, options.split, views, lambda line: print(line, file=sys.stderr))
    rows = by_size(log_probs, labels, options.subsets)
    gains = gain(log_probs, labels)
    top5 = all(run.tells_top5 for run in runs) and run_files.tells_top5(log_probs.shape[-1])
    print(table(rows, len(labels), top5))
    words = ["(no interval)" if e.low is None else f"[{e.low:+.2f}, {e.high:+.2f}]" for e in gains]
    fives = f", {gains[1].mean:+.2f} {words[1]} top-5" if top5 else ""
    text = f"{gains[0].mean:+.2f} {words[0]} points top-1{fives}, average of {len(runs)} against one".replace("-", "−")
    text = text.replace("top−", "top-") + f"; interval over {len(labels):,} images"
    text += "" if views == views_lib.TEN else f"; {views_lib.NAMES[views]}"
    text += "".join(f"; {line}" for line in notes)
    print(f"{text}. The paper: 40.7/18.2 → 38.1/16.4 with {MANY}")
    about, hours = recording.about(selection.only(sweep, arm, runs), selection.command("experiments.ensemble", argv),
                                   views)
    about["eval_split"] = options.split or about["eval_split"]
    tree = {"schema": 1, "views": views, "total": len(labels), "runs": [run.id for run in runs], "sizes": rows,
            **({"notes": notes} if notes else {})}
    path = folder / "ensemble.json"
    if options.record is not None:
        verdict = verdicts.averages(gains[0], len(runs), PAPER[0])
        path = recording.write_claim(folder, "ensemble", "2012-5", recording.Measured(
            text, gains[0].mean, gains[0].low, gains[0].high, "points", len(runs)),
            verdict, about, hours)
        tree = (run_files.read_json(path) or {}) | {"ensemble": tree}
    run_files.write_json(path, tree)
    print(path)
    return 0


if __name__ == "__main__":
    environment.prepare_xla()  # the same settings as in training
    commands.run_main(main)
