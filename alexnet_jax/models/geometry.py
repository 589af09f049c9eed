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

    A layer that is left out takes its norm, pooling and dropout along; its exchange moves to the next.

    Args:
      config: a resolved config.
      classes: output units where `model.classes` is 0.

    Raises:
      ConfigError: features that don't divide into columns, a filter or a pooling that leaves nothing.
    """
    model = config.model
    stack = _Stack(model, config.data.crop, 1 if config.augment.grey else 3)
    for number, name in enumerate(CONVS, start=1):
        stack.conv(name, number)
    for name in DENSE:
        stack.dense(name)
    stack.output(model.classes or classes or 10)
    return [dataclasses.replace(x, dropout=x.name in model.dropout_layers and model.dropout > 0,
                                uniform=model.init_distribution == "uniform",
                                init_std=x.init_std * _init_scale(model.init_scaling, x)) for x in stack.layers]


class _Stack:
    """The layers so far, and the map that the next one sees."""

    def __init__(self, model: ConfigDict, size: int, channels: int):
        self.layers: list[Layer] = []
        self._model = model
        self._size, self._channels = size, channels  # channels over all columns
        self._pending = False  # has a layer that was left out an exchange, which the next one takes over?

    def conv(self, name: str, number: int) -> None:
        """Adds conv`number` with what follows it, unless it is left out. Raises ConfigError."""
        model, layer, size = self._model, self._model[name], self._size
        if self._left_out(name):
            return
        after = conv_size(size, layer.kernel, layer.stride, layer.padding, model.rounding)
        if after < 1:
            raise ConfigError(f"config.model.{name}.kernel: a {layer.kernel}-pixel filter does not fit a {size}-pixel "
                              f"map with padding {layer.padding}; choose a smaller filter or a larger config.data.crop")
        far = (after - 1) * layer.stride + layer.kernel - size - layer.padding
        pool, pooled = self._pooled(name, number, after)
        has_lrn = number in model.lrn.layers
        # Where only activation and max pooling follow, their order makes no difference: both are monotone.
        order = (model.lrn.order[number - 1] if number <= 2 else "relu-lrn-pool").split("-")
        self._add(name, self._channels, in_size=size, size=after, out_size=pooled, kernel=layer.kernel,
                  stride=layer.stride, padding=(layer.padding, max(far, 0)), lrn=has_lrn,
                  same_map=has_lrn and number in model.same_map.layers, unshared=layer.unshared, pool=pool,
                  order=tuple(order))
        self._size = pooled

    def _pooled(self, name: str, number: int, size: int) -> tuple[str, int]:
        """(kind of the pooling after conv`number`, the side that it leaves of `size` pixels). Raises ConfigError."""
        pool = self._model.pool
        if number not in pool.layers:
            return "", size
        pooled = pool_size(size, pool.window, pool.stride, pool.rounding)
        if pooled < 1 or (pooled - 1) * pool.stride >= size:
            raise ConfigError(f"config.model.pool: a window of {pool.window} with step {pool.stride} "
                              f"leaves nothing of the {size}-pixel map of {name}; choose a smaller window, fewer "
                              "config.model.pool.layers or a larger config.data.crop")
        return pool.kinds[pool.layers.index(number)] if pool.kinds else pool.kind, pooled

    def dense(self, name: str) -> None:
        """Adds a dense layer, unless it is left out. Raises ConfigError."""
        if not self._left_out(name):
            self._add(name, self._size**2 * self._channels)
            self._size = 1

    def output(self, units: int) -> None:
        """Adds the output layer, which sees all columns. Raises ConfigError."""
        if not self.layers:
            raise ConfigError("config.model: no layer is left below the output layer")
        columns, layer = self._model.columns, self._model[OUTPUT]
        self.layers.append(Layer(
            name=OUTPUT, columns=columns, features=units, in_features=self._size**2 * self._channels // columns,
            sees="all columns", init_std=layer.init_std, bias=layer.bias, order=()))

    def _left_out(self, name: str) -> bool:
        features = self._model[name].features
        if not features:
            self._pending = self._pending or name in self._model.exchange
        else:
            _divides(name, features, self._model.columns)
        return not features

    def _add(self, name: str, inputs: int, **fields) -> None:
        """Adds a layer below which lie `inputs` channels or values over all columns."""
        columns, layer = self._model.columns, self._model[name]
        exchanged = name in self._model.exchange or self._pending
        self._pending = False
        sees = "image" if not self.layers else "all columns" if exchanged and columns > 1 else "own column"
        self.layers.append(Layer(
            name=name, columns=columns, features=layer.features // columns, sees=sees,
            in_features=inputs // columns if sees == "own column" else inputs, init_std=layer.init_std,
            bias=layer.bias, **fields))
        self._channels = layer.features


def _init_scale(scaling: str, layer: Layer) -> float:
    if scaling == "none":
        return 1.0
    return math.sqrt((FULL_FAN_IN[layer.name] if scaling == "full_fan_in" else 1) / layer.fan_in)


def _divides(name: str, features: int, columns: int) -> None:
    if features % columns:
        raise ConfigError(f"config.model.{name}.features: {features} do not divide into config.model.columns = "
                          f"{columns}; the nearest that do are {features - features % columns or columns} and "
                          f"{features - features % columns + columns}")
