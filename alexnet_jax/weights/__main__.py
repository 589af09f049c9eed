"""Weights in and out.

    python -m alexnet_jax.weights import --from=FILE --config=configs/torchvision.py --workdir=runs/torchvision
    python -m alexnet_jax.weights export --workdir=runs/one --to=one.safetensors

import makes a run's folder of PyTorch's state dict, safetensors, Caffe's caffemodel or cuda-convnet's checkpoint;
export writes a run's network as .safetensors, .pth, .onnx or .stablehlo. docs/weights.md has more.
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
    """The config that a file of this project holds. Raises ConfigError where there is none."""
    from alexnet_jax import config as config_lib
    from alexnet_jax import weights

    tree = weights.read(source).config
    if tree is None:
        raise ConfigError(f"--config=FILE is needed: {source} doesn't say which network it is of, as this project's "
                          "own files do; e.g. --config=configs/torchvision.py, configs/caffenet.py")
    try:
        return config_lib.from_json(tree)
    except (ConfigError, AttributeError, TypeError) as error:
        raise ConfigError(f"{source}: the config in it can't be read: {error}") from error


def _define_import_flags() -> None:
    cli.define_config_flag()
    flags.DEFINE_string("from", None, "the weights file")
    flags.DEFINE_string("workdir", None, "the run's folder, made")
    flags.DEFINE_string("mean", "", "what was subtracted from its images: Caffe's binaryproto, cuda-convnet's "
                        "batches.meta, .npy, or numbers: R,G,B")
    flags.DEFINE_string("names", "", "its classes in the order of the outputs, one a line (id, tab, name); or dataset: "
                        "those of the config's training images")


def main() -> None:
    command, *rest = sys.argv[1:] or [""]
    if command in ("--help", "-h"):
        print((__doc__ or "").strip())
        return
    if command not in COMMANDS:
        raise ConfigError(f"{command or 'no command'}: write python -m alexnet_jax.weights {' or '.join(COMMANDS)} …")
    if command == "export":
        from alexnet_jax.weights import exporting

        exporting.main(rest)
        return
    _define_import_flags()
    app.run(_import, argv=[sys.argv[0], *rest], flags_parser=cli.parse_flags)


if __name__ == "__main__":
    environment.use_allocator()
    commands.run_main(main)
