"""The TFDS builder of CIFAR-10's binary version. Needs no TensorFlow: array_record files, images as bytes."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from alexnet_jax.data import cifar10
from alexnet_jax.data.tfds_source import quiet


class LocalInfo(tfds.core.DatasetInfo):
    """Of a dataset that TFDS's own server doesn't know. Asking it takes time, and leaves an empty temporary folder."""

    def initialize_from_bucket(self) -> None:
        pass


class Cifar10Binary(tfds.core.GeneratorBasedBuilder):
    """`complete` has the splits train and test, `train_only` what a folder without test_batch.bin can give.

    `records` are the files' contents, checked already: {file name: uint8 [10000, cifar10.RECORD]}.
    """

    VERSION = tfds.core.Version(cifar10.VERSION)
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS's own way of declaring them)
        tfds.core.BuilderConfig(name="complete", description="the whole archive"),
        tfds.core.BuilderConfig(name="train_only", description="the five training files"),
    ]

    def __init__(self, *, records: dict[str, np.ndarray], **arguments: Any):
        self._records = records
        super().__init__(**arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        # Not by `dataset_info_from_configs`, which would look for a README beside this file.
        return LocalInfo(
            builder=self,
            description="CIFAR-10, binary version, in the order of its files.",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Tensor(shape=(32, 32, 3), dtype=np.uint8, encoding="bytes"),
                "label": tfds.features.ClassLabel(names=cifar10.CLASSES),
            }),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # a slice has to mean the same images as in the author's batches
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        splits = {"train": cifar10.TRAIN, "test": cifar10.TEST}
        return {split: self._generate_examples(tuple(files)) for split, files in splits.items()
                if all(name in self._records for name in files)}

    def _generate_examples(self, names: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
        key = 0
        for name in names:
            records = self._records[name]
            for image, label in zip(cifar10.records_to_images(records), records[:, 0], strict=True):
                yield key, {"image": image, "label": int(label)}
                key += 1


def prepare(data_dir: pathlib.Path, records: dict[str, np.ndarray]) -> pathlib.Path:
    """Writes the TFDS files below `data_dir` and returns their folder. The caller holds the lock."""
    config = "complete" if all(name in records for name in cifar10.TEST) else "train_only"
    for leftover in (data_dir / "cifar10_binary" / config).glob("incomplete.*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a builder that was killed
    with quiet():
        builder = Cifar10Binary(records=records, config=config, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
