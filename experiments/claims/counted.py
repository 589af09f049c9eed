"""What of the paper is a matter of counting: the size of the network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from alexnet_jax import config as config_lib
from alexnet_jax.models import geometry
from configs import imagenet_paper

if TYPE_CHECKING:
    from experiments.claims.rows import Row

PARAMETERS, NEURONS = 60_000_000, 650_000  # abstract
NEAR = 0.02  # the paper's numbers are round


def size(start: Row) -> Row:
    """Parameters and neurons of configs/imagenet_paper.py, counted from its shapes.

    Reproduced: both within 2% of the paper's round numbers.
    """
    layers = geometry.layers(config_lib.resolve(imagenet_paper.get_config()))
    parameters, neurons = (sum(getattr(layer, what) for layer in layers) for what in ("parameters", "units"))
    off = [parameters / PARAMETERS - 1, neurons / NEURONS - 1]
    near = all(abs(x) <= NEAR for x in off)
    return dataclasses.replace(
        start, measured=f"{parameters:,} parameters, {neurons:,} neurons", quantity="counted", value=float(parameters),
        verdict="reproduced" if near else "contradicted",
        why=f"{off[0]:+.1%} and {off[1]:+.1%} from the paper's round numbers", at_scale=False,
        device="none: counted from the shapes", resolution="224 of 256",
        command="python -m alexnet_jax.describe --config=configs/imagenet_paper.py")
