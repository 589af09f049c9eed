"""Any prepared TFDS dataset, `tfds:<name>[/config][:version]`, read without TensorFlow.

Searched in the data dir, $TFDS_DATA_DIR and ~/tensorflow_datasets. It must be in array_record files; tfrecord files
need TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import pathlib
import re
import zlib
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax import paths
from alexnet_jax.data.dataset import Asked, Block, Corrupt, Dataset, Reading, Report, Rule, safe
from alexnet_jax.errors import ConfigError, DataError

_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Tfds(Dataset):
    def __init__(self, asked: Asked):
        self.name = name = asked.name
        self._rule = asked.rule
        path, _, self._version = asked.rest.partition(":")
        self._dataset, _, self._config = path.partition("/")
        if not self._dataset or (self._version and not _VERSION.fullmatch(self._version)):
            raise ConfigError(f"config.data.name: {name!r} is not of the form tfds:<name>[/config][:1.2.3]")
        self.key = "tfds-" + safe(path.replace("/", "-"))
        own = os.environ.get("TFDS_DATA_DIR")
        self._roots = [root for root in (asked.folder, paths.given(own, "TFDS_DATA_DIR") if own else None) if root]
        with contextlib.suppress(RuntimeError):  # no home directory
            self._roots.append(pathlib.Path.home() / "tensorflow_datasets")
        self._folder = self._locate()
        self._info: dict[str, Any] = {}
        if self._folder is not None:
            try:
                self._info = json.loads((self._folder / "dataset_info.json").read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"{self._folder / 'dataset_info.json'}: cannot be read ({error})") from error

    def _locate(self) -> pathlib.Path | None:
        """The folder of the newest (or requested) version; None if there is none.

        Raises ConfigError if there are several configs and none is named.
        """
        for root in self._roots:
            base = root / self._dataset
            if self._config:
                base = base / self._config
            found = _versions(base)
            if not found and not self._config:
                configs = {p.name: v for p in _folders(base) if (v := _versions(p))}
                if len(configs) > 1:
                    raise ConfigError(f"config.data.name: {self.name!r} has the configs {', '.join(configs)} "
                                      f"in {base}; name one, e.g. tfds:{self._dataset}/{next(iter(configs))}")
                found = next(iter(configs.values()), [])
            if self._version:
                found = [folder for folder in found if folder.name == self._version]
            if found:
                return found[-1]
        return None

    def owns(self, meta: dict[str, Any]) -> bool:
        own = "".join(f"-{part}" for part in str(meta["version"]).split("-")[2:])  # after version and checksum
        return meta["name"] == self.name and own == self._rule.suffix

    def split_sizes(self) -> dict[str, int | None]:
        splits = self._info.get("splits", ())
        return {split["name"]: sum(map(int, split.get("shardLengths", ()))) for split in splits}

    def version(self, split: str) -> str | None:
        if self._folder is None or split not in self.split_sizes():
            return None
        # Two preparations may have the same version; file sizes distinguish most of them.
        described = json.dumps([self._info.get("splits"), self._info.get("configName")], sort_keys=True)
        return f"{self._folder.name}-{zlib.crc32(described.encode()):08x}{self._rule.suffix}"

    def class_keys(self, split: str) -> tuple[str, ...] | None:
        assert self._folder is not None
        return _Prepared(self._folder).names

    def present(self, split: str, keys: Collection[str]) -> Collection[str]:
        assert self._folder is not None
        found = _Prepared(self._folder).labels(split)
        return keys if found is None else [key for key in keys if key in found]

    def check(self, split: str) -> None:
        prepare = (f"tfds.builder('{self._dataset}{'/' + self._config if self._config else ''}', "
                   "data_dir=…, file_format='array_record').download_and_prepare()")
        if self._folder is None:
            looked = ", ".join(map(str, self._roots))
            version = f" in version {self._version}" if self._version else ""
            raise DataError(f"{self.name} is not prepared{version} in {looked}; prepare it there: {prepare} "
                            "(most of TFDS's own need pip install 'alexnet_jax[tensorflow]' for that)")
        form = self._info.get("fileFormat", "tfrecord")
        if form != "array_record" and not importlib.util.find_spec("tensorflow"):
            raise DataError(f"{self._folder} holds {form} files, which only TensorFlow reads: pip install "
                            f"'alexnet_jax[tensorflow]', or prepare it again with {prepare}")

    def read(self, split: str, size: int, report: Report) -> Reading:
        self.check(split)
        assert self._folder is not None
        report(f"reading {self._folder}")
        return read_prepared(self._folder, split, size, self._rule)


def _folders(base: pathlib.Path) -> list[pathlib.Path]:
    try:
        return sorted(path for path in base.iterdir() if path.is_dir())
    except OSError:
        return []


def _versions(base: pathlib.Path) -> list[pathlib.Path]:
    """The prepared versions in a dataset's or config's folder, oldest first."""
    found = [p for p in _folders(base) if _VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file()]
    return sorted(found, key=lambda p: [int(n) for n in p.name.split(".")])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS, whose progress bars and notes would disrupt ours."""
    import tensorflow_datasets as tfds
    from absl import logging as absl_logging

    tfds.disable_progress_bar()
    level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("tensorflow_datasets")
    before, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = before
        absl_logging.set_verbosity(level)


class _Prepared:
    """The TFDS dataset prepared in `folder`.

    Attributes:
      names: of its classes, in the order of the labels.

    Raises:
      DataError: the files can't be read, or have no unambiguous image and ClassLabel.
    """

    def __init__(self, folder: pathlib.Path):
        import tensorflow_datasets as tfds

        self.folder = folder
        self.damaged = f"{folder}: cannot be read as a TFDS dataset; delete it and prepare it again"
        with self._reading():
            self.builder = tfds.builder_from_directory(folder)
            self._features = self.builder.info.features
            self.image_key, self.label_key = _keys(folder, tfds, self.builder.info)
            self.names = tuple(map(str, self._features[self.label_key].names))
            self._raw = self.builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with quiet():
                yield
        except DataError:
            raise
        except Exception as error:  # TFDS raises many types
            raise DataError(f"{self.damaged} ({' '.join(str(error).split())})") from error

    def labels(self, split: str) -> set[str] | None:
        """The names of the classes with images in a split; None for files that only TensorFlow reads."""
        if not self._raw:
            return None
        with self._reading():
            return {self.names[label] for each in self._parsed(split, (self.label_key,), None)
                    if (label := int(each[self.label_key])) >= 0}

    def _parsed(self, split: str, keys: Sequence[str], decoders: Any) -> Iterator[Any]:
        """Examples with only these features, as others may need TensorFlow."""
        import tensorflow_datasets as tfds

        wanted = tfds.features.FeaturesDict({key: self._features[key] for key in keys})
        raw = self.builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        return (wanted.deserialize_example_np(record, decoders=decoders) for record in raw)

    def examples(self, split: str) -> Iterator[Any]:
        import tensorflow_datasets as tfds

        with self._reading():
            # Compressed images are decoded by `decode`, with one rule for all datasets.
            encoded = isinstance(self._features[self.image_key], tfds.features.Image)
            decoders = {self.image_key: tfds.decode.SkipDecoding()} if encoded else None
            if self._raw:
                return self._parsed(split, (self.image_key, self.label_key), decoders)
            decoding = tfds.decode.PartialDecoding({self.image_key: True, self.label_key: True}, decoders=decoders)
            return iter(tfds.as_numpy(self.builder.as_dataset(split=split, decoders=decoding, shuffle_files=False)))


def read_prepared(folder: pathlib.Path, split: str, size: int,
                  rule: Rule = Rule()) -> Reading:  # noqa: B008 (immutable)
    """A split of the TFDS dataset prepared in `folder`, in the order of its files.

    Raises:
      DataError: the files can't be read, or have no unambiguous image and ClassLabel.
    """
    prepared = _Prepared(folder)
    examples, count = prepared.examples(split), prepared.builder.info.splits[split].num_examples
    from alexnet_jax.data.readers import decode

    origin = f"{folder}, split {split}"
    return Reading(count, prepared.names, prepared.names,
                   lambda done: _read(examples, done, prepared.image_key, prepared.label_key, size, origin,
                                      prepared.damaged, rule), origin, decode.made_by(*rule))


def _keys(folder: pathlib.Path, tfds: Any, info: Any) -> tuple[str, str]:
    """The names of the features with the image and its label."""
    features = info.features
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    images = [k for k, f in features.items() if isinstance(f, tfds.features.Image) or (
        type(f) is tfds.features.Tensor and f.np_dtype == np.uint8 and len(f.shape) in (2, 3))]
    supervised = list(info.supervised_keys or ())
    if len(supervised) == 2 and supervised[0] in images and supervised[1] in labels:
        return supervised[0], supervised[1]
    if "image" in images and "label" in labels:
        return "image", "label"
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    raise DataError(f"{folder}: an image of type uint8 and a ClassLabel are needed; the dataset has "
                    f"{', '.join(f'{k} ({type(f).__name__})' for k, f in features.items())}")


def _read(examples: Any, done: np.ndarray, image_key: str, label_key: str, size: int, origin: str,
          damaged: str, rule: Rule) -> Generator[Block | Corrupt, None, None]:
    from alexnet_jax.data.readers import decode

    iterator = iter(examples)
    rank = 0
    while True:
        try:
            example = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # of array_record or protobuf
            raise DataError(f"{damaged} (image {rank}: {' '.join(str(error).split())})") from error
        if rank < len(done) and done[rank]:
            rank += 1
            continue
        image, label = example[image_key], int(example[label_key])
        if label < 0:
            raise DataError(f"{origin}: has images without a label; choose another split")
        try:
            if isinstance(image, bytes):
                pixels, original = decode.decode_sized(image, size, *rule)
            else:
                pixels, original = decode.square_array(image, size, rule.resize), image.shape[:2]
            yield Block(rank, pixels[None], np.array([label], np.int32), np.array([original]))
        except ValueError as error:
            yield Corrupt(rank, f"{origin}, image {rank}", str(error))
        rank += 1
