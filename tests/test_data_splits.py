"""Split strings."""

import numpy as np
import pytest
from data_files import data_config, encoded, write_tree

from alexnet_jax.data import open_split, open_splits, splits, store
from alexnet_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("train", (0, 50)),
        ("train[:]", (0, 50)),
        ("train[:40]", (0, 40)),
        ("train[40:]", (40, 50)),
        ("train[-10:]", (40, 50)),
        ("train[:-10]", (0, 40)),
        ("train[10:20]", (10, 20)),
        ("train[:80%]", (0, 40)),
        ("train[80%:]", (40, 50)),
        ("train[-20%:]", (40, 50)),
        ("train[12.5%:25%]", (6, 12)),
        (" train[ 1 : 2 ] ", (1, 2)),
        ("train[0:50]", (0, 50)),
    ],
)
def test_bounds(text, bounds):
    assert splits.parse(text).bounds(50, "") == bounds


@pytest.mark.parametrize("percent", [1, 33, 50, 67, 99])
def test_percents_meet_without_overlap(percent):
    for count in (7, 50, 101):
        assert (
            splits.parse(f"a[:{percent}%]").bounds(count + 100, "")[1]
            == splits.parse(f"a[{percent}%:]").bounds(count + 100, "")[0]
        )


@pytest.mark.parametrize(
    "text",
    ["train[40:30]", "train[50:]", "train[:0]", "train[:51]", "train[-51:]", "train[:101%]", "train[7:7]"],
)
def test_empty_or_out_of_range(text):
    described = splits.describe("toy", {"train": 50, "val": None})
    with pytest.raises(ConfigError, match=r"toy has train \(50 images\), val$") as error:
        splits.parse(text).bounds(50, described)
    assert f"'{text}'" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train[",
        "train[5]",
        "train[a:b]",
        "train[:10:2]",
        "[:5]",
        "train[:9]+test",
        "train[:9]+test[:9]",
        ".",
        "a[1]",
        "\0",
        "train[:5] x",
        "../train",
    ],
)
def test_bad_syntax(text):
    with pytest.raises(ConfigError) as error:
        splits.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "name"), [
    ("old photos", "old photos"), ("old photos [:80%]", "old photos"), ("grün.v1.2", "grün.v1.2"), ("猫[5:]", "猫"),
    ("c++", "c++"), ("a(b){c}", "a(b){c}"), ("a[1][:]", "a[1]"), ("a[1:2][:]", "a[1:2]"), ("x[[:]", "x["),
    ("-1[:]", "-1"), ("a'b\"c", "a'b\"c"), ("two\nlines[:1]", "two\nlines"), ("10%", "10%"),
    ("a:b", "a:b"), ("x" * 200, "x" * 200)])
def test_a_split_may_be_called_what_a_folder_may(text, name):
    assert splits.parse(text).name == name


NAMES = ("old photos", "grün.v1.2", "c++", "a+b", "a[1]", "*", "{x}", "it's", "two\nlines", "y" * 200, "%s", "-v",
         "$HOME")


def test_folders_of_any_name_are_splits(tmp_path):
    tree = {f"x/{name}/{key}/{n}.png": encoded(np.full((9, 9, 3), 20 * i + n, np.uint8))
            for i, name in enumerate(NAMES) for key in ("cat", "dog") for n in range(2)}
    write_tree(tmp_path, tree)
    fields = {"name": "image_folder:x", "dir": tmp_path}
    for name in NAMES:
        c = data_config(tmp_path / "store", **fields, train_split=f"{name}[:]", eval_split=f"{name}[:2]")
        for _ in range(2):  # packs, then opens
            found = open_splits(c, report=lambda line: None)["train_split"]
            assert sorted(found.images[:, 0, 0, 0]) == [20 * NAMES.index(name) + n for n in (0, 0, 1, 1)]
            assert found.whole == name
    assert len(list((tmp_path / "store").glob("[!.]*"))) == len(NAMES)
    for text, message in (("old photo", r"did you mean old photos\?"), ("cat+dog", "joins are not supported")):
        with pytest.raises(ConfigError, match=message) as error:
            open_split(data_config(tmp_path / "store", **fields), text, report=lambda line: None)
        assert text in str(error.value)


def test_names_of_splits_keep_their_stores():
    assert store.folder_name("cifar10", "1.0.0", "train", 32) == "cifar10-1.0.0-train-32"
    assert store.folder_name("x", "1", "val_2.0-b", 64) == "x-1-val_2.0-b-64"
    names = [store.folder_name("x", "1", name, 8) for name in (*NAMES, "old_photos", "old  photos")]
    assert len(set(names)) == len(names)
    assert all(len(name) < 100 and name.isascii() and "*" not in name for name in names)
