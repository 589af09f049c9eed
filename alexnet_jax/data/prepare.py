"""Builds, checks and describes the packed stores of a config's splits.

    python -m alexnet_jax.data.prepare --config=configs/cifar10.py [--config.data.dir=…] [--verify]

Training does the same by itself. `--verify` reads every image of the stores and compares its checksum.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags

from alexnet_jax import cli, streams
from alexnet_jax.data import open_splits
from alexnet_jax.data import store as store_lib
from alexnet_jax.errors import run_main

_VERIFY = flags.DEFINE_bool("verify", False, "read every image of the stores and compare its checksum")


@streams.safe()
def prepare(data, *, verify: bool = False, report=print) -> None:
    """Prepares and describes the splits that config.data names. Raises ConfigError or DataError."""
    verified = set()
    for field, split in open_splits(data, report=report).items():
        if verify and split.store.folder not in verified:
            store_lib.open_store(split.store.folder, verify=True)
            verified.add(split.store.folder)
        report(describe(field, split))


def describe(field: str, split) -> str:
    """One line: what a split is and where it lies."""
    classes = ", ".join(name.partition(",")[0] for name in split.classes[:3])
    more = f", … ({len(split.classes)})" if len(split.classes) > 3 else ""
    corrupt = f"; {split.corrupt} corrupt images left out of the whole split" if split.corrupt else ""
    return (f"{field:11} {split.split}: {len(split):,} images of {split.size}×{split.size}, "
            f"{split.images.nbytes:,} bytes, classes {classes}{more}{corrupt}; in {split.store.folder}")


def main(argv: Sequence[str]) -> None:
    del argv
    config, _ = cli.parsed_config()
    prepare(config.data, verify=_VERIFY.value)
    if _VERIFY.value:
        print("verified: every image has the bytes that were written")


if __name__ == "__main__":
    cli.define_config_flag()
    run_main(lambda: app.run(main, flags_parser=cli.parse_flags), prints=False)
