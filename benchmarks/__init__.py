"""Speed compared with PyTorch. See `python -m benchmarks.full --help`; results: RESULTS.md."""

import sys

if sys.argv[:1] == ["-m"]:  # a command is being started
    from alexnet_jax import commands

    commands.starts(__name__)
