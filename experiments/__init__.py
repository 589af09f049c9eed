"""Sweeps and their results: ablations, runner, report, claims, plots. Reading results never imports JAX."""

import sys

from alexnet_jax import environment

if sys.argv[:1] == ["-m"]:  # a command is being started
    from alexnet_jax import commands

    commands.starts(__name__)
environment.prepare_matplotlib()
