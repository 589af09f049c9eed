"""The networks that are measured, by name, and what a training step of each has to compute and move.

The arithmetic and the bytes come from the layers' shapes alone. The floor assumes that everything between two layers of
weights (activation, norm, pooling, dropout) costs no arithmetic and rides along with what is read and written anyway.
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
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # tensorfloat32: float32 numbers, TensorFloat-32 products
_FILES = {"four-layer": "configs/four_layer.py", "conv-local-13": "configs/conv_local.py:13",
          "conv-local-11": "configs/conv_local.py:11", "conv-local-11-no-lrn": "configs/conv_local.py:11_no_lrn"}


def config_of(name: str, batch: int, precision: str = "float32", shrink: bool = False,
              changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """The resolved config of one of `FULL` or `SMALL`, or of a file in configs/; small AlexNets are `released`.

    Without LRN both of the recipe's norms are gone, the released recipe's norm over the map included.

    Args:
      precision: one of `PRECISIONS`; that of products is set where the program is built.
      changes: dotted fields, set last.
      shrink: far fewer units, for tests of the benchmarks themselves.
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
    """The fields that leave each layer 8 units a column."""
    return {f"model.{layer}.features": 8 for layer in (*geometry.CONVS, *geometry.DENSE)
            if config.model[layer].features}


@dataclasses.dataclass(frozen=True)
class Pass:
    """One of a layer's three products, or the optimiser's update: floating-point operations and bytes of a device.

    `name`: 'forward', 'weight gradient', 'input gradient' or 'update'.
    """

    layer: str
    name: str
    flops: float
    bytes: float

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The least time on a device with these peaks: arithmetic and memory at once, the slower one counts."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


def passes(config: ConfigDict, classes: int, batch: int, devices: int = 1) -> list[Pass]:
    """What a training step of `batch` images must do at least on each of `devices` that share the columns.

    A multiply-add is two operations; those with a padding's zeros are counted. Each tensor passes through memory once
    a product: forward reads the layer's input and weights and writes what the backward pass needs again (outputs
    before and after pooling); the weight gradient reads input and outputs' gradient and writes the gradient in
    float32; the input gradient, which the first layer doesn't have, reads outputs' gradient and weights. The way back
    through pooling, norm and activation, counted with the weight gradient, reads the kept outputs and the gradient
    from above and writes the outputs' gradient. The update reads weights, gradients and velocities and writes weights
    and velocities, in float32.
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
    """Values of one image that a layer reads, of all columns."""
    columns = layer.columns if layer.sees == "own column" else 1
    return columns * layer.in_features * (layer.in_size**2 if layer.is_conv else 1)


def step_flops(config: ConfigDict, classes: int, batch: int) -> float:
    """Floating-point operations of the products of one training step."""
    return sum(x.flops for x in passes(config, classes, batch))


def floor_seconds(work: Sequence[Pass], flops_per_second: float, bytes_per_second: float) -> float:
    """The least time of these passes one after the other."""
    return sum(x.seconds(flops_per_second, bytes_per_second) for x in work)
