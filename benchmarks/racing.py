"""Training steps of several networks, this project and PyTorch in turn: the common part of `full` and `small`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alexnet_jax.errors import UserError
from benchmarks import command, contenders, networks, rounds

# PyTorch with default settings, and with the fastest ones known: this project's settings of the memory allocator
# (`environment.allocator`) and a faster form of the norm, if there is one.
STOCK, BEST = "PyTorch", "PyTorch, tuned"


def script(name: str, doc: str | None, names: Sequence[str], on_cpu: Sequence[int], on_gpu: Sequence[int],
           rounds: int) -> None:
    """The entry point of a benchmark of the networks `names`, with these batches on a CPU and on a GPU."""
    parser = command.parser(name, doc, rounds)
    add_flags(parser)

    def main(args: argparse.Namespace) -> None:
        command.finish(race(name, args, chosen(args, names), on_cpu, on_gpu), args, table)

    command.run(main, parser)


def race(name: str, args: argparse.Namespace, names: Sequence[str], on_cpu: Sequence[int], on_gpu: Sequence[int]
         ) -> command.Result:
    """Runs all networks with the batches `args.batch`, by default the device's; the result is for `command.finish`.

    Each network has new processes, as each run of training has: a process that has compiled other networks before has a
    heap in pieces, and its steps take longer.
    """
    result = command.begin(name, args)
    cores = contenders.cores(args.threads)
    with _processes(cores) as children:
        both = children["ours"], children[BEST]
        command.device(result, both, cores)
        gpu = result["device"]["platform"] != "cpu"
        precision = args.precision or ("bfloat16" if gpu else "float32")
        result["floor"] = command.floor(result, both, precision)
    batches = [8] if args.quick else args.batch or (on_gpu if gpu else on_cpu)
    result["rows"] = []
    for cell in [Cell(network, batch, precision) for network in names for batch in batches]:
        with _processes(cores) as children:
            row = measure(args, children, cell, gpu or args.torch_compile)
        for message in row["missing"].values():
            raise UserError(message)
        result["rows"].append(row | {"floor_seconds": cell.least(result["floor"], args.quick)})
    return result


@contextlib.contextmanager
def _processes(cores: list[int]) -> Iterator[dict[str, contenders.Contender]]:
    """New children, for `measure`."""
    with (contenders.Contender("ours", cores) as ours, contenders.Contender("torch", cores) as torch,
          contenders.Contender("torch", cores, {"GLIBC_TUNABLES": ""}) as plain):
        yield {"ours": ours, STOCK: plain, BEST: torch}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A training step to measure.

    Args:
      precision: one of `networks.PRECISIONS`. resident: run ours as training does on accelerators, with the images on
        the device and many steps per call.
    """

    network: str
    batch: int
    precision: str
    resident: bool = False

    def least(self, floor: Mapping[str, Any], shrink: bool = False) -> float:
        """Minimal seconds per step at the rates of `command.floor`."""
        config = networks.config_of(self.network, self.batch, self.precision, shrink)
        return networks.floor_seconds(networks.passes(config, config.model.classes, self.batch),
                                      floor["flops_per_second"], floor["bytes_per_second"])


def measure(args: argparse.Namespace, children: Mapping[str, contenders.Contender], cell: Cell, compiled: bool,
            limit: float | None = None) -> dict[str, Any]:
    """The row of a cell. The children's earlier setups are freed; the new one remains, as `cell.network`.

    All compile in parallel, and the turns begin when all have finished. A peer that fails is left out of the row, with
    its message under 'missing'.

    Args:
      children: 'ours', and `STOCK` and `BEST` if there is a peer. compiled: use torch.compile.
      limit: timeout of an answer, in seconds.

    Raises:
      UserError: ours failed.
    """
    command.say(f"{cell.network}, batch {cell.batch}, {cell.precision}")
    config = networks.config_of(cell.network, cell.batch, cell.precision, args.quick)
    spec = {"network": cell.network, "batch": cell.batch, "precision": cell.precision, "shrink": args.quick}
    peer = {"compiled": compiled}
    more: dict[str, dict[str, Any]] = {"ours": {"resident": cell.resident}, STOCK: {**peer, "norm": "stock"},
            BEST: {**peer, "norm": "banded" if config.model.lrn.layers else "stock"}}
    for child in children.values():
        child.ask("forget", limit)
    for side, child in children.items():
        child.begin("setup", limit, key=cell.network, **spec, **more[side])
    set_up: dict[str, float] = {}
    missing: dict[str, str] = {}
    for side, child in children.items():  # read every answer, even if another failed
        try:
            set_up[side] = child.answer()
        except UserError as error:
            missing[side] = str(error)
    if "ours" in missing:
        raise UserError(missing["ours"])
    turns = {}
    for side in set_up:
        ask = functools.partial(children[side].ask, "run", key=cell.network)
        ask(timeout=limit, steps=1)  # the first without others at work, in which PyTorch chooses its algorithms
        steps = rounds.enough(ask(timeout=limit, steps=1), args.round_seconds)
        turns[side] = lambda ask=ask, steps=steps: ask(timeout=limit, steps=steps) / steps
    found = rounds.alternate(turns, args.rounds, command.say)
    return {
        **dataclasses.asdict(cell), "flops": networks.step_flops(config, config.model.classes, cell.batch),
        "seconds": {side: rounds.summary(values) for side, values in found.items()},
        "ratio": {side: rounds.ratio(found[side], found["ours"]) for side in found if side != "ours"},
        "set_up_seconds": set_up, "compiled": compiled, "missing": missing,
        "loss": {side: children[side].ask("loss", limit, key=cell.network) for side in set_up}}


def table(result: command.Result) -> list[str]:
    """The result as Markdown."""
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
    parser.add_argument("--precision", choices=networks.PRECISIONS, help="default: float32 on a CPU, else bfloat16")
    parser.add_argument("--only", nargs="*", help="names of networks, to measure only these")
    parser.add_argument("--torch_compile", action="store_true", help="torch.compile on a CPU too")


def chosen(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """The names of --only, by default all. Raises UserError for an unknown one."""
    unknown = [name for name in args.only or () if name not in names]
    if unknown:
        raise UserError(f"--only={unknown[0]}: no such network; valid: {', '.join(names)}")
    return list(args.only or names)
