"""Small folders of images in classes, and opening them: for the tests of folders and archives."""

import hashlib

import pytest
from data_files import data_config, encoded, pixels

from alexnet_jax.data import open_split

CLASSES = ("n02", "n01", "n03")


def tree(split, classes=CLASSES, each=3, seed=0):
    """{path: JPEG or PNG} in an order that isn't sorted."""
    files = {}
    for c, name in enumerate(classes):
        for i in reversed(range(each)):
            form = ("PNG", "JPEG")[i % 2]
            files[f"{split}/{name}/{i}.{form}"] = encoded(pixels(seed + 100 * c + i), form)
    return files


@pytest.fixture
def data(tmp_path):
    return data_config(tmp_path / "store", name="image_folder:toy", dir=tmp_path / "data")


@pytest.fixture
def toy(tmp_path):
    return tmp_path / "data" / "toy"


def open_quietly(data, split, **fields):
    with data.unlocked():
        data.update(fields)
    return open_split(data, split, report=lambda line: None)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def mixed(path):
    """The stored order: that of a hash of class and path."""
    return hashlib.blake2b(path.partition("/")[2].encode(), digest_size=16).digest()
