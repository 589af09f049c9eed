"""Lower bounds, without running: the minimal cost of each layer on an H100 and a TPU v5e, and of their exchanges.

    python -m benchmarks.roofline                 # the full network, released recipe, 128 images per replica
    python -m benchmarks.roofline --recipe=paper --batch=1024
    python -m benchmarks.roofline --compiled      # the exchanges in XLA's compiled programs (targets-cuda, -tpu)

Times are calculated from the layers' shapes and the vendors' peak figures; they are not measured, and no program
reaches them. A product takes the longer of its arithmetic and its memory traffic (`networks.passes`). Exchanges are
those of the network's definition; --compiled compiles the training step and counts those in it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

from alexnet_jax.errors import UserError
from alexnet_jax.parallel import column_costs
from benchmarks import command, networks


@dataclasses.dataclass(frozen=True)
class Card:
    """An accelerator's peak figures from its vendor: dense bfloat16, memory, and links in one direction."""

    title: str
    flops_per_second: float
    bytes_per_second: float
    link_bytes_per_second: float
    link: str
    source: str


CARDS = {
    # SXM column: 1,979 bfloat16 TFLOP/s "with sparsity", half of it dense; NVLink 900 GB/s for both directions.
    "h100": Card("NVIDIA H100 SXM", 989.5e12, 3.35e12, 450e9, "NVLink, 450 GB/s in each direction",
                 "NVIDIA, H100 Tensor Core GPU data sheet, https://www.nvidia.com/en-us/data-center/h100/"),
    # "Interchip Interconnect BW 1600 Gbps", elsewhere on that site 400 GB/s for both directions: four links of 50 GB/s.
    "v5e": Card("TPU v5e", 197e12, 819e9, 200e9, "ICI, 1,600 Gbit/s a chip in each direction, its four links together",
                "Google Cloud, TPU v5e, https://cloud.google.com/tpu/docs/v5e"),
}
MESHES = ((1, 2), (4, 2), (128, 2))
_PASSES = ("forward", "weight gradient", "input gradient", "update")


def layers(config, batch: int, card: Card, devices: int = 1) -> list[dict[str, Any]]:
    """One dict per layer: 'layer', 'flops', 'bytes', seconds by pass, 'seconds', and 'bound' of the forward pass."""
    out: dict[str, dict[str, Any]] = {}
    for x in networks.passes(config, config.model.classes, batch, devices):
        row = out.setdefault(x.layer, {"layer": x.layer, "flops": 0.0, "bytes": 0.0, "seconds": 0.0,
                                       **dict.fromkeys(_PASSES, 0.0)})
        seconds = x.seconds(card.flops_per_second, card.bytes_per_second)
        row["flops"] += x.flops
        row["bytes"] += x.bytes
        row["seconds"] += seconds
        row[x.name] += seconds
        if x.name == "forward":
            row["bound"] = "arithmetic" if x.flops / card.flops_per_second == seconds else "memory"
    return list(out.values())


def exchanges(config, batch: int, data: int, column: int, card: Card) -> list[dict[str, Any]]:
    """A device's communication in a training step on a mesh: 'what', 'collective', 'over', 'bytes' sent, 'seconds'.

    These are gathers and their transposes, from `column_costs.exchanges`; the all-reduce of the logits; and that of the
    gradients over replicas, in float32, as a ring that sends 2 (n − 1) / n of them.
    """
    out = []

    def add(what: str, collective: str, over: str, sent: float) -> None:
        out.append({"what": what, "collective": collective, "over": over, "bytes": sent,
                    "seconds": sent / card.link_bytes_per_second})

    for x in column_costs.exchanges(config, config.model.classes, column):
        if x.collective == "all-gather":
            add(x.layer, "all-gather", "column", batch * x.handed_in * (column - 1))
            add(x.layer, "reduce-scatter", "column", batch * x.backward)
        else:
            add(x.layer, "all-reduce", "column", batch * x.handed_in * 2 * (column - 1) / column)
    if data > 1:
        weights = column_costs.per_device(config, config.model.classes, column)["parameters"]
        add("gradients", "all-reduce", "data", 4 * weights * 2 * (data - 1) / data)
    return out


def main(args) -> None:
    result = command.begin("roofline", args)
    batch = args.batch
    config = networks.config_of(args.recipe, batch, "bfloat16", args.quick)
    result |= {"recipe": args.recipe, "batch": batch, "cards": {}}
    for name, card in CARDS.items():
        entry: dict[str, Any] = {"card": dataclasses.asdict(card), "layers": layers(config, batch, card), "meshes": []}
        for data, column in MESHES:
            own = layers(config, batch, card, column)
            entry["meshes"].append({
                "data": data, "column": column, "seconds": sum(row["seconds"] for row in own),
                "exchanges": exchanges(config, batch, data, column, card)})
        if args.compiled:
            for mesh in entry["meshes"]:
                mesh["compiled"] = _compile(f"{name}:{mesh['data']}x{mesh['column']}", args.recipe, batch)
        result["cards"][name] = entry
    command.finish(result, args, table)


# In a separate process: a process can compile for only one kind of accelerator.
_SCRIPT = """
import json, sys
from alexnet_jax import config as config_lib
from alexnet_jax.inspect import targets
from benchmarks import networks
target = targets.parse(sys.argv[1])
targets.prepare(target)
from alexnet_jax.inspect.targets import compiling, report
import importlib.metadata
batch = int(sys.argv[3]) * target.data
config = networks.config_of(sys.argv[2], batch, "bfloat16")
program = compiling.program_for(config, config.model.classes, target)
done = compiling.compile_program(program, "step", target)
print(json.dumps({"collectives": [[x.kind, axis, report.place(x, axis), x.handed_in, x.received]
                                  for x, axis in zip(done.collectives, done.axes)],
                  "memory": done.memory.total, "jax": importlib.metadata.version("jax")}))
"""


def _compile(target: str, recipe: str, batch: int) -> dict[str, Any]:
    command.say(f"compiling for {target} …")
    done = subprocess.run([sys.executable, "-c", _SCRIPT, target, recipe, str(batch)], capture_output=True,
                          encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"--compiled: {target}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    compiled = any("compiled" in mesh for entry in result["cards"].values() for mesh in entry["meshes"])
    label = "Compiled, not run" if compiled else "Calculated, neither compiled nor run"
    lines = [f"**{label}.** The full network, recipe `{result['recipe']}`, bfloat16, {result['batch']} images a "
             "replica. Times are what the makers' peak figures allow, nobody measured them. Exchanges "
             "are taken to have all of a device's links to themselves and to cost nothing but their bytes: two TPUs "
             "side by side have one link of the four, and 256 H100 are on one NVLink network only with switches that "
             "few have.", ""]
    for name, entry in result["cards"].items():
        card = entry["card"]
        lines += [f"{card['title']}: {card['flops_per_second'] / 1e12:,.0f} TFLOP/s, "
                  f"{card['bytes_per_second'] / 1e9:,.0f} GB/s, {card['link']} ({card['source']}). One device:", ""]
        rows = [[row["layer"], f"{row['flops'] / 1e9:,.1f}", f"{row['bytes'] / 1e6:,.1f}",
                 *(f"{1e6 * row[key]:,.1f}" if row[key] else "–" for key in _PASSES), f"{1e6 * row['seconds']:,.1f}",
                 row["bound"]] for row in entry["layers"]]
        total = {key: sum(row[key] for row in entry["layers"]) for key in ("flops", "bytes", *_PASSES, "seconds")}
        rows.append(["total", f"{total['flops'] / 1e9:,.1f}", f"{total['bytes'] / 1e6:,.1f}",
                     *(f"{1e6 * total[key]:,.1f}" for key in _PASSES), f"{1e6 * total['seconds']:,.1f}", ""])
        lines += [*command.markdown(["layer", "GFLOP", "MB", *(f"{key}, µs" for key in _PASSES), "step, µs",
                                     "forward is bound by"], rows), ""]
        rows = []
        for mesh in entry["meshes"]:
            shape = f"{mesh['data']}×{mesh['column']}"
            for x in mesh["exchanges"]:
                rows.append([shape, x["what"], x["collective"], x["over"], f"{x['bytes'] / 1e6:,.2f}",
                             f"{1e6 * x['seconds']:,.1f}"])
            moved = sum(x["seconds"] for x in mesh["exchanges"])
            rows.append([shape, "all exchanges", "", "", f"{sum(x['bytes'] for x in mesh['exchanges']) / 1e6:,.2f}",
                         f"{1e6 * moved:,.1f}"])
            rows.append([shape, "computing", "", "", "", f"{1e6 * mesh['seconds']:,.1f}"])
        lines += [*command.markdown(["devices", "what", "collective", "over", "a device sends, MB", "µs"], rows), ""]
        for mesh in entry["meshes"]:
            if "compiled" in mesh:
                shape = f"{name}:{mesh['data']}x{mesh['column']}"
                lines += [f"{shape}, training step as compiled (jax {mesh['compiled']['jax']}): "
                          f"{len(mesh['compiled']['collectives'])} collectives, {mesh['compiled']['memory']:,} bytes a "
                          "device", ""]
                lines += [*command.markdown(
                    ["collective", "over", "where", "handed in, bytes", "received, bytes"],
                    [[kind, over, where, f"{handed:,}", f"{got:,}"]
                     for kind, over, where, handed, got in mesh["compiled"]["collectives"]]), ""]
    return lines[:-1]


if __name__ == "__main__":
    made = command.parser("roofline", __doc__, rounds=1)
    made.add_argument("--recipe", choices=networks.RECIPES, default="released")
    made.add_argument("--batch", type=int, default=128, help="images a replica (128)")
    made.add_argument("--compiled", action="store_true", help="compile for the meshes too, some minutes")
    command.run(main, made)
