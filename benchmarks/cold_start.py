"""Cold start: `alexnet_jax.main` from the command to the end of its first step, with and without compiled programs.

    python -m benchmarks.cold_start --out=benchmarks/results/cold_start.json

The small run (configs/shapes.py) and the full network (configs/imagenet_released.py on synthetic images), each with an
empty and with a filled compilation cache. Images are packed beforehand. The breakdown of compilation time comes from
the runs' logs (last round). `--together=N` also starts N runs with different seeds at once on an empty cache, where
each program should be compiled by only one of them.
"""

from __future__ import annotations

import pathlib
import tempfile
from concurrent import futures
from typing import Any

from alexnet_jax import cli
from benchmarks import command, contenders, launch, networks, rounds, synthetic


def main(args) -> None:
    result = command.begin("cold_start", args)
    cores = contenders.cores(args.threads)
    with contenders.Contender("ours", cores) as ours:
        command.device(result, (ours,), cores)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        commands = {"configs/shapes.py": ["--config=configs/shapes.py", "--config.train.batch_size=64"]}
        if args.quick:
            commands["configs/shapes.py"] += [f"--config.{name}={value}" for name, value in networks.shrunk(
                cli.load_config("configs/shapes.py")).items()]
        else:
            (root / "store").mkdir()
            fields = synthetic.fields(root / "store", 256)
            for split in ("train", "val"):
                synthetic.make(root / "store", split, 256, 256)
            commands["configs/imagenet_released.py"] = [
                "--config=configs/imagenet_released.py", "--config.train.batch_size=64",
                *(f"--config.{name}={value}" for name, value in fields.items())]
        result["rows"] = []
        for number, (name, arguments) in enumerate(commands.items()):
            command.say(name)
            launch.launch([*arguments, f"--workdir={root / f'pack{number}'}"], 1, cores)  # packs the images
            cold: list[float] = []
            warm: list[float] = []
            for turn in range(args.rounds):
                cache = {"JAX_COMPILATION_CACHE_DIR": str(root / f"cache{number}-{turn}")}
                for which, seconds in (("cold", cold), ("warm", warm)):
                    workdir = root / f"run{number}-{turn}-{which}"
                    seconds.append(launch.launch([*arguments, f"--workdir={workdir}"], 1, cores, cache)["first"])
                command.say(f"round {turn + 1} of {args.rounds}: {cold[-1]:.1f} s, then {warm[-1]:.1f} s")
            result["rows"].append({"config": name, "batch": 64, "cold": rounds.summary(cold),
                                   "warm": rounds.summary(warm), "compiled": {which: _compiled(
                                       root / f"run{number}-{turn}-{which}") for which in ("cold", "warm")}})
            if args.together:
                result["rows"][-1]["together"] = _together(arguments, args.together, cores, root / f"together{number}")
    command.finish(result, args, table)


def _together(arguments: list[str], count: int, cores: list[int], folder: pathlib.Path) -> dict[str, Any]:
    """Seconds to each run's first step, and each run's log line about compilation."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    with futures.ThreadPoolExecutor(count) as pool:
        first = list(pool.map(lambda seed: launch.launch(
            [*arguments, f"--config.seed={seed}", f"--workdir={folder / str(seed)}"], 1, cores, cache)["first"],
            range(count)))
    return {"first": rounds.summary(first), "compiled": [_compiled(folder / str(seed)) for seed in range(count)]}


def _compiled(workdir: pathlib.Path) -> str:
    """The line about compilation in a run's log."""
    lines = (workdir / "log.txt").read_text("utf-8").splitlines()
    return ", ".join(line.partition(" compiled: ")[2] for line in lines if " compiled: " in line)


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    rows = [[row["config"], f"{row['batch']}", rounds.spread(row["cold"], 1), rounds.spread(row["warm"], 1)]
            for row in result["rows"]]
    lines = command.markdown(["`alexnet_jax.main` with", "batch", "first step, empty cache, s", "filled cache, s"],
                             rows)
    for row in result["rows"]:
        for which, text in row.get("compiled", {}).items():
            lines += ["", f"{row['config']}, {which}: {text}"]
        if together := row.get("together"):
            lines += ["", f"{row['config']}, {len(together['compiled'])} at once, empty cache: first step after "
                      f"{rounds.spread(together['first'], 1)} s"]
            lines += ["", *(f"- {text}" for text in together["compiled"])]
    return lines


if __name__ == "__main__":
    made = command.parser("cold_start", __doc__, rounds=3)
    made.add_argument("--together", type=int, default=0, help="runs that start at once, beside the others (0)")
    command.run(main, made)
