"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) in JAX and Flax NNX."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # a command is being started
    from alexnet_jax import commands

    commands.starts(__name__)
