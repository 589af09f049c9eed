"""The functions that networks use: the fast form where there is one, otherwise the plain form.

The one place where that is chosen. For a network of plain forms only, import all from `layers` and `pooling`.
"""

from alexnet_jax.models.fast import add_bias, convolve, dense, local_response_norm, pool, same_map_norm
from alexnet_jax.models.layers import activate, convolve_unshared, dropout, dropout_mask

__all__ = ["activate", "add_bias", "convolve", "convolve_unshared", "dense", "dropout", "dropout_mask",
           "local_response_norm", "pool", "same_map_norm"]
