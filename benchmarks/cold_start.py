"""Cold start: `alexnet_jax.main` from the command to the end of its first step, with and without compiled programs.

    python -m benchmarks.cold_start --out=benchmarks/results/cold_start.json

The small run (configs/shapes.py) and the full network (configs/imagenet_released.py on synthetic images), each with an
empty compilation cache and with the one that this has filled. Images are packed before.
"""

from __future__ import annotations

import pathlib
import tempfile

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
                                   "warm": rounds.summary(warm)})
    command.finish(result, args, table)


def table(result: command.Result) -> list[str]:
    """Markdown of a result."""
    rows = [[row["config"], f"{row['batch']}", rounds.spread(row["cold"], 1), rounds.spread(row["warm"], 1)]
            for row in result["rows"]]
    return command.markdown(["`alexnet_jax.main` with", "batch", "first step, empty cache, s", "filled cache, s"], rows)


if __name__ == "__main__":
    command.run(main, command.parser("cold_start", __doc__, rounds=3))
