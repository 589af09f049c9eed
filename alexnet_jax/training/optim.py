"""The paper's stochastic gradient descent (section 5) as an optax transformation, and its schedules.

Parameters form four groups, each with its own learning rate: the weights and the biases of conv1, and those of the
other layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

Rates = dict[str, Any]
GROUPS = ("weights", "biases", "conv1_weights", "conv1_biases")


def group_of(path: tuple) -> str:
    """The group of a parameter, from its path in the tree, e.g. (conv1, kernel)."""
    names = [str(getattr(entry, "key", entry)) for entry in path]
    kind = "biases" if names[-1] == "bias" else "weights"
    return f"conv1_{kind}" if names[0] == "conv1" else kind


def layer_of(path: tuple) -> str:
    """The layer of a parameter, from its path in the tree."""
    return str(getattr(path[0], "key", path[0]))


def paper_sgd(momentum: float, weight_decay: float, decay_biases: bool,
              layer_decay: Mapping[str, float] | None = None, frozen: Collection[str] = ()
              ) -> optax.GradientTransformationExtraArgs:
    """v ← momentum · v − decay · ε · w − ε · g;  w ← w + v   (paper, section 5).

    This differs from `optax.sgd`, where the rate multiplies the velocity when it is applied. Here it multiplies the
    gradient that is added to the velocity, so that a change of rate acts gradually. A rate of exactly 0 skips a
    parameter's whole update, decay and velocity included (released code, `weights.cuh`).

    `layer_decay` overrides `weight_decay` for single layers, {name: decay}, unless negative. The layers in `frozen`
    are not updated. The state is the velocity, a tree like the parameters. `update` takes `rates`, {group: ε}
    for `GROUPS`, so a schedule never recompiles the step.
    """

    own_decay = {name: decay for name, decay in (layer_decay or {}).items() if decay >= 0}

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(grads, velocity, params=None, *, rates: Rates, **_):
        def accelerated(path, v, g, w):
            if layer_of(path) in frozen:
                return v
            group = group_of(path)
            rate = jnp.asarray(rates[group], w.dtype)
            decay = own_decay.get(layer_of(path), weight_decay)
            if group.endswith("biases") and not decay_biases:
                decay = 0.0
            return jnp.where(rate == 0, v, momentum * v - decay * rate * w - rate * g)

        def step(path, v):
            if layer_of(path) in frozen:
                return jnp.zeros_like(v)
            return jnp.where(jnp.asarray(rates[group_of(path)], v.dtype) == 0, jnp.zeros_like(v), v)

        new = jax.tree_util.tree_map_with_path(accelerated, velocity, grads, params)
        return jax.tree_util.tree_map_with_path(step, new), new

    return optax.GradientTransformationExtraArgs(init, update)


@dataclasses.dataclass
class Plateau:
    """÷10 "when the validation error rate stopped improving with the current learning rate" (paper, section 5).

    The rate falls after `patience` evaluations in a row that were not better than the best by more than
    `min_delta`, at most `times` times. `best` is reset after each fall. The state is saved in checkpoints.
    """

    best: float = float("inf")
    waited: int = 0
    drops: int = 0

    def observe(self, error: float, config: ConfigDict) -> bool:
        """Records a tuning error (a fraction); True if the rate falls now."""
        rule = config.optim.plateau
        if error < self.best - rule.min_delta:
            self.best, self.waited = error, 0
            return False
        self.waited += 1
        if self.waited < rule.patience or self.drops >= rule.times:
            return False
        self.best, self.waited, self.drops = float("inf"), 0, self.drops + 1
        return True

    def over(self, config: ConfigDict) -> bool:
        """Has the error stopped improving after the last fall too?"""
        rule = config.optim.plateau
        return self.drops >= rule.times and self.waited >= rule.patience

    def factor(self, config: ConfigDict) -> float:
        return config.optim.plateau.factor**self.drops


def position(config: ConfigDict, epochs_done: float) -> float:
    """The time in `train.schedule_unit`: epochs done, or their fraction of all epochs."""
    return epochs_done if config.train.schedule_unit == "epoch" else epochs_done / config.train.epochs


def _table(group: ConfigDict, now: float) -> float | None:
    """The factor of the last entry that has begun; None before the first."""
    begun = [factor for at, factor in zip(group.at, group.factors, strict=True) if now >= at]
    return begun[-1] if begun else None


def rates(config: ConfigDict, epochs_done: float, plateau: Plateau) -> Rates:
    """{group: ε} at a moment of the run.

    Args:
      epochs_done: passes over the training images so far, with its fraction.
    """
    optim = config.optim
    now = position(config, epochs_done)
    factor = 1.0
    if optim.schedule == "plateau":
        factor = plateau.factor(config)
    elif optim.schedule == "table":
        begun = _table(optim.table, now)
        factor = 1.0 if begun is None else begun
    own = _table(optim.conv1, now)
    conv1 = factor if own is None else own
    bias = optim.bias_learning_rate or optim.learning_rate
    constant = optim.bias_schedule == "constant"
    return {
        "weights": optim.learning_rate * factor,
        "biases": bias * (1.0 if constant else factor),
        "conv1_weights": optim.learning_rate * conv1,
        # Freezing conv1 freezes its biases too (run 145), regardless of the biases' schedule.
        "conv1_biases": 0.0 if conv1 == 0 else bias * (1.0 if constant else conv1),
    }


def changes(config: ConfigDict) -> tuple[float, ...]:
    """Scheduled changes of rates and noise, in `train.schedule_unit`, unordered; without the plateau rule's."""
    off = (config.augment.pca.off_at,) if config.augment.pca.off_at else ()
    table = config.optim.table.at if config.optim.schedule == "table" else ()
    return (*table, *config.optim.conv1.at, *off)


def noise_amount(config: ConfigDict, epochs_done: float) -> float:
    """Standard deviation of the colour noise's α now; 0 once `augment.pca.off_at` is reached."""
    pca = config.augment.pca
    return 0.0 if pca.off_at and position(config, epochs_done) >= pca.off_at else pca.amount
