"""The command for each row: the one that reproduces a measurement, or that would make it, with its cost."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from experiments.analysis import protocol
from experiments.analysis.workdirs import Sweep, field
from experiments.claims.record import Claim, Measure, Regime
from experiments.claims.regimes import FIVE
from experiments.claims.row import Row
from experiments.sweep import ablations, search
from experiments.sweep import sweep_file as sweep_lib
from experiments.sweep.arms import Arm

ROOT = pathlib.Path(__file__).resolve().parents[2]
_STEPS, _BATCH = 910_819, 128  # of configs/imagenet_released.py
# Benchmarks of the full network's training step (benchmarks/RESULTS.md), on one core and on accelerators.
_RESULTS = ROOT / "benchmarks" / "results"
_TIMED = _RESULTS / "full_one_core.json"


def missing(start: Row, claim: Claim, sweeps: Mapping[str, Sweep]) -> Row:
    """The row of a claim that no arm measures: why, the command, and its estimated cost."""
    cost = _trainings(claim.cost) if isinstance(claim.cost, int) else claim.cost
    return dataclasses.replace(start, why=claim.why, command=claim.command, estimate=(
        _of_sweep_file(FIVE.sweep, claim.checkpoints, sweeps) if claim.checkpoints else cost))


def missing_measure(start: Row, what: Measure, sweeps: Mapping[str, Sweep]) -> Row:
    """The row of a measure without records: why, the command that makes it, and its estimated cost."""
    regime = what.regimes[0]
    spec = "" if regime.whole else what.arm
    why = "no measurement"
    if what.quantity == "gap" and any(_has(sweep, what) for sweep in sweeps.values()):
        why = "no measurement: the recorded runs have no error on images learnt from (data.fit_split)"
    return dataclasses.replace(
        start, why=why, estimate=_of_sweep_file(regime.sweep, spec, sweeps),
        command=f"python -m experiments.run --sweep={regime.sweep}{spec and f' --ablations={spec}'} "
                f"--workdir={regime.workdir}")


def _has(sweep: Sweep, what: Measure) -> bool:
    """Does the sweep have this arm, even without this quantity?"""
    return any(what.is_of(arm.ablation, arm.name, sweep.local) for arm in sweep.arms)


def left(regime: Regime, sweeps: Mapping[str, Sweep]) -> str:
    """The runs of a planned regime that are not recorded, the command that makes them, and its estimated cost; '' if
    none."""
    there = {run.id for name in regime.records if name in sweeps for run in sweeps[name].runs.values()
             if run.state == "finished"}
    sweep = sweep_lib.load(str(ROOT / regime.sweep))
    base = _base(sweep)
    trained = _trained(base, [*ablations.arms_of(sweep.ablations, base), *sweep.arms])
    counts = [(config, sum(config_lib.run_id(config_lib.override(config, {"seed": seed})) not in there
                           for seed in sweep.seeds)) for config in trained]
    if not sum(count for _, count in counts):
        return ""
    return (f"{regime.name}: `python -m experiments.run --sweep={regime.sweep} --workdir={regime.workdir}` "
            f"({_estimate(counts, sweeps)})")


def _of_sweep_file(file: str, spec: str, sweeps: Mapping[str, Sweep]) -> str:
    """The cost of a sweep file's runs; with `spec`, of that ablation, its baseline and the search of its rate."""
    sweep = sweep_lib.load(str(ROOT / file))
    base = _base(sweep)
    if not spec:
        arms = [*ablations.arms_of(sweep.ablations, base), *sweep.arms]
        return _estimate([(config, len(sweep.seeds)) for config in _trained(base, arms)], sweeps)
    arms = ablations.arms_of([spec], base)
    counts = [(config, len(sweep.seeds)) for config in _trained(base, arms)]
    if sweep.search is not None and search.wanted(arms):
        runs = search.stand(base, sweep.config, arms, sweep.search, None).plan.runs.values()
        counts += [(config_lib.from_json(run.config), 1) for run in runs]
    return _estimate(counts, sweeps)


def _base(sweep: sweep_lib.Sweep) -> ConfigDict:
    return config_lib.resolve(config_lib.override(cli.load_config(str(ROOT / sweep.config)), sweep.overrides))


def _trained(base: ConfigDict, arms: Sequence[Arm]) -> list[ConfigDict]:
    """The distinct configs of the arms and the baseline."""
    configs = [base, *(config_lib.override(base, arm.overrides) for arm in arms)]
    return list({config_lib.run_id(config): config for config in configs}.values())


def _estimate(counts: Sequence[tuple[ConfigDict, int]], sweeps: Mapping[str, Sweep]) -> str:
    """Runs, epochs and core-hours of [(config, number of runs)].

    From the speed, in training images per core-hour, of recorded runs of the same data and network on CPUs.
    """
    most = "at most " if any(config.optim.plateau.stop for config, _ in counts) else ""
    text = (f"{sum(count for _, count in counts):,} runs, {most}"
            f"{sum(config.train.epochs * count for config, count in counts):,} epochs")
    base = config_lib.flatten(counts[0][0])
    layers = [f"model.{name}.features" for name in ("conv1", "conv3", "fc6")]
    like = {name: base[name] for name in ("data.name", "data.crop", "train.batch_size", *layers)}
    seconds = learnt = 0.0
    splits: dict[str, int] = {}
    for run in {run.id: run for sweep in sweeps.values() for run in sweep.runs.values()}.values():
        images = ((run.result or {}).get("data") or {}).get("train_images")
        if images and run.state == "finished" and all(field(run.config, name) == value for name, value in like.items()):
            splits[field(run.config, "data.train_split")] = images
            if run.seconds and protocol.platform(run.about) == "cpu":
                seconds += run.seconds * protocol.units(run.about)
                learnt += field(run.config, "train.epochs") * images
    wanted = [_images(config.data.train_split, splits) for config, _ in counts]
    if not learnt or None in wanted:
        return f"{text}, not timed here"
    total = sum(config.train.epochs * count * (images or 0)
                for (config, count), images in zip(counts, wanted, strict=True))
    return f"{text}, about {_hours(seconds / learnt * total)}"


def _images(split: str, recorded: Mapping[str, int]) -> int | None:
    """Number of images in a split: as recorded, or from its bounds if both are numbers."""
    bounds = re.fullmatch(r"\w+\[(\d*):(\d+)\]", split)
    return int(bounds[2]) - int(bounds[1] or 0) if bounds else recorded.get(split)


def _trainings(count: int) -> str:
    """The cost of full trainings on ILSVRC: the paper's time, and hours at the speeds recorded here."""
    text = f"{count * _STEPS:,.0f} steps; in the paper 5 to 6 days a network on two GTX 580"
    timed = run_files.read_json(_TIMED) or {}
    for row in timed.get("rows", []):
        if row["network"] == "released":
            an_image = row["seconds"]["ours"]["median"] / row["batch"] * timed["device"]["cores"]
            text += (f"; about {_hours(an_image * _BATCH * count * _STEPS)} of training steps at the speed of "
                     f"{_name(_TIMED)}")
    for path in sorted(_RESULTS.glob("*.json")):
        record = run_files.read_json(path) or {}
        card = record.get("device", {})
        if record.get("part") != "fast" or record["quick"] or card.get("platform", "cpu") == "cpu":
            continue  # not an accelerator's record (benchmarks.accelerator)
        for step in record["steps"].values():
            if (step.get("network"), step.get("batch")) == ("released", _BATCH) and "turns" in step:
                hours = step["turns"]["ours"]["median"] * count * _STEPS / 3600
                text += (f"; about {hours:,.1f} hours of training steps on one {card['kind']} in {step['precision']}, "
                         f"images not counted, at the speed of {_name(path)}")
    return text


def _name(path: pathlib.Path) -> str:
    return path.relative_to(_RESULTS.parents[1]).as_posix()


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.1f} core-hours" if hours < 100 else f"{float(f'{hours:.2g}'):,.0f} core-hours"


def of_file(command: Any) -> str:
    """The command of a claim file, after the sweep's command if it needs checkpoints."""
    text = str(command or "")
    folder = next((word.removeprefix("--workdir=") for word in text.split() if word.startswith("--workdir=runs/")), "")
    file = f"configs/sweeps/{pathlib.PurePath(folder).name}.py"
    if not folder or not (ROOT / file).exists():
        return text
    name = next((word.removeprefix("--arm=") for word in text.split() if word.startswith("--arm=")), "")
    sweep = sweep_lib.load(str(ROOT / file))
    arm = next((arm for arm in ablations.arms_of(sweep.ablations, _base(sweep)) if arm.name == name), None)
    spec = f"{arm.ablation}.{arm.name}" if arm is not None and arm.ablation else "views"  # "views": the baseline alone
    return f"python -m experiments.run --sweep={file} --ablations={spec} --workdir={folder} && {text}"


def of_sweep(sweep: Sweep, what: Measure) -> str:
    """The command that repeats a recorded sweep exactly."""
    file = f"configs/sweeps/{sweep.name}.py"
    known = (ROOT / file).exists()
    config = next((run.config for run in sweep.arm(sweep.baseline).runs.values()), {})
    seeds = sorted({run.seed for run in sweep.runs.values()})
    parts = ["python", "-m", "experiments.run", f"--sweep={file}" if known else f"--config={sweep.config}"]
    if not known:
        parts.append(f"--ablations={what.arm}")
    default: tuple[int, ...] = (0,)
    try:
        if known:
            written = sweep_lib.load(str(ROOT / file))
            default = written.seeds
            base = config_lib.override(cli.load_config(str(ROOT / written.config)), written.overrides)
        else:
            base = cli.load_config(str(ROOT / sweep.config))
        parts += _changes(base, config)
    except ConfigError:
        pass  # a user's own config file, or one that has changed since: the command without its changes
    if tuple(seeds) != default:
        row = seeds == list(range(len(seeds)))
        parts.append(f"--seeds={len(seeds) if row else ','.join(map(str, seeds)) + ('' if len(seeds) > 1 else ',')}")
    return shlex.join([*parts, f"--workdir=runs/{sweep.name}"])


def _changes(base: ConfigDict, config: Mapping) -> list[str]:
    """The flags that turn `base` into the recorded config."""
    there = config_lib.flatten(config_lib.from_json(config))
    here = config_lib.flatten(config_lib.resolve(base))
    return [f"--config.{name}={there[name]}" for name, about in config_lib.FIELDS.items()
            if about.identity and name != "seed" and there[name] != here[name]]
