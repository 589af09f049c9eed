"""Configs: what `schema.py` declares, checked, overridden and named.

A config file (`configs/*.py`) starts from `default()` and sets what it needs. `resolve` checks the whole
config before anything is compiled and brings each value to its field's type. `run_id` names a run by what
it computes: the fields that can change its result and are not at their declared default. So a declared
default is part of the recorded results' names and must never change; a new field's default has to mean
"as before".

The recipes, among them the paper's and the released code's, are written out side by side in `recipes.py`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config_rules, paths
from alexnet_jax.errors import ConfigError
from alexnet_jax.schema import ALIASES, LARGEST, SCHEMA, Field
from alexnet_jax.text import did_you_mean


def _flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping | ConfigDict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


FIELDS: dict[str, Field] = _flatten(SCHEMA)
_DEFAULTS = {name: field.default for name, field in FIELDS.items()}
_SPLITS = [name for name in FIELDS if name.endswith("_split")]
_SETS = [name for name, field in FIELDS.items() if field.unordered]


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
    last = name.rsplit(".", 1)[-1]
    near = [ALIASES[last.lower()]] if last.lower() in ALIASES else difflib.get_close_matches(name, FIELDS, n=3)
    near = near or [f for f in FIELDS if f.rsplit(".", 1)[-1] == last][:3]
    hint = f"; did you mean {' or '.join('config.' + n for n in near)}?" if near else ""
    raise ConfigError(f"config.{name}: no such field{hint}")


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with dotted fields replaced; raises ConfigError for an unknown one."""
    new = copy(config)
    with new.unlocked():  # once: it walks over the whole tree
        for name, value in overrides.items():
            check_name(name)
            node: Any = new
            *groups, last = name.split(".")
            for group in groups:
                if group not in node:
                    raise _missing(name)
                node = node[group]
            node[last] = _coerce(name, value)
    return new


def _missing(name: str) -> ConfigError:
    return ConfigError(f"config.{name}: missing; config files start from alexnet_jax.config.default()")


def parse(name: str, text: str) -> Any:
    """The value of a field that `text`, of a command line, stands for: 10 for '1e1', (1, 2) for '1,2' and '(1, 2)'.

    Raises:
      ConfigError: an unknown field, or a text that is no value of its type.
    """
    check_name(name)
    field = FIELDS[name]
    if not isinstance(field.default, tuple):
        value = _parse_scalar(name, text, str if name.startswith("mesh.") else type(field.default))
        return _coerce(name, value)
    inside = text.strip()
    brackets = {"(": ")", "[": "]"}
    opened, closed = inside[:1] in brackets, inside[-1:] in brackets.values()
    if not inside or opened != closed or (opened and brackets[inside[0]] != inside[-1]):
        raise ConfigError(f"config.{name}: {text!r} is not a tuple; write it as in "
                          f"{','.join(map(str, _example(field)))}, or () for none")
    items = [part.strip() for part in (inside[1:-1] if opened else inside).split(",")]
    if items and not items[-1]:  # as in (1,)
        items.pop()
    assert field.item is not None
    return _coerce(name, tuple(_parse_scalar(name, _unquoted(item), field.item) for item in items))


def _example(field: Field) -> tuple:
    """A value of a field that is a tuple, not empty."""
    return field.default or {int: (1, 2), float: (0.5, 0.9), str: field.choices[:2]}[field.item or int]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _parse_scalar(name: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return _BOOLEANS[text.strip().lower()]
        if kind is float and float(text) == 0 and re.search("[1-9]", text.lower().partition("e")[0]):
            raise ConfigError(f"config.{name}: {text} is too small for a number here, and would be 0")
        if kind is int:
            try:
                return int(text)
            except ValueError:
                number = float(text)  # 1e3, 10.0
                return int(number) if number.is_integer() else number
        return kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"config.{name}: {text!r} is not {_WORDS[kind]}") from None


def plain(value: Any) -> Any:
    """Scalars of NumPy and JAX as Python's, one-dimensional arrays as tuples of such; anything else as it is.

    What has less than 64 bits becomes the shortest decimal that denotes it: 0.1, not 0.10000000149, which would be
    another run.
    """
    if not hasattr(value, "dtype") or getattr(value, "ndim", 2) > 1:
        return value
    import numpy as np

    if value.ndim == 1:
        return tuple(map(plain, value))
    scalar = np.asarray(value)[()]
    item = scalar.item()
    return float(str(scalar)) if isinstance(item, float) else item


_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a string"}


def _scalar(name: str, value: Any, kind: type) -> Any:
    value = plain(value)
    ok = isinstance(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value, ok = float(value), True
    elif kind is int and (isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())):
        ok = False
    elif kind is int and isinstance(value, float):
        value, ok = int(value), True
    if not ok or (kind is float and value != value):
        raise ConfigError(f"config.{name}: {value!r} is not {_WORDS[kind]}")
    if kind is str:
        paths.check_text(value, f"config.{name}")
    if kind is int and abs(value) > LARGEST:
        raise ConfigError(f"config.{name}: {value!r} is {f'above {LARGEST}' if value > 0 else f'below -{LARGEST}'}")
    return float(value) + 0.0 if kind is float else value  # −0.0 is 0.0


def _coerce(name: str, value: Any) -> Any:
    field, value = FIELDS[name], plain(value)
    if name.startswith("mesh."):
        if str(value) == "auto":
            return "auto"
        if str(value).isdecimal() and int(value) >= 1:
            return str(int(value))
        raise ConfigError(f"config.{name}: {value!r} is neither 'auto' nor a number of devices")
    if isinstance(field.default, tuple):
        if not isinstance(value, tuple | list):
            raise ConfigError(f"config.{name}: {value!r} is not a tuple; write it as in {_example(field)!r}")
        assert field.item is not None
        value = tuple(_scalar(name, item, field.item) for item in value)
        items = value
    else:
        value = _scalar(name, value, type(field.default))
        items = (value,)
    for item in items:
        if field.choices and item not in field.choices:
            raise ConfigError(f"config.{name}: {item!r} is not one of {', '.join(map(str, field.choices))}"
                              f"{did_you_mean(str(item), field.choices)}")
        if item in (math.inf, -math.inf):
            raise ConfigError(f"config.{name}: {item!r} is not finite")
        if field.low is not None and item < field.low:
            raise ConfigError(f"config.{name}: {item!r} is below {field.low}")
        if field.high is not None and item > field.high:
            raise ConfigError(f"config.{name}: {item!r} is above {field.high}")
    return value


def _one_spelling(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `flat` that could be written in another way too, in the one that ids go by.

    Raises:
      ConfigError: something is twice in a field that is a set.
    """
    new: dict[str, Any] = {name: _plain_split(flat[name]) for name in _SPLITS}
    kind, colon, folder = flat["data.name"].partition(":")
    if kind == "image_folder" and folder:
        new["data.name"] = kind + colon + str(pathlib.PurePosixPath(folder))
    for name in _SETS:
        items, choices = flat[name], FIELDS[name].choices
        twice = [item for item in dict.fromkeys(items) if items.count(item) > 1]
        if twice:
            raise ConfigError(f"config.{name}: {twice[0]!r} appears more than once in {items}; name each once")
        places = [choices.index(item) if choices else item for item in items]
        order = sorted(range(len(items)), key=places.__getitem__)
        new[name] = tuple(items[i] for i in order)
        kinds = flat["model.pool.kinds"]
        if name == "model.pool.layers" and len(kinds) == len(items):
            new["model.pool.kinds"] = tuple(kinds[i] for i in order)
    return new


_SLICE = re.compile(r"\s*([^\s:\[\]]+)\s*(?:\[\s*([^\s:\[\]]*)\s*:\s*([^\s:\[\]]*)\s*\])?\s*")


def _plain_split(text: str) -> str:
    """'train[ 0:040000 ]' → 'train[:40000]', 'train[:]' → 'train'; what is no split string stays as it is."""
    match = _SLICE.fullmatch(text)
    if not match:
        return text
    start, stop = (_plain_bound(bound or "") for bound in match.groups()[1:])
    start, stop = "" if start in ("0", "0%") else start, "" if stop == "100%" else stop
    return match[1] + (f"[{start}:{stop}]" if start or stop else "")


def _plain_bound(bound: str) -> str:
    match = re.fullmatch(r"(-?)0*(\d+)(?:\.(\d+?)0*)?(%?)", bound)
    if not match:
        return bound
    sign, whole, part, percent = match.groups()
    return f"{sign}{whole}{f'.{part}' if part and part != '0' else ''}{percent}"


def resolve(config: ConfigDict) -> ConfigDict:
    """The checked config, every value of its field's type and in one spelling, locked.

    Raises:
      ConfigError: one line that names the field, for an unknown field, a wrong type, a value out of
        range or fields that contradict each other.
    """
    flat = _flatten(config)
    for name in flat:
        check_name(name)
    missing = [name for name in FIELDS if name not in flat]
    if missing:
        raise _missing(missing[0])
    resolved = override(default(), flat)
    resolved = override(resolved, _one_spelling(_flatten(resolved)))
    config_rules.check(resolved)
    return resolved


def identity(config: ConfigDict) -> dict[str, Any]:
    """The fields that make a run what it is: those that can change its result and are not at their default."""
    return _identity(_flatten(config))


def _identity(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flat.items()
            if FIELDS[name].identity and value != FIELDS[name].default}


def run_id(config: ConfigDict) -> str:
    """Ten hex digits of the SHA-256 of `identity(config)`; the same for every mesh, path and later version."""
    return _digest(identity(config))


def run_ids(config: ConfigDict, seeds: Iterable[int]) -> dict[int, str]:
    """{seed: `run_id` of the config with that seed}."""
    rest = {name: value for name, value in identity(config).items() if name != "seed"}
    return {seed: _digest(rest if seed == FIELDS["seed"].default else {**rest, "seed": seed}) for seed in seeds}


def _digest(tree: Mapping[str, Any]) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def from_json(tree: Mapping[str, Any]) -> ConfigDict:
    """A config from the nested dict of a run.json: fields it doesn't know are refused, absent ones default."""
    return resolve(override(default(), _flatten(tree)))


def recorded_id(tree: Mapping[str, Any], respelt: bool = True) -> str | None:
    """The `run_id` of a recorded config, which may be spelt as none is now. Checks nothing, and is quick.

    Args:
      respelt: as it is spelt now; else as it is recorded.

    Returns:
      None if it isn't understood.
    """
    flat = {name: tuple(value) if isinstance(value, list) else value for name, value in _flatten(tree).items()}
    try:
        flat = _DEFAULTS | flat
        ours = _identity(flat | _one_spelling(flat) if respelt else flat)
        return _digest({name: value + 0.0 if isinstance(value, float) else value for name, value in ours.items()})
    except (ConfigError, AttributeError, KeyError, TypeError, ValueError):
        return None


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The nested dict that goes into run.json."""
    return json.loads(json.dumps(config.to_dict()))
