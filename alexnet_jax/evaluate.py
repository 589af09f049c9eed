"""Counts the errors of runs' checkpoints again, on their reported images or on others, and shows their mistakes.

    python -m alexnet_jax.evaluate runs/one                          # on the images that the run reports on
    python -m alexnet_jax.evaluate runs/one --split=train[:1000]     # or on others, of its dataset or another
    python -m alexnet_jax.evaluate runs/one --data=image_folder:pets --split=val --sheet=worst.png
    python -m alexnet_jax.evaluate runs/one --confusion=pets.csv --json > pets.json
    python -m alexnet_jax.evaluate runs/one --record                 # adds the five views that an old result lacks

Uses the newest checkpoint, on one device, and the same views as at the end of the run. For a single run it then shows,
by the views of the headline error, the classes with the largest error, the confusion matrix if there are few classes,
and the worst mistakes with their file names; with several runs, --worst=0 or --record it prints one line each.

--json prints one document and nothing else: 'runs', and of each 'run', 'step', 'data', 'split', 'counts' by their
views, 'notes', 'views' (those of what follows), 'classes' and 'worst' (alexnet_jax.inspect.mistakes.tree).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import commands, environment, names, paths, run_files
from alexnet_jax.data import Split
from alexnet_jax.errors import ConfigError, WorkdirError
from alexnet_jax.inspect import mistakes
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import evaluate
from alexnet_jax.training import result as result_lib
from alexnet_jax.training import views as views_lib
from alexnet_jax.training import workdir as workdir_lib

WORST = 12


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("alexnet_jax.evaluate", __doc__)
    parser.add_argument("runs", nargs="*", type=pathlib.Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--workdir", type=pathlib.Path, action="append", default=[], metavar="RUN",
                        help="the same as RUN")
    parser.add_argument("--data", default="", help="another dataset than the run's, as config.data.name")
    parser.add_argument("--split", default="", help="images to count on (default: those that the run reports on)")
    parser.add_argument("--worst", type=int, metavar="N", help=f"how many of the worst mistakes (default: {WORST})")
    parser.add_argument("--sheet", default="", metavar="FILE", help="draw them, with their right and given classes")
    parser.add_argument("--confusion", default="", metavar="FILE", help="write errors by class and the confusion "
                        "matrix as .csv")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the text")
    parser.add_argument("--record", action="store_true", help="add five views to a finished run's result that has none")
    options = parser.parse_args(argv)
    options.runs += options.workdir
    if not options.runs:
        parser.error("RUN is needed: the run's folder")
    if options.record and (options.data or options.split):
        raise ConfigError("--record: a result covers the images that the run reports on; leave out --data and --split")
    for name in ("sheet", "confusion"):
        if getattr(options, name) and (options.record or len(options.runs) > 1):
            raise ConfigError(f"--{name}: needs exactly one run and no --record; given: "
                              + ("--record" if options.record else f"{len(options.runs)} runs"))
    if options.record and options.json:
        raise ConfigError("--json: has no document to print with --record; leave out one of them")
    if options.worst is not None and options.worst < 0:
        raise ConfigError(f"--worst={options.worst}: is below 0")
    if options.sheet and options.worst == 0:
        raise ConfigError("--worst=0: leaves nothing for --sheet to draw")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    sheet = paths.output(options.sheet, "--sheet") if options.sheet else None
    confusion = paths.output(options.confusion, "--confusion", (".csv",)) if options.confusion else None
    worst = WORST if options.worst is None else options.worst
    detailed = bool(options.json or sheet or confusion or (len(options.runs) == 1 and worst and not options.record))
    documents = []
    for folder in options.runs:
        network = Trained(folder)
        if options.record and network.otherwise:
            raise WorkdirError(f"{folder}: this run was made in another environment: "
                               f"{'; '.join(network.otherwise[:3])}; set it as it was to add to its result")
        split = network.open(options.split or network.config.data.eval_split, options.data,
                             where="--split" if options.split else "config.data.eval_split")
        answers = mistakes.Answers(split, network.classes) if detailed else None
        counts, outcomes = _counted(network, split, answers)
        notes = network.about_data(split)
        if answers is not None and not answers.finite:
            notes.append("the network's outputs are not finite, so its mistakes cannot be ranked")
        if options.json:
            documents.append(_tree(network, split, counts, notes, answers, worst))
        else:
            classes = run_files.classes_of(network.about) or network.classes
            words = "; ".join([result_lib.in_words(views, counts[views], classes) for views in counts]
                              + [f"note: {line}" for line in notes])
            names.say(f"{folder}: step {network.step:,}, {split.name} {split.split}: error {words}")
        if options.record:
            with workdir_lib.lock(folder):
                names.say(f"{folder}: {result_lib.add_five_views(folder, counts, outcomes)}")
        if answers is not None and answers.finite:
            if not options.json and worst:
                print(f"\nby the {views_lib.NAMES[_told_by(network)]}:")
                for line in mistakes.lines(answers, worst):
                    names.say(line)
            _write(network, answers, worst, sheet, confusion)
    if options.json:
        print(json.dumps({"runs": documents}, indent=1))
    return 0


def _told_by(network: Trained) -> str:
    """The views of the run's headline error."""
    return views_lib.headline(dict.fromkeys(views_lib.counted(network.config), True))


def _counted(network: Trained, split: Split, answers: mistakes.Answers | None
             ) -> tuple[dict[str, dict], dict[str, Any]]:
    """(counts, packed outcomes) by their views; `answers` takes those of the views by which the run is told."""
    counts, outcomes = {}, {}
    for views in views_lib.counted(network.config):
        seen: list[np.ndarray] = []
        taker = answers.add if answers is not None and views == _told_by(network) else None
        counts[views] = evaluate.evaluate(network.program, network.params, network.consts, split, views,
                                          outcomes=seen.append, answers=taker)
        outcomes[views] = run_files.packed_outcomes(np.concatenate(seen))
    return counts, outcomes


def _tree(network: Trained, split: Split, counts: dict[str, dict], notes: list[str],
          answers: mistakes.Answers | None, worst: int) -> dict[str, Any]:
    about = {"run": str(network.folder), "step": network.step, "data": split.name, "split": split.split,
             "counts": {views: {key: value if np.isfinite(value) else None for key, value in found.items()}
                        for views, found in counts.items()}, "notes": notes, "views": _told_by(network)}
    return about | (mistakes.tree(answers, worst) if answers is not None and answers.finite else {})


def _write(network: Trained, answers: mistakes.Answers, worst: int, sheet: pathlib.Path | None,
           confusion: pathlib.Path | None) -> None:
    if confusion is not None:
        mistakes.write_confusion(answers, confusion)
    if sheet is not None:
        title = (f"{network.folder.absolute().name}: the worst mistakes on {answers.split.name} {answers.split.split}, "
                 f"{views_lib.NAMES[_told_by(network)]}")
        if not mistakes.draw(answers, title, worst, sheet):
            print("note: there are no mistakes, so no sheet is drawn", file=sys.stderr)


if __name__ == "__main__":
    environment.prepare_xla()  # as the runs were computed
    commands.run_main(main)
