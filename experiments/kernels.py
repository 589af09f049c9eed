"""The paper's figure 3: the first layer's kernels by column, and how much of them is colour.

    python -m experiments.kernels --workdir=runs/kernels                    # a sweep, or one run's folder
    python -m experiments.kernels --results=experiments/results/kernels     # draws what is recorded

Draws `kernels.png` (of several arms `kernels_<arm>.png`), one row per run, and prints each column's colour share with
its permutation test (analysis/colour.py). Beside it `kernels.npz` keeps the kernels in half precision, so that numbers
and figure can be reproduced without a checkpoint; `--record` writes both together with `kernels.json`, the claim file.
With `--results` only the figure is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax import commands, files, run_files
from alexnet_jax.errors import CheckpointError, ConfigError, WorkdirError
from experiments import recording
from experiments.analysis import colour, packed, selection, verdicts
from experiments.analysis.protocol import caption, protocol
from experiments.analysis.workdirs import RECORDED, Arm, Sweep, read_run, read_sweep

Kernels = dict[str, dict[int, np.ndarray]]  # by arm and seed: [column, height, width, 3, kernel]


def gather(sweep, say) -> tuple[Kernels, dict[str, Any]]:
    """The kernels of every finished run with a checkpoint, and {arm: their runs}.

    Raises:
      CheckpointError: no run has one. ConfigError: images without colour, or two runs of an arm with the same seed.
    """
    from alexnet_jax.inspect.trained import Trained  # imports JAX

    kernels: Kernels = {}
    used: dict[str, list] = {}
    lost: list[str] = []
    for arm in (a for a in sweep.arms if not a.views):  # arms with views are the baseline's runs again
        for run in (r for _, r in sorted(arm.runs.items()) if r.state in run_files.USABLE):
            try:
                kernel = np.asarray(Trained(run.folder).params["conv1"]["kernel"], np.float16)
            except CheckpointError as error:
                lost.append(str(error))
                continue
            if kernel.ndim != 5 or kernel.shape[3] != 3:
                raise ConfigError(f"{run.folder}: its first layer doesn't take colour images (config.augment.grey)")
            if run.seed in kernels.setdefault(arm.name, {}):  # folders of runs of several configs
                raise ConfigError(f"{run.folder}: another of these runs has seed {run.seed} too, and the rows are told "
                                  "apart by their seeds; name the runs of each config in a command of their own")
            kernels[arm.name][run.seed] = kernel
            used.setdefault(arm.name, []).append(run)
    if not kernels:
        raise CheckpointError(lost[0] if lost else "none of these runs is finished")
    if lost:
        say(f"{len(lost)} runs are left out: {lost[0]}")
    return kernels, used


def beside(workdir: pathlib.Path, results: pathlib.Path = RECORDED) -> tuple[Kernels, str, str]:
    """(kernels, caption, their origin): from the workdir's kernels.npz, else from its baseline's first checkpoints (its
    own, for a run's folder), else the recorded ones."""
    if (workdir / "kernels.npz").exists():
        return *load(workdir / "kernels.npz"), f"Of {workdir.name}."
    sweep = _first_kept(workdir)
    if sweep is not None:
        with contextlib.suppress(CheckpointError, WorkdirError, ConfigError):  # unreadable, or trained on grey images
            kernels, _ = gather(sweep, lambda line: None)
            return kernels, caption(protocol(sweep, "centre")), f"Of {workdir.name}'s checkpoints."
    return *load(results / "kernels" / "kernels.npz"), (
        f"{workdir.name} has no kernels.npz and no checkpoint: these are the project's recorded ones.")


def _first_kept(workdir: pathlib.Path, most: int = 5) -> Sweep | None:
    """The sweep reduced to the baseline's first runs with checkpoints; None if there are none."""
    if packed.is_packed(workdir):
        return None
    whole = read_sweep(workdir) if (workdir / "plan.json").exists() else None
    arm = whole.arm(whole.baseline) if whole else Arm(workdir.name, "", {}, {0: read_run(workdir)})
    kept = [(seed, run) for seed, run in sorted(arm.runs.items()) if (run.folder / "checkpoints").is_dir()][:most]
    alone = dataclasses.replace(arm, runs=dict(kept))
    return Sweep(workdir.name, whole.config if whole else "", arm.name, [alone]) if kept else None


def save(path: pathlib.Path, kernels: Kernels, caption: str) -> None:
    arrays: dict[str, Any] = {f"{arm}/{seed}": k for arm, by in kernels.items() for seed, k in by.items()}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, caption=np.array(caption))


def load(path: pathlib.Path) -> tuple[Kernels, str]:
    """(kernels, caption) of a kernels.npz. Raises WorkdirError."""
    try:
        with np.load(path) as stored:
            kernels: Kernels = {}
            for name in stored.files:
                if name != "caption":
                    arm, _, seed = name.rpartition("/")
                    kernels.setdefault(arm, {})[int(seed)] = stored[name]
            return kernels, str(stored["caption"])
    except FileNotFoundError:
        raise WorkdirError(f"{path}: no such file; experiments.kernels --workdir=RUN --record=FOLDER writes "
                           "it") from None
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise WorkdirError(f"{path}: not a kernels.npz ({error})") from error


def measure(kernels: Kernels) -> dict[str, dict[int, colour.Separation]]:
    """{arm: {seed: separation}}, without arms of one column."""
    return {arm: {seed: colour.measure(k, seed) for seed, k in by.items()}
            for arm, by in kernels.items() if all(k.shape[0] > 1 for k in by.values())}


def table(measured: dict[str, dict[int, colour.Separation]]) -> str:
    lines = []
    for arm, by in measured.items():
        lines.append(f"{arm}: colour share by column; gap; gap under shuffling; p")
        for seed, s in by.items():
            columns = "  ".join(f"{c:.3f}" for c in s.columns)
            lines.append(f"  seed {seed}: {columns}   {s.gap:.3f}   {s.chance:.3f}   {s.p_value:.4f}")
        of = colour.answer(list(by.values()))
        interval = "" if of.excess.low is None else f" [{of.excess.low:+.3f}, {of.excess.high:+.3f}]"
        lines.append(f"  gap beyond chance {of.excess.mean:+.3f}{interval}; {of.significant} of {of.excess.n} runs "
                     f"p < 0.05; combined p {of.combined_p:.3g}; smoothness {of.smooth:.2f}")
    return "\n".join(lines)


CLAIM, CONTROL = "kernels.json", "control.json"


def write_claim(folder: pathlib.Path, arm: str, measured: dict[str, dict[int, colour.Separation]],
                about: dict[str, Any], hours: float | None, control: bool) -> pathlib.Path:
    """Writes kernels.json: the claim, and under "kernels" the numbers of each run of every arm.

    For a control, writes control.json without a verdict, which experiments.claims ignores: the claim is about the
    paper's own network.
    """
    of = colour.answer(list(measured[arm].values()))
    e = of.excess
    assert e.mean is not None
    interval = "" if e.low is None else f" [{e.low:+.2f}, {e.high:+.2f}]"
    text = (f"gap between the columns' colour shares beyond chance {e.mean:+.2f}{interval}; "
            f"p < 0.05 in {of.significant} of {e.n} runs")
    tree = recording.claim_file("kernels", recording.Measured(text, e.mean, e.low, e.high, "fraction", e.n),
                                verdicts.kernels(of), about, hours)
    tree["kernels"] = {name: {str(seed): dataclasses.asdict(s) for seed, s in by.items()}
                       for name, by in measured.items()}
    path = folder / (CONTROL if control else CLAIM)
    run_files.write_json(path, {key: tree[key] for key in ("schema", "measured", "protocol", "kernels")}
                       if control else tree)
    return path


def show(folder: pathlib.Path, kernels: Kernels, caption: str) -> list[pathlib.Path]:
    """Draws each arm and returns the files."""
    from experiments.figures import kernels as kernels_figure
    from experiments.figures import style

    measured, files = measure(kernels), []
    for arm, by in kernels.items():
        name = "kernels" if len(kernels) == 1 else f"kernels_{arm}"
        files.append(folder / f"{name}.png")
        style.save(kernels_figure.draw(by, measured.get(arm, {}), arm, caption), files[-1])
    return files


def main(argv: Sequence[str] | None = None) -> int:
    parser = selection.parser("experiments.kernels", __doc__)
    parser.add_argument("--results", type=pathlib.Path, help="a folder with kernels.npz, to draw again")
    options = parser.parse_args(argv)
    if options.results is not None:
        kernels, what = load(options.results / "kernels.npz")
        first = next(iter(kernels))
        folder = options.results
    else:
        sweep = selection.sweep_of(options)
        control = options.arm not in (None, sweep.baseline)  # the claim is about the paper's own network
        other = CLAIM if control else CONTROL
        if options.record is not None and (options.record / other).exists():
            raise ConfigError(f"--record={options.record}: holds {other} and its kernels; choose another folder for "
                              f"those of {options.arm or sweep.baseline}")
        if options.arm is not None:
            sweep = dataclasses.replace(sweep, baseline=options.arm, arms=[selection.arm_of(sweep, options.arm)])
        folder = selection.place(options)
        kernels, used = gather(sweep, lambda line: print(line, file=sys.stderr))
        first = next(name for name in (sweep.baseline, *kernels) if name in kernels)
        what = caption(protocol(sweep, "centre"))
        save(folder / "kernels.npz", kernels, what)
    measured = measure(kernels)
    print(table(measured) or "one column: nothing to separate")
    if first in measured:
        verdict = verdicts.kernels(colour.answer(list(measured[first].values())))
        print(f"{verdict.word}: {verdict.why}")
    if options.results is None and options.record is not None and first in measured:
        about, hours = recording.about(selection.only(sweep, sweep.arm(first), used[first]),
                                       selection.command("experiments.kernels", argv))
        print(write_claim(folder, first, measured, about, hours, control))
    for path in show(folder, kernels, what):
        print(path)
    return 0


if __name__ == "__main__":
    commands.run_main(main)
