"""Shapes of every layer, from the config alone: no JAX, no arrays, no compilation.

The released code's rule for sizes (`layer.py` of the 2012 source) is used everywhere: a convolution gives
1 + ⌈(2·pad + N − k) / stride⌉ positions and reads zeros where the last filter hangs over the edge; pooling
gives 1 + ⌈(N − k) / stride⌉ and clips its last window. So 224 → 55 with an 11-pixel filter and no padding.
`model.rounding` and `model.pool.rounding` choose ⌊ ⌋, which other codes use.

One table of layers serves every network of the project: a network is this one with some of its layers left out.
The CIFAR-10 networks of cuda-convnet and LeNet-5 are such configs (`alexnet_jax/networks.py`).
"""

from __future__ import annotations

import dataclasses
import math

from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DENSE = ("fc6", "fc7")
OUTPUT = "fc8"

# Weights per unit of the full two-column network, to which `model.init_scaling=full_fan_in` refers.
FULL_FAN_IN = {"conv1": 11 * 11 * 3, "conv2": 25 * 48, "conv3": 9 * 256, "conv4": 9 * 192, "conv5": 9 * 192,
               "fc6": 9216, "fc7": 4096, "fc8": 4096}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of weights, per column, with what follows it (norm, pooling) folded in.

    `in_features` is what one unit sees: channels for a convolution, values for a dense layer.
    `features` is per column (the output layer's is in all). Sizes are sides in pixels, 1 for dense layers.
    """

    name: str
    columns: int
    features: int
    in_features: int
    sees: str  # 'image', 'own column' or 'all columns'
    in_size: int = 1
    size: int = 1  # after the convolution
    out_size: int = 1  # after the pooling
    kernel: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    lrn: bool = False
    same_map: bool = False
    unshared: bool = False  # weights and biases of its own for each position
    pool: str = ""  # 'max', 'avg' or ''
    dropout: bool = False
    uniform: bool = False  # initial weights: uniform in ±√3·init_std, or normal
    order: tuple[str, ...] = ("relu",)  # the steps after the convolution; 'relu' stands for the activation
    init_std: float = 0.01
    bias: float = 0.0

    @property
    def is_conv(self) -> bool:
        return self.name.startswith("conv")

    @property
    def is_output(self) -> bool:
        return self.name == OUTPUT

    @property
    def fan_in(self) -> int:
        """Weights per unit. The output layer's are spread over the columns."""
        return self.kernel**2 * self.in_features * (self.columns if self.is_output else 1)

    @property
    def units(self) -> int:
        """Outputs of the weights over all columns, before pooling: what the paper counts as neurons."""
        return self.features * self.size**2 * (1 if self.is_output else self.columns)

    @property
    def parameters(self) -> int:
        """Weights and biases over all columns."""
        if self.is_output or self.unshared:
            return (self.fan_in + 1) * self.units
        return self.columns * (self.fan_in + 1) * self.features

    @property
    def multiply_adds(self) -> int:
        """Of one image, over all columns; products with the padding's zeros are counted."""
        return self.fan_in * self.units


def _round(value: float, rounding: str) -> int:
    return math.ceil(value) if rounding == "ceil" else math.floor(value)


def conv_size(size: int, kernel: int, stride: int, padding: int, rounding: str = "ceil") -> int:
    """Positions of a filter along a side of `size` pixels; below 1 if it doesn't fit."""
    return 1 + _round((2 * padding + size - kernel) / stride, rounding)


def pool_size(size: int, window: int, stride: int, rounding: str = "ceil") -> int:
    """Positions of a pooling window along a side; below 1 if nothing is left."""
    return 1 + _round((size - window) / stride, rounding)


def layers(config: ConfigDict, classes: int = 0) -> list[Layer]:
    """The layers of `config.model` on `config.data.crop`-pixel images, in order, the output layer last.

    Args:
      config: a resolved config.
      classes: output units where `model.classes` is 0.

    Raises:
      ConfigError: features that don't divide into columns, a filter or a pooling that leaves nothing. A layer that is
        left out takes its norm, pooling and dropout along; its exchange moves to the next.
    """
    model = config.model
    columns = model.columns
    out: list[Layer] = []
    size, channels = config.data.crop, 1 if config.augment.grey else 3  # channels over all columns
    seen_first = False
    pending = False  # the exchange of a layer that was left out moves to the next one

    def sees(name: str, total: int) -> tuple[str, int]:
        nonlocal pending, seen_first
        exchanged = name in model.exchange or pending
        pending = False
        if not seen_first:
            seen_first = True
            return "image", total
        if exchanged and columns > 1:
            return "all columns", total
        return "own column", total // columns

    for number, name in enumerate(CONVS, start=1):
        layer = model[name]
        if not layer.features:
            pending = pending or name in model.exchange
            continue
        _divides(name, layer.features, columns)
        what, in_features = sees(name, channels)
        after = conv_size(size, layer.kernel, layer.stride, layer.padding, model.rounding)
        if after < 1:
            raise ConfigError(f"config.model.{name}.kernel: a {layer.kernel}-pixel filter does not fit a {size}-pixel "
                              f"map with padding {layer.padding}; choose a smaller filter or a larger config.data.crop")
        far = (after - 1) * layer.stride + layer.kernel - size - layer.padding
        pooled, pool = after, ""
        if number in model.pool.layers:
            pool = model.pool.kinds[model.pool.layers.index(number)] if model.pool.kinds else model.pool.kind
            pooled = pool_size(after, model.pool.window, model.pool.stride, model.pool.rounding)
            if pooled < 1 or (pooled - 1) * model.pool.stride >= after:
                raise ConfigError(f"config.model.pool: a window of {model.pool.window} with step {model.pool.stride} "
                                  f"leaves nothing of the {after}-pixel map of {name}; choose a smaller window, fewer "
                                  "config.model.pool.layers or a larger config.data.crop")
        has_lrn = number in model.lrn.layers
        # Where only activation and max pooling follow, their order makes no difference: both are monotone.
        order = tuple((model.lrn.order[number - 1] if number <= 2 else "relu-lrn-pool").split("-"))
        out.append(Layer(
            name=name, columns=columns, features=layer.features // columns, in_features=in_features, sees=what,
            in_size=size, size=after, out_size=pooled, kernel=layer.kernel, stride=layer.stride,
            padding=(layer.padding, max(far, 0)), lrn=has_lrn, same_map=has_lrn and number in model.same_map.layers,
            unshared=layer.unshared, pool=pool, order=order, init_std=layer.init_std, bias=layer.bias))
        size, channels = pooled, layer.features
    for name in DENSE:
        layer = model[name]
        if not layer.features:
            pending = pending or name in model.exchange
            continue
        _divides(name, layer.features, columns)
        what, in_features = sees(name, size * size * channels)
        out.append(Layer(name=name, columns=columns, features=layer.features // columns, in_features=in_features,
                         sees=what, init_std=layer.init_std, bias=layer.bias))
        size, channels = 1, layer.features
    if not out:
        raise ConfigError("config.model: no layer is left below the output layer")
    out.append(Layer(name=OUTPUT, columns=columns, features=model.classes or classes or 10,
                     in_features=size * size * channels // columns, sees="all columns",
                     init_std=model.fc8.init_std, bias=model.fc8.bias, order=()))
    return [dataclasses.replace(x, dropout=x.name in model.dropout_layers and model.dropout > 0,
                                uniform=model.init_distribution == "uniform",
                                init_std=x.init_std * _init_scale(model.init_scaling, x)) for x in out]


def _init_scale(scaling: str, layer: Layer) -> float:
    if scaling == "none":
        return 1.0
    return math.sqrt((FULL_FAN_IN[layer.name] if scaling == "full_fan_in" else 1) / layer.fan_in)


def _divides(name: str, features: int, columns: int) -> None:
    if features % columns:
        raise ConfigError(f"config.model.{name}.features: {features} do not divide into config.model.columns = "
                          f"{columns}; the nearest that do are {features - features % columns or columns} and "
                          f"{features - features % columns + columns}")
