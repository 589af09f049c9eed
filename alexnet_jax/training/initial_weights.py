"""Starting from given weights instead of random ones: another run's, or a file's (`config.init`).

A run's identity includes the weights (`config.init.sha256`), but not their path (`config.init.weights`). For a weights
file, `sha256` is the SHA-256 of its content, as `sha256sum` prints it; for a run's folder, that of its newest
checkpoint's arrays and its classes, so a copy of the folder has the same. The weights are read once, when the run
starts; after its first checkpoint they are no longer needed.

Needs no JAX until weights are loaded, so that a sweep's ids can be computed without it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import data, paths, run_files
from alexnet_jax.data.classes import same
from alexnet_jax.data.comparing import learnt_too
from alexnet_jax.errors import ConfigError, DataError, WorkdirError, describe_os_error
from alexnet_jax.models import geometry
from alexnet_jax.schema import LAYERS
from alexnet_jax.text import listed
from alexnet_jax.weight_files import Network, fitting
from alexnet_jax.weight_files import read as read_network

if TYPE_CHECKING:
    from alexnet_jax.training.program import Program, State

_FIELD = "config.init.weights"
_NAMED = 5  # fields that a note names
# What of a config a network computes with, beside its shapes, which weights that don't fit are refused by.
_MEANING = ("model.", "augment.mean", "augment.divide", "augment.grey")
_NO_MEANING = re.compile(r"model\.(classes|name|dropout.*|init_.*|\w+\.(init_std|bias))|augment\.mean_values")


def filled(config: ConfigDict, workdir: pathlib.Path | None = None, verify: bool = False) -> ConfigDict:
    """`config` with an absolute `init.weights` and with `init.sha256` filled in, from which its run's id is made.

    Args:
      config: resolved. workdir: the run's; one that has started has recorded its weights.
      verify: compare a given `init.sha256` with the weights, if they exist.

    Raises:
      ConfigError: no such weights, of a run that has not finished, or not those of `init.sha256`.
    """
    given, known = config.init.weights, config.init.sha256.strip().lower()
    if known and not re.fullmatch("[0-9a-f]{64}", known):
        raise ConfigError(f"config.init.sha256: {config.init.sha256!r} is not a SHA-256 of 64 hexadecimal digits; "
                          "leave it out, and it is filled in")
    if not given:
        if known:
            raise ConfigError(f"config.init.sha256: the checksum of the weights to start from, and {_FIELD} is empty; "
                              "set both, or neither")
        return config
    path = paths.given(given, _FIELD).absolute()
    if not known and not path.exists():
        begun = (run_files.read_json(workdir / "run.json") or {}) if workdir else {}
        then = ((begun.get("config") or {}).get("init") or {})
        known = then.get("sha256", "") if then.get("weights") == str(path) else ""
    if not known:
        known = digest(path)
    elif verify and path.exists():
        _hold(path, known)
    return config_lib.override(config, {"init.weights": str(path), "init.sha256": known})


def check(config: ConfigDict) -> None:
    """Raises ConfigError unless the weights of a `filled` config are there, and those of its `init.sha256`."""
    if config.init.weights:
        _hold(pathlib.Path(config.init.weights), config.init.sha256)


def _hold(path: pathlib.Path, expected: str) -> None:
    found = digest(path)
    if found != expected:
        raise ConfigError(f"config.init.sha256: {path} has {found}, not {expected}: these are other weights; put the "
                          "right ones back, or leave config.init.sha256 out, which makes another run")


def digest(path: pathlib.Path) -> str:
    """SHA-256 in hex of a weights file or of a run's network. Raises ConfigError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{_FIELD}: {path}: not a regular file; save its content as one")
        if not path.is_dir():
            return _digest((path,), _stamp((path,)))
        files = sorted(p for p in (_checkpoint(path) / "arrays").rglob("*") if p.is_file())
        about = json.dumps((run_files.read_json(path / "run.json") or {}).get("classes"), ensure_ascii=True)
        whole = hashlib.sha256(about.encode())
        for file in files:
            whole.update(f"{file.relative_to(path).as_posix()} {_digest((file,), _stamp((file,)))}\n".encode())
        return whole.hexdigest()
    except OSError as error:
        raise ConfigError(f"{_FIELD}: {describe_os_error(error)}") from error


def _stamp(files: Sequence[pathlib.Path]) -> tuple:
    return tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in (file.stat() for file in files))


@functools.lru_cache(maxsize=4096)
def _digest(files: tuple[pathlib.Path, ...], stamp: tuple) -> str:
    """Cached, as many arms may start from one file. `stamp` changes with the content."""
    (path,) = files
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checkpoint(folder: pathlib.Path) -> pathlib.Path:
    """The newest checkpoint of a run that has ended. Raises ConfigError."""
    if run_files.read_json(folder / "run.json") is None:
        raise ConfigError(f"{_FIELD}: {folder}: not a run (no complete run.json); name a run's folder or a weights "
                          "file")
    if (run_files.read_json(folder / "result.json") or {}).get("status") not in run_files.USABLE:
        raise ConfigError(f"{_FIELD}: {folder}: this run has not finished, so its weights may still change; let "
                          "it end, or export them (python -m alexnet_jax.weights export)")
    steps = [p for p in (folder / "checkpoints").glob("*") if p.name.isdecimal() and p.is_dir()]
    if not steps:
        raise ConfigError(f"{_FIELD}: {folder}: no checkpoint in it (recorded results have none); name a run that "
                          "still has its own, or a weights file")
    return max(steps, key=lambda p: int(p.name))


@dataclasses.dataclass(frozen=True)
class _Source:
    """keys: of its classes, None if unknown. config: nested, likewise."""

    network: Network
    keys: list[str] | None
    config: dict[str, Any] | None


def begin(config: ConfigDict, program: Program, state: State, images: Any, say: Callable[[str], None]) -> State:
    """The state that a run starts from: `state` with the weights of `config.init`, on the same mesh.

    Args:
      config: `filled`. state: random weights, kept for `init.skip` and for an output layer of other classes.
      images: the run's (`training.images.RunImages`). say: called with a line on what was loaded, and with notes.

    Raises:
      ConfigError: other weights than those of `init.sha256`. CheckpointError: they don't fit the network, or are
        damaged; the line names the layer and both shapes.
    """
    if not config.init.weights:
        return state
    check(config)
    path = pathlib.Path(config.init.weights)
    source = _of_run(path) if path.is_dir() else _of_file(path)
    skip, why = list(config.init.skip), ""
    if "fc8" not in skip and (why := _other_classes(source, config, images)):
        skip.append("fc8")
    loaded = fitting.params(source.network, config, program.classes, str(path), skip)
    left = [name for name in state.params if name not in loaded]
    say(f"training begins from the weights of {path}: {', '.join(loaded)}"
        + (f"; as initialised: {', '.join(left)}{f' ({why})' if why else ''}" if left else ""))
    for line in _notes(source, config, images, "fc8" in loaded):
        say(f"note: {line}")
    return state._replace(params=_on_mesh(program, state.params, loaded))


def _of_run(folder: pathlib.Path) -> _Source:
    from alexnet_jax.training import checkpoint
    from alexnet_jax.training.workdir import recorded_classes

    about = run_files.read_json(folder / "run.json") or {}
    step = int(_checkpoint(folder).name)
    arrays, host = checkpoint.read_newest(folder / "checkpoints", lambda line: None)
    if host["step"] != step:
        raise ConfigError(f"{_FIELD}: {folder / 'checkpoints' / str(step)}: the newest checkpoint cannot be read; "
                          "put a complete copy back")
    known = recorded_classes(about, folder)
    return _Source(fitting.of_params(arrays["state"]["params"]), list(known.keys) if known else None,
                   about.get("config"))


def _of_file(path: pathlib.Path) -> _Source:
    network = read_network(path)
    keys = (network.classes or {}).get("keys")
    return _Source(network, list(map(str, keys)) if isinstance(keys, list) else None,
                   dict(network.config) if network.config else None)


def _other_classes(source: _Source, config: ConfigDict, images: Any) -> str:
    """Why the source's outputs don't match this run's; '' if they do, or if that is unknown."""
    last = list(source.network.layers.values())[-1]["bias"].shape[-1]
    outputs = config.model.classes or images.classes
    if last != outputs:
        return f"it has {last:,} outputs there and {outputs:,} here"
    own = images.train.known.keys
    if source.keys is not None and list(map(same, source.keys)) != list(map(same, own)):
        return "its outputs there are of other classes" if set(map(same, source.keys)) != set(map(same, own)) else \
            "its outputs there are in another order of the classes"
    return ""


def _notes(source: _Source, config: ConfigDict, images: Any, outputs: bool) -> list[str]:
    found = []
    if outputs and source.keys is None:
        found.append(f"{_FIELD}: it does not name its classes; its {images.classes:,} outputs are taken for those "
                     "of the training images in their order; config.init.skip=fc8 leaves them out")
    if source.config is None:
        return found
    try:
        theirs = config_lib.from_json(source.config)
    except (ConfigError, AttributeError) as error:  # of another version of this project, or altered
        found.append(f"{_FIELD}: the config of that network cannot be read ({error}), so it is not known whether "
                     "it differs, nor whether it learnt from images that are reported on here")
        return found
    there, here = config_lib.flatten(source.config), config_lib.flatten(config_lib.to_json(config))
    absent = tuple(f"model.{name}." for name in LAYERS if name not in
                   {x.name for x in geometry.layers(config, images.classes)})
    unlike = [f"config.{name} ({there[name]!r} there)" for name in config_lib.FIELDS
              if name.startswith(_MEANING) and not name.startswith(absent) and not _NO_MEANING.fullmatch(name)
              and name in there and there[name] != here[name]]
    if unlike:
        found.append(f"{_FIELD}: that network differs in {listed(unlike, _NAMED)}, though it has the same shapes")
    seen = _seen(theirs, config, images)
    if seen:
        found.append(f"{_FIELD}: those weights have learnt from {seen:,} of the {len(images.eval):,} images that are "
                     "reported on, so their error is not that of unseen images")
    return found


def _seen(theirs: ConfigDict, config: ConfigDict, images: Any) -> int:
    """How many of the reported images the weights were trained on, where they are of this run's dataset."""
    try:
        if any(theirs.data[name] != config.data[name] for name in ("name", "size", "order", "val_fraction", "val_seed",
                                                              "orientation", "resize")):
            return 0
        learnt = [data.open_split(config.data, split, report=lambda line: None)
                  for split in (theirs.data.train_split, theirs.data.fold_split) if split]
        return learnt_too(learnt, images.eval)
    except (ConfigError, DataError, WorkdirError):  # their images are not here
        return 0


def _on_mesh(program: Program, params: Any, loaded: dict[str, Any]) -> Any:
    """`params` with the layers of `loaded`, host arrays, in their place; new arrays, which training may overwrite."""
    import jax
    import jax.numpy as jnp

    def put(old: Any, array: np.ndarray) -> Any:
        array = np.asarray(array, old.dtype)
        if old.sharding.is_fully_addressable:
            return jax.device_put(array, old.sharding)
        return jax.make_array_from_callback(old.shape, old.sharding, lambda index: array[index])

    with jax.transfer_guard("allow"):
        placed = {name: jax.tree.map(put, params[name], leaves) for name, leaves in loaded.items()}
    whole = {name: placed.get(name, params[name]) for name in params}
    # A copy: on a CPU an array that was put may be the host's own memory.
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=program.state_shardings.params)(whole)
