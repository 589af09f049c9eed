"""What the start of a run refuses before it reads an image: the same for a dry run, which looks at no more than this.

Needs no JAX, so that a sweep is checked as a whole before any of its runs has a process. What JAX alone knows (its
modes, a device's memory, the environment that a run began in) is refused by the run itself.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from alexnet_jax import data
from alexnet_jax.data.classes import check_outputs
from alexnet_jax.data.dataset import Dataset
from alexnet_jax.models import geometry
from alexnet_jax.parallel import column_costs


def layers(config: ConfigDict, devices: int | None = None) -> None:
    """Do the layers fit into each other, the columns and the batch over the devices?

    Args:
      config: resolved. devices: that a run has; None where that isn't known.

    Raises:
      ConfigError: they don't.
    """
    geometry.layers(config)
    column_costs.mesh_shape(config, devices)


def images(config: ConfigDict) -> Dataset:
    """Are the images there, apart where they have to be, enough for a batch, of no more classes than there are outputs,
    and is there a place to pack them in?

    As far as that is known without decoding; what only an archive that isn't read yet can tell is checked when it is.

    Args:
      config: resolved.

    Returns:
      The dataset, for `data.open_splits`.

    Raises:
      ConfigError, DataError: as `data.check_splits` and `data.check_store`; the classes are more than the network's
        outputs.
    """
    dataset = data.find(config.data)
    keys = data.check_splits(config.data, dataset, config.train.batch_size)
    data.check_store(config.data, dataset)
    count = len(keys) if keys else (data.classes_of(config.data) or (0, ""))[0]
    check_outputs(config.model.classes, count, config.data.name)
    return dataset
