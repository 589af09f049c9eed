"""Training steps of several networks, this project's and PyTorch's in turn: what `full` and `small` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks import command, contenders, networks, rounds

# PyTorch as its users have it, and at the best that was found for it: this project's settings of the memory allocator
# (`environment.allocator`) and, where there is a norm, a faster form of it.
STOCK, BEST = "PyTorch", "PyTorch, tuned"


def script(name: str, doc: str | None, names: Sequence[str], on_cpu: Sequence[int], on_gpu: Sequence[int],
           rounds: int) -> None:
    """The entry point of a benchmark that lets `names` race, with these batches on a CPU and on a GPU."""
    parser = command.parser(name, doc, rounds)
    add_flags(parser)

    def main(args: argparse.Namespace) -> None:
        command.finish(race(name, args, chosen(args, names), on_cpu, on_gpu), args, table)

    command.run(main, parser)


def race(name: str, args: argparse.Namespace, names: Sequence[str], on_cpu: Sequence[int], on_gpu: Sequence[int]
         ) -> command.Result:
    """Runs all networks with the batches of `args.batch`, or those of the device; the result for `command.finish`."""
    result = command.begin(name, args)
    cores = contenders.cores(args.threads)
    with (contenders.Contender("ours", cores) as ours, contenders.Contender("torch", cores) as torch,
          contenders.Contender("torch", cores, {"GLIBC_TUNABLES": ""}) as plain):
        command.device(result, (ours, torch), cores)
        gpu = result["device"]["platform"] != "cpu"
        precision = args.precision or ("bfloat16" if gpu else "float32")
        command.floor(result, (ours, torch), precision)
        batches = [8] if args.quick else args.batch or (on_gpu if gpu else on_cpu)
        result["rows"] = [_cell(args, (ours, plain, torch), network, batch, precision, gpu, result["floor"])
                          for network in names for batch in batches]
    return result


def _cell(args: argparse.Namespace, children: Sequence[contenders.Contender], network: str, batch: int, precision: str,
          gpu: bool, floor: dict[str, Any]) -> dict[str, Any]:
    ours, plain, torch = children
    command.say(f"{network}, batch {batch}, {precision}")
    spec = {"network": network, "batch": batch, "precision": precision, "shrink": args.quick}
    config = networks.config_of(network, batch, precision, args.quick)
    compiled = gpu or args.torch_compile
    norm = "banded" if config.model.lrn.layers else "stock"
    sides = {"ours": (ours, {}), STOCK: (plain, {"norm": "stock", "compiled": compiled}),
             BEST: (torch, {"norm": norm, "compiled": compiled})}
    seconds_to_set_up, turns = {}, {}
    for key, (child, more) in sides.items():
        seconds_to_set_up[key] = child.ask("setup", key=key, **spec, **more)
        steps = rounds.enough(child.ask("run", key=key, steps=1), args.round_seconds)
        turns[key] = lambda child=child, key=key, steps=steps: child.ask("run", key=key, steps=steps) / steps
    found = rounds.alternate(turns, args.rounds, command.say)
    losses = {key: child.ask("loss", key=key) for key, (child, _) in sides.items()}
    for child in children:
        child.ask("forget")
    work = networks.passes(config, config.model.classes, batch)
    flops = sum(x.flops for x in work)
    least = networks.floor_seconds(work, floor["flops_per_second"], floor["bytes_per_second"])
    row: dict[str, Any] = {
        "network": network, "batch": batch, "precision": precision, "flops": flops, "floor_seconds": least,
        "seconds": {key: rounds.summary(values) for key, values in found.items()},
        "ratio": {key: rounds.ratio(found[key], found["ours"]) for key in found if key != "ours"},
        "set_up_seconds": seconds_to_set_up, "loss": losses, "compiled": compiled}
    return row


def table(result: command.Result) -> list[str]:
    """Markdown of a result."""
    rows = []
    for row in result["rows"]:
        seconds = {key: value["median"] for key, value in row["seconds"].items()}
        mine = seconds["ours"]
        theirs = min(value for key, value in seconds.items() if key != "ours")
        rows.append([
            row["network"], f"{row['batch']:,}", row["precision"], f"{1e3 * mine:,.1f}", f"{1e3 * seconds[STOCK]:,.1f}",
            f"{1e3 * seconds[BEST]:,.1f}", rounds.spread(row["ratio"][STOCK]), rounds.spread(row["ratio"][BEST]),
            f"{row['batch'] / mine:,.0f}",
            f"{row['flops'] / mine / 1e9:,.0f}", f"{1e3 * row['floor_seconds']:,.1f}",
            f"{100 * row['floor_seconds'] / mine:.0f}%", f"{100 * row['floor_seconds'] / theirs:.0f}%"])
    header = ["network", "batch", "precision", "ours, ms", f"{STOCK}, ms", f"{BEST}, ms", f"{STOCK} / ours",
              f"{BEST} / ours", "ours, images/s", "ours, GFLOP/s", "floor, ms", "ours reaches",
              "PyTorch's best reaches"]
    return [*command.markdown(header, rows), "",
            "Medians of the rounds; ratios: median [quartiles] of the rounds' own ratios, above 1 where this project "
            "is faster. Tuned: with this project's memory allocator settings and, where there is a norm, as a banded "
            "1×1 convolution. Ours includes crops, mirrors and colour noise; PyTorch's inputs lie ready. Floor: the "
            "larger of arithmetic and memory traffic of each layer's products and of the update, at the rates above, "
            "for plain convolutions; ours on a CPU go by Winograd's algorithm, with fewer multiplications."]


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, nargs="*", help="images a step")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: float32 on a CPU, else bfloat16")
    parser.add_argument("--only", nargs="*", help="names of networks, to measure only these")
    parser.add_argument("--torch_compile", action="store_true", help="torch.compile on a CPU too")


def chosen(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """`names`, or those of --only. Raises UserError for an unknown one."""
    unknown = [name for name in args.only or () if name not in names]
    if unknown:
        raise command.UserError(f"--only={unknown[0]}: no such network; valid: {', '.join(names)}")
    return list(args.only or names)
