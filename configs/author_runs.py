"""The author's own variants of run 145, at full size on ILSVRC-2012: what the columns exchange, and two ablations.

    python -m alexnet_jax.describe --config=configs/author_runs.py:150
    python -m alexnet_jax.main --config=configs/author_runs.py:145-half --workdir=runs/145-half

From layers/layers-*.cfg of the released source; errors that the author logged: experiments/claims/paper.py. Runs 132
and 127 were variants of run 120, which had a third, blurred path (layers/layers-120.cfg); here they are variants of run
145. The same for networks of any size: the ablations `columns`, `pooling` and `lrn`.
"""

from typing import Any

from alexnet_jax import config
from alexnet_jax.errors import ConfigError
from configs import imagenet

RUNS: dict[str, dict[str, Any]] = {
    "145": {},
    # One column of half the kernels; conv5 and the dense layers are as wide as two columns'.
    "145-half": {"model.columns": 1, "model.conv1.features": 48, "model.conv2.features": 128,
                 "model.conv3.features": 192, "model.conv4.features": 192},
    # No exchange at all; conv2 and fc6 are wider.
    "150": {"model.exchange": (), "model.conv2.features": 320, "model.fc6.features": 8192},
    # The exchange at conv4 in place of conv3.
    "132": {"model.exchange": ("conv4", "fc6", "fc7")},
    # No exchange below fc6; conv3 is wider.
    "127": {"model.exchange": ("fc6", "fc7"), "model.conv3.features": 512},
    # Non-overlapping pooling that keeps the sizes from pool2 on.
    "147": {"model.pool.window": 2, "model.pool.stride": 2, "model.conv2.padding": 1, "model.conv5.padding": 0},
    # No normalisation.
    "148": {"model.lrn.layers": ()},
}


def get_config(run: str = "145"):
    if run not in RUNS:
        raise ConfigError(f"run {run!r}: not one of {', '.join(RUNS)}")
    return config.override(imagenet.get_config("released"), RUNS[run])
