"""Every field of a config: its declared default, its meaning and its range.

A config file (`configs/*.py`) starts from `default()` and sets what it needs. `resolve` checks the whole
config before anything is compiled and brings each value to its field's type. `run_id` names a run by what
it computes: the fields that can change its result and are not at their declared default. So a declared
default is part of the recorded results' names and must never change; a new field's default has to mean
"as before".

The declared defaults of the network and of its training are the paper's (NIPS 2012), those of the
data `shapes`, which needs no files. The two recipes are written out side by side in `configs/recipes.py`.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError

ORDERS = ("relu-lrn-pool", "relu-pool-lrn", "lrn-relu-pool", "lrn-pool-relu", "pool-relu-lrn", "pool-lrn-relu")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `default` fixes its type, `low`/`high`/`choices` its range (of each item, for a tuple)."""

    default: Any
    doc: str
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    item: type | None = None  # the type of a tuple's items
    identity: bool = True  # can it change the result of a run?


def _conv(features: int, kernel: int, stride: int, padding: int, bias: float) -> dict[str, Field]:
    return {
        "features": Field(features, "kernels over all columns; 0 leaves the layer out", low=0),
        "kernel": Field(kernel, "side of the square filter, pixels", low=1),
        "stride": Field(stride, "pixels", low=1),
        "padding": Field(padding, "zeros on each side; the ceil rule may add more on the far side", low=0),
        "init_std": Field(0.01, "standard deviation of the initial weights", low=0.0),
        "bias": Field(bias, "initial bias"),
    }


def _dense(features: int | None, bias: float) -> dict[str, Field]:
    fields = {
        "init_std": Field(0.01, "standard deviation of the initial weights", low=0.0),
        "bias": Field(bias, "initial bias"),
    }
    if features is not None:
        fields["features"] = Field(features, "units over all columns; 0 leaves the layer out", low=0)
    return fields


def _table(what: str) -> dict[str, Field]:
    return {
        "at": Field((), f"when the rate of {what} changes, in `train.schedule_unit`", item=float, low=0.0),
        "factors": Field((), "from then on the rate is the initial rate times this", item=float, low=0.0),
    }


SCHEMA: dict[str, Any] = {
    "model": {
        "name": Field("alexnet", "which network", choices=("alexnet",)),
        "classes": Field(0, "output units; 0: as many as the training data has classes", low=0),
        "columns": Field(2, "groups of kernels that see each other only at `exchange`", low=1, high=64),
        "exchange": Field(("conv3", "fc6", "fc7"), "layers that see all columns", item=str,
                          choices=("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
        "activation": Field("relu", "after every layer but the last", choices=("relu", "tanh")),
        "init_scaling": Field("none", "full_fan_in: times √(fan-in of the full network's layer / fan-in here)",
                              choices=("none", "full_fan_in")),
        # Paper, section 3.5 and figure 2; biases and deviations: section 5.
        "conv1": _conv(96, 11, 4, 0, 0.0),
        "conv2": _conv(256, 5, 1, 2, 1.0),
        "conv3": _conv(384, 3, 1, 1, 0.0),
        "conv4": _conv(384, 3, 1, 1, 1.0),
        "conv5": _conv(256, 3, 1, 1, 1.0),
        "fc6": _dense(4096, 1.0),
        "fc7": _dense(4096, 1.0),
        "fc8": _dense(None, 0.0),
        "lrn": {  # paper, section 3.3
            "layers": Field((1, 2), "convolutional layers with response normalisation", item=int, low=1, high=5),
            "k": Field(2.0, "b = a / (k + α Σ a²)^β", low=0.0),
            "n": Field(5, "adjacent channels in the sum", low=1),
            "alpha": Field(1e-4, "α", low=0.0),
            "alpha_over_n": Field(False, "α/n in place of α, as the released code, Caffe and PyTorch do"),
            "beta": Field(0.75, "β", low=0.0),
            "order": Field(("relu-lrn-pool", "relu-lrn-pool"), "steps after conv1 and after conv2", item=str,
                           choices=ORDERS),
            "window": Field("column", "where the n channels end: at the column's edge or the layer's",
                            choices=("column", "layer")),
        },
        "same_map": {  # released layers/layers-*.cfg: absent from the paper
            "layers": Field((), "LRN layers followed by a norm over a window of the same map", item=int, low=1, high=5),
            "size": Field(5, "side of the window, pixels", low=1),
            "alpha": Field(0.001, "b = a / (1 + α/size² Σ a²)^β", low=0.0),
            "beta": Field(0.75, "β", low=0.0),
        },
        "pool": {  # paper, section 3.4
            "layers": Field((1, 2, 5), "convolutional layers followed by pooling", item=int, low=1, high=5),
            "kind": Field("max", "what is taken of a window", choices=("max", "avg")),
            "window": Field(3, "side of the window z, pixels", low=1),
            "stride": Field(2, "step s, pixels", low=1),
        },
        "dropout": Field(0.5, "probability of zeroing a unit of fc6 and fc7", low=0.0, high=0.99),
        "dropout_scale": Field("test", "where outputs are scaled: at test (both recipes), or by 1/(1-p) in training",
                               choices=("test", "train")),
    },
    "data": {
        "name": Field("shapes", "shapes, cifar10, imagenet, image_folder:<folder> or tfds:<name>"),
        "dir": Field("", "folder that holds the datasets' own folders (else $ALEXNET_DATA_DIR)", identity=False),
        "store": Field("", "folder of the packed images (else the user's cache folder)", identity=False),
        "train_split": Field("train", "images to learn from, e.g. train[:40000]"),
        "eval_split": Field("test", "images to report on"),
        "tune_split": Field("", "training images kept back for what is tuned; needed by the plateau rule"),
        "size": Field(256, "side of the stored images, pixels", low=1),
        "crop": Field(224, "side of the network's input, pixels", low=1),
        "on_corrupt": Field("skip", "an image that cannot be read", choices=("skip", "refuse")),
    },
    "augment": {
        "crop_offsets": Field(0, "offsets of the training crop along each side; 0: all, 1: the centre only", low=0),
        "mirror": Field(True, "half of the training images are mirrored"),
        "chunk": Field(1, "images in a row that share one crop and one mirror", low=1),
        "mean": Field("pixel", "what is subtracted: the training mean of each pixel, the centre crop of that mean "
                      "image for every crop, or the mean of each channel", choices=("pixel", "centre", "channel")),
        "pca": {  # paper, section 4.1
            "amount": Field(0.1, "standard deviation of α in Σ pᵢ αᵢ λᵢ; 0: no colour noise", low=0.0),
            "by": Field("eigenvalue", "λ: eigenvalue on [0, 1] pixels (paper) or standard deviation (released)",
                        choices=("eigenvalue", "deviation")),
            "divide_by": Field(1.0, "in training, while there is noise, the noisy centred image is divided by this",
                               low=1e-6),
            "off_at": Field(0.0, "when the noise ends, in `train.schedule_unit`; 0: never", low=0.0),
            "statistics": Field("train", "from the training images, or the author's for ILSVRC-2012",
                                choices=("train", "ilsvrc2012")),
        },
    },
    "optim": {  # paper, section 5
        "learning_rate": Field(0.01, "initial ε of the weights", low=0.0),
        "bias_learning_rate": Field(0.0, "initial ε of the biases; 0: the weights' own", low=0.0),
        "bias_schedule": Field("same", "do the biases follow the weights' schedule?", choices=("same", "constant")),
        "momentum": Field(0.9, "of the velocity", low=0.0, high=0.9999),
        "weight_decay": Field(0.0005, "v ← 0.9 v − decay ε w − ε g", low=0.0),
        "decay_biases": Field(True, "does decay pull on the biases too?"),
        "schedule": Field("plateau", "plateau: ÷10 when the tuning error stops improving; table: at given times",
                          choices=("plateau", "table", "constant")),
        "plateau": {
            "patience": Field(5, "evaluations without improvement before the rate falls", low=1),
            "min_delta": Field(0.001, "smallest improvement of the error that counts, as a fraction", low=0.0),
            "factor": Field(0.1, "the rate is multiplied by this", low=0.0, high=1.0),
            "times": Field(3, "how often at most", low=0),
        },
        "table": _table("the weights"),
        "conv1": _table("conv1, where it differs (0 freezes it)"),
    },
    "train": {
        "batch_size": Field(128, "images a step, over all devices", low=1),
        "epochs": Field(90, "passes over the training images", low=1),
        "eval_every": Field(1, "epochs between evaluations", low=1),
        "schedule_unit": Field("epoch", "unit of optim.*.at and augment.pca.off_at: epochs or parts of the run",
                               choices=("epoch", "run")),
        "precision": Field("float32", "of activations and products; parameters stay float32",
                           choices=("float32", "bfloat16", "float64")),
    },
    "mesh": {
        "data": Field("auto", "devices that share a batch", identity=False),
        "column": Field("auto", "devices that share the columns", identity=False),
    },
    "checkpoint": {
        "every_seconds": Field(60.0, "time between checkpoints within an epoch; one is written after each epoch",
                               low=0.0, identity=False),
        "keep": Field(2, "checkpoints kept; two at least, as one may be under way", low=2, identity=False),
    },
    "seed": Field(0, "of initialisation, data order, augmentation and dropout", low=0, high=2**31 - 1),
}


def _flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping | ConfigDict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


FIELDS: dict[str, Field] = _flatten(SCHEMA)


def default() -> ConfigDict:
    """A locked config with every field at its declared default."""

    def values(tree):
        return {k: values(v) if isinstance(v, Mapping) else v.default for k, v in tree.items()}

    # Types are checked by `resolve`, against the schema and with a message of our own.
    config = ConfigDict(values(SCHEMA), type_safe=False)
    config.lock()
    return config


def copy(config: ConfigDict) -> ConfigDict:
    """An independent, locked copy (`ConfigDict(config)` would share the nested parts)."""
    new = config.copy_and_resolve_references()
    new.lock()
    return new


def flatten(config: ConfigDict | Mapping) -> dict[str, Any]:
    """{'model.lrn.k': 2.0, …} in the config's own order."""
    return _flatten(config)


def check_name(name: str) -> None:
    """Raises ConfigError, with the nearest names, unless `name` is a field such as 'model.lrn.k'."""
    if name in FIELDS:
        return
    below = [f for f in FIELDS if f.startswith(name + ".")]
    if below:
        raise ConfigError(f"config.{name} is a group of fields; set one of them, e.g. config.{below[0]}")
    near = difflib.get_close_matches(name, FIELDS, n=3, cutoff=0.6)
    last = name.rsplit(".", 1)[-1]
    near = near or [f for f in FIELDS if f.rsplit(".", 1)[-1] == last][:3]
    hint = f"; did you mean {' or '.join('config.' + n for n in near)}?" if near else ""
    raise ConfigError(f"config.{name}: no such field{hint}")


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with dotted fields replaced; raises ConfigError for an unknown one."""
    new = copy(config)
    for name, value in overrides.items():
        check_name(name)
        with new.unlocked():
            node = new
            *groups, last = name.split(".")
            for group in groups:
                node = node[group]
            node[last] = _coerce(name, value)
    return new


def _scalar(name: str, value: Any, kind: type) -> Any:
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}[kind]
    ok = isinstance(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value, ok = float(value), True
    elif kind is int and (isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())):
        ok = False
    elif kind is int and isinstance(value, float):
        value, ok = int(value), True
    if not ok or (kind is float and value != value):
        raise ConfigError(f"config.{name}: {value!r} is not {words}")
    return value


def _coerce(name: str, value: Any) -> Any:
    field = FIELDS[name]
    if name.startswith("mesh."):
        if str(value) == "auto":
            return "auto"
        if str(value).isdecimal() and int(value) >= 1:
            return str(int(value))
        raise ConfigError(f"config.{name}: {value!r} is neither 'auto' nor a number of devices")
    if isinstance(field.default, tuple):
        if not isinstance(value, tuple | list):
            raise ConfigError(f"config.{name}: {value!r} is not a tuple; write it as in {field.default!r}")
        assert field.item is not None
        value = tuple(_scalar(name, item, field.item) for item in value)
        items = value
    else:
        value = _scalar(name, value, type(field.default))
        items = (value,)
    for item in items:
        if field.choices and item not in field.choices:
            near = difflib.get_close_matches(str(item), [str(c) for c in field.choices], n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"config.{name}: {item!r} is not one of {', '.join(map(str, field.choices))}{hint}")
        if field.low is not None and item < field.low:
            raise ConfigError(f"config.{name}: {item!r} is below {field.low}")
        if field.high is not None and item > field.high:
            raise ConfigError(f"config.{name}: {item!r} is above {field.high}")
    return value


def _check_together(c: ConfigDict) -> None:
    """What no field can be asked alone."""
    if c.data.crop > c.data.size:
        raise ConfigError(f"config.data.crop: {c.data.crop} is larger than config.data.size = {c.data.size}")
    offsets = c.data.size - c.data.crop + 1
    if c.augment.crop_offsets > offsets:
        raise ConfigError(f"config.augment.crop_offsets: {c.augment.crop_offsets} do not fit; a {c.data.crop}-pixel "
                          f"crop of a {c.data.size}-pixel image has {offsets}")
    if c.train.batch_size % c.augment.chunk:
        raise ConfigError(f"config.augment.chunk: {c.augment.chunk} does not divide "
                          f"config.train.batch_size = {c.train.batch_size}")
    for name in ("table", "conv1"):
        group = c.optim[name]
        if len(group.at) != len(group.factors):
            raise ConfigError(f"config.optim.{name}: {len(group.at)} times in `at`, {len(group.factors)} factors; "
                              "they go in pairs")
        if list(group.at) != sorted(group.at):
            raise ConfigError(f"config.optim.{name}.at: {group.at} is not in ascending order")
    if c.train.schedule_unit == "run":
        late = [t for t in (*c.optim.table.at, *c.optim.conv1.at, c.augment.pca.off_at) if t > 1]
        if late:
            raise ConfigError(f"config.train.schedule_unit is 'run', so times lie between 0 and 1, not {late[0]}")
    if len(c.model.lrn.order) != 2:
        raise ConfigError("config.model.lrn.order: two orders are needed, for conv1 and for conv2")
    if c.optim.schedule == "plateau" and not c.data.tune_split:
        raise ConfigError("config.data.tune_split: the plateau rule needs training images of its own, cut from the "
                          "training split (e.g. train[36000:40000]), or choose config.optim.schedule=table")


def resolve(config: ConfigDict) -> ConfigDict:
    """The checked config, every value of its field's type, locked.

    Raises:
      ConfigError: one line that names the field, for an unknown field, a wrong type, a value out of
        range or fields that contradict each other.
    """
    flat = _flatten(config)
    for name in flat:
        check_name(name)
    missing = [name for name in FIELDS if name not in flat]
    if missing:
        raise ConfigError(f"config.{missing[0]}: missing; config files start from alexnet_jax.config.default()")
    resolved = override(default(), flat)
    _check_together(resolved)
    return resolved


def identity(config: ConfigDict) -> dict[str, Any]:
    """The fields that make a run what it is: those that can change its result and are not at their default."""
    return {
        name: value
        for name, value in _flatten(config).items()
        if FIELDS[name].identity and value != FIELDS[name].default
    }


def run_id(config: ConfigDict) -> str:
    """Ten hex digits of the SHA-256 of `identity(config)`; the same for every mesh, path and later version."""
    text = json.dumps(identity(config), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def from_json(tree: Mapping[str, Any]) -> ConfigDict:
    """A config from the nested dict of a run.json: fields it doesn't know are refused, absent ones default."""
    return resolve(override(default(), _flatten(tree)))


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The nested dict that goes into run.json."""
    return json.loads(json.dumps(config.to_dict()))
