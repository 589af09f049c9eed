"""A sweep: from a base config, arms and seeds to trained runs, a table and curves.

    python -m experiments.run --sweep=configs/sweeps/three.py --workdir=runs/three
    python -m experiments.run --config=configs/cifar10.py --ablations=lrn,pooling --seeds=5 --workdir=runs/two

`--dry_run` shows what would run and its cost; `--list` shows the available ablations.
`--config.FIELD=value` changes a field of every arm. The same command resumes after an interruption: finished
runs are never repeated, partial ones resume from their checkpoint, failed ones are retried; with more
seeds or arms it adds runs. `--executor=ray` runs it on a Ray cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from alexnet_jax import cli, commands, environment, errors, files, names, notes, paths, run_files, signals, streams
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError, WorkdirError
from alexnet_jax.text import count
from alexnet_jax.training import checks
from experiments import executors
from experiments.executors import local
from experiments.launch import costs, display, dry_run, schedule
from experiments.sweep import ablations, search
from experiments.sweep import plan as plan_lib
from experiments.sweep import sweep_file as sweep_lib
from experiments.sweep.arms import BASELINE, Arm


def define_flags() -> None:
    """Defines `--sweep` and the other flags besides `--config`. Once per process."""
    cli.define_config_flag()
    flags.DEFINE_string("sweep", None, "a sweep file, e.g. configs/sweeps/three.py")
    flags.DEFINE_string("workdir", None, "the sweep's folder, made if absent")
    flags.DEFINE_string("ablations", None, "names and FILE.py:generator, separated by commas; instead of a "
                        "sweep file's ablations and arms")
    flags.DEFINE_string("seeds", None, "how many (3 stands for 0, 1, 2) or which (0,5,7)")
    flags.DEFINE_enum("order", None, sweep_lib.ORDERS, "what comes first: all arms of a seed, or all seeds of an arm")
    flags.DEFINE_string("jobs", None, "runs at a time; 0: one per core, or on cards as many as suit such runs")
    flags.DEFINE_string("cores", None, "cores of each run; 0: its share of this machine's, on a cluster one, or "
                        "a GPU's share of its node's")
    flags.DEFINE_enum("mps", "auto", ["auto", "off"], "several runs on one card: through NVIDIA's multi-process "
                      "service, started with the sweep and ended with it where none runs")
    flags.DEFINE_enum("executor", "local", list(executors.NAMES), "where the runs are: on this machine, or on a Ray "
                      "cluster (pip install -e '.[cluster]')")
    flags.DEFINE_string("ray_address", "", "the cluster's, e.g. 10.0.0.1:6379 or auto; else $RAY_ADDRESS; else one of "
                        "this machine alone is started")
    flags.DEFINE_bool("dry_run", False, "show what would run and what it would cost; write nothing")
    flags.DEFINE_bool("list", False, "show the catalogue of ablations")


class Command:
    """The command line and its execution.

    Args:
      worker: the command that executes one run.
      write_report: (workdir, plots) → Markdown; None: experiments.report's.
      prepare: packs the images of config.data before a run starts; None: alexnet_jax.data's.
      check: refuses a config whose images are missing or don't fit, without reading them; None: alexnet_jax.data's.
    """

    def __init__(self, worker: Sequence[str] = local.WORKER,
                 write_report: Callable[[pathlib.Path, bool], str] | None = None,
                 prepare: Callable[[Any], None] | None = None, check: Callable[[ConfigDict], None] | None = None):
        self._worker, self._write_report = worker, write_report or _write_report
        self._prepare, self._check = prepare or _prepare, check or (_check if prepare is None else lambda config: None)
        self._sweep = sweep_lib.Sweep("")
        self._config = ""  # FILE or FILE:recipe of the base, as given
        self._reported, self._report_took, self._report_failed = 0.0, 0.0, False
        self._report_is_old = False

    # The command line.

    def parse(self, argv: Sequence[str]) -> list[str]:
        """For `app.run`: reads the sweep file first, so that `--config.FIELD=value` finds its base config."""
        argv = list(argv)
        path, config = _value(argv, "sweep"), _value(argv, "config")
        if path:
            self._sweep = sweep_lib.load(path)
            if config is None:
                config = self._sweep.config
                file, recipe = cli.file_and_recipe(config)
                full = f"{cli.find(file, '--config', self._sweep.folder)}{recipe and ':'}{recipe}"
                try:
                    cli.load_config(full)
                except ConfigError as error:
                    raise ConfigError(f"--sweep={path}: {error}") from error
                argv.insert(1, f"--config={full}")
        elif config:
            self._sweep = dataclasses.replace(self._sweep, name=pathlib.Path(cli.file_and_recipe(config)[0]).stem)
        self._config = config or ""
        return cli.parse_flags(argv)

    def _asked(self) -> tuple[ConfigDict, list[Arm], tuple[int, ...]]:
        """(base config, arms, seeds) of the command."""
        values, sweep = flags.FLAGS, self._sweep
        if not self._config:
            raise ConfigError("--sweep=FILE or --config=FILE is needed, e.g. --sweep=configs/sweeps/three.py")
        seeds = sweep.seeds if values.seeds is None else sweep_lib.parse_seeds(values.seeds)
        base = _base(sweep)
        if values.ablations is None:
            where = f"--sweep={values.sweep}: ablations"
            arms = [*ablations.arms_of(sweep.ablations, base, where, sweep.folder), *sweep.arms]
        else:
            names = [name.strip() for name in values.ablations.split(",") if name.strip()]
            arms = ablations.arms_of(names, base)
        if sweep.search is None:
            arms = search.without(arms, base)
        return base, arms, seeds

    def _standing(self, base: ConfigDict, arms: list[Arm], workdir: pathlib.Path | None) -> search.Standing | None:
        """The state of the search of learning rates; None without a search."""
        if self._sweep.search is None or not search.wanted(arms):
            return None
        return search.stand(base, self._config, arms, self._sweep.search, workdir)

    def _plan(self, base: ConfigDict, arms: list[Arm], seeds: tuple[int, ...],
              standing: search.Standing | None) -> plan_lib.Plan:
        """The plan, with every field and shape checked; arms keep their own rate until their search is done."""
        if standing is not None and standing.choices is not None:
            arms = search.with_chosen(arms, base, standing.choices)
        return plan_lib.build(base, self._config, self._sweep.name, arms, seeds)

    def _number(self, flag: str, default: int, what: str) -> int:
        text = flags.FLAGS[flag].value
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal()):
            raise ConfigError(f"--{flag}={text}: not a number of {what}")
        return int(text)

    def _executor(self, asked: plan_lib.Plan, workdir: pathlib.Path | None) -> executors.Executor:
        """The executor; a dry run doesn't connect to a cluster."""
        values = flags.FLAGS
        jobs = self._number("jobs", self._sweep.jobs, "runs at a time (0: one per core)")
        cores = self._number("cores", self._sweep.cores, "cores of a run (0: its share)")
        if values.executor == "local":
            if values.ray_address:
                raise ConfigError(f"--ray_address={values.ray_address}: needs --executor=ray")
            return local.LocalExecutor(workdir or pathlib.Path(), jobs, len(asked.runs), self._worker, cores,
                                       [run.config for run in asked.runs.values()], values.mps == "auto")
        from experiments.executors import cluster

        if values.dry_run:
            return executors.Unasked(jobs)
        assert workdir is not None
        return cluster.RayExecutor(workdir, asked, jobs, cores, values.ray_address, self._worker)

    # Execution.

    def main(self, _argv) -> int:
        if flags.FLAGS.list:
            named = [] if flags.FLAGS.ablations is None else flags.FLAGS.ablations.split(",")
            print(ablations.describe(named) if named else ablations.describe(
                self._sweep.ablations, f"--sweep={flags.FLAGS.sweep}: ablations", self._sweep.folder))
            return 0
        (base, arms, seeds), workdir = self._asked(), _workdir(flags.FLAGS.dry_run)
        standing = self._standing(base, arms, workdir)
        asked = self._plan(base, arms, seeds, standing)
        for line in notes.of(base, {**self._sweep.overrides, **cli.given()}):
            names.say(f"note: {line}")
        if flags.FLAGS.dry_run:
            executor = self._executor(asked, workdir)
            if standing is not None and standing.choices is None:
                check_runs(standing.plan, workdir and workdir / search.FOLDER, self._check, executor.devices)
            check_runs(asked, workdir, self._check, executor.devices)
            if self._check is _check:
                _tell_downloads(_todo(asked, workdir))
            if standing is not None:
                dry_run.show_search(standing, workdir, executor)
            if workdir is None:
                dry_run.show(asked, asked, pathlib.Path(), executor, nothing_there=True)
            else:
                whole, asked = plan_lib.merge(plan_lib.read(workdir), asked, workdir)
                dry_run.show(whole, asked, workdir, executor)
            return 0
        assert workdir is not None
        if standing is not None:
            code = self._search(base, arms, workdir)
            if code is not None:
                return code
            asked = self._plan(base, arms, seeds, self._standing(base, arms, workdir))
        with contextlib.closing(self._executor(asked, workdir)) as executor:
            whole, state = carry_out(asked, workdir, executor, self._prepare,
                                     lambda shown: self._report_so_far(workdir, shown),
                                     flags.FLAGS.order or self._sweep.order, self._check)
        if state.stopping:
            if self._report_is_old:
                with contextlib.suppress(Exception):  # keeps the report up to date while the sweep is stopped
                    self._write_report(workdir, False)
            return stopped(state, "experiments.run")
        return self._end(whole, state, workdir)

    def _search(self, base: ConfigDict, arms: list[Arm], workdir: pathlib.Path) -> int | None:
        """Runs the rest of the search. Returns an exit code if it didn't finish."""
        while (standing := self._standing(base, arms, workdir)) is not None and standing.choices is None:
            folder = workdir / search.FOLDER
            with contextlib.closing(self._executor(standing.plan, folder)) as executor:
                whole, state = carry_out(standing.plan, folder, executor, self._prepare, check=self._check)
            if state.stopping:
                return stopped(state, "experiments.run")
            if state.failed:
                tell_failures(whole, state, folder)
                return errors.RUN
        assert standing is not None
        search.record(standing, workdir)
        print(search.sentence(run_files.read_json(workdir / search.FILE) or {}), flush=True)
        return None

    def _end(self, whole: plan_lib.Plan, state: schedule.State, workdir: pathlib.Path) -> int:
        diverged = [run for run, status in state.finished.items() if status == "diverged"]
        print(f"\n{self._final_report(workdir)}", end="")
        files = [workdir / name for name in ("report.md", "curves.png", "differences.png", "overfitting.png")
                 if (workdir / name).exists()]
        print()
        names.say(f"{len(state.finished) - len(diverged)} of {count(state.total, 'run')} finished"
                  + (f"; diverged: {', '.join(map(whole.label, diverged))}" if diverged else "")
                  + f". Report: {', '.join(map(str, files)) or 'none'}")
        tell_failures(whole, state, workdir)
        return errors.RUN if state.failed or self._report_failed else 0

    def _report_so_far(self, workdir: pathlib.Path, shown: display.Display) -> None:
        """Updates the report after a run: without curves, and using at most a small fraction of the time."""
        begin, self._report_is_old = time.monotonic(), True
        if self._report_failed or (self._reported and begin - self._reported < 20 * self._report_took):
            return
        try:
            self._write_report(workdir, False)
            self._report_is_old = False
        except Exception as error:  # must not stop the runs
            self._report_failed = True
            shown.line(f"no report for now: {_message(error)}")
        self._reported = time.monotonic()
        self._report_took = self._reported - begin

    def _final_report(self, workdir: pathlib.Path) -> str:
        self._report_failed = False
        try:
            return self._write_report(workdir, True)
        except Exception as error:
            self._report_failed = True
            return f"error: the runs have ended, but the report failed: {_message(error)}\n"


@streams.safe()
def carry_out(asked: plan_lib.Plan, workdir: pathlib.Path, executor: executors.Executor,
              prepare: Callable[[Any], None] | None = None,
              after_each: Callable[[display.Display], None] = lambda shown: None,
              order: str = "seeds", check: Callable[[ConfigDict], None] | None = None
              ) -> tuple[plan_lib.Plan, schedule.State]:
    """Executes the unfinished runs of `asked` in a sweep's workdir, shows the progress, and stops on a signal.

    Args:
      prepare: packs the images of config.data before a run starts; None: alexnet_jax.data's.
      after_each: called with the display whenever a run has ended.
      order: which runs come first (`Plan.order`).
      check: as for `Command`; None: the default check, if `prepare` is None too.

    Raises:
      UserError: the data is missing, or the workdir is another sweep's.
    """
    paths.check_workdir(workdir.absolute(), "--workdir")
    # Missing data gives one message, not one per run; images are packed once, while no run waits.
    if check is not None or prepare is None:
        check_runs(asked, workdir, check or _check, executor.devices)
    todo = _todo(asked, workdir)
    names.say(f"{asked.name}: {count(len(asked.runs), 'run')} ({count(len(asked.arms), 'arm')}, "
              f"{count(len(asked.seeds), 'seed')}), {len(asked.runs) - len(todo)} done before; "
              f"{executor.description}; {workdir}")
    for run in {json.dumps(run.config["data"]): run for run in todo}.values():
        (prepare or _prepare)(config_lib.from_json(run.config).data)
    workdir.mkdir(parents=True, exist_ok=True)
    with files.lock(workdir / ".plan.lock"):  # another sweep may be starting here
        files.clear(workdir)
        whole, asked = plan_lib.merge(plan_lib.read(workdir), asked, workdir)
        plan_lib.write(whole, workdir)
    costs_ = costs.Costs(whole, workdir, executor.device)
    with signals.Signals() as stop, display.Display(whole, workdir, costs_) as shown:
        work = schedule.Schedule(whole, workdir, asked.order(order), executor, shown, lambda: after_each(shown))
        return whole, work.run(stop)


def _todo(asked: plan_lib.Plan, workdir: pathlib.Path | None) -> list[plan_lib.Run]:
    if workdir is None:
        return list(asked.runs.values())
    runs = plan_lib.merge(plan_lib.read(workdir), asked, workdir)[1].runs.values()
    return [run for run in runs if plan_lib.state_of(workdir / run.dir) not in plan_lib.DONE]


def check_runs(asked: plan_lib.Plan, workdir: pathlib.Path | None, check: Callable[[ConfigDict], None],
               devices: int | None = None) -> None:
    """Checks the unfinished runs as their start would; called by a dry run and by a start.

    Args:
      check: of the images, called once per distinct config.data. devices: number of devices of a run, if known.

    Raises:
      UserError: what `checks.layers` and `check` raise, with the arm's name.
    """
    todo = list(reversed(_todo(asked, workdir)))  # reversed: of equal runs the first is kept, and named
    for kind, parts in ((lambda config: checks.layers(config, devices), ("model", "mesh")), (check, ("data",))):
        for run in {json.dumps([*map(run.config.get, parts), run.config["model"]["classes"],
                                run.config["train"]["batch_size"]]): run for run in todo}.values():
            try:
                kind(config_lib.from_json(run.config))
            except errors.UserError as error:
                arm = asked.arm_of(run.id).name
                if arm != BASELINE:
                    raise type(error)(f"arm {arm}: {error}") from error
                raise


def tell_failures(plan: plan_lib.Plan, state: schedule.State, workdir: pathlib.Path) -> None:
    """Prints a line to stderr for each failed run, and a summary."""
    for run, message in state.failed.items():
        where = workdir / plan.runs[run].dir / "log.txt"
        print(names.plain(f"failed: {plan.label(run)}: {message} ({where})"), file=sys.stderr)
    if state.failed:
        print("error: " + count(len(state.failed), "run") + " failed; the same command tries again", file=sys.stderr)


def _write_report(workdir: pathlib.Path, plots: bool) -> str:
    from experiments import report  # imports pandas and matplotlib

    return report.write_report(workdir, plots=plots)


def _prepare(data: ConfigDict) -> None:
    from alexnet_jax.data.summary import prepare

    prepare(data)


def _check(config: ConfigDict) -> None:
    checks.images(config)


def _tell_downloads(runs: list[plan_lib.Run]) -> None:
    from alexnet_jax import data

    configs = {json.dumps(run.config["data"]): run.config for run in runs}.values()
    downloads = [(config["data"]["name"], url) for config in configs
             for url in data.downloads(config_lib.from_json(config).data)]
    for name, url in dict.fromkeys(downloads):
        names.say(f"note: {name}: its files are missing and will be downloaded first ({url})")


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return errors.describe_os_error(error)
    return str(error) if isinstance(error, errors.UserError) else f"{type(error).__name__}: {error}"


def _value(argv: Sequence[str], name: str) -> str | None:
    """The last value of --name=value or --name value, else None."""
    last = None
    for i, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            last = value if equals else argv[i + 1] if i + 1 < len(argv) else None
    return last


def _base(sweep: sweep_lib.Sweep) -> ConfigDict:
    """The resolved base: the config file, then the sweep file's overrides, then the command line's."""
    values, given = flags.FLAGS, cli.given()
    loaded = cli.load_config(values.config)
    if "seed" in given or "seed" in sweep.overrides:
        raise ConfigError("config.seed: a sweep sets it itself; choose its seeds with --seeds=3 (0, 1 and 2) "
                          "or --seeds=5,7 (these two)")
    try:
        mine = {name: value for name, value in sweep.overrides.items() if name not in given}
        config = config_lib.override(loaded, mine)
    except ConfigError as error:
        raise ConfigError(f"--sweep={values.sweep}: overrides: {error}") from error
    return config_lib.resolve(config_lib.override(config, given))


def _workdir(optional: bool) -> pathlib.Path | None:
    text = flags.FLAGS.workdir
    if not text:
        if optional:
            return None
        raise ConfigError("--workdir=FOLDER is needed, e.g. --workdir=runs/sweep")
    # Absolute: run folders appear in messages of processes with other working directories.
    workdir = paths.given(text, "--workdir").absolute()
    paths.check_workdir(workdir, "--workdir")
    if workdir.exists() and not workdir.is_dir():
        raise WorkdirError(f"--workdir={text}: not a folder")
    if (workdir / "run.json").exists():
        raise WorkdirError(f"--workdir={text}: holds a single run; choose another folder for a sweep")
    if not environment.writable(workdir):
        through_file = any(path.is_file() for path in workdir.parents)
        raise WorkdirError(f"--workdir={text}: " + ("a part of this path is a file, not a folder; choose another place"
                                                    if through_file else "this user may not write there"))
    return workdir


def stopped(state: schedule.State, module: str) -> int:
    """Prints how to resume `python -m module`; returns the exit code."""
    print(f"stopped: {len(state.finished)} of {count(state.total, 'run')} done; the same command resumes:\n"
          "  " + shlex.join(["python", "-m", module, *sys.argv[1:]]))
    return errors.Interrupted.exit_code


def run(command: Command | None = None) -> None:
    """The entry point."""
    command = command or Command()
    define_flags()
    prints = any(argument.lstrip("-").partition("=")[0] in ("dry_run", "list") for argument in sys.argv[1:])
    # `app.run` prints the help of __main__: this file's docstring and flags.
    commands.run_main(lambda: app.run(command.main, flags_parser=command.parse), prints)


if __name__ == "__main__":
    run()
