"""The benchmarked networks by name, and the arithmetic and memory traffic of a training step of each.

Both are computed from the layers' shapes alone. The lower bound assumes that everything between two layers with weights
(activation, norm, pooling, dropout) costs no arithmetic and is fused into reads and writes that happen anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import cli, networks, recipes
from alexnet_jax import config as config_lib
from alexnet_jax.models import geometry
from alexnet_jax.parallel import column_costs

RECIPES = tuple(recipes.RECIPES)
FULL = tuple(f"{recipe}{suffix}" for recipe in RECIPES for suffix in ("", "-no-lrn"))
SMALL = ("alexnet32", "alexnet32-no-lrn", "alexnet64", "alexnet64-no-lrn", "four-layer", "conv-local-13",
         "conv-local-11", "conv-local-11-no-lrn")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # tensorfloat32: float32 values, TensorFloat-32 products
_FILES = {"four-layer": "configs/four_layer.py", "conv-local-13": "configs/conv_local.py:13",
          "conv-local-11": "configs/conv_local.py:11", "conv-local-11-no-lrn": "configs/conv_local.py:11_no_lrn"}


def config_of(name: str, batch: int, precision: str = "float32", shrink: bool = False,
              changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """The resolved config of one of `FULL` or `SMALL`, or of a file in configs/; small AlexNets are `released`.

    Without LRN both of the recipe's norms are removed, including the released recipe's norm over the map.

    Args:
      precision: one of `PRECISIONS`; that of products is set when the program is built.
      changes: dotted fields, set last.
      shrink: few units, for testing the benchmarks themselves.
    """
    if name in _FILES or name.startswith("configs/"):
        c = cli.load_config(_FILES.get(name, name))
    else:
        base = name.removesuffix("-no-lrn")
        c = config_lib.default()
        c.data.size, c.data.crop = 256, 224
        if base in ("alexnet32", "alexnet64"):
            getattr(networks, base)(c)
        recipes.apply(c, "released" if base in ("alexnet32", "alexnet64") else base)
        c.model.classes = 10 if base == "alexnet32" else 200 if base == "alexnet64" else 1000
        c.data.tune_split = "train[:1%]" if c.optim.schedule == "plateau" else ""
        if name.endswith("-no-lrn"):
            c = config_lib.override(c, {"model.lrn.layers": (), "model.same_map.layers": ()})
    fields: dict[str, Any] = {"train.batch_size": batch, "model.classes": c.model.classes or 10,
                              "train.precision": precision.replace("tensorfloat32", "float32"),
                              "augment.chunk": 1 if batch % c.augment.chunk else c.augment.chunk}
    if shrink:
        fields |= shrunk(c) | {"model.classes": 10}
    return config_lib.resolve(config_lib.override(c, fields | dict(changes or {})))


def shrunk(config: ConfigDict) -> dict[str, int]:
    """Config fields that give each layer 8 units per column."""
    return {f"model.{layer}.features": 8 for layer in (*geometry.CONVS, *geometry.DENSE)
            if config.model[layer].features}


@dataclasses.dataclass(frozen=True)
class Pass:
    """One of a layer's three products, or the optimiser's update: floating-point operations and bytes per device.

    `name`: 'forward', 'weight gradient', 'input gradient' or 'update'.
    """

    layer: str
    name: str
    flops: float
    bytes: float

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The minimal time on a device with these peak rates: the longer of arithmetic and memory traffic."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


def passes(config: ConfigDict, classes: int, batch: int, devices: int = 1) -> list[Pass]:
    """The minimal work of a training step of `batch` images on each of `devices` devices that share the columns.

    A multiply-add is two operations, including those with padding zeros. Each tensor is read or written once per
    product: forward reads the layer's input and weights and writes what the backward pass needs (outputs before and
    after pooling); the weight gradient reads the input and the outputs' gradient and writes the gradient in float32;
    the input gradient, which the first layer doesn't need, reads the outputs' gradient and the weights. The backward
    pass through pooling, norm and activation, counted with the weight gradient, reads the saved outputs and the
    incoming gradient and writes the outputs' gradient. The update reads weights, gradients and velocities and writes
    weights and velocities, in float32.
    """
    each = column_costs.BYTES[config.train.precision]
    out: list[Pass] = []
    for number, layer in enumerate(geometry.layers(config, classes)):
        share = devices  # of outputs and weights
        flops = 2.0 * layer.multiply_adds * batch / share
        weights = layer.parameters / share
        inputs = batch * _inputs(layer) / (1 if layer.sees != "own column" else devices)
        if layer.is_output:
            inputs = batch * layer.in_features * layer.columns / devices
        units = batch * layer.units / (1 if layer.is_output else share)
        kept = batch * column_costs.activation_values(layer) / (1 if layer.is_output else share)
        pooled = kept - units
        out.append(Pass(layer.name, "forward", flops, each * (inputs + weights + kept)))
        back = each * (kept + (pooled or units) + units)
        out.append(Pass(layer.name, "weight gradient", flops, back + each * (inputs + units) + 4 * weights))
        if number:
            out.append(Pass(layer.name, "input gradient", flops, each * (units + weights + inputs)))
        out.append(Pass(layer.name, "update", 0.0, 5 * 4 * weights))
    return out


def _inputs(layer: geometry.Layer) -> int:
    """Number of input values of a layer per image, over all columns."""
    columns = layer.columns if layer.sees == "own column" else 1
    return columns * layer.in_features * (layer.in_size**2 if layer.is_conv else 1)


def step_flops(config: ConfigDict, classes: int, batch: int) -> float:
    """Floating-point operations of the products in one training step."""
    return sum(x.flops for x in passes(config, classes, batch))


def floor_seconds(work: Sequence[Pass], flops_per_second: float, bytes_per_second: float) -> float:
    """The minimal time of these passes in sequence."""
    return sum(x.seconds(flops_per_second, bytes_per_second) for x in work)
