"""Makes a run's folder from a weights file, which every command accepts like a trained run's."""

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
from alexnet_jax.training import augment, inputs
from alexnet_jax.weight_files import caffe, cuda_convnet, fitting, tensors
from alexnet_jax.weight_files.tensors import Network
from alexnet_jax.weights import read as read_network

_CHUNK = 8 << 20  # bytes of an array that are written at a time
OF_DATASET = "dataset"  # --names


def run_folder(source: pathlib.Path, config: ConfigDict, workdir: pathlib.Path, *, mean: str = "", names: str = "",
               overrides: Mapping[str, Any] | None = None, say: Callable[[str], None] = print) -> None:
    """Makes a run's folder of the network in `source`: checkpoint, run.json, input.npz, result.json ("imported").

    Args:
      config: a resolved config, whose network it is.
      workdir: created; appears when it is complete.
      mean: a file (Caffe's binaryproto, cuda-convnet's batches.meta, .npy), or numbers: red, green, blue.
      names: a file with a line for each output, or 'dataset': the classes of the config's training images.

    Raises:
      CheckpointError: a file is damaged or doesn't fit. ConfigError: no mean, classes of another number, or a folder
        that checkpoints can't be kept in.
      WorkdirError: the folder is in use.
    """
    paths.check_workdir(workdir.absolute(), "--workdir")
    _check_free(workdir)
    network = read_network(source)
    outputs = fitting.outputs_of(network, config)
    params = fitting.params(network, config, outputs, str(source))
    config, consts = _constants(network, config, mean, str(source))
    known = _classes(network, config, names, outputs, say)
    if len(known) != outputs:
        raise ConfigError(f"--names: {len(known):,} classes for {outputs:,} outputs")
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
        raise WorkdirError(f"{workdir}: holds something already; name a folder that is empty or not there yet")


def _write(folder: pathlib.Path, config: ConfigDict, params: Any, about: dict[str, Any], known: Classes,
           overrides: Mapping[str, Any]) -> None:
    import jax  # not before it is needed

    from alexnet_jax import numerics, provenance
    from alexnet_jax.parallel.mesh import make_mesh
    from alexnet_jax.training import checkpoint, workdir

    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", 2)
    # As JAX's arrays, which is no copy on a CPU: Orbax copies NumPy's.
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
    """(123.0, 117.0, 104.0) of '123,117,104'; () of what is a file's name."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()


def _constants(network: Network, config: ConfigDict, mean: str, where: str) -> tuple[ConfigDict, augment.Constants]:
    """(the config, with the mean's values where numbers were given; the constants)."""
    values = _numbers(mean)
    if values:
        if len(values) not in (1, 3) or not np.isfinite(values).all():
            raise ConfigError(f"--mean={mean}: one number, or three: of red, green and blue, from 0 to 255")
        config = config_lib.resolve(config_lib.override(config, {"augment.mean": "values",
                                                                 "augment.mean_values": values}))
    colour = np.asarray(network.inputs.get("colour", _of(np.zeros((1, 1, 3)), config).colour), np.float32)
    if config.augment.mean == "values":
        if mean and not values:
            raise ConfigError(f"--mean={mean}: the config subtracts numbers of its own (config.augment.mean_values)")
        found = np.asarray(config.augment.mean_values, np.float32).reshape(1, 1, -1)
    elif mean:
        found = _of_image(_mean_image(pathlib.Path(mean).expanduser()), config, mean)
    elif "mean" in network.inputs:
        found = np.asarray(network.inputs["mean"], np.float32)
    else:
        raise ConfigError(f"--mean=FILE is needed: {where} does not hold what was subtracted from its images "
                          f"(config.augment.mean={config.augment.mean}); or --mean=R,G,B, on the scale of 0 to 255")
    if found.shape not in inputs.shapes(config):
        raise ConfigError(f"{mean or where}: a mean of shape {list(found.shape)}, and config.augment.mean="
                          f"{config.augment.mean} takes {list(inputs.shapes(config)[-1])}")
    if not np.isfinite(found).all():
        raise CheckpointError(f"{mean or where}: its mean is not finite")
    return config, augment.Constants(found, colour)


def _mean_image(path: pathlib.Path) -> np.ndarray:
    """float32 [side, side, 3], red, green, blue. Raises CheckpointError."""
    head = bytes(tensors.mapped(path)[:6])
    if head == b"\x93NUMPY":
        try:
            array = np.load(path, allow_pickle=False, mmap_mode="r")
        except Exception as error:  # of many kinds, for damaged files
            raise CheckpointError(f"{path}: no whole .npy file ({' '.join(str(error).split())[:120]})") from error
        if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or array.dtype.kind not in "fiu":
            raise CheckpointError(f"{path}: an array of {array.dtype} {list(array.shape)}, no image of three colours")
        if array.shape[2] != 3:  # Caffe's Python files: blue, green, red, channels first
            array = array[::-1].transpose(1, 2, 0)
        return np.asarray(array, np.float32)
    if head[:1] in (b"\x80", b"}", b"("):
        meta = cuda_convnet.read_meta(path)
        if "mean" not in meta:
            raise CheckpointError(f"{path}: no data_mean in it")
        return meta["mean"]
    return caffe.read_mean(path)


def _of_image(image: np.ndarray, config: ConfigDict, name: str) -> np.ndarray:
    """The config's kind of mean of a mean image. An image of the crop's size serves augment.mean=centre alone."""
    size, crop = config.data.size, config.data.crop
    if image.shape[:2] not in ((size, size), (crop, crop)):
        raise ConfigError(f"--mean={name}: an image of {image.shape[0]} × {image.shape[1]} pixels, and the config's "
                          f"images have {size}, its crops {crop}")
    if config.augment.mean == "pixel" and image.shape[0] != size:
        raise ConfigError(f"--mean={name}: of the crop's size; add --config.augment.mean=centre, which subtracts it "
                          "from every crop")
    if config.augment.mean == "centre" and image.shape[0] == crop:
        return image
    return _of(image, config).mean


def _of(image: np.ndarray, config: ConfigDict) -> augment.Constants:
    """Of a mean image alone: the colours' components are the author's of ILSVRC-2012 where config has these, or 0."""
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
    say(f"note: the file has no names of classes, so that its outputs are called 0 to {outputs - 1} and can't be held "
        f"against a dataset's classes; --names=FILE gives them, or --names={OF_DATASET}")
    numbers = tuple(map(str, range(outputs)))
    return Classes(numbers, numbers)


def read_names(path: pathlib.Path) -> Classes:
    """A class a line, in the order of the outputs: `id<tab>name`, `n01440764 tench, …` (Caffe's synset_words.txt) or a
    name alone; a JSON list of names, or object {"0": ["n01440764", "tench"]}; cuda-convnet's batches.meta.

    Raises:
      CheckpointError: it can't be read. ConfigError: two classes have one id.
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
        raise CheckpointError(f"{path}: no list of names ({type(error).__name__})") from error
    keys = [key for key, _ in pairs]
    twice = sorted(key for key, times in collections.Counter(keys).items() if times > 1)
    if twice or not keys:
        raise ConfigError(f"--names={path}: {classes_lib.named(twice) + ' twice' if twice else 'no names in it'}")
    return Classes(tuple(keys), tuple(name for _, name in pairs))


def _pair(line: str) -> tuple[str, str]:
    key, tab, name = line.partition("\t")
    if not tab and len(line) > 9 and line[0] == "n" and line[1:9].isdecimal():
        key, tab, name = line.partition(" ")
    return (key.strip(), name.strip()) if tab and name.strip() else (line, line)
