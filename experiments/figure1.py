"""The paper's figure 1: training error against epochs with ReLU and tanh, and the time to 25%.

    python -m experiments.figure1 --workdir=runs/figure1 --jobs=2
    python -m experiments.figure1 --results=experiments/results/figure1        # only draws a record again, or a workdir

First comes a grid of learning rates for each activation, one seed and a few epochs each (`grid/`); the biases' rate is
twice the weights'. The rate with the lowest error on all training images after those epochs is chosen; if it is the
grid's smallest or largest, the grid is extended in that direction. Then come the seeds at the chosen rates (`seeds/`),
each until its error is 25% or its epochs are over. In the latter case its time is a lower bound; so is that of a run
that was stopped with the command, if it is longer than all other runs took (else the run is named and left out). Last
comes the first seed at the rates next to the chosen ones (`neighbours/`), for a quarter longer than at the chosen rate:
the rate with the lowest error after a few epochs needn't be the one that reaches 25% first.
`figure1.json` has the numbers, `figure1.png` and `.svg` the figure.
The same command resumes after an interruption. The folders are sweeps of experiments.run (see experiments.status).

Why this isn't one sweep with a search of the rate (`experiments.sweep.search`): that search judges candidates on images
held out from training, but the paper's figure is about the training error on all 50,000 images; it scales one field,
here two; its runs and the sweep's differ only in splits and epochs, but the grid must run past the error at which the
seeds stop; and the length of the neighbours is known only when the chosen run is done. The common parts are shared: the
grid (`sweep.grid`), plans and the runner.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import cli, commands, errors, names, run_files
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import recording, run
from experiments.analysis import speed, verdicts
from experiments.analysis.workdirs import RECORDED, field, read_sweep
from experiments.executors import local
from experiments.sweep import grid as grid_lib
from experiments.sweep import plan as plan_lib
from experiments.sweep import sweep_file as sweep_lib
from experiments.sweep.ablations import Arm

ACTIVATIONS = ("relu", "tanh")
PAPER = 6.0  # section 3.1: "six times faster"
FACTOR = 2.0  # between the rates of an extended grid
MOST = 8  # extensions per activation
GRID, SEEDS, NEIGHBOURS = "grid", "seeds", "neighbours"
LONGER = 1.25  # epochs at a neighbouring rate, relative to those at the chosen rate


def _parser() -> argparse.ArgumentParser:
    parser = commands.Parser("experiments.figure1", __doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", type=pathlib.Path, help="folder of the runs, made if absent")
    where.add_argument("--results", type=pathlib.Path, help="folder of records, or of runs: they are only drawn "
                       "again, and no number is written")
    parser.add_argument("--record", type=pathlib.Path, help="folder that gets the records, numbers and figure too")
    parser.add_argument("--config", default="configs/figure1.py", help="FILE with get_config(activation)")
    parser.add_argument("--seeds", default="5", help="how many, or which (0,5,7); the grid takes the first")
    parser.add_argument("--epochs", type=commands.whole_number, help="at most, a run (default: the config's)")
    parser.add_argument("--grid", default="0.0005,0.001,0.002", help="learning rates to begin with, comma-separated")
    parser.add_argument("--grid_epochs", type=commands.whole_number, default=6, help="epochs of a run of the grid")
    parser.add_argument("--jobs", type=commands.whole_number, default=1, help="runs at a time")
    return parser


def _rates(text: str) -> list[float]:
    try:
        rates = sorted({grid_lib.rounded(float(part)) for part in text.split(",") if part.strip()})
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ConfigError(f"--grid={text}: write learning rates, e.g. --grid=0.0005,0.001,0.002")
    return rates


class Interrupted(Exception):
    """A stage was stopped, or its runs failed; `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Experiment:
    """The stages, each a sweep in its own folder.

    Args:
      options: the command line's. worker, prepare: as for experiments.run.
    """

    def __init__(self, options: argparse.Namespace, worker: Sequence[str] = local.WORKER,
                 prepare: Callable[[Any], None] | None = None):
        self.options, self.worker, self.prepare = options, worker, prepare
        self.workdir = options.workdir.absolute()
        self.seeds = sweep_lib.parse_seeds(options.seeds)
        self.rates = _rates(options.grid)
        self.configs = {a: config_lib.resolve(cli.load_config(f"{options.config}:{a}")) for a in ACTIVATIONS}

    def run(self) -> None:
        """Grid, choice, seeds. Raises Interrupted."""
        grid = {activation: list(self.rates) for activation in ACTIVATIONS}
        for _ in range(MOST + 1):
            tried = self._grid(grid)
            more = {a: grid_lib.beyond(tried[a], FACTOR) for a in ACTIVATIONS}
            for activation, rate in more.items():
                if rate is not None:
                    grid[activation].append(rate)
            if not any(more.values()):
                break
        else:
            raise ConfigError(f"--grid={self.options.grid}: extended {MOST} times, but the best rate is still at its "
                              "edge; choose other rates, or train longer with --grid_epochs")
        best = {a: rate for a in ACTIVATIONS if (rate := grid_lib.best(tried[a])) is not None}
        words = [f"{speed.NAMES[a]} {rate:g}" for a, rate in best.items()]
        print(f"chosen learning rates: {', '.join(words)}", flush=True)
        self._sweep(SEEDS, self._most({}), {a: [rate] for a, rate in best.items()}, self.seeds)
        self._neighbours(best, tried)

    def _most(self, epochs: dict[str, int]) -> dict[str, dict[str, Any]]:
        """Overrides with each activation's maximal epochs: from `epochs`, else the command line, else the config."""
        given = {} if self.options.epochs is None else {"train.epochs": self.options.epochs}
        return {a: {"train.epochs": epochs[a]} if a in epochs else given for a in ACTIVATIONS}

    def _neighbours(self, chosen: dict[str, float], tried: dict[str, dict[float, float]]) -> None:
        """Runs the first seed at the rates on both sides of the chosen ones, except those that diverged in the grid."""
        took = measure(self.workdir)["arrivals"]
        beside: dict[str, list[float]] = {}
        for activation, rate in chosen.items():
            rates = sorted(tried[activation])
            place = rates.index(rate)
            beside[activation] = [r for r in (*rates[max(0, place - 1):place], *rates[place + 1:place + 2])
                                  if math.isfinite(tried[activation][r])]
        seed = self.seeds[0]
        most = {a: math.ceil(LONGER * took[a][seed].epochs) for a in beside if took[a][seed].reached}
        self._sweep(NEIGHBOURS, self._most(most), {a: rates for a, rates in beside.items() if rates}, (seed,))

    def _grid(self, rates: dict[str, list[float]]) -> dict[str, dict[float, float]]:
        """{activation: {rate: error after the grid's epochs}}."""
        few = {"train.epochs": self.options.grid_epochs, "train.stop_at_error": 0.0}
        self._sweep(GRID, dict.fromkeys(ACTIVATIONS, few), rates, self.seeds[:1])
        points = speed.points(read_sweep(self.workdir / GRID))
        return {a: {rate: error for rate, error in speed.errors_of(points, a).items() if rate in rates[a]}
                for a in ACTIVATIONS}

    def _sweep(self, name: str, overrides: dict[str, dict[str, Any]], rates: dict[str, list[float]],
               seeds: Sequence[int]) -> None:
        """Runs the first activation's first rate as the baseline, all others as arms.

        `overrides` and `rates` are by activation.
        """
        def at(activation: str, rate: float) -> ConfigDict:
            rates = {"optim.learning_rate": rate, "optim.bias_learning_rate": grid_lib.rounded(2 * rate)}
            return config_lib.override(self.configs[activation], {**overrides[activation], **rates})

        first = next(iter(rates), None)
        if first is None:
            return
        base = config_lib.resolve(at(first, rates[first][0]))
        flat = config_lib.flatten(base)
        arms = []
        for activation, values in rates.items():
            for rate in values:
                mine = config_lib.flatten(config_lib.resolve(at(activation, rate)))
                changes = {key: value for key, value in mine.items() if value != flat[key]}
                if changes:
                    arms.append(Arm(f"{activation}_{rate:g}", changes))
        asked = plan_lib.build(base, f"{self.options.config}:{first}", f"figure 1, {name}", arms, seeds)
        folder = self.workdir / name
        with contextlib.closing(local.LocalExecutor(folder, self.options.jobs, len(asked.runs), self.worker,
                                                    configs=[run.config for run in asked.runs.values()])) as executor:
            plan, state = run.carry_out(asked, folder, executor, self.prepare)
        if state.stopping:
            raise Interrupted(run.stopped(state, "experiments.figure1"))
        run.tell_failures(plan, state, folder)
        if state.failed:
            raise Interrupted(errors.RUN)


# The numbers.


def measure(folder: pathlib.Path) -> dict[str, Any]:
    """The content of figure1.json's `figure` part, from the records of both sweeps.

    Raises:
      ConfigError, WorkdirError: the records are missing.
    """
    grid, seeds = read_sweep(folder / GRID), read_sweep(folder / SEEDS)
    points = speed.points(grid)
    arrivals: dict[str, dict[int, speed.Arrival]] = {a: {} for a in ACTIVATIONS}
    rates, broken, under_way = {}, [], []
    for r in seeds.runs.values():
        activation = speed.activation_of(r)
        rates[activation] = field(r.config, "optim.learning_rate")
        threshold = field(r.config, "train.stop_at_error")
        got = speed.arrival(r.rows, threshold) if r.state in ("finished", "unfinished") else None
        if got is not None and (got.reached or r.state == "finished"):
            arrivals[activation][r.seed] = got
        elif got is not None:
            under_way.append((activation, r.seed, got))
        else:
            broken.append(f"{activation} seed {r.seed} ({r.state})")
    # An unfinished run's epochs are a lower bound too, informative if ReLU and all that arrived took fewer.
    slowest = max((a.epochs for a in arrivals["tanh"].values() if a.reached), default=0.0)
    for activation, seed, got in under_way:
        partner = arrivals["relu"].get(seed)
        if (activation != "relu" and partner is not None and partner.reached
                and got.epochs > max(partner.epochs, slowest)):
            arrivals[activation][seed] = got
        else:
            broken.append(f"{activation} seed {seed} (under way, epoch {got.epochs:g})")
    missing = [a for a in ACTIVATIONS if not arrivals[a]]
    if missing:
        raise WorkdirError(f"{folder / SEEDS}: no finished run with {' or '.join(missing)} yet; the command with "
                           "--workdir resumes it")
    ratio = speed.ratio(arrivals["relu"], arrivals["tanh"])
    beside = read_sweep(folder / NEIGHBOURS) if (folder / NEIGHBOURS / "plan.json").exists() else None
    neighbours: dict[str, dict[float, speed.Arrival]] = {}
    for r in () if beside is None else beside.runs.values():
        got = speed.arrival(r.rows, threshold) if r.state == "finished" else None
        if got is not None:
            neighbours.setdefault(speed.activation_of(r), {})[field(r.config, "optim.learning_rate")] = got
    return {"grid": grid, "seeds": seeds, "points": points, "rates": rates, "arrivals": arrivals, "ratio": ratio,
            "threshold": threshold, "broken": broken, "beside": beside, "neighbours": neighbours,
            "neighbour_seed": next((r.seed for r in beside.runs.values()), None) if beside is not None else None}


def beside(workdir: pathlib.Path, results: pathlib.Path = RECORDED) -> tuple[pathlib.Path, str]:
    """(a folder for `measure`, its description): the workdir's own runs of this experiment, else the recorded ones."""
    for folder in (workdir, workdir / "figure1", workdir.parent):
        if all((folder / part / "plan.json").exists() for part in (GRID, SEEDS)):
            return folder, f"Of {folder.name}."
    return results / "figure1", f"{workdir.name} has no such runs: these are the project's recorded ones."


def summary(measured: dict[str, Any]) -> recording.Measured:
    """The ratio, in words and numbers."""
    ratio: speed.Ratio = measured["ratio"]
    words = [speed.in_words(speed.NAMES[a], by_seed.values()) for a, by_seed in measured["arrivals"].items()]
    return recording.Measured("; ".join([ratio.text, *words]), ratio.value, ratio.low, ratio.high, "ratio", ratio.log.n)


def _chosen(measured: dict[str, Any]) -> str:
    """How the rates were chosen, the epochs at their neighbours, and which runs were left out."""
    runs = list(measured["grid"].runs.values())
    epochs = sorted({field(run.config, "train.epochs") for run in runs})
    seeds = len({run.seed for run in runs})
    text = (f"rates chosen by the error after {' or '.join(map(str, epochs))} epochs of "
            f"{'one seed' if seeds == 1 else f'{seeds} seeds'}, not by the time to {measured['threshold']:.0%}")
    if measured["neighbours"]:
        text += f"; {_beside(measured)}"
    return text + (f"; left out: {', '.join(measured['broken'])}" if measured["broken"] else "")


def _beside(measured: dict[str, Any]) -> str:
    """The first seed's epochs at the chosen rates and their neighbours, and the ratio at the quickest rates."""
    seed, words, quickest = measured["neighbour_seed"], [], []
    for activation in filter(measured["neighbours"].get, ACTIVATIONS):
        by_rate = measured["neighbours"][activation]
        rate, own = measured["rates"][activation], measured["arrivals"][activation].get(seed)
        times = {**by_rate, **({rate: own} if own is not None else {})}
        listed = ", ".join(f"{'' if a.reached else 'over '}{a.epochs:.1f} at {r:g}" for r, a in sorted(times.items()))
        words.append(f"{speed.NAMES[activation]} {listed}")
        arrived = [a.epochs for a in times.values() if a.reached]
        quickest += [min(arrived)] if arrived else []
    text = f"epochs of seed {seed} at the chosen rate and beside it: {'; '.join(words)}"
    if len(quickest) == 2:
        relu, tanh = quickest  # in the order of ACTIVATIONS
        text += f"; the ratio of the quickest {tanh / relu:.1f}"
    return text


def write(folder: pathlib.Path, measured: dict[str, Any], command: Sequence[str]) -> None:
    """Writes figure1.json, figure1.png and figure1.svg."""
    verdict = verdicts.ratio(measured["ratio"], PAPER)
    explained = dataclasses.replace(verdict, why=f"{verdict.why}; {_chosen(measured)}")
    sweeps = [measured[part] for part in ("seeds", "grid", "beside")]
    both = [recording.about(sweep, command) for sweep in sweeps if sweep is not None]
    costs = [hours for _, hours in both]
    about = both[0][0] | {"seeds": sorted(set(measured["arrivals"]["relu"]) & set(measured["arrivals"]["tanh"]))}
    path = recording.write_claim(
        folder, "figure1", "relu", summary(measured), explained, about,
        None if None in costs else sum(c for c in costs if c is not None))
    tree = run_files.read_json(path) or {}
    tree["figure"] = {
        "threshold": measured["threshold"], "rates": measured["rates"], "broken_off": measured["broken"],
        "grid": [{"activation": p.activation, "rate": p.rate, "error": p.error if p.error < 1 else None}
                 for p in measured["points"]],
        "epochs_to_threshold": {a: {str(s): {"epochs": round(x.epochs, 3), "reached": x.reached}
                                    for s, x in sorted(by.items())} for a, by in measured["arrivals"].items()},
        "neighbours": {a: {f"{rate:g}": {"epochs": round(x.epochs, 3), "reached": x.reached}
                           for rate, x in sorted(by.items())} for a, by in measured["neighbours"].items()}}
    run_files.write_json(path, tree)
    names.say(str(path))
    draw(folder, measured)


def draw(folder: pathlib.Path, measured: dict[str, Any]) -> None:
    """Prints the ratio and its verdict, and writes figure1.png and figure1.svg."""
    from experiments.figures import figure1 as figure1_figure  # imports matplotlib: only when there is a result
    from experiments.figures import style

    verdict = verdicts.ratio(measured["ratio"], PAPER)
    print(f"epochs to {measured['threshold']:.0%} training error: {summary(measured).text}; the paper: {PAPER:g}×. "
          f"{verdict.word}: {verdict.why}")
    figure = figure1_figure.draw(measured)
    for kind in ("png", "svg"):
        style.save(figure, folder / f"figure1.{kind}")
        names.say(str(folder / f"figure1.{kind}"))


def main(argv: Sequence[str] | None = None, worker: Sequence[str] = local.WORKER,
         prepare: Callable[[Any], None] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(given)
    if options.results is not None:
        if options.record is not None:
            raise ConfigError("--record: --results only draws; --record goes with --workdir, the runs that it records")
        folder = options.results
        for part in (GRID, SEEDS):
            if not (folder / part).is_dir():
                raise ConfigError(f"--results={folder}: no folder {part} there; experiments.figure1 --workdir=FOLDER "
                                  "makes both, the grid first")
        draw(folder, measure(folder))
        return 0
    command, code = ["python", "-m", "experiments.figure1", *given], 0
    try:
        Experiment(options, worker, prepare).run()
    except Interrupted as stop:
        code = stop.code
    try:
        measured = measure(options.workdir)
    except (ConfigError, WorkdirError):
        if code:  # stopped before there was something to show
            return code
        raise
    write(options.workdir, measured, command)
    if options.record is not None:
        for part in (GRID, SEEDS, NEIGHBOURS):
            if (options.workdir / part / "plan.json").exists():
                recording.copy_sweep(options.workdir / part, options.record / part)
        write(options.record, measure(options.record), command)
    return code


if __name__ == "__main__":
    commands.run_main(main)
