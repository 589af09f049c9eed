"""Config files and overrides on the command line: `--config=FILE[:recipe] --config.a.b=value`.

Every mistake gives one clear line, before anything is computed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import messages, paths
from alexnet_jax.errors import ConfigError
from alexnet_jax.text import did_you_mean

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_EXAMPLE = "--config=configs/shapes.py"
_HELP = {"--help": True, "-help": True, "-h": True, "-?": True, "--helpshort": True, "--helpfull": False}
_NARROW = 40  # columns
_FLAG = None
_given: dict[str, Any] = {}  # the overrides of the command line


def define_config_flag() -> None:
    """Adds `--config` and, for each of its fields, `--config.<field>`. Once per process."""
    global _FLAG
    if _FLAG is None:
        _FLAG = flags.DEFINE_string("config", None, f"a config file, e.g. {_EXAMPLE}, or {_EXAMPLE}:paper for another "
                                    "recipe; --config.train.epochs=3 sets a field of it (alexnet_jax/schema.py lists "
                                    "them all)")


def _help(argv: Sequence[str]) -> None:
    """Answers `--help`, the command's own flags first, and exits with 0; does nothing without it."""
    asked = [argument for argument in argv[1:] if argument in _HELP]
    if not asked:
        return
    if not all(_HELP[argument] for argument in asked):
        # Absl's help fails on narrower terminals.
        os.environ["COLUMNS"] = str(max(_NARROW, shutil.get_terminal_size().columns))
        app.usage(writeto_stdout=True)
        sys.exit(0)
    own = [flag for module, of_module in flags.FLAGS.flags_by_module_dict().items() for flag in of_module
           if module == sys.argv[0] or module.startswith(("alexnet_jax.", "experiments."))]
    print((sys.modules["__main__"].__doc__ or "").strip() + "\n\nflags:")
    for flag in sorted(own, key=lambda flag: flag.name == "config"):
        choices = "|".join(getattr(flag.parser, "enum_values", ()) or ())
        form = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={choices or flag.name.upper()}"
        default = "" if flag.default in (None, "", False) else f" (default: {flag.default})"
        print(f"  {form}\n      {flag.help}{default}")
    print("  --helpfull\n      the flags of all libraries too")
    sys.exit(0)


def find(path: str, field: str, beside: pathlib.Path | None = None) -> pathlib.Path:
    """The file `path`, looked up in the folder `beside`, the current folder and the project's, in this order.

    The path as given if it is in none of them. Raises ConfigError (`paths.given`).
    """
    file = paths.given(path, field)
    if file.is_absolute():
        return file
    places = [*([beside] if beside is not None else []), pathlib.Path(), _ROOT]
    return next((place / file for place in places if (place / file).is_file()), file)


def file_and_recipe(value: str) -> tuple[str, str]:
    """('FILE', 'recipe' or '') of 'FILE:recipe'; a path may have colons of its own: 'C:/x.py', 'a:b/x.py:paper'."""
    match = re.fullmatch(r"(.*\.py)(?::([^/\\]*))?", value, re.DOTALL)
    if match:
        return match[1], match[2] or ""
    path, _, recipe = value.partition(":")
    return path, recipe


def load_module(path: str, field: str = "--config", beside: pathlib.Path | None = None) -> ModuleType:
    """Runs a Python file given by its path (`find`). Raises ConfigError."""
    file = find(path, field, beside)
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else _ROOT / "configs"
        here = _usable(folder, field)
        if file.exists():
            what = "a folder" if file.is_dir() else "not a regular file"
            raise ConfigError(f"{field}={path}: {what}; name a Python file")
        raise ConfigError(f"{field}={path}: no such file{did_you_mean(file.name, here)}"
                          + (f"; {folder} has {', '.join(here)}" if here else ""))
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))  # so that a config can import its base: `from configs import …`
    spec = importlib.util.spec_from_file_location(f"config_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{field}={path}: not a Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise in_file(path, field, file, error) from error
    return module


def _usable(folder: pathlib.Path, field: str) -> list[str]:
    """The names of the Python files of a folder that `field`, '--config' or '--sweep', can name; else all."""
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        with contextlib.suppress(OSError):
            found[path.name] = f"def get_{field.lstrip('-')}(" in path.read_text("utf-8", "replace")
    return [name for name, makes in found.items() if makes] or list(found)


def in_file(path: str, field: str, file: pathlib.Path, error: BaseException) -> ConfigError:
    """The error to raise for an exception in the code of `file`, given as `path`: one line, with the line number."""
    line = ""
    if isinstance(error, SyntaxError):
        line = f" line {error.lineno}:" if error.lineno else ""
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f.lineno for f in frames if os.path.abspath(f.filename) == os.path.abspath(file)]
        if own:
            line = f" line {own[-1]}:"
    return ConfigError(f"{field}={path}:{line} {type(error).__name__}: {' '.join(str(error).split())}")


def load_config(value: str, beside: pathlib.Path | None = None) -> ConfigDict:
    """The config of 'FILE' or 'FILE:recipe' (`find`), not yet resolved. Raises ConfigError."""
    path, recipe = file_and_recipe(value)
    module = load_module(path, beside=beside)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={path}: the file defines no get_config()")
    try:
        config = module.get_config(recipe) if recipe else module.get_config()
    except ConfigError as error:
        raise ConfigError(f"--config={value}: {error}") from error
    except (Exception, SystemExit) as error:
        raise in_file(path, "--config", pathlib.Path(module.__file__ or path), error) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={path}: get_config() returns {type(config).__name__}; it should return a config "
                          "made from alexnet_jax.config.default()")
    return config


def parse_flags(argv: Sequence[str]) -> list[str]:
    """For `app.run(main, flags_parser=parse_flags)`: the positional arguments.

    The config is then in `parsed_config`. `--help` is answered here.

    Raises:
      ConfigError: an unknown flag or field, a value that is none of its type, an argument that isn't understood.
    """
    _help(argv)
    for argument in argv[1:]:
        paths.check_text(argument, "an argument")
    rest, overrides = [argv[0]], {}
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        dashes, word = name[:len(name) - len(name.lstrip("-"))], name.lstrip("-")
        if dashes and word == "config" and not equals:
            raise ConfigError("--config: write it as --config=FILE")
        if not dashes or not word.startswith(("config.", "noconfig.")):
            rest.append(argument)
            continue
        field = word.partition(".")[2]
        config_lib.check_name(field)
        negated = word.startswith("no")
        if not equals or negated:
            if equals or not isinstance(config_lib.FIELDS[field].default, bool):
                raise ConfigError(f"{argument}: write it as --config.{field}=VALUE")
            value = str(not negated)
        overrides[field] = config_lib.parse(field, value)
    try:
        # Without a --verbosity, absl's `app.run` would turn on every library's log messages.
        positional = flags.FLAGS([rest[0], "--verbosity=-1", *rest[1:]])
    except flags.Error as error:
        raise ConfigError(messages.of_flag(error)) from error
    if len(positional) > 1:
        raise ConfigError(f"{positional[1]!r}: not understood; every argument is of the form --name=value")
    if overrides and not flags.FLAGS["config"].value:
        raise ConfigError(f"--config.{next(iter(overrides))}: --config=FILE is needed too")
    _given.clear()
    _given.update(overrides)
    return positional


def given() -> dict[str, Any]:
    """The overrides of the command line: {'train.epochs': 3, …}."""
    return dict(_given)


def config_file() -> str:
    """The value of --config, FILE or FILE:recipe. Raises ConfigError if it isn't given."""
    value = flags.FLAGS["config"].value
    if not value:
        raise ConfigError(f"--config=FILE is needed, e.g. {_EXAMPLE}")
    return value


def parsed_config() -> tuple[ConfigDict, dict[str, Any]]:
    """(the resolved config, the overrides given on the command line as {'train.epochs': 3, …})."""
    config = config_lib.resolve(config_lib.override(load_config(config_file()), _given))
    flat = config_lib.flatten(config)
    return config, {name: flat[name] for name in _given}
