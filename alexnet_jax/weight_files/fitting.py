"""Turns a file's arrays into the parameters of a config's network, and back; refuses what does not fit.

This project's kernels are `[column, height, width, in, out]`, and those of dense layers `[column, in, out]`, with maps
flattened in the order height, width, channel. Those of others are `channels first` (`tensors`). A kernel is turned from
one layout into the other by a reshape, a transposition and another reshape, and back by the same steps in reverse.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.errors import CheckpointError, ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.weight_files.tensors import CHANNELS_FIRST, PARAMS, Network, Tensor, aligned, of_array

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@dataclasses.dataclass(frozen=True)
class Order:
    """A kernel's shape in both layouts, and how to go from `theirs` to `ours`: reshape to `split`, transpose by `axes`,
    reshape.
    """

    theirs: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    ours: tuple[int, ...]

    def to_ours(self, kernel: np.ndarray) -> np.ndarray:
        """A new array, float32 and contiguous."""
        turned = kernel.reshape(self.split).transpose(self.axes)
        out = aligned(turned.shape)
        out[...] = turned
        return out.reshape(self.ours)

    def to_theirs(self, kernel: np.ndarray) -> np.ndarray:
        turned = kernel.reshape([self.split[axis] for axis in self.axes])
        return np.ascontiguousarray(turned.transpose(np.argsort(self.axes))).reshape(self.theirs)


def orders(layers: Sequence[geometry.Layer], side: int) -> dict[str, Order]:
    """{layer: order}. `side`: of the network's input, pixels. Raises ConfigError if a layer's weights are unshared."""
    found = {}
    for layer in layers:
        if layer.unshared:
            raise ConfigError(f"config.model.{layer.name}.unshared: separate weights for each position fit only into "
                              "this project's own .safetensors")
        columns, out = layer.columns, layer.features
        if layer.is_conv:
            k, seen = layer.kernel, layer.in_features
            found[layer.name] = Order((columns * out, seen, k, k), (columns, out, seen, k, k), (0, 3, 4, 2, 1),
                                      (columns, k, k, seen, out))
            side = layer.out_size
            continue
        maps = layer.in_features // side**2
        if layer.is_output:
            found[layer.name] = Order((out, columns * layer.in_features), (out, columns, maps, side, side),
                                      (1, 3, 4, 2, 0), (columns, layer.in_features, out))
        else:
            found[layer.name] = Order((columns * out, layer.in_features), (columns, out, maps, side, side),
                                      (0, 3, 4, 2, 1), (columns, layer.in_features, out))
        side = 1
    return found


def _shapes(layers: Sequence[geometry.Layer], side: int, layout: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """{layer: {'kernel', 'bias'}}: the shapes that a file of that layout should have."""
    if layout == CHANNELS_FIRST:
        biases = {x.name: (x.features * (1 if x.is_output else x.columns),) for x in layers}
        return {name: {"kernel": order.theirs, "bias": biases[name]} for name, order in orders(layers, side).items()}
    return {x.name: own_shapes(x) for x in layers}


def own_shapes(layer: geometry.Layer) -> dict[str, tuple[int, ...]]:
    """{'kernel', 'bias'}: the shapes of a layer's parameters in this project."""
    columns, out, place = layer.columns, layer.features, (layer.size, layer.size)
    if layer.unshared:
        return {"kernel": (columns, *place, layer.fan_in, out), "bias": (columns, *place, out)}
    window = (layer.kernel, layer.kernel) if layer.is_conv else ()
    return {"kernel": (columns, *window, layer.in_features, out), "bias": (out,) if layer.is_output else (columns, out)}


def check(params: Mapping[str, Any], config: ConfigDict, where: str) -> None:
    """Checks that a run's parameters are those of its config's network.

    Raises:
      CheckpointError: an array is missing, has another shape, or is of no layer of that network.
    """
    there = {f"{layer}.{leaf}": tuple(getattr(value, "shape", ())) for layer, leaves in params.items()
             for leaf, value in (leaves.items() if isinstance(leaves, Mapping) else [("", leaves)])}
    outputs = config.model.classes or (there.get("fc8.bias") or (1,))[-1]
    here = {f"{x.name}.{leaf}": shape for x in geometry.layers(config, outputs)
            for leaf, shape in own_shapes(x).items()}
    for name in (*here, *there):
        if there.get(name) != here.get(name):
            theirs, ours = (list(shapes[name]) if name in shapes else "absent" for shapes in (there, here))
            raise CheckpointError(f"{where}: {name} is {theirs} in the checkpoint and {ours} by the config in "
                                  "run.json: one of the two has been altered; put it back as it was")


def of_params(params: Mapping[str, Any]) -> Network:
    """Parameters of this project as a `Network`, as if read from a file."""
    return Network("alexnet_jax", PARAMS, {layer: {leaf: of_array(np.asarray(value)) for leaf, value in leaves.items()}
                                           for layer, leaves in params.items()})


def params(network: Network, config: ConfigDict, classes: int, where: str, skip: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters of `config`'s network, read and converted one layer after the other.

    Args:
      classes: as in `outputs_of`. where: the file, for messages. skip: layers that are neither compared nor read.

    Raises:
      CheckpointError: the file's network is not the config's. ConfigError: the config's fits into no such file.
    """
    outputs = outputs_of(network, config, classes)
    layers = geometry.layers(config, outputs)
    wanted = {name: shapes for name, shapes in _shapes(layers, config.data.crop, network.layout).items()
              if name not in skip}
    named = _by_name(network, layers, where, skip)
    for name, leaves in wanted.items():
        for leaf, shape in leaves.items():
            there = named[name][leaf].shape
            if there != shape and name == "fc8" and there[:-1] == shape[:-1] and network.layout == PARAMS:
                raise _other_classes(where, there[-1], shape[-1])
            if there != shape and name == "fc8" and there[1:] == shape[1:] and network.layout == CHANNELS_FIRST:
                raise _other_classes(where, there[0], shape[0])
            if there != shape:
                raise CheckpointError(f"{where}: {name}'s {'weights' if leaf == 'kernel' else 'biases'} are "
                                      f"{list(there)} in the file and {list(shape)} in the config's network"
                                      f"{_likely(network)}")
    _check_facts(network, config, where)
    order = orders(layers, config.data.crop) if network.layout == CHANNELS_FIRST else {}
    found: dict[str, Any] = {}
    chosen = [x for x in layers if x.name in wanted]
    for x in sorted(chosen, key=lambda x: -x.parameters):  # the largest while there is least in memory
        kernel, bias = (named[x.name][leaf].read() for leaf in ("kernel", "bias"))
        found[x.name] = {"kernel": order[x.name].to_ours(kernel) if order else _copied(kernel),
                         "bias": _copied(bias.reshape(own_shapes(x)["bias"]))}
        del kernel, bias
        network.forget()
        for leaf, words in (("kernel", "weights"), ("bias", "biases")):
            if not math.isfinite(found[x.name][leaf].sum(dtype=np.float64)):
                raise CheckpointError(f"{where}: {x.name}'s {words} have values that are not finite; name another file")
    return {x.name: found[x.name] for x in chosen}


def _other_classes(where: str, there: int, here: int) -> CheckpointError:
    return CheckpointError(f"{where}: fc8 has {there:,} outputs in the file and {here:,} in the config's network; set "
                           f"config.model.classes={there}")


def _copied(array: np.ndarray) -> np.ndarray:
    out = aligned(array.shape)
    out[...] = array
    return out


def outputs_of(network: Network, config: ConfigDict, classes: int = 0) -> int:
    """Number of output units: `config.model.classes`; if that is 0 `classes`; if that is 0 too, that of the file."""
    last = list(network.layers.values())[-1]
    return int(config.model.classes or classes or last["bias"].shape[-1])


def _by_name(network: Network, layers: Sequence[geometry.Layer], where: str,
             skip: Sequence[str] = ()) -> dict[str, Mapping[str, Tensor]]:
    """{this project's name: the file's layer}: by the file's names, or by the order of layers of the same kind."""
    if network.named:
        found = dict(network.layers)
    else:
        found = {}
        for conv in (True, False):
            theirs = [x for x in network.layers.values() if (len(x["kernel"].shape) == 4) == conv]
            ours = [x.name for x in layers if x.is_conv == conv]
            if len(theirs) != len(ours):
                kind = "convolutional" if conv else "dense"
                raise CheckpointError(f"{where}: {len(theirs)} {kind} layers in the file ({', '.join(network.layers)}) "
                                      f"and {len(ours)} in the config's network{_likely(network)}")
            found.update(zip(ours, theirs, strict=True))
    names = [x.name for x in layers]
    for lacking, words in ((set(names) - set(found) - set(skip), "is in the config's network and not in the file"),
                           (set(found) - set(names) - set(skip), "is in the file and not in the config's network")):
        if lacking:
            raise CheckpointError(f"{where}: {sorted(lacking)[0]} {words}{_likely(network)}")
    return found


def _check_facts(network: Network, config: ConfigDict, where: str) -> None:
    """Raises CheckpointError if what the file says about its network beyond shapes is not so in the config."""
    model = config.model
    for number, steps in enumerate(network.facts.get("order") or (), start=1):
        ours = model.lrn.order[number - 1].split("-") if number in model.lrn.layers else ["relu", "pool"]
        theirs = steps.split("-")
        if _essence(theirs) != _essence(ours):
            raise CheckpointError(f"{where}: conv{number} is followed by {steps or 'nothing'} in the file and by "
                                  f"{'-'.join(ours)} in the config (config.model.lrn.order, config.model.lrn.layers)"
                                  f"{_likely(network)}")
    if "same_map" in network.facts and network.facts["same_map"] != (2 in model.same_map.layers):
        has = network.facts["same_map"]
        raise CheckpointError(f"{where}: conv2 has {'a' if has else 'no'} same-map norm in the file and "
                              f"{'none' if has else 'one'} in the config; change config.model.same_map.layers")
    lrn = network.facts.get("lrn")
    if lrn and model.lrn.layers:
        own = {"n": model.lrn.n, "k": model.lrn.k, "beta": model.lrn.beta,
               "alpha": model.lrn.alpha * (1 if model.lrn.alpha_over_n else model.lrn.n)}
        differ = [f"{key} = {lrn[key]:g} in the file, {own[key]:g} in the config" for key in own
                  if not abs(lrn[key] - own[key]) <= 1e-6 * max(1e-12, abs(own[key]))]  # NaN too
        if differ:
            raise CheckpointError(f"{where}: its response norm differs: {', '.join(differ)}; change config.model.lrn "
                                  "(alpha is given here as Caffe does, to be divided by n)")


def _essence(steps: Sequence[str]) -> tuple:
    """What an order of steps means: does the norm come before pooling, and before ReLU? () without a norm."""
    if "lrn" not in steps:
        return ()
    norm = list(steps).index("lrn")
    return tuple(norm < list(steps).index(other) if other in steps else None for other in ("pool", "relu"))


def _likely(network: Network) -> str:
    """The remedy for a network that does not fit: one of this project's config files that does, if there is one."""
    if not network.format:  # asked by `_fits`
        return ""
    found = [name for name, config in _known() if _fits(network, config)]
    return (f"; it is the network of --config={' or '.join(found[:3])}" if found else
            "; change config.model to the file's network, or name another file")


def _known() -> Iterator[tuple[str, ConfigDict]]:
    from alexnet_jax import cli
    from alexnet_jax import config as config_lib

    for path in sorted(_CONFIGS.glob("*.py")):
        if "get_config" in path.read_text(encoding="utf-8"):
            yield f"configs/{path.name}", config_lib.resolve(cli.load_config(str(path)))


def _fits(network: Network, config: ConfigDict) -> bool:
    try:
        layers = geometry.layers(config, outputs_of(network, config))
        network = dataclasses.replace(network, format="")
        named = _by_name(network, layers, "")
        wanted = _shapes(layers, config.data.crop, network.layout)
        same = all(named[x][leaf].shape == shape for x, leaves in wanted.items() for leaf, shape in leaves.items()
                   if x != "fc8")
        if same:
            _check_facts(network, config, "")
        return same
    except (ConfigError, CheckpointError):
        return False
