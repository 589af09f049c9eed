"""Notes on settings that are allowed but perhaps not meant: a field that no longer fits another, or has no effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.schema import LAYERS

_SMALL = 0.5  # of an image's area: the smallest crop of the recipes has 56%
# Fields without effect in some configs: (group or field, when, why).
_IDLE: tuple[tuple[str, Callable[[ConfigDict], bool], str], ...] = (
    ("optim.plateau.", lambda c: c.optim.schedule != "plateau", "config.optim.schedule isn't plateau"),
    ("optim.table.", lambda c: c.optim.schedule != "table", "config.optim.schedule isn't table"),
    ("model.lrn.", lambda c: not c.model.lrn.layers, "config.model.lrn.layers is empty"),
    ("model.same_map.", lambda c: not c.model.same_map.layers, "config.model.same_map.layers is empty"),
    ("model.pool.", lambda c: not c.model.pool.layers, "config.model.pool.layers is empty"),
    ("model.pool.kind", lambda c: bool(c.model.pool.kinds), "config.model.pool.kinds names a kind for each layer"),
    ("model.dropout", lambda c: not c.model.dropout_layers, "config.model.dropout_layers is empty"),
    ("model.exchange", lambda c: c.model.columns == 1, "there is one column (config.model.columns)"),
    ("init.skip", lambda c: not c.init.weights, "config.init.weights is empty"),
    ("optim.conv1.", lambda c: "conv1" in c.optim.freeze, "config.optim.freeze has conv1"),
    *((f"optim.layer_decay.{layer}", lambda c, layer=layer: layer in c.optim.freeze,
       f"config.optim.freeze has {layer}") for layer in LAYERS),
    ("augment.pca.", lambda c: not c.augment.pca.amount, "config.augment.pca.amount is 0"),
    *((f"model.{layer}.", lambda c, layer=layer: not c.model[layer].features,
       f"config.model.{layer}.features is 0, which leaves the layer out")
      for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
)
_SWITCHES = ("model.lrn.layers", "model.same_map.layers", "model.pool.layers", "augment.pca.amount",
             *(f"model.{layer}.features" for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")))


def of(config: ConfigDict, given: Mapping[str, Any], classes: int = 0) -> list[str]:
    """The notes, each naming its fields and a remedy, without 'note: '.

    Args:
      config: a resolved config.
      given: overrides of the config file, {'train.epochs': 3, …}.
      classes: number of classes of the training images; 0: unknown.
    """
    found = [*_crop(config), *_late(config), *_rates(config, given), *_frozen(config), *_idle(config, given)]
    if classes and config.model.classes > classes:
        found.append(f"config.model.classes: {config.model.classes:,} outputs for {classes:,} classes, so "
                     f"{config.model.classes - classes:,} never have an image; set it to 0 for one output per class")
    pca = config.augment.pca
    if pca.amount and pca.statistics == "ilsvrc2012" and config.data.name != "imagenet":
        found.append("config.augment.pca.statistics: the colour noise goes along the components of ILSVRC-2012's "
                     f"colours, not of {config.data.name}'s; 'train' takes those of the training images")
    return found


def _crop(config: ConfigDict) -> list[str]:
    size, crop = config.data.size, config.data.crop
    if crop >= size or (crop / size) ** 2 >= _SMALL:
        return []
    return [f"config.data.crop: {crop} of config.data.size = {size}, so that the network sees "
            f"{(crop / size) ** 2:.0%} of an image's area at a time; where the size was changed, change the crop with "
            f"it, e.g. to {round(size * 7 / 8)} (224 of 256)"]


def _late(config: ConfigDict) -> list[str]:
    """Scheduled times beyond the last epoch."""
    end = config.train.epochs
    optim, pca = config.optim, config.augment.pca
    times = {"optim.table.at": optim.table.at if optim.schedule == "table" else (), "optim.conv1.at": optim.conv1.at,
             "augment.pca.off_at": (pca.off_at,) if pca.amount else ()}
    found = [] if config.train.schedule_unit == "run" else [
        f"config.{name}: {', '.join(f'{t:g}' for t in late)} {'is' if len(late) == 1 else 'are'} never reached, as "
        f"config.train.epochs is {end}" for name, at in times.items() if (late := [t for t in at if t >= end])]
    if config.train.eval_every > config.train.epochs:
        found.append(f"config.train.eval_every: {config.train.eval_every} epochs, so there is one evaluation, "
                     f"after the last of {config.train.epochs}")
    return found


def _rates(config: ConfigDict, given: Mapping[str, Any]) -> list[str]:
    """Parameters that keep values of their own although the common value was set."""
    optim, found = config.optim, []
    if "optim.learning_rate" in given and optim.bias_learning_rate and "optim.bias_learning_rate" not in given:
        found.append(f"config.optim.learning_rate: of the weights alone; the biases keep "
                     f"config.optim.bias_learning_rate = {optim.bias_learning_rate:g} (0: the weights' own)")
    own = [name for name, value in optim.layer_decay.items() if value >= 0
           and f"optim.layer_decay.{name}" not in given]
    if "optim.weight_decay" in given and own:
        found.append(f"config.optim.weight_decay: {', '.join(own)} keep{'s' if len(own) == 1 else ''} a decay of "
                     "their own (config.optim.layer_decay; -1: the one for all)")
    return found


def _frozen(config: ConfigDict) -> list[str]:
    """Frozen layers that keep their random initialisation."""
    drawn = [name for name in config.optim.freeze if not config.init.weights or name in config.init.skip]
    if not drawn:
        return []
    why = "config.init.skip has it too" if config.init.weights else "config.init.weights is empty"
    return [f"config.optim.freeze: {', '.join(drawn)} stays random, as initialised ({why})"]


def _idle(config: ConfigDict, given: Mapping[str, Any]) -> list[str]:
    """Fields that were set without effect, other than those at their declared default."""
    found = []
    for name, value in given.items():
        if name in _SWITCHES or value == config_lib.FIELDS[name].default:
            continue
        why = next((why for field, when, why in _IDLE
                    if (name == field or (field.endswith(".") and name.startswith(field))) and when(config)), None)
        if why:
            found.append(f"config.{name}: has no effect, as {why}")
    return found
