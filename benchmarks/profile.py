"""The time breakdown of a training step from JAX's profiler: products, layer by layer, and everything else.

    python -m benchmarks.profile --out=benchmarks/results/profile.json
    python -m benchmarks.profile --only alexnet32 four-layer --batch 128

Uses one core by default (--threads): with several, instructions run in parallel and their times overlap.
Names are XLA's and JAX's: an instruction belongs to the layer in which its operation was traced. What the compiler
adds between layers (copies and transposes) has no layer's name and is listed separately.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from alexnet_jax.models import geometry
from benchmarks import command, contenders, networks, racing, rounds

PRODUCTS, LAYERS, LAYOUT, UPDATE, IMAGES, REST = (
    "convolutions and matrix products", "the layers' other arithmetic", "copies and transposes of the compiler's",
    "the optimiser's update", "crops, mirrors, colour noise", "loss and the rest")
_LIBRARY = ("cudnn", "cublas", "__onednn", "gemm")  # custom calls that are products
_LAYER = re.compile(r"/(" + "|".join((*geometry.CONVS, *geometry.DENSE, "fc8")) + r")\b")
_BANDED = re.compile(r"/conv\d\b.*/cond/.*dot_general")
_CONTROL = ("while", "conditional", "call")  # their bodies are counted


def kind_of(operation: str, where: str, attributes: str = "") -> str | None:
    """The kind of work of an instruction; None if it only contains others.

    Args:
      operation: XLA's, e.g. 'convolution'. where: JAX's `op_name`. attributes: the rest of its text.
    """
    if operation in _CONTROL:
        return None
    custom = operation == "custom-call" and any(name in attributes for name in _LIBRARY)
    # The norm's banded product is a `dot` too, but under `lax.platform_dependent`, unlike those of the layers.
    if operation == "convolution" or custom or (operation == "dot" and not _BANDED.search(where)):
        return PRODUCTS
    if _LAYER.search(where):
        return LAYERS
    if not where:
        return LAYOUT
    if "jvp(" not in where:
        return UPDATE
    return IMAGES if "/while/" in where or "/vmap(" in where or "/cond/" in where else REST


def layer_of(where: str) -> str:
    """'conv1', …, 'fc8', or '' outside the layers."""
    found = _LAYER.search(where)
    return found[1] if found else ""


def summarise(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """{'kinds': {kind: seconds}, 'layers': {layer: {'products', 'else'}}, 'dearest': [the five longest non-products]}.

    Args:
      rows: from `tracing.profile`: 'name', 'operation', 'where', 'attributes', 'shape', 'seconds' per step.
    """
    kinds = dict.fromkeys((PRODUCTS, LAYERS, LAYOUT, UPDATE, IMAGES, REST), 0.0)
    layers: dict[str, dict[str, float]] = {}
    others = []
    for row in rows:
        kind = kind_of(row["operation"], row["where"], row["attributes"])
        if kind is None:
            continue
        kinds[kind] += row["seconds"]
        layer = layer_of(row["where"])
        if layer:
            own = layers.setdefault(layer, {"products": 0.0, "else": 0.0})
            own["products" if kind == PRODUCTS else "else"] += row["seconds"]
        if kind != PRODUCTS:
            others.append({key: row[key] for key in ("name", "where", "shape", "seconds")} | {"kind": kind})
    others.sort(key=lambda row: -row["seconds"])
    return {"kinds": kinds, "layers": dict(sorted(layers.items())), "dearest": others[:5]}


def main(args) -> None:
    names = racing.chosen(args, (*networks.FULL, *networks.SMALL))
    result = command.begin("profile", args)
    cores = contenders.cores(args.threads)
    with contenders.Contender("ours", cores) as ours:
        command.device(result, (ours,), cores)
        gpu = result["device"]["platform"] != "cpu"
        precision = "bfloat16" if gpu else "float32"
        result["floor"] = command.floor(result, (ours,), precision)
        result["rows"] = []
        for name in names:
            batch = 8 if args.quick else args.batch
            command.say(f"{name}, batch {batch}, {precision}")
            ours.ask("setup", key=name, network=name, batch=batch, precision=precision, shrink=args.quick)
            config = networks.config_of(name, batch, precision, args.quick)
            flops: dict[str, float] = {}
            for x in networks.passes(config, config.model.classes, batch):
                flops[x.layer] = flops.get(x.layer, 0.0) + x.flops
            whole = [ours.ask("run", key=name, steps=1) for _ in range(args.rounds)]
            found = ours.ask("profile", key=name, steps=args.rounds)
            ours.ask("forget")
            result["rows"].append({"network": name, "batch": batch, "precision": precision, "flops": flops,
                                   "seconds": rounds.summary(whole), "unseen": sum(not x["seconds"] for x in found),
                                   **summarise(found)})
    command.finish(result, args, table)


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
    lines: list[str] = []
    for row in result["rows"]:
        total = sum(row["kinds"].values())
        title = (f"{row['network']}, {row['batch']} images, {row['precision']}: a step takes "
                 f"{1e3 * row['seconds']['median']:,.0f} ms; its instructions, under the profiler, "
                 f"{1e3 * total:,.0f} ms.")
        if row.get("unseen"):
            title += f" The profiler missed {row['unseen']} of the products: measure again."
        cells = [[kind, f"{1e3 * seconds:,.1f}", f"{seconds / total:.1%}"] for kind, seconds in row["kinds"].items()]
        lines += [title, "", *command.markdown(["what", "ms", "share"], cells), ""]
        cells = []
        for layer, own in row["layers"].items():
            rate = f"{row['flops'][layer] / own['products'] / 1e9:,.0f}" if own["products"] else "–"
            cells.append([layer, f"{1e3 * own['products']:,.1f}", rate, f"{1e3 * own['else']:,.1f}"])
        lines += [*command.markdown(["layer", "products, ms", "plain GFLOP/s", "other arithmetic, ms"], cells), ""]
        cells = [[x["kind"], _short(x["where"]), x["shape"].split("{")[0], f"{1e3 * x['seconds']:,.1f}"]
                 for x in row["dearest"]]
        lines += [*command.markdown(["the five dearest besides products", "where", "result", "ms"], cells), ""]
    return lines[:-1]


def _short(where: str) -> str:
    layer = layer_of(where)
    last = where.rsplit("/", 1)[-1]
    return (f"{layer}, {last}" + (", backward" if "transpose(jvp" in where else "")) if layer else last or "–"


if __name__ == "__main__":
    made = command.parser("profile", __doc__, rounds=3)
    made.add_argument("--only", nargs="+", metavar="NAME", default=["released", "released-no-lrn"],
                      help="networks of benchmarks.full or small (released with and without its norms)")
    made.add_argument("--batch", type=int, default=64, help="images (64)")
    made.set_defaults(threads=1)
    command.run(main, made)
