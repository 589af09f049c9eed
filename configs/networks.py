"""Sizes of the network: the paper's is the declared default; two smaller ones for machines without accelerators.

Both keep the eight layers, two columns, three overlapping pools, norms in 1 and 2, dropout in fc6 and fc7 and the
ceil rule. Features are totals over the columns. Initial deviations are the recipe's times √(fan-in of the full
network's layer / fan-in here), so that the signal is the full network's.
"""

from ml_collections import ConfigDict


def _features(c: ConfigDict, conv: tuple[int, ...], dense: int) -> None:
    for number, features in enumerate(conv, start=1):
        c.model[f"conv{number}"].features = features
    c.model.fc6.features = c.model.fc7.features = dense
    c.model.init_scaling = "full_fan_in"


def alexnet32(c: ConfigDict) -> None:
    """For 32-pixel images: 24 → 12 → 12 → 6 → 6 → 6 → 6 → 3. The author's own CIFAR crops are 24 pixels."""
    c.data.size, c.data.crop = 32, 24
    _features(c, (32, 48, 64, 64, 48), 512)
    c.model.conv1.kernel, c.model.conv1.stride, c.model.conv1.padding = 5, 1, 2


def alexnet64(c: ConfigDict) -> None:
    """For 64-pixel images: 56 → 26 → 13 → 13 → 6 → 6 → 6 → 6 → 3."""
    c.data.size, c.data.crop = 64, 56
    _features(c, (48, 96, 128, 128, 96), 1024)
    c.model.conv1.kernel, c.model.conv1.stride, c.model.conv1.padding = 7, 2, 0
