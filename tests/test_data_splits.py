"""Split strings."""

import pytest

from alexnet_jax.data import splits
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
        "train+test",
        "a b",
        "train[:5] x",
        "../train",
    ],
)
def test_bad_syntax(text):
    with pytest.raises(ConfigError) as error:
        splits.parse(text)
    assert "\n" not in str(error.value)
