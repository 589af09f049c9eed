"""A sweep as a user writes it: one Python file (configs/sweeps/three.py is the example), or flags."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from alexnet_jax import cli, paths
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.text import did_you_mean
from experiments.sweep.arms import Arm

ORDERS = ("seeds", "arms")
MOST_SEEDS = 10_000


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How long the runs of a search (experiments.sweep.search) are, and how many seeds each candidate has."""

    epochs: int = 0  # 0: as long as the sweep's runs
    seeds: int = 1  # the first of the sweep's


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep file's `get_sweep()` returns, checked. Its keys are these fields."""

    config: str  # FILE or FILE:recipe
    name: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the base, so of every arm
    ablations: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    seeds: tuple[int, ...] = (0,)
    jobs: int = 0  # at a time; 0: as many as there are cores, or accelerators
    cores: int = 0  # of each run; 0: its share
    order: str = "seeds"  # which runs come first (experiments.sweep.plan.Plan.order)
    search: SearchSettings | None = SearchSettings()  # of arms that ask for a search; None: they do without
    # The file's own, where its `config` and the files of its `ablations` are looked for first.
    folder: pathlib.Path | None = dataclasses.field(default=None, compare=False)


KEYS = tuple(field.name for field in dataclasses.fields(Sweep) if field.name != "folder")


def load(path: str) -> Sweep:
    """Reads a sweep file. Raises ConfigError, in one line."""
    where = f"--sweep={path}"
    module = cli.load_module(path, "--sweep")
    if not hasattr(module, "get_sweep"):
        raise ConfigError(f"{where}: the file defines no get_sweep(); see configs/sweeps/three.py")
    try:
        tree = module.get_sweep()
    except (Exception, SystemExit) as error:
        raise cli.in_file(path, "--sweep", pathlib.Path(module.__file__ or path), error) from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: get_sweep() must return a dict")
    for key in tree:
        if key not in KEYS:
            raise ConfigError(f"{where}: {key!r}: no such key{did_you_mean(str(key), KEYS)}; there are "
                              f"{', '.join(KEYS)}")
    config = tree.get("config")
    if not isinstance(config, str) or not config:
        raise ConfigError(f"{where}: config: needs the path of a config file, e.g. 'configs/shapes.py'")
    jobs = config_lib.plain(tree.get("jobs", 0))
    if not _is_count(jobs):
        raise ConfigError(f"{where}: jobs: {jobs!r} is not a number of runs at a time (0: one per core)")
    cores = config_lib.plain(tree.get("cores", 0))
    if not _is_count(cores):
        raise ConfigError(f"{where}: cores: {cores!r} is not a number of cores of a run (0: its share)")
    name = tree.get("name", pathlib.Path(path).stem)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: name: {name!r} is not a string")
    paths.check_text(name, f"{where}: name")
    order = check_order(tree.get("order", "seeds"), f"{where}: order")
    return Sweep(config, name, _overrides(tree.get("overrides", {}), f"{where}: overrides"),
                 _ablations(tree.get("ablations", ()), where), _arms(tree.get("arms", {}), where),
                 check_seeds(tree.get("seeds", 1), f"{where}: seeds"), jobs, cores, order,
                 _search(tree.get("search", {}), f"{where}: search"), pathlib.Path(module.__file__ or path).parent)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _overrides(tree: Any, where: str) -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not all(isinstance(name, str) for name in tree):
        raise ConfigError(f"{where}: must be a dict from fields to values, e.g. {{'train.epochs': 3}}")
    return {name: config_lib.plain(value) for name, value in tree.items()}


def _ablations(names: Any, where: str) -> tuple[str, ...]:
    if isinstance(names, str):
        names = tuple(part.strip() for part in names.split(",") if part.strip())
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: ablations: must be names, e.g. ('lrn', 'pooling')")
    return tuple(names)


def _arms(tree: Any, where: str) -> tuple[Arm, ...]:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: arms: must be a dict from names to overrides, e.g. "
                          "{'no_dropout': {'model.dropout': 0.0}}")
    return tuple(Arm(str(name), _overrides(changes, f"{where}: arms: {name}"))
                 for name, changes in tree.items())


def check_order(order: Any, where: str) -> str:
    if order not in ORDERS:
        raise ConfigError(f"{where}: {order!r} is not one of {', '.join(ORDERS)}")
    return order


def _search(tree: Any, where: str) -> SearchSettings | None:
    if tree is False or tree is None:
        return None
    tree = {key: config_lib.plain(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree
    if not isinstance(tree, Mapping) or set(tree) - {"epochs", "seeds"} or not all(map(_is_count, tree.values())):
        raise ConfigError(f"{where}: {tree!r} is neither False nor e.g. {{'epochs': 2, 'seeds': 1}}")
    check_seeds(max(1, tree.get("seeds", 1)), f"{where}: seeds")
    return SearchSettings(tree.get("epochs", 0), max(1, tree.get("seeds", 1)))


def check_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    """N stands for 0 … N−1; a tuple, list, range or array for itself, a seed that is in it twice for one.

    Args:
      where: what the message begins with, e.g. '--seeds=3'.

    Raises:
      ConfigError: more than `MOST_SEEDS`, or one that config.seed may not be.
    """
    seeds, high = config_lib.plain(seeds), int(config_lib.FIELDS["seed"].high or 0)
    if _is_count(seeds) and seeds:
        if seeds > MOST_SEEDS:
            one = f"--seeds={seeds}," if where.startswith("--seeds") else f"({seeds},)"
            raise ConfigError(f"{where}: means that many seeds, and a sweep has at most {MOST_SEEDS:,}"
                              + (f"; write {one} for the one seed {seeds}" if seeds <= high else ""))
        return tuple(range(seeds))
    if isinstance(seeds, tuple | list | range) and len(seeds) > MOST_SEEDS:
        raise ConfigError(f"{where}: {len(seeds):,} seeds, and a sweep has at most {MOST_SEEDS:,}")
    chosen = [config_lib.plain(seed) for seed in seeds] if isinstance(seeds, tuple | list | range) else []
    if not chosen or not all(map(_is_count, chosen)):
        given = "" if where.startswith("--seeds=") else f" {seeds!r}"
        raise ConfigError(f"{where}:{given} is neither how many (3 stands for 0, 1, 2) nor a list of seeds")
    if max(chosen) > high:
        raise ConfigError(f"{where}: seed {max(chosen)} is above {high}")
    return tuple(dict.fromkeys(chosen))


def parse_seeds(text: str) -> tuple[int, ...]:
    """The value of --seeds: '3' for seeds 0, 1 and 2; '3,4' or '7,' for those themselves."""
    where = f"--seeds={text}" if len(text) < 60 else f"--seeds={text[:56]}…"
    parts = [part.strip() for part in text.strip("()[] ").split(",")]
    # Sixteen digits are beyond every seed and every number of seeds.
    numbers = [int(part[:16]) for part in parts if part.isascii() and part.isdecimal()]
    if len(numbers) != len([part for part in parts if part]):
        raise ConfigError(f"{where}: write how many (3 stands for 0, 1, 2) or a list (0,5,7)")
    return check_seeds(numbers[0] if len(parts) == 1 and numbers else numbers, where)
