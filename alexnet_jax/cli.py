"""Config files and overrides on the command line: `--config=FILE[:recipe] --config.a.b=value`.

The flags are `ml_collections.config_flags`; what is added is one clear line for each mistake, before
anything is computed.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FLAG = None


def define_config_flag() -> None:
    """Adds `--config` and, for each of its fields, `--config.<field>`. Once per process."""
    global _FLAG
    if _FLAG is None:
        _FLAG = config_flags.DEFINE_config_file(
            "config", None, "a config file, e.g. configs/cifar10.py, or configs/cifar10.py:paper for another recipe")


def load_module(path: str, field: str = "--config") -> ModuleType:
    """Runs a Python file given by its path, relative to here or to the project. Raises ConfigError."""
    file = pathlib.Path(path)
    if not file.is_absolute() and not file.exists() and (_ROOT / file).exists():
        file = _ROOT / file
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else _ROOT / "configs"
        here = ", ".join(sorted(p.name for p in folder.glob("*.py") if not p.name.startswith("_")))
        raise ConfigError(f"{field}={path}: no such file" + (f"; {folder} has {here}" if here else ""))
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))  # so that a config can import its base: `from configs import …`
    spec = importlib.util.spec_from_file_location(f"config_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{field}={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _in_file(path, field, error) from error
    return module


def _in_file(path: str, field: str, error: Exception) -> ConfigError:
    line = ""
    if isinstance(error, SyntaxError):
        line = f" line {error.lineno}:"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f.lineno for f in frames if f.filename.endswith(path.lstrip("./"))]
        if own:
            line = f" line {own[-1]}:"
    return ConfigError(f"{field}={path}:{line} {type(error).__name__}: {' '.join(str(error).split())}")


def load_config(value: str) -> ConfigDict:
    """The config of 'FILE' or 'FILE:recipe', not yet resolved. Raises ConfigError."""
    path, _, recipe = value.partition(":")
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={path}: the file defines no get_config()")
    try:
        config = module.get_config(recipe) if recipe else module.get_config()
    except ConfigError as error:
        raise ConfigError(f"--config={value}: {error}") from error
    except Exception as error:
        raise _in_file(path, "--config", error) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={path}: get_config() returns {type(config).__name__}; it should return a config "
                          "made from alexnet_jax.config.default()")
    return config


def _check_arguments(argv: Sequence[str]) -> None:
    """Finds mistakes that config_flags would answer with a traceback."""
    for argument in argv:
        if argument in ("--config", "-config"):
            raise ConfigError("--config: write it as --config=FILE")
        if argument.lstrip("-").startswith("config="):
            load_config(argument.split("=", 1)[1])
        elif argument.lstrip("-").startswith(("config.", "noconfig.")):
            config_lib.check_name(argument.lstrip("-").split("=", 1)[0].split(".", 1)[1])
            if "=" not in argument and not isinstance(
                    config_lib.FIELDS[argument.lstrip("-").split(".", 1)[1]].default, bool):
                raise ConfigError(f"{argument}: write it as {argument}=VALUE")
            if not any(a.lstrip("-").startswith("config=") for a in argv):
                raise ConfigError(f"{argument}: --config=FILE is needed too")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """For `app.run(main, flags_parser=parse_flags)`: the positional arguments. Raises ConfigError."""
    _check_arguments(argv)
    # config_flags opens the file itself, relative to the current folder.
    argv = [_absolute(a) for a in argv]
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).removeprefix("flag ").split())) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r}: not understood; every argument is of the form --name=value")
    return rest


def _absolute(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if name.lstrip("-") == "config" and equals:
        path, colon, recipe = value.partition(":")
        if not pathlib.Path(path).exists() and (_ROOT / path).exists():
            return f"{name}={_ROOT / path}{colon}{recipe}"
    return argument


def parsed_config() -> tuple[ConfigDict, dict[str, Any]]:
    """(the resolved config, the overrides given on the command line as {'train.epochs': 3, …})."""
    if flags.FLAGS["config"].value is None:
        raise ConfigError("--config=FILE is needed, e.g. --config=configs/shapes.py")
    config = config_lib.resolve(flags.FLAGS.config)
    names = config_flags.get_override_values(flags.FLAGS["config"])
    flat = config_lib.flatten(config)
    return config, {name: flat[name] for name in names}
