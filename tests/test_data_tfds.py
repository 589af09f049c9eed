"""TFDS datasets prepared by anyone, without TensorFlow."""

import importlib.util
import json

import numpy as np
import pytest
from data_files import data_config, encoded, pixels

from alexnet_jax.data import Classes, open_split
from alexnet_jax.data.readers import decode
from alexnet_jax.errors import ConfigError, DataError

COUNT = 12


def open_quietly(data, split, **options):
    return open_split(data, split, report=lambda line: None, **options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data dir with `toy_photos` (JPEGs, features that we don't know) and `toy_arrays` (two configs)."""
    import tensorflow_datasets as tfds

    from alexnet_jax.data.readers.tfds import quiet

    class LocalInfo(tfds.core.DatasetInfo):
        """Of a dataset that TFDS's own server doesn't know."""

        def initialize_from_bucket(self):
            pass

    root = tmp_path_factory.mktemp("prepared")
    for i in range(COUNT):
        (root / f"{i}.jpg").write_bytes(photo(i))

    class ToyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return LocalInfo(
                builder=self,
                supervised_keys=("photo", "kind"),
                disable_shuffling=True,
                features=tfds.features.FeaturesDict(
                    {
                        "photo": tfds.features.Image(),
                        "kind": tfds.features.ClassLabel(names=["x", "y", "z"]),
                        "box": tfds.features.BBoxFeature(),
                        "name": tfds.features.Text(),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 8), "test": self._generate_examples(8, COUNT)}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield (
                    i,
                    {
                        "photo": str(root / f"{i}.jpg"),
                        "kind": i % 3,
                        "name": f"photo {i}",
                        "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                    },
                )

    class ToyArrays(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("0.9.1")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="grey"), tfds.core.BuilderConfig(name="unlabelled")]  # noqa: RUF012

        def _info(self):
            return LocalInfo(
                builder=self,
                disable_shuffling=True,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Tensor(shape=(12, 10, 1), dtype=np.uint8),
                        "label": tfds.features.ClassLabel(num_classes=4),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(COUNT):
                label = -1 if self.builder_config.name == "unlabelled" else i % 3  # none of the last class
                yield i, {"image": pixels(i)[:, :, :1], "label": label}

    with quiet():
        ToyPhotos(data_dir=root, file_format="array_record").download_and_prepare()
        for name in ("grey", "unlabelled"):
            ToyArrays(config=name, data_dir=root, file_format="array_record").download_and_prepare()
    return root


def photo(i):
    # The tenth is no whole JPEG.
    return encoded(pixels(i, 20, 24), "JPEG")[: -50 if i == 9 else None]


def config_for(tmp_path, root, name):
    return data_config(tmp_path / "store", name=name, dir=root)


def test_photos_are_decoded_by_our_own_rule(tmp_path, prepared, capsys):
    data = config_for(tmp_path, prepared, "tfds:toy_photos")
    train, test = open_quietly(data, "train[2:]"), open_quietly(data, "test")
    assert (len(train), train.classes, train.corrupt) == (6, ("x", "y", "z"), 0)
    assert train.version.startswith("1.2.0-")
    np.testing.assert_array_equal(train.images, [decode.decode(photo(i), 8) for i in range(2, 8)])
    np.testing.assert_array_equal(train.labels, [i % 3 for i in range(2, 8)])
    assert (len(test), test.corrupt) == (3, 1)
    assert "image 1" in test.store.meta["corrupt"][0]["name"]
    assert capsys.readouterr() == ("", "")


def test_arrays_configs_and_versions(tmp_path, prepared):
    for name in ("tfds:toy_arrays/grey", "tfds:toy_arrays/grey:0.9.1"):
        split = open_quietly(config_for(tmp_path, prepared, name), "train")
        assert split.classes == ("0", "1", "2", "3")
        np.testing.assert_array_equal(split.images[5], decode.square_array(pixels(5)[:, :, 0], 8))
    for name, kind, words in [
        ("tfds:toy_arrays", ConfigError, "has the configs grey, unlabelled .*tfds:toy_arrays/grey"),
        ("tfds:toy_arrays/grey:1.0.0", DataError, "not prepared in version 1.0.0 in .*array_record"),
        ("tfds:toy_photos:1.2", ConfigError, "not of the form"),
        ("tfds:toy_arrays/unlabelled", DataError, "has images without a label"),
    ]:
        with pytest.raises(kind, match=words) as error:
            open_quietly(config_for(tmp_path, prepared, name), "train")
        assert "\n" not in str(error.value)


def test_another_network_s_classes_are_compared_before_anything_is_decoded(tmp_path, prepared, monkeypatch):
    data = config_for(tmp_path, prepared, "tfds:toy_photos")
    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode_sized", None)
        with pytest.raises(DataError, match="test: classes that training does not have: y; training has x, z, w"):
            open_quietly(data, "test", classes=Classes(("x", "z", "w"), ("x", "z", "w")))
    assert not (tmp_path / "store").exists()
    # A class that the list of labels has and the split has no image of is nobody's trouble.
    grey = open_quietly(config_for(tmp_path, prepared, "tfds:toy_arrays/grey"), "train",
                        classes=Classes(("2", "0", "more", "1"), ("two", "none", "more", "one")))
    np.testing.assert_array_equal(grey.labels, [(1, 3, 0)[i % 3] for i in range(COUNT)])


def test_splits_are_known_without_reading(tmp_path, prepared):
    data = config_for(tmp_path, prepared, "tfds:toy_photos")
    for split in ("validation", "train[:9]"):
        with pytest.raises(ConfigError, match=r"toy_photos has train \(8 images\), test \(4 images\)"):
            open_quietly(data, split)
    assert not (tmp_path / "store").exists()


def test_the_usual_places(tmp_path, prepared, monkeypatch):
    monkeypatch.delenv("ALEXNET_DATA_DIR", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    data = config_for(tmp_path, "", "tfds:toy_photos")
    assert len(open_quietly(data, "test")) == 3
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    assert len(open_quietly(data, "test")) == 3  # the store stands in


def test_not_prepared(tmp_path):
    with pytest.raises(DataError, match=r"tfds:mnist is not prepared in .*download_and_prepare") as error:
        open_quietly(config_for(tmp_path, tmp_path, "tfds:mnist"), "train")
    assert "\n" not in str(error.value)


def write_info(folder, **fields):
    folder.mkdir(parents=True)
    info = {
        "name": "toy",
        "version": "1.0.0",
        "splits": [{"name": "train", "shardLengths": ["5"], "numBytes": "9"}],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info | fields))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow would read it")
def test_tfrecord_needs_tensorflow(tmp_path):
    write_info(tmp_path / "toy" / "1.0.0", fileFormat="tfrecord")
    with pytest.raises(
        DataError, match=r"toy/1.0.0 holds tfrecord files.*alexnet_jax\[tensorflow\].*array_record"
    ):
        open_quietly(config_for(tmp_path, tmp_path, "tfds:toy"), "train")


def test_damaged_files(tmp_path):
    write_info(tmp_path / "toy" / "1.0.0", fileFormat="array_record")
    with pytest.raises(DataError, match=r"toy/1.0.0: cannot be read as a TFDS dataset") as error:
        open_quietly(config_for(tmp_path, tmp_path, "tfds:toy"), "train")
    assert "\n" not in str(error.value)
    (tmp_path / "toy" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_info.json: cannot be read"):
        open_quietly(config_for(tmp_path, tmp_path, "tfds:toy"), "train")


def test_each_rule_of_resizing_and_turning_has_a_store_of_its_own(tmp_path, prepared, monkeypatch):
    rules = [{"resize": "warp"}, {"resize": "torchvision", "orientation": "exif"}, {"orientation": "exif"}, {}]
    splits = []
    for rule in rules:
        splits.append(open_quietly(data_config(tmp_path / "store", name="tfds:toy_photos", dir=prepared, **rule),
                                   "test[:1]"))
        wanted = decode.decode(photo(8), 8, **rule)
        np.testing.assert_array_equal(splits[-1].images[0], wanted)
    assert len({split.store.folder for split in splits}) == 4
    monkeypatch.setenv("HOME", str(tmp_path))  # nor are there files elsewhere
    for rule, split in zip(rules, splits, strict=True):
        (tmp_path / "empty").mkdir(exist_ok=True)
        data = data_config(tmp_path / "store", name="tfds:toy_photos", dir=tmp_path / "empty", **rule)
        assert open_quietly(data, "test[:1]").store.folder == split.store.folder
