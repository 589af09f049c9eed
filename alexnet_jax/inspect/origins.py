"""Where each field of a config was set: the line of the config file, recipe or network, if any.

Config files are functions that set fields one after another; the last assignment counts. Each assignment is recorded
with its call stack while the file runs, only when a config is loaded for this purpose.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
from ml_collections import ConfigDict

from alexnet_jax import cli
from alexnet_jax import config as config_lib

DEFAULT = "declared default"
COMMAND = "command line"
_SET_AT = "_set_at"  # an attribute of each ConfigDict meanwhile: {key: where it was set last}
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_LIBRARY = os.path.dirname(ml_collections.__file__)


def load(value: str, overrides: Mapping[str, Any]) -> tuple[ConfigDict, dict[str, str]]:
    """(the resolved config of 'FILE' or 'FILE:recipe' with these overrides, {field: where its value comes from}).

    FILE may be a sweep's: then it is the config of the sweep's baseline.

    Raises:
      ConfigError: as `cli.load_config` and `config.resolve`.
    """
    module = cli.load_module(cli.file_and_recipe(value)[0])
    file = pathlib.Path(module.__file__ or value)
    base: dict[str, Any] = {}
    beside = None
    if hasattr(module, "get_sweep") and not hasattr(module, "get_config"):
        beside = file.parent
        try:
            sweep = module.get_sweep()
            value, base = sweep["config"], dict(sweep.get("overrides", {}))
        except (Exception, SystemExit) as error:
            raise cli.in_file(value, "--config", file, error) from error
    with _recording():
        config = cli.load_config(value, beside)
        places = _places(config)
    places |= dict.fromkeys(base, f"overrides of {_short(str(file))}") | dict.fromkeys(overrides, COMMAND)
    resolved = config_lib.resolve(config_lib.override(config, {**base, **overrides}))
    return resolved, {name: places.get(name, DEFAULT) for name in config_lib.FIELDS}


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Within it, a ConfigDict and its copies record where their fields are set."""
    set_item, copy = ConfigDict.__setitem__, ConfigDict.copy_and_resolve_references

    def set_and_record(self: ConfigDict, key: str, value: Any) -> None:
        set_item(self, key, value)
        if (place := _place()) is not None:
            vars(self).setdefault(_SET_AT, {})[key] = place

    def copy_with_record(self: ConfigDict, visit_map: Any = None) -> ConfigDict:
        made = copy(self, visit_map)
        vars(made)[_SET_AT] = dict(vars(self).get(_SET_AT, {}))
        return made

    try:
        setattr(ConfigDict, "__setitem__", set_and_record)  # noqa: B010  # a method isn't assigned to, says mypy
        setattr(ConfigDict, "copy_and_resolve_references", copy_with_record)  # noqa: B010
        yield
    finally:
        setattr(ConfigDict, "__setitem__", set_item)  # noqa: B010
        setattr(ConfigDict, "copy_and_resolve_references", copy)  # noqa: B010


def _place() -> str | None:
    """'released, alexnet_jax/recipes.py:76 ← configs/cifar10.py:18' of the assignment under way; None of a default."""
    calls = []
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != cli.__file__:
        if frame.f_code is config_lib.default.__code__:
            return None
        if not frame.f_code.co_filename.startswith((_LIBRARY, config_lib.__file__)):
            calls.append(frame)
        frame = frame.f_back
    if not calls:
        return None
    inner, outer = calls[0], calls[-1]
    text = f"{_short(inner.f_code.co_filename)}:{inner.f_lineno}"
    if inner is outer:
        return text
    return f"{inner.f_code.co_name}, {text} ← {_short(outer.f_code.co_filename)}:{outer.f_lineno}"


def _short(file: str) -> str:
    """The file below the project's folder or this one, else as it is."""
    path = pathlib.Path(file).absolute()
    for folder in (_ROOT, pathlib.Path.cwd()):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return file


def _places(config: ConfigDict, prefix: str = "") -> dict[str, str]:
    found = {prefix + key: place for key, place in vars(config).get(_SET_AT, {}).items()}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            found |= _places(value, f"{prefix}{key}.")
    return found
