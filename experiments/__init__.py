"""Sweeps and what they show: ablations, runner, report, claims, plots. Reading results never imports JAX."""

from alexnet_jax import environment

environment.prepare_matplotlib()
