"""Can the network tell images apart before training? `python -m alexnet_jax.health --config=…`.

Prints the initial signal of each layer (alexnet_jax/training/initial_signal.py). Training logs a line of it.
"""

from __future__ import annotations

import jax
import numpy as np
from absl import app
from ml_collections import ConfigDict

from alexnet_jax import cli, commands, environment, names
from alexnet_jax.training import augment, initial_signal


def table(found: list[initial_signal.Signal]) -> str:
    rows = [f"{'layer':8}{'size':>12}{'spread':>12}{'share':>9}"]
    return "\n".join(rows + [f"{s.layer:8}{s.size:12.4g}{s.spread:12.4g}{initial_signal.share(s):8.2g}%"
                             for s in found])


def check(config: ConfigDict) -> list[initial_signal.Signal]:
    """The initial signal of a config's network on its first training images, on one device."""
    from alexnet_jax import data
    from alexnet_jax.parallel.mesh import make_mesh
    from alexnet_jax.training.program import Program

    with data.naming("config.data.train_split"):
        split = data.open_split(config.data, config.data.train_split)
    mesh = make_mesh(config, jax.devices()[:1])
    program = Program(config, len(split.classes), mesh)
    params = program.init(np.uint32(config.seed)).params
    return initial_signal.of(program, params, augment.constants(config, split.statistics()), split.images)


def main(_argv) -> None:
    config, _ = cli.parsed_config()
    environment.prepare(config.train.precision)
    with config.unlocked():
        config.mesh.data = config.mesh.column = "auto"
    found = check(config)
    names.say(f"{config.data.name}, {initial_signal.IMAGES} images of {config.data.train_split}, seed {config.seed}; "
              "size: root mean square of the values, spread: of their deviation from the mean over images")
    print()
    print(table(found))
    words = initial_signal.warning(found)
    print(f"\n{words or 'the logits tell images apart'}")


if __name__ == "__main__":
    cli.define_config_flag()
    commands.run_main(lambda: app.run(main, flags_parser=cli.parse_flags))
