"""The functions that networks are computed with: quick forms of those that have one, plain forms of the others.

The one place where that is chosen. A network of plain forms alone: `from layers` and `from pooling` for all of them.
"""

from alexnet_jax.models.fast import add_bias, convolve, dense, local_response_norm, pool, same_map_norm
from alexnet_jax.models.layers import activate, convolve_unshared, dropout, dropout_mask

__all__ = ["activate", "add_bias", "convolve", "convolve_unshared", "dense", "dropout", "dropout_mask",
           "local_response_norm", "pool", "same_map_norm"]
