"""An epoch of training from the packed store compared with the bare step, in images/s; and the store's read rate.

    python -m benchmarks.epoch --out=benchmarks/results/epoch.json

CIFAR-10 (40,000 images, batch 128; the embedded shapes if ALEXNET_DATA_DIR has no CIFAR-10) with the 32-pixel
network, and synthetic 256-pixel images with the full network. The epoch is that of `training.loop.train`; the bare
step repeats one batch on the device. Both crop, mirror and add colour noise.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import tempfile
from typing import Any

from alexnet_jax import paths
from benchmarks import command, contenders, rounds, synthetic


def main(args) -> None:
    result = command.begin("epoch", args)
    cores = contenders.cores(args.threads)
    with contenders.Contender("ours", cores) as ours, tempfile.TemporaryDirectory() as folder:
        command.device(result, (ours,), cores)
        gpu = result["device"]["platform"] != "cpu"
        precision = "bfloat16" if gpu else "float32"
        result["rows"] = []
        for name, network, batch, changes in _cells(pathlib.Path(folder), args, gpu):
            command.say(f"{name}, batch {batch}, {precision}")
            spec = {"network": network, "batch": batch, "precision": precision, "shrink": args.quick}
            ours.ask("setup", key="bare", **spec, changes=changes)
            steps = rounds.enough(ours.ask("run", key="bare", steps=1), args.bare_seconds)
            found = rounds.alternate({
                "bare": functools.partial(_bare, ours, steps, batch),
                "epoch": functools.partial(ours.ask, "epoch", **spec, changes=changes),
            }, args.rounds, command.say, unit="images/s")
            reading: dict[str, Any] = {"network": network, "batch": batch, "changes": changes, "images": 8192}
            rates = {which: rounds.summary([ours.ask("read", **reading, cold=which == "cold")
                                            for _ in range(args.rounds)]) for which in ("cold", "warm")}
            # Small images are read by a single NumPy call, so a Python loop would be no fair comparison.
            threads = [_read_by(ours, number, reading, args.rounds) for number in (1, 2, 4, 8, 16)
                       if changes["data.name"] == synthetic.NAME]
            ours.ask("forget")
            result["rows"].append({
                "data": name, "network": network, "batch": batch, "precision": precision,
                "images_per_second": {key: rounds.summary(values) for key, values in found.items()},
                "cost": rounds.ratio(found["bare"], found["epoch"]), "read": rates, "threads": threads,
                "bytes_per_image": 3 * int(changes["data.size"])**2})
    command.finish(result, args, table)


def _bare(ours: contenders.Contender, steps: int, batch: int) -> float:
    return steps * batch / ours.ask("run", key="bare", steps=steps)


def _read_by(ours: contenders.Contender, threads: int, reading: dict[str, Any], turns: int) -> dict[str, Any]:
    """Rates with `threads` threads: the loader's, in turn with its baselines', and the ratios of the turns."""
    def ask(how: str, cold: bool):
        return functools.partial(ours.ask, "read", **reading, cold=cold, how=how, threads=threads)

    found: dict[str, Any] = {"threads": threads}
    # The loader and its baseline, by what is read.
    for which, others, cold in (("warm", {"copy": "copy", "warm requests": "requests"}, False),
                                ("cold", {"requests": "requests"}, True)):
        rates = rounds.alternate({which: ask("loader", cold)} | {name: ask(how, cold) for name, how in others.items()},
                                 turns, command.say, "images/s")
        found |= {name: rounds.summary(values) for name, values in rates.items()}
        found |= {f"{which} / {name}": rounds.ratio(rates[which], rates[name]) for name in others}
    return found


def _cells(root: pathlib.Path, args, gpu: bool) -> list[tuple[str, str, int, dict[str, Any]]]:
    """(title, network, batch, config fields) of each measurement."""
    cifar = os.environ.get("ALEXNET_DATA_DIR", "")
    folder = paths.given(cifar, "ALEXNET_DATA_DIR")
    there = any((folder / name).exists() for name in ("cifar-10-batches-bin", "cifar-10-binary.tar.gz"))
    images = args.images or (51_200 if gpu else 1_280)
    small: dict[str, Any] = {"data.size": 32, "data.name": "cifar10" if cifar and there else "shapes",
                             "checkpoint.every_seconds": 1e6}
    if small["data.name"] == "cifar10":
        small |= {"data.train_split": "train[:512]" if args.quick else "train[:40000]",
                  "data.eval_split": "train[40000:40256]"}
    else:
        small |= {"data.train_split": "train[:512]" if args.quick else "train", "data.eval_split": "test[:256]"}
    size = 64 if args.quick else 256
    images = 256 if args.quick else images
    large = synthetic.fields(root, size) | {"data.train_split": "train", "data.eval_split": "val",
                                            "checkpoint.every_seconds": 1e6}
    classes = 10 if args.quick else 1000
    synthetic.make(root, "train", images, size, classes)
    synthetic.make(root, "val", 64, size, classes)
    batch = 32 if args.quick else 1024 if gpu else 64
    return [(f"{'CIFAR-10' if cifar and there else 'shapes'}, 32 pixels", "alexnet32", 128, small),
            (f"{images:,} synthetic images of {size} pixels", "alexnet64" if args.quick else "released", batch, large)]


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    rows = []
    for row in result["rows"]:
        rate = {key: value["median"] for key, value in row["images_per_second"].items()}
        rows.append([row["data"], row["network"], f"{row['batch']}", row["precision"], f"{rate['bare']:,.0f}",
                     f"{rate['epoch']:,.0f}",
                     f"{100 * (row['cost']['median'] - 1):+.1f}% [{100 * (row['cost']['low'] - 1):+.1f}%, "
                     f"{100 * (row['cost']['high'] - 1):+.1f}%]",
                     *(f"{read:,.0f} ({read * row['bytes_per_image'] / 1e6:,.0f} MB/s)"
                       for read in (row["read"][which]["median"] for which in ("cold", "warm")))])
    read = [[row["data"], f"{each['threads']}",
             *(cell for which, others in (("warm", ("copy", "warm requests")), ("cold", ("requests",)))
               for cell in (f"{each[which]['median']:,.0f}", *itertools.chain.from_iterable(
                   (f"{each[name]['median']:,.0f}", rounds.spread(each[f"{which} / {name}"])) for name in others)))]
            for row in result["rows"] for each in row.get("threads", ())]
    by_threads = ["", *command.markdown(
        ["data", "threads", "in memory, images/s", "plain copy, images/s", "ratio", "plain parallel reads, images/s",
         "ratio", "not in memory, images/s", "plain parallel reads, images/s", "ratio"], read)] if read else []
    return [*command.markdown(["data", "network", "batch", "precision", "bare step, images/s", "epoch, images/s",
                               "cost of the input", "read, file not in memory, images/s", "read, in memory, images/s"],
                              rows), "",
            "Cost of the input: the time of an image in the epoch over that in the bare step, less 1; median "
            "[quartiles] of the rounds. Reading: the loader alone, in an epoch's order; whether the first column "
            "really reads the disk is the system's decision. The plain copy goes from memory to memory, without the "
            "system; the plain parallel reads are requests to it for an image each.", *by_threads]


if __name__ == "__main__":
    made = command.parser("epoch", __doc__, rounds=5)
    made.add_argument("--images", type=int, default=0, help="of 256 pixels; default 1,280 on a CPU, 51,200 on a GPU")
    made.add_argument("--bare_seconds", type=float, default=20.0, help="of the bare step in a round (20)")
    command.run(main, made)
