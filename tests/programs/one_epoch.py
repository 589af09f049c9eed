"""A run of one epoch, started like `alexnet_jax.main` and a sweep's worker do: `STORE WORKDIR`."""

import pathlib
import sys

from alexnet_jax import environment

environment.prepare()
import tiny_run  # noqa: E402

from alexnet_jax.data.readers import shapes  # noqa: E402
from alexnet_jax.training.loop import train  # noqa: E402

shapes.COUNTS = tiny_run.COUNTS
config = tiny_run._config(sys.argv[1], train__epochs=1)
train(config, pathlib.Path(sys.argv[2]), show=False)
