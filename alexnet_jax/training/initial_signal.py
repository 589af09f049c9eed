"""The initial signal: can the network tell images apart before it has learnt anything?

Measured at step 0, layer by layer: how much the values differ between real images, relative to their size. Where the
logits hardly differ the network gives every image the same answer, and little gradient reaches its lower layers:
training starts slowly or stays at ln(classes). The paper's N(0, 0.01) in all layers is such a case.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.models import geometry
from alexnet_jax.training import augment

IMAGES = 64
# Spread over size of the logits below which there is a warning. Measured (three seeds, CIFAR-10 at 32 pixels, and
# photographs at 64 and 224, with the network of that size): paper 0.006 to 0.011, caffe 0.06 to 0.09, released 0.08
# to 0.14; the four-layer network 0.3 to 0.5.
FAINT = 0.03


class Signal(NamedTuple):
    """A layer's output, in its own units (grey levels for the images).

    `size`: root mean square of the values. `spread`: the same of their deviation from the mean over images, per unit.
    """

    layer: str
    size: float
    spread: float


def measure(model, images: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """(size, spread) of the images themselves, of each layer's output, and of the logits (the last).

    Args:
      model: from `alexnet_jax.models.build`, with all columns.
      images: [batch, crop, crop, channels], centred; no dropout.
    """
    seen = []

    def observe(name: str, x: jax.Array) -> None:
        x = x.astype(jnp.float32)
        batch = 0 if x.ndim == 2 else 1  # logits have no column axis
        spread = x - x.mean(axis=batch, keepdims=True)
        seen.append((jnp.sqrt(jnp.square(x).mean()), jnp.sqrt(jnp.square(spread).mean())))

    observe("images", images[None])
    model(images, observe=observe)
    return seen


def of(program, params, consts: augment.Constants, images: np.ndarray) -> list[Signal]:
    """What the network of `program` with `params` makes of centre crops of `images`, uint8 [batch, size, size, 3]."""
    names = ["images", *(layer.name for layer in program.layers)]
    found = program.initial_signal(params, np.array(images[:IMAGES]), consts)
    return [Signal(name, float(size), float(spread)) for name, (size, spread) in zip(names, found, strict=True)]


def line(found: list[Signal]) -> str:
    """One line for a log: the share of each layer's signal that differs between images."""
    parts = ", ".join(f"{s.layer} {share(s):.2g}%" for s in found[1:])
    return f"before training, the share of each layer's signal that differs between images: {parts}"


def warning(found: list[Signal]) -> str:
    """'' or one line: the logits do not tell images apart."""
    logits = found[-1]
    if logits.spread >= FAINT * logits.size:
        return ""
    return (f"WARNING: before training the logits hardly tell images apart (only {share(logits):.1g}% of them differs "
            "between images): training may start slowly or stay at chance; a larger config.model.<layer>.init_std of "
            f"{_mendable([s.layer for s in found])} helps")


def _mendable(layers: list[str]) -> str:
    """Where the recipe released has larger deviations than the paper's, else what there is below the logits."""
    names = [name for name in layers if name in ("conv3", "conv4", "conv5")]
    released = ", as in the recipe released," if names else ""
    names = names or [name for name in layers if name in geometry.CONVS + geometry.DENSE]
    return (f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]) + released


def share(signal: Signal) -> float:
    return 100 * signal.spread / signal.size if signal.size else 0.0
