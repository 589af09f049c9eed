"""Imports and exports weights.

    python -m alexnet_jax.weights import --from=FILE --config=configs/torchvision.py --workdir=runs/torchvision
    python -m alexnet_jax.weights export --workdir=runs/one --to=one.safetensors

import makes a run's folder from a PyTorch state dict, a safetensors file, a Caffe .caffemodel or a checkpoint of
cuda-convnet. export writes a run's network as .safetensors, .pth, .onnx or .stablehlo. More: docs/weights.md.
"""

from __future__ import annotations

import pathlib
import sys

from absl import app, flags
from ml_collections import ConfigDict

from alexnet_jax import cli, commands, environment, names, paths
from alexnet_jax.errors import ConfigError

COMMANDS = ("import", "export")


def _import(_argv) -> None:
    given = {name: str(flags.FLAGS[name].value or "") for name in ("from", "workdir", "mean", "names")}
    for name in ("from", "workdir"):
        if not given[name]:
            raise ConfigError(f"--{name}={'FILE' if name == 'from' else 'FOLDER'} is needed")
    source = paths.given(given["from"], "--from")
    config, overrides = cli.parsed_config() if flags.FLAGS["config"].value else (_config_of(source), {})
    environment.prepare(config.train.precision)
    from alexnet_jax.weights import importing

    workdir = paths.given(given["workdir"], "--workdir").absolute()
    importing.run_folder(source, config, workdir, mean=given["mean"],
                         names=given["names"], overrides=overrides)
    names.say(f"{workdir}: a run's folder; every command takes it")


def _config_of(source: pathlib.Path) -> ConfigDict:
    """The config in a file of this project. Raises ConfigError if the file has none."""
    from alexnet_jax import config as config_lib
    from alexnet_jax import weights

    tree = weights.read(source).config
    if tree is None:
        raise ConfigError(f"--config=FILE is needed: {source} does not say which network it is of (only this project's "
                          "files do), e.g. --config=configs/torchvision.py or --config=configs/caffenet.py")
    try:
        return config_lib.from_json(tree)
    except (ConfigError, AttributeError, TypeError) as error:
        raise ConfigError(f"{source}: the config in it cannot be read ({error}); name one by --config=FILE") from error


def _define_import_flags() -> None:
    cli.define_config_flag()
    flags.DEFINE_string("from", None, "the weights file")
    flags.DEFINE_string("workdir", None, "the run's folder, which is created")
    flags.DEFINE_string("mean", "", "what was subtracted from the network's images: a file (Caffe's .binaryproto, "
                        "cuda-convnet's batches.meta, .npy), or one number or three (R,G,B), from 0 to 255")
    flags.DEFINE_string("names", "", "a file with the classes in the order of the outputs, one a line (id, tab, name); "
                        "or the word dataset: the classes of the config's training images")


def main() -> None:
    command, *rest = sys.argv[1:] or [""]
    if command in ("--help", "-h"):
        print((__doc__ or "").strip())
        return
    if command not in COMMANDS:
        raise ConfigError(f"{f'{command}: unknown command' if command else 'the command is missing'}; write python -m "
                          f"alexnet_jax.weights {' or '.join(COMMANDS)} …")
    if command == "export":
        from alexnet_jax.weights import exporting

        exporting.main(rest)
        return
    _define_import_flags()
    app.run(_import, argv=[sys.argv[0], *rest], flags_parser=cli.parse_flags)


if __name__ == "__main__":
    environment.use_allocator()
    commands.run_main(main)
