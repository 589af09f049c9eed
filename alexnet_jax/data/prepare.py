"""Builds and checks the packed stores of a config's splits, and prints a summary of the data.

    python -m alexnet_jax.data.prepare --config=configs/cifar10.py [--config.data.dir=…] [--verify] [--sheet=sheet.png]
    python -m alexnet_jax.data.prepare --list
    python -m alexnet_jax.data.prepare --delete=NAME

Training packs its images by itself. The summary at the end counts the images of each class, what was left out, and
duplicates. `--sheet` draws what the network will see. `--verify` reads every image of the stores and compares its
checksum. `--list` shows all stores of the store folder ($ALEXNET_STORE_DIR, or that of a config), `--delete` removes a
store by the name that it shows.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from absl import app, flags

from alexnet_jax import cli, environment, names, paths
from alexnet_jax.commands import run_main
from alexnet_jax.data import store as store_lib
from alexnet_jax.data import stores, summary
from alexnet_jax.errors import ConfigError


def _root() -> pathlib.Path:
    """The folder of all stores, from the config if one is given."""
    return store_lib.root(cli.parsed_config()[0].data.store if flags.FLAGS["config"].value is not None else "")


def define_flags() -> None:
    """Not on import: a sweep's driver, which prepares too, has a --list of its own."""
    flags.DEFINE_bool("verify", False, "read every image of the stores and compare its checksum")
    flags.DEFINE_string("sheet", None, "draw some images as the network will see them, to this file (.png, .svg, .pdf)")
    flags.DEFINE_bool("list", False, "list the packed stores")
    flags.DEFINE_multi_string("delete", [], "delete the packed store of this name, as --list shows it")


def main(argv: Sequence[str]) -> None:
    del argv
    given = flags.FLAGS
    if given.list or given.delete:
        if given.verify or given.sheet is not None:
            raise ConfigError("--list, --delete: nothing is prepared, so leave out --verify and --sheet")
        for name in given.delete:
            stores.delete(_root(), name, names.say)
        for line in stores.lines(_root()) if given.list else ():
            names.say(line)
        return
    sheet_file = paths.output(given.sheet, "--sheet") if given.sheet is not None else None
    config, _ = cli.parsed_config()
    opened = summary.prepare(config.data, verify=given.verify)
    print()
    for line in summary.lines(opened):
        names.say(line)
    if sheet_file is not None:
        # A training may have the accelerator to itself.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        environment.prepare(config.train.precision)
        from alexnet_jax.inspect import sheet

        sheet.draw(config, opened["train_split"], sheet_file)
        names.say(f"drawn: {sheet_file}")
    if given.verify:
        print("verified: every image agrees with its checksum")


if __name__ == "__main__":
    cli.define_config_flag()
    define_flags()
    run_main(lambda: app.run(main, flags_parser=cli.parse_flags), prints=False)
