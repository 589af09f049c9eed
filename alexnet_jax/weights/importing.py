"""Makes a run's folder from a weights file. Every command accepts it like the folder of a trained run."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import paths, run_files
from alexnet_jax.data import Classes, Statistics
from alexnet_jax.data import classes as classes_lib
from alexnet_jax.errors import CheckpointError, ConfigError, WorkdirError, describe_os_error
from alexnet_jax.text import count
from alexnet_jax.training import augment, inputs
from alexnet_jax.weight_files import caffe, cuda_convnet, fitting, tensors
from alexnet_jax.weight_files.tensors import Network
from alexnet_jax.weights import read as read_network

_CHUNK = 8 << 20  # bytes of an array that are written at a time
OF_DATASET = "dataset"  # --names


def run_folder(source: pathlib.Path, config: ConfigDict, workdir: pathlib.Path, *, mean: str = "", names: str = "",
               overrides: Mapping[str, Any] | None = None, say: Callable[[str], None] = print) -> None:
    """Makes a run's folder from the network in `source`: checkpoint, run.json, input.npz, result.json ("imported").

    Args:
      config: a resolved config, which has the file's network.
      workdir: the run's folder, which is created; it appears when it is complete.
      mean: what was subtracted from the network's images: a file (Caffe's .binaryproto, cuda-convnet's batches.meta,
        .npy), or one number or three (red, green, blue), from 0 to 255; '': what the source or the config says.
      names: a file with a line for each output, or 'dataset': the classes of the config's training images; '': what the
        source says, else numbers.
      say: called with notes.

    Raises:
      CheckpointError: a file is damaged or does not fit the config. ConfigError: no mean is given, the number of
        classes is not that of the outputs, or checkpoints cannot be kept below that folder.
      WorkdirError: the folder is not empty, or cannot be written.
    """
    paths.check_workdir(workdir.absolute(), "--workdir")
    _check_free(workdir)
    network = read_network(source)
    outputs = fitting.outputs_of(network, config)
    params = fitting.params(network, config, outputs, str(source))
    config, consts = _constants(network, config, mean, str(source))
    known = _classes(network, config, names, outputs, say)
    if len(known) != outputs:
        raise ConfigError(f"--names={names}: {count(len(known), 'class name')} for {count(outputs, 'output')}; give "
                          "each output one")
    sha256 = tensors.digest(source)
    about = {"file": source.name, "format": network.format, "sha256": sha256,
             **({"mean": mean if _numbers(mean) else pathlib.PurePath(mean).name} if mean else {})}
    del network  # and what of its file is in memory
    new = workdir.with_name(f".{workdir.name}.{os.getpid()}.tmp")
    try:
        new.mkdir(parents=True)
        _write(new, config, params, about, known, overrides or {})
        inputs.write(new, consts, known)
        if workdir.is_dir():
            workdir.rmdir()
        new.rename(workdir)  # a folder
    except OSError as error:
        raise WorkdirError(describe_os_error(error)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _check_free(workdir: pathlib.Path) -> None:
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise WorkdirError(f"{workdir}: not an empty folder; name one that is empty or does not exist yet")


def _write(folder: pathlib.Path, config: ConfigDict, params: Any, about: dict[str, Any], known: Classes,
           overrides: Mapping[str, Any]) -> None:
    import jax  # not before it is needed

    from alexnet_jax import numerics, provenance
    from alexnet_jax.parallel.mesh import make_mesh
    from alexnet_jax.training import checkpoint, workdir

    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", 2)
    # As JAX's arrays, which takes no copy on a CPU; NumPy's arrays would be copied by Orbax.
    checkpoints.save(0, {"state": {"params": jax.tree.map(jax.device_put, params)}},
                     {"step": 0, "evaluated": 0, "centre": None, "outcomes": {}, "plateau": {}}, _CHUNK)
    checkpoints.wait()
    checkpoints.close()
    own = workdir.imported_id(config_lib.run_id(config), about["sha256"])
    here = provenance.describe(make_mesh(config, jax.devices()[:1]), config.train.precision,
                               numerics.asked(jax.devices()[0].platform))
    run_files.write_json(folder / "run.json", {
        "schema": run_files.SCHEMA, "name": "", "id": own, "seed": config.seed, "config": config_lib.to_json(config),
        "overrides": dict(overrides), "imported": about, "images": {}, "classes": workdir.classes_of(known),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]], **here, "started": run_files.now(), "resumed": []})
    run_files.write_json(folder / "result.json", {
        "schema": run_files.SCHEMA, "name": "", "id": own, "seed": config.seed, "status": "imported",
        "message": f"weights of {about['file']} ({about['format']})", "epochs": 0, "steps": 0,
        "train": {"loss": None, "top1_error": None}, "data": {
            "name": config.data.name, "size": config.data.size, "crop": config.data.crop}, "eval": None})


# What is subtracted from images.


def _numbers(text: str) -> tuple[float, ...]:
    """'123,117,104' → (123.0, 117.0, 104.0); () for the name of a file."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()


def _constants(network: Network, config: ConfigDict, mean: str, where: str) -> tuple[ConfigDict, augment.Constants]:
    """(the config, with the mean's values if numbers were given; the constants)."""
    values = _numbers(mean)
    if values:
        if len(values) not in (1, 3) or not np.isfinite(values).all():
            raise ConfigError(f"--mean={mean}: give one number, or three (red, green, blue), from 0 to 255")
        config = config_lib.resolve(config_lib.override(config, {"augment.mean": "values",
                                                                 "augment.mean_values": values}))
    colour = np.asarray(network.inputs.get("colour", _of(np.zeros((1, 1, 3)), config).colour), np.float32)
    if config.augment.mean == "values":
        if mean and not values:
            raise ConfigError(f"--mean={mean}: the config subtracts numbers of its own (config.augment.mean_values); "
                              "leave --mean out")
        found = np.asarray(config.augment.mean_values, np.float32).reshape(1, 1, -1)
    elif mean:
        path = pathlib.Path(mean).expanduser()
        if not path.exists():
            raise CheckpointError(f"--mean={mean}: neither a file nor numbers; give a file, or e.g. --mean=123,117,104")
        found = _of_image(_mean_image(path), config, mean)
    elif "mean" in network.inputs:
        found = np.asarray(network.inputs["mean"], np.float32)
    else:
        raise ConfigError("--mean=FILE or --mean=R,G,B (from 0 to 255) is needed: this file does not say what was "
                          f"subtracted from the network's images: {where}")
    if found.shape not in inputs.shapes(config):
        raise ConfigError(f"{mean or where}: its mean has shape {list(found.shape)}, and config.augment.mean="
                          f"{config.augment.mean} needs {list(inputs.shapes(config)[-1])}; change that field, or give "
                          "another mean (--mean)")
    if not np.isfinite(found).all():
        raise CheckpointError(f"{mean or where}: its mean has values that are not finite; give another mean (--mean)")
    return config, augment.Constants(found, colour)


def _mean_image(path: pathlib.Path) -> np.ndarray:
    """float32 [side, side, 3], red, green, blue. Raises CheckpointError."""
    head = bytes(tensors.mapped(path)[:6])
    if head == b"\x93NUMPY":
        try:
            array = np.load(path, allow_pickle=False, mmap_mode="r")
        except Exception as error:  # of many kinds, for damaged files
            raise CheckpointError(f"{path}: not a complete .npy file ({' '.join(str(error).split())[:120]}); copy it "
                                  "again, or give another mean (--mean)") from error
        if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or array.dtype.kind not in "fiu":
            raise CheckpointError(f"{path}: an array of {array.dtype} {list(array.shape)} is not an image of three "
                                  "colours; give another mean (--mean)")
        if array.shape[2] != 3:  # Caffe's Python files: blue, green, red, channels first
            array = array[::-1].transpose(1, 2, 0)
        return np.asarray(array, np.float32)
    if head[:1] in (b"\x80", b"}", b"("):
        meta = cuda_convnet.read_meta(path)
        if "mean" not in meta:
            raise CheckpointError(f"{path}: has no data_mean; give another mean (--mean)")
        return meta["mean"]
    return caffe.read_mean(path)


def _of_image(image: np.ndarray, config: ConfigDict, name: str) -> np.ndarray:
    """The kind of mean that the config asks for, from a mean image. One of the crop's size will do for mean=centre."""
    size, crop = config.data.size, config.data.crop
    if image.shape[:2] not in ((size, size), (crop, crop)):
        raise ConfigError(f"--mean={name}: an image of {image.shape[0]} × {image.shape[1]} pixels, and the config's "
                          f"images have {size} and its crops {crop} a side; give another mean, or the mean colour as "
                          "--mean=R,G,B")
    if config.augment.mean == "pixel" and image.shape[0] != size:
        raise ConfigError(f"--mean={name}: an image of the crop's size; add --config.augment.mean=centre, which "
                          "subtracts it from every crop")
    if config.augment.mean == "centre" and image.shape[0] == crop:
        return image
    return _of(image, config).mean


def _of(image: np.ndarray, config: ConfigDict) -> augment.Constants:
    """`Constants` from a mean image alone: its colour noise is ILSVRC-2012's if the config says so, else 0."""
    return augment.constants(config, Statistics(image, np.zeros(3), np.eye(3)))


# Classes.


def _classes(network: Network, config: ConfigDict, names: str, outputs: int, say: Callable[[str], None]) -> Classes:
    if names == OF_DATASET:
        from alexnet_jax import data

        return data.open_split(config.data, config.data.train_split, report=say).known
    if names:
        return read_names(pathlib.Path(names).expanduser())
    if network.classes is not None:
        keys, shown = (network.classes.get(key) for key in ("keys", "names"))
        if isinstance(keys, list) and isinstance(shown, list) and len(keys) == outputs:
            known = Classes(tuple(map(str, keys)), tuple(map(str, shown)))
            if known.whole():
                return known
    say(f"note: the file does not name its classes, so the outputs are called 0 to {outputs - 1} and cannot be "
        f"compared with a dataset's classes; name them by --names=FILE or --names={OF_DATASET}")
    numbers = tuple(map(str, range(outputs)))
    return Classes(numbers, numbers)


def read_names(path: pathlib.Path) -> Classes:
    """The classes in a file, in the order of the outputs.

    The file has a class a line: `id<tab>name`, `n01440764 tench, …` (Caffe's synset_words.txt) or a name alone. Or it
    is a JSON list of names, a JSON object such as {"0": ["n01440764", "tench"]}, or cuda-convnet's batches.meta.

    Raises:
      CheckpointError: it cannot be read. ConfigError: it has no classes, or two with the same id.
    """
    content = bytes(tensors.mapped(path)[:1 << 24])
    try:
        if content[:1] == b"\x80" or content[:2] == b"(d":
            pairs = [(name, name) for name in cuda_convnet.read_meta(path).get("names", [])]
        elif content.lstrip()[:1] in (b"{", b"["):
            tree = json.loads(content)
            values = tree if isinstance(tree, list) else [tree[str(i)] for i in range(len(tree))]
            pairs = [(str(v[0]), str(v[1])) if isinstance(v, list) else (str(v), str(v)) for v in values]
        else:
            pairs = [_pair(line.strip()) for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a list of names ({type(error).__name__}); write one a line") from error
    keys = [key for key, _ in pairs]
    twice = sorted(key for key, times in collections.Counter(keys).items() if times > 1)
    if twice or not keys:
        wrong = f"more than once: {classes_lib.named(twice)}; give each output its own" if twice else \
            "no names in it; write one a line"
        raise ConfigError(f"--names={path}: {wrong}")
    return Classes(tuple(keys), tuple(name for _, name in pairs))


def _pair(line: str) -> tuple[str, str]:
    key, tab, name = line.partition("\t")
    if not tab and len(line) > 9 and line[0] == "n" and line[1:9].isdecimal():
        key, tab, name = line.partition(" ")
    return (key.strip(), name.strip()) if tab and name.strip() else (line, line)
