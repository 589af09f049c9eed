"""Claims that are verified by counting: the size of the network."""

from __future__ import annotations

from alexnet_jax import config as config_lib
from alexnet_jax.models import geometry
from configs import imagenet_paper
from experiments.analysis import verdicts

PARAMETERS, NEURONS = 60_000_000, 650_000  # abstract


def size() -> tuple[str, float, verdicts.Verdict, str]:
    """(in words, parameters, verdict, command), counted from the shapes of configs/imagenet_paper.py."""
    layers = geometry.layers(config_lib.resolve(imagenet_paper.get_config()))
    parameters, neurons = (sum(getattr(layer, what) for layer in layers) for what in ("parameters", "units"))
    return (f"{parameters:,} parameters, {neurons:,} neurons", float(parameters),
            verdicts.counted((parameters, neurons), (PARAMETERS, NEURONS)),
            "python -m alexnet_jax.describe --config=configs/imagenet_paper.py")
