"""One training run: `python -m alexnet_jax.main --config=configs/cifar10.py --workdir=runs/one`.

The same command goes on after an interruption. Any field can be overridden: `--config.train.epochs=3`.
"""

from __future__ import annotations

import pathlib

from absl import app, flags, logging

from alexnet_jax import cli, environment, errors

_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder, made if absent")


def main(_argv) -> None:
    config, overrides = cli.parsed_config()
    if not _WORKDIR.value:
        raise errors.ConfigError("--workdir=FOLDER is needed, e.g. --workdir=runs/one")
    environment.prepare()
    logging.set_verbosity(logging.WARNING)  # JAX tells at length which accelerators it did not find
    from alexnet_jax.train import train  # JAX starts here, after the environment is set

    train(config, pathlib.Path(_WORKDIR.value), overrides=overrides)


def run() -> None:
    cli.define_config_flag()
    errors.run_main(lambda: app.run(main, flags_parser=cli.parse_flags))


if __name__ == "__main__":
    run()
