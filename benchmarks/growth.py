"""How the cost of a step scales with batch, columns, (emulated) devices, and the number of images in the dataset.

    python -m benchmarks.growth --out=benchmarks/results/growth.json

Batch and columns: the 32-pixel network. Devices: the same on one and on two devices of this machine; on a CPU both are
emulated on the same cores. Dataset: runs of `alexnet_jax.main` on sparse stores of 10,000 to 1,281,167 black 256-pixel
images; neither the process's memory nor the step time may depend on their number.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from benchmarks import command, contenders, launch, networks, rounds, synthetic

SIZES = (10_000, 100_000, 1_281_167)


def main(args) -> None:
    result = command.begin("growth", args)
    cores = contenders.cores(args.threads)
    emulate = {"JAX_NUM_CPU_DEVICES": "2"}
    with contenders.Contender("ours", cores) as ours, contenders.Contender("ours", cores, emulate) as two:
        command.device(result, (ours,), cores)
        gpu = result["device"]["platform"] != "cpu"
        precision = "bfloat16" if gpu else "float32"
        batches = [8, 16] if args.quick else [128, 256, 512, 1024, 2048, 4096] if gpu else [32, 64, 128, 256, 512]
        base = 16 if args.quick else 1024 if gpu else 128
        one = {"mesh.data": "1", "mesh.column": "1"}
        result["batch"] = _compare(args, {
            str(batch): (ours, batch, one) for batch in batches}, precision)
        result["columns"] = _compare(args, {
            str(columns): (ours, base, {"model.columns": columns, **one}) for columns in (1, 2, 4)}, precision)
        if not gpu or two.ask("about")["count"] > 1:
            result["devices"] = _compare(args, {
                "1": (ours, base, one), "2 columns": (two, base, {"mesh.data": "1", "mesh.column": "2"}),
                "2 replicas": (two, base, {"mesh.data": "2", "mesh.column": "1"})}, precision)
    result["dataset"] = _dataset(args, cores)
    command.finish(result, args, table)


def _compare(args, cells: dict[str, tuple[contenders.Contender, int, dict[str, Any]]], precision: str
             ) -> list[dict[str, Any]]:
    turns = {}
    for key, (child, batch, changes) in cells.items():
        command.say(f"setting up {key}")
        child.ask("setup", key=key, network="alexnet32", batch=batch, precision=precision, shrink=args.quick,
                  changes=changes)
        steps = rounds.enough(child.ask("run", key=key, steps=1), args.round_seconds)
        turns[key] = lambda child=child, key=key, steps=steps: child.ask("run", key=key, steps=steps) / steps
    found = rounds.alternate(turns, args.rounds, command.say)
    for child in {id(child): child for child, _, _ in cells.values()}.values():
        child.ask("forget")
    out = []
    for key, (_, batch, changes) in cells.items():
        config = networks.config_of("alexnet32", batch, precision, args.quick, changes)
        out.append({"what": key, "batch": batch, "seconds": rounds.summary(found[key]),
                    "flops": networks.step_flops(config, config.model.classes, batch)})
    return out


def _dataset(args, cores: list[int]) -> list[dict[str, Any]]:
    """Every size in turn, `rounds` times, each run in its own process."""
    sizes = SIZES[:1] if args.quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        arguments = {}
        for count in sizes:
            store = root / f"store{count}"
            store.mkdir()
            synthetic.make(store, "train", count, 256, sparse=True)
            synthetic.make(store, "val", 64, 256)
            # A network with little arithmetic, so that the host's work is visible.
            fields = synthetic.fields(store, 256) | {f"model.conv{i}.features": 8 for i in range(1, 6)} | {
                "model.fc6.features": 64, "model.fc7.features": 64, "model.lrn.layers": (), "train.batch_size": 32,
                "model.same_map.layers": (), "data.crop": 64}
            arguments[str(count)] = ["--config=configs/imagenet_released.py",
                                     *(f"--config.{name}={value}" for name, value in fields.items())]
        steps = 8 if args.quick else args.steps
        reports: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments}
        for turn in range(args.rounds):
            for name, given in arguments.items():
                workdir = root / f"run{name}-{turn}"
                reports[name].append(launch.launch([*given, f"--workdir={workdir}"], steps, cores))
                command.say(f"{int(name):,} images, round {turn + 1}: {reports[name][-1]}")
        return [{"images": int(name), "steps": steps, "batch": 32,
                 "seconds": rounds.summary([report["step"] for report in found]),
                 "first": rounds.summary([report["first"] for report in found]),
                 "memory": {kind: rounds.summary([report["memory"][kind] for report in found])
                            for kind in found[0]["memory"]}} for name, found in reports.items()]


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    lines = []
    for group, header in (("batch", "batch"), ("columns", "columns"), ("devices", "devices")):
        if group in result:
            rows = [[row["what"], f"{1e3 * row['seconds']['median']:,.1f}",
                     f"{1e3 * row['seconds']['low']:,.1f} to {1e3 * row['seconds']['high']:,.1f}",
                     f"{row['batch'] / row['seconds']['median']:,.0f}",
                     f"{row['flops'] / row['seconds']['median'] / 1e9:,.0f}"] for row in result[group]]
            lines += [*command.markdown([header, "a step, ms", "quartiles, ms", "images/s", "GFLOP/s"], rows), ""]
    rows = []
    for row in result["dataset"]:
        memory = [f"{row['memory'][kind]['median'] / 1e6:,.0f}" if kind in row["memory"] else "–"
                  for kind in ("RssAnon", "RssFile")]
        rows.append([f"{row['images']:,}", f"{1e3 * row['seconds']['median']:,.1f}",
                     f"{1e3 * row['seconds']['low']:,.1f} to {1e3 * row['seconds']['high']:,.1f}",
                     f"{row['first']['median']:,.1f}", *memory])
    return [*lines, *command.markdown(
        ["images of 256 pixels", "a step, ms", "quartiles, ms", "command to first step, s", "own memory, MB",
         "files in memory, MB"], rows), "",
        f"The last table: {result['dataset'][0]['steps']} steps of 32 images with a network of 8 kernels a layer on "
        "crops of 64 pixels; 'files in memory' are mapped pages of the store and of libraries, which the system takes "
        "back when it needs them."]


if __name__ == "__main__":
    made = command.parser("growth", __doc__, rounds=5)
    made.add_argument("--steps", type=int, default=60, help="of a run on each dataset (60)")
    command.run(main, made)
