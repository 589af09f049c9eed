"""The command behind each row: the one that reproduces a measurement, or that would make it, and what it costs."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from experiments.analysis import protocol
from experiments.analysis.workdirs import Sweep, field
from experiments.claims import measures
from experiments.sweep import ablations, search
from experiments.sweep import sweep_file as sweep_lib
from experiments.sweep.arms import Arm

if TYPE_CHECKING:
    from experiments.claims.rows import Row

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The sweep that measures a claim where nothing is recorded yet; and those of cuda-convnet's
# conv-local networks and of runs that go on until the error stops improving.
SWEEP = "configs/sweeps/claims_cifar10.py"
LOCAL = "configs/sweeps/conv_local.py"
CONVERGENCE = "configs/sweeps/convergence.py"

_SWEEP = f"python -m experiments.run --sweep={SWEEP}"
_MAIN = "python -m alexnet_jax.main --config=configs/imagenet_released.py"
_ILSVRC = "no measurement: needs ILSVRC"
_STEPS, _BATCH = 910_819, 128  # of configs/imagenet_released.py
# A benchmark of the full network's training step (benchmarks/RESULTS.md).
_TIMED = ROOT / "benchmarks" / "results" / "full_one_core.json"

# What the logs have beyond the paper, in the order of the table; how to run it, where no arm does. The older variants
# differ from run 145 in more than their words say.
LOG_ROWS: dict[str, str] = {
    "150": "",
    "120": "", "131": "", "135": "",
    "132": "", "127": "", "128": "", "166": "", "167": "", "169": "", "170-quant": "",
    "177": f"{_MAIN} --config.model.dropout_layers=\"('conv4','fc6','fc7')\" --workdir=runs/177", "145 continued": "",
    "137": ""}
TOGETHER = {"132": ("133",), "169": ("170", "171", "174")}  # runs that share a row
_BLURRED = "no measurement: its third, blurred path (layers/layers-{}.cfg of the released source) is not built"
_WHY_NOT = {
    **{run: _BLURRED.format(run) for run in ("120", "128", "131", "135", "137")},
    "169": "no measurement: they are the log's own noise",
    "170-quant": "no measurement: sending quantised values is not built",
    "145 continued": "no measurement: needs ILSVRC and a rate that rises again"}
_OF_CHECKPOINTS = ("kernels", "retrieval", "2012-5")  # which records of sweeps are without
# Claims about checkpoints of that sweep's runs: the ablation that makes them.
_FROM_THE_SWEEP = {"kernels": "columns.exchange_everywhere", "retrieval": "views"}
# Claims that no arm measures: why there is no number, and the command.
_CLAIMS: dict[str, tuple[str, str, float]] = {  # id → (why, command, full trainings)
    "relu": ("no measurement",
             "python -m experiments.figure1 --workdir=runs/figure1 --record=experiments/results/figure1", 0),
    "2010": (f"{_ILSVRC}-2010, whose test labels were published; schedule and steps are those of 2012",
             f"{_MAIN} --config.data.name=image_folder:ilsvrc2010 --workdir=runs/imagenet_2010", 1),
    "2012": (_ILSVRC, f"{_MAIN} --workdir=runs/imagenet", 1),
    "2012-5": (_ILSVRC, "python -m experiments.run --config=configs/imagenet_released.py --ablations=views --seeds=5 "
               "--workdir=runs/imagenet_5", 5),
    "2012-pre": (f"{_ILSVRC} and the Fall 2011 release; a sixth convolutional layer is not built", "", 0),
    "2012-7": (f"{_ILSVRC} and the Fall 2011 release; a sixth convolutional layer is not built", "", 0),
    "time": (_ILSVRC, f"{_MAIN} --workdir=runs/imagenet", 1),
    "two-gpu-time": ("no measurement: compiled for two GPUs, not run; devices emulated on a CPU tell nothing of time",
                     "python -m alexnet_jax.describe --config=configs/imagenet_released.py --target=h100:1x2", 0),
    "kernels": ("no measurement of the checkpoints of a sweep",
                f"{_SWEEP} --ablations={_FROM_THE_SWEEP['kernels']} --workdir=runs/claims_cifar10 && "
                "python -m experiments.kernels --workdir=runs/claims_cifar10 --record=experiments/results/kernels", 0),
    "retrieval": ("no measurement of the checkpoints of a sweep",
                  f"{_SWEEP} --ablations={_FROM_THE_SWEEP['retrieval']} --workdir=runs/claims_cifar10 && "
                  "python -m experiments.retrieval --workdir=runs/claims_cifar10 "
                  "--record=experiments/results/retrieval", 0)}

_COSTS = {"relu": "a few epochs for each rate of the grid, then ten runs until 25% training error; not timed here"}
UNMEASURED = (*_CLAIMS, *(f"log-{run}" for run in LOG_ROWS if run not in ("150", "132", "127", "166", "167")))


def missing(start: Row, what: measures.Measure | None, sweeps: Sequence[tuple[pathlib.Path, Sweep]]) -> Row:
    """A row without a measurement: why, the command that makes one, and its estimated cost."""
    if what is None and start.id.startswith("log-"):
        run = start.id.removeprefix("log-")
        command = LOG_ROWS[run]
        return dataclasses.replace(start, why=_WHY_NOT.get(run, _ILSVRC), command=command,
                                   estimate=_trainings(1) if command else "")
    if what is None:
        why, command, trainings = _CLAIMS[start.id]
        estimate = _trainings(trainings) if trainings else _COSTS.get(start.id, "")
        if start.id in _FROM_THE_SWEEP:
            estimate = _of_part(_FROM_THE_SWEEP[start.id], sweeps)
        return dataclasses.replace(start, why=why, command=command, estimate=estimate)
    own = LOCAL if what.local else CONVERGENCE if what.quantity == "epochs" else ""
    if own:
        most = "at most " if what.quantity == "epochs" else ""
        return dataclasses.replace(start, why="no measurement", estimate=most + _of_whole(own, sweeps), command=(
            f"python -m experiments.run --sweep={own} --workdir=runs/{pathlib.PurePath(own).stem}"))
    command = f"{_SWEEP} --ablations={what.spec} --workdir=runs/claims_cifar10"
    why = "no measurement"
    if what.quantity == "gap" and any(_has(sweep, what) for _, sweep in sweeps):
        why = "no measurement: the recorded runs have no error on images learnt from (data.fit_split)"
    return dataclasses.replace(start, why=why, command=command, estimate=_of_part(what.spec, sweeps))


def _of_part(spec: str, sweeps: Sequence[tuple[pathlib.Path, Sweep]]) -> str:
    """What it costs to run an ablation of `SWEEP` with its baseline and the search of its rate."""
    sweep = sweep_lib.load(str(ROOT / SWEEP))
    base = _base(sweep)
    arms = ablations.arms_of([spec], base)
    epochs = _epochs(sweep, base, arms)
    if sweep.search is not None and search.wanted(arms):
        runs = search.stand(base, sweep.config, arms, sweep.search, None).plan.runs.values()
        epochs += sum(run.config["train"]["epochs"] for run in runs)
    return _estimate(base, epochs, sweeps)


def _of_whole(file: str, sweeps: Sequence[tuple[pathlib.Path, Sweep]]) -> str:
    """What a sweep file's runs cost, without a search."""
    sweep = sweep_lib.load(str(ROOT / file))
    base = _base(sweep)
    return _estimate(base, _epochs(sweep, base, [*ablations.arms_of(sweep.ablations, base), *sweep.arms]), sweeps)


def _base(sweep: sweep_lib.Sweep) -> ConfigDict:
    return config_lib.resolve(config_lib.override(cli.load_config(str(ROOT / sweep.config)), sweep.overrides))


def _epochs(sweep: sweep_lib.Sweep, base: ConfigDict, arms: Sequence[Arm]) -> int:
    """Of the arms and the baseline; arms that are one run count once."""
    trained = {config_lib.run_id(config_lib.override(base, arm.overrides)) for arm in arms} | {config_lib.run_id(base)}
    return len(trained) * len(sweep.seeds) * base.train.epochs


def _has(sweep: Sweep, what: measures.Measure) -> bool:
    """Has the sweep this arm, if not this quantity?"""
    return measures.measure(sweep, dataclasses.replace(what, quantity="error")) is not None


def _estimate(base: ConfigDict, epochs: int, sweeps: Sequence[tuple[pathlib.Path, Sweep]]) -> str:
    """Core-hours of so many epochs, by the times of recorded runs of the same data and network; else epochs."""
    layers = [f"model.{name}.features" for name in ("conv1", "conv3", "fc6")]
    like = {name: config_lib.flatten(base)[name] for name in ("data.name", "data.crop", "train.batch_size", *layers)}
    seconds = done = 0.0
    for run in {run.id: run for _, sweep in sweeps for run in sweep.runs.values()}.values():
        if (run.state == "finished" and run.seconds and protocol.platform(run.about) == "cpu"
                and all(field(run.config, name) == value for name, value in like.items())):
            seconds += run.seconds * protocol.units(run.about)
            done += field(run.config, "train.epochs")
    if not done:
        return f"{epochs:,} epochs, not timed here"
    return f"{epochs:,} epochs, about {_hours(seconds / done * epochs)}"


def _trainings(count: float) -> str:
    """Full trainings on ILSVRC: the paper's time, and core-hours at the speed that was recorded here."""
    text = f"{count * _STEPS:,.0f} steps; in the paper 5 to 6 days a network on two GTX 580"
    timed = run_files.read_json(_TIMED) or {}
    for row in timed.get("rows", []):
        if row["network"] == "released":
            an_image = row["seconds"]["ours"]["median"] / row["batch"] * timed["device"]["cores"]
            text += (f"; about {_hours(an_image * _BATCH * count * _STEPS)} of training steps at the speed of "
                     f"{_TIMED.relative_to(ROOT)}")
    return text


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.1f} core-hours" if hours < 100 else f"{round(hours, -2):,.0f} core-hours"


def of_file(claim: str, command: Any) -> str:
    """The command of a claim file; before it the sweep's that makes the checkpoints, where it looks into those."""
    text = str(command or "")
    folder = next((word.removeprefix("--workdir=") for word in text.split() if word.startswith("--workdir=runs/")), "")
    file = f"configs/sweeps/{pathlib.PurePath(folder).name}.py"
    if claim not in _OF_CHECKPOINTS or not folder or not (ROOT / file).exists():
        return text
    name = next((word.removeprefix("--arm=") for word in text.split() if word.startswith("--arm=")), "")
    sweep = sweep_lib.load(str(ROOT / file))
    arm = next((arm for arm in ablations.arms_of(sweep.ablations, _base(sweep)) if arm.name == name), None)
    spec = f"{arm.ablation}.{arm.name}" if arm is not None and arm.ablation else "views"  # which is the baseline alone
    return f"python -m experiments.run --sweep={file} --ablations={spec} --workdir={folder} && {text}"


def of_sweep(sweep: Sweep, what: measures.Measure) -> str:
    """The command that gives a recorded sweep again, every field of it."""
    file = f"configs/sweeps/{sweep.name}.py"
    known = (ROOT / file).exists()
    config = next((run.config for run in sweep.arm(sweep.baseline).runs.values()), {})
    seeds = sorted({run.seed for run in sweep.runs.values()})
    parts = ["python", "-m", "experiments.run", f"--sweep={file}" if known else f"--config={sweep.config}"]
    if not known:
        parts.append(f"--ablations={what.spec}")
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
        pass  # a config of one's own, or of another time: the command without its changes
    if tuple(seeds) != default:
        row = seeds == list(range(len(seeds)))
        parts.append(f"--seeds={len(seeds) if row else ','.join(map(str, seeds)) + ('' if len(seeds) > 1 else ',')}")
    return shlex.join([*parts, f"--workdir=runs/{sweep.name}"])


def _changes(base: ConfigDict, config: Mapping) -> list[str]:
    """The flags that make `base` the recorded config."""
    there = config_lib.flatten(config_lib.from_json(config))
    here = config_lib.flatten(config_lib.resolve(base))
    return [f"--config.{name}={there[name]}" for name, about in config_lib.FIELDS.items()
            if about.identity and name != "seed" and there[name] != here[name]]
