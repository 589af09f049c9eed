"""The errors of runs' checkpoints, counted again, on the images that they report on or on others.

    python -m alexnet_jax.evaluate runs/one                          # on the images that the run reports on
    python -m alexnet_jax.evaluate runs/one --split=train[:1000]     # or on others, of its dataset or another
    python -m alexnet_jax.evaluate runs/one --record                 # adds the five views that an old result lacks

Counted are the views that the run counts at its end, by its newest checkpoint, on one device.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax import commands, environment, names, run_files
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import evaluate
from alexnet_jax.training import result as result_lib
from alexnet_jax.training import views as views_lib
from alexnet_jax.training import workdir as workdir_lib


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser("alexnet_jax.evaluate", __doc__)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--data", default="", help="another dataset than the run's, as config.data.name")
    parser.add_argument("--split", default="", help="images to count on (default: those that the run reports on)")
    parser.add_argument("--record", action="store_true", help="add five views to a finished run's result that has none")
    options = parser.parse_args(argv)
    if options.record and (options.data or options.split):
        raise ConfigError("--record: a result is of the images that the run reports on; leave out --data and --split")
    for folder in options.runs:
        network = Trained(folder)
        split = network.open(options.split or network.config.data.eval_split, options.data,
                             where="--split" if options.split else "config.data.eval_split")
        counts, outcomes = {}, {}
        for views in views_lib.counted(network.config):
            seen: list[np.ndarray] = []
            counts[views] = evaluate.evaluate(network.program, network.params, network.consts, split, views,
                                              outcomes=seen.append)
            outcomes[views] = run_files.packed_outcomes(np.concatenate(seen))
        classes = run_files.classes_of(network.about) or network.classes
        told = "; ".join([result_lib.in_words(views, counts[views], classes) for views in counts]
                         + [f"note: {line}" for line in network.about_data(split)])
        names.say(f"{folder}: step {network.step:,}, {split.name} {split.split}: error {told}")
        if options.record:
            with workdir_lib.lock(folder):
                names.say(f"{folder}: {result_lib.add_five_views(folder, counts, outcomes)}")
    return 0


if __name__ == "__main__":
    environment.prepare_xla()  # as the runs were computed
    commands.run_main(main)
