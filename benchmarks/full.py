"""A training step of the full network, each recipe, with and without LRN, beside PyTorch.

    python -m benchmarks.full --out=benchmarks/results/full.json
    python -m benchmarks.full --only paper --batch 64 128

Batch 64 on a CPU, 128, 512 and 2048 on a GPU, unless told. About half a minute a network and round on two cores.
"""

from benchmarks import command, networks, racing

table = racing.table


def main(args) -> None:
    cells = [(name, 0) for name in racing.chosen(args, networks.FULL)]
    command.finish(racing.race("full", args, cells), args, table)


if __name__ == "__main__":
    made = command.parser("full", __doc__, rounds=7)
    racing.add_flags(made)
    command.run(main, made)
