"""A training step of the 32- and 64-pixel networks, the four-layer net and the conv-local nets, beside PyTorch.

    python -m benchmarks.small --out=benchmarks/results/small.json

Batch 128 on a CPU, 128 and 1024 on a GPU, unless told.
"""

from benchmarks import command, networks, racing

table = racing.table


def main(args) -> None:
    args.batch = args.batch or [128]
    cells = [(name, 0) for name in racing.chosen(args, networks.SMALL)]
    command.finish(racing.race("small", args, cells), args, table)


if __name__ == "__main__":
    made = command.parser("small", __doc__, rounds=9)
    racing.add_flags(made)
    command.run(main, made)
