"""The rules between fields of a config. Those for a single field are in `schema.py`."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError
from alexnet_jax.schema import LAYERS, SCHEMA


def check(c: ConfigDict) -> None:
    """Raises ConfigError for fields that contradict each other, in one line that names one of them."""
    _check_crops(c)
    if c.train.batch_size % c.augment.chunk:
        raise _chunk_error(c.train.batch_size, c.augment.chunk)
    _check_times(c)
    _check_folding(c)
    _check_splits(c)
    if c.data.placement == "host" and c.train.steps_per_call > 1:
        raise ConfigError(f"config.train.steps_per_call: {c.train.steps_per_call} steps a call need the images on the "
                          "device; choose 1, or config.data.placement=device")
    _check_pixels(c)
    _check_steps(c)
    _check_named_layers(c)
    _check_plateau(c)


def _check_crops(c: ConfigDict) -> None:
    if c.data.crop > c.data.size:
        raise ConfigError(f"config.data.crop: {c.data.crop} is larger than config.data.size = {c.data.size}")
    offsets = c.data.size - c.data.crop + 1
    if c.augment.crop_offsets > offsets:
        raise ConfigError(f"config.augment.crop_offsets: {c.augment.crop_offsets} do not fit; a {c.data.crop}-pixel "
                          f"crop of a {c.data.size}-pixel image has {offsets}")


def _check_times(c: ConfigDict) -> None:
    for name in ("table", "conv1"):
        group = c.optim[name]
        if len(group.at) != len(group.factors):
            raise ConfigError(f"config.optim.{name}: {len(group.at)} times in `at`, {len(group.factors)} factors; "
                              "they go in pairs")
        if list(group.at) != sorted(group.at):
            raise ConfigError(f"config.optim.{name}.at: {group.at} is not in ascending order")
    if c.train.schedule_unit == "run":
        late = [t for t in (*c.optim.table.at, *c.optim.conv1.at, c.augment.pca.off_at, c.data.fold_at) if t > 1]
        if late:
            raise ConfigError(f"config.train.schedule_unit is 'run', so times lie between 0 and 1, not {late[0]}")


def _check_splits(c: ConfigDict) -> None:
    for name, images in (("train", "learn from"), ("eval", "report on")):
        if not c.data[f"{name}_split"].strip():
            raise ConfigError(f"config.data.{name}_split: a run needs images to {images}; name a split, e.g. "
                              f"{SCHEMA['data'][f'{name}_split'].default}")
    named = [text for field, text in c.data.items() if field.endswith("_split")]
    if c.data.val_fraction and not any(text.strip().partition("[")[0].strip() == "val" for text in named):
        raise ConfigError("config.data.val_fraction: makes a split val, which no field uses; set "
                          "config.data.eval_split (or tune_split) to val, or this to 0")
    if c.data.val_seed and not c.data.val_fraction:
        raise ConfigError("config.data.val_seed: chooses the images that config.data.val_fraction cuts off, which is "
                          "0; set both, or neither")


def _check_pixels(c: ConfigDict) -> None:
    if len(c.augment.divide) not in (0, 1, 3):
        raise ConfigError(f"config.augment.divide: {c.augment.divide}; give one number, or one for each channel")
    given = len(c.augment.mean_values)
    if (c.augment.mean == "values") != bool(given) or given not in (0, 1, 3) or (c.augment.grey and given == 3):
        raise ConfigError(f"config.augment.mean_values: {c.augment.mean_values} with config.augment.mean="
                          f"{c.augment.mean}; mean=values needs one number, or one for each channel, and other "
                          "means need none")
    if c.augment.grey and len(c.augment.divide) == 3:
        raise ConfigError("config.augment.divide: grey images have one channel; give one number")
    if c.augment.grey and c.augment.pca.amount:
        raise ConfigError("config.augment.pca.amount: colour noise has no meaning on grey images; set it to 0")


def _check_steps(c: ConfigDict) -> None:
    """The steps after a convolution."""
    kinds, pooled = c.model.pool.kinds, c.model.pool.layers
    if kinds and len(kinds) != len(pooled):
        raise ConfigError(f"config.model.pool.kinds: {len(kinds)} kinds for the {len(pooled)} layers of "
                          "config.model.pool.layers; they go in pairs")
    if len(c.model.lrn.order) != 2:
        raise ConfigError("config.model.lrn.order: two orders are needed, for conv1 and for conv2")


def _check_plateau(c: ConfigDict) -> None:
    if c.optim.plateau.stop and c.optim.schedule != "plateau":
        raise ConfigError(f"config.optim.plateau.stop: there is no plateau rule with config.optim.schedule="
                          f"{c.optim.schedule}; set that to plateau, or this to False")
    if c.optim.schedule == "plateau" and not c.data.tune_split:
        raise ConfigError("config.data.tune_split: the plateau rule needs training images of its own, cut from the "
                          "training split (e.g. train[36000:40000]), or choose config.optim.schedule=table")


def _chunk_error(batch: int, chunk: int) -> ConfigError:
    """With the values next to those given that would do."""
    divisors = [d for d in range(1, math.isqrt(batch) + 1) if batch % d == 0]
    divisors += [batch // d for d in divisors]
    chunks = [max(d for d in divisors if d < chunk), *sorted(d for d in divisors if d > chunk)[:1]]
    batches = [b for b in (batch - batch % chunk, batch - batch % chunk + chunk) if b]
    return ConfigError(
        f"config.augment.chunk: {chunk} images that share a crop do not divide config.train.batch_size = {batch}; "
        f"choose config.augment.chunk={' or '.join(map(str, chunks))}, or config.train.batch_size="
        f"{' or '.join(map(str, batches))}")


def fold_epoch(config: ConfigDict) -> int:
    """The first epoch (from 0) that reads `data.fold_split`; `train.epochs` where nothing is folded in."""
    data, train = config.data, config.train
    if not data.fold_split:
        return train.epochs
    return round(data.fold_at * (train.epochs if train.schedule_unit == "run" else 1))


def _check_named_layers(c: ConfigDict) -> None:
    absent = [name for name in LAYERS[:-1] if not c.model[name].features]
    for field, names in (("init.skip", c.init.skip), ("optim.freeze", c.optim.freeze)):
        lacking = [name for name in names if name in absent]
        if lacking:
            raise ConfigError(f"config.{field}: {lacking[0]}: the network has no such layer "
                              f"(config.model.{lacking[0]}.features is 0)")
    if len(c.optim.freeze) == len(LAYERS) - len(absent):
        raise ConfigError("config.optim.freeze: every layer is named, which leaves nothing to train; leave one out")


def _check_folding(c: ConfigDict) -> None:
    if bool(c.data.fold_split) != bool(c.data.fold_at):
        raise ConfigError("config.data.fold_split: goes together with config.data.fold_at; set both, or neither")
    first = fold_epoch(c)
    if c.data.fold_split and not 0 < first < c.train.epochs:
        raise ConfigError(f"config.data.fold_at: {c.data.fold_at:g} is epoch {first} of config.train.epochs = "
                          f"{c.train.epochs}; at least one epoch has to come before and one after")
