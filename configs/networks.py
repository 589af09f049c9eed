"""`alexnet_jax.networks`, for config files: `from configs import networks`."""

from alexnet_jax.networks import (
    alexnet32,
    alexnet64,
    caffenet,
    conv_local,
    conv_local_norm,
    four_layer,
    lenet,
    torchvision,
)

__all__ = ["alexnet32", "alexnet64", "caffenet", "conv_local", "conv_local_norm", "four_layer", "lenet", "torchvision"]
