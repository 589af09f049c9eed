"""The summary at the end of `prepare`, compared with counts by hand."""

import json

import numpy as np
import pytest
from data_files import data_config, encoded, pixels, write_tree

from alexnet_jax import text
from alexnet_jax.data import open_splits, summary


@pytest.fixture
def said(tmp_path):
    def lines(files, **fields):
        write_tree(tmp_path / "data" / "toy", files)
        data = data_config(tmp_path / "store", dir=tmp_path / "data", name="image_folder:toy", **fields)
        return summary.lines(open_splits(data, report=lambda line: None))

    return lines


def images(split, counts, start=0, **size):
    """{path: PNG}, as many of each class as `counts` says, all different."""
    return {f"{split}/{name}/{i}.png": encoded(pixels(start + 100 * c + i, **size))
            for c, (name, count) in enumerate(counts.items()) for i in range(count)}


def test_counts_of_each_class(said):
    files = images("train", {"a": 1, "b": 4, "c": 5, "d": 7, "e": 7}) | images("val", {"b": 2, "c": 2}, start=1000)
    lines = said(files, eval_split="val")
    assert lines[0] == "train_split train: 24 images, 4.6 kB"
    assert lines[1] == "  images of a class: least 1 (a), median 5, most 7 (d, e); 5 classes"
    assert lines[2] == "  original sizes (height×width): 12×10"
    assert lines[3] == "  duplicate images: none"
    assert lines[4] == "eval_split val: 4 images, 0.8 kB"
    assert lines[5] == "  images of a class: least 0 (a, d, e), median 0, most 2 (b, c); 5 classes"
    assert lines[6] == "  classes without an image: 3 (a, d, e)"
    assert lines[-3:] == ["between splits", "  train_split and eval_split have no image in common",
                          "  3 classes that training has (a, d, e) are not among the images that the error is "
                          "reported on"]


def test_many_classes_are_cut_off(said):
    names = [f"class {i:04}" for i in range(30)]
    lines = said(images("train", dict.fromkeys(names, 1)), eval_split="train[:10]", train_split="train[10:]")
    (empty,) = (line for line in lines if "without an image: 10 " in line)
    assert empty.endswith(" and 5 more)")
    (line,) = (line for line in lines if "have no training image (10 images that can only be wrong)" in line)
    assert " and 5 more) have" in line
    assert max(map(len, lines)) < 250


def test_sizes(said):
    files = {f"train/{'ab'[i % 2]}/{i}.png": encoded(pixels(i, *size)) for i, size in enumerate(
        [(4, 30), (9, 9), (20, 7), (100, 80), (8, 8)])}
    lines = said(files, eval_split="train")
    assert "  original sizes (height×width): least 8×8, median 4×30, most 100×80; 2 are enlarged to 8" in lines


def test_duplicates_are_named(said):
    files = images("train", {"a": 3, "b": 3}) | images("val", {"a": 2, "b": 2}, start=1000)
    files["train/b/9.png"] = files["train/a/1.png"]
    files["train/a/again.png"] = files["train/a/2.png"]
    files["val/b/0.png"] = files["train/b/0.png"]
    lines = said(files, eval_split="val")
    within, other = (line for line in lines if "duplicate images" in line)
    assert other == "  duplicate images: none"
    assert within.startswith("  duplicate images: 2, 1 of them in another class (")
    pairs = {frozenset(pair.split(" = ")) for pair in within.partition("(")[2].rstrip(")").split(", ")}
    assert pairs == {frozenset(("a/1.png", "b/9.png")), frozenset(("a/2.png", "a/again.png"))}
    assert "  1 of the 4 images of eval_split stands in train_split too (b/0.png = b/0.png)" in lines


def test_what_was_left_out(said, tmp_path):
    files = images("train", {"a": 3, "b": 3})
    files |= {"train/a/bad.png": b"x", "train/b/cut.jpg": encoded(pixels(1), "JPEG")[:-9]}
    said(files, eval_split="train")
    (meta,) = (tmp_path / "store").glob("*/meta.json")
    content = json.loads(meta.read_text())
    content["left_out"] = {"PDF": {"a": 2, "b": 3}, "HEIC": {"": 1}, "": {"a": 4}}
    meta.write_text(json.dumps(content))
    lines = said({}, eval_split="train")
    assert "  left out of train, PDF: 5 (b 3, a 2)" in lines
    assert "  left out of train, HEIC: 1 (no class 1)" in lines
    assert "  left out of train, files of no known kind: 4 (a 4)" in lines
    (line,) = (line for line in lines if "corrupt" in line)
    assert line.startswith("  corrupt images of train, left out: 2, of 2 kinds (")
    assert "bad.png: " in line
    assert "cut.jpg: " in line
    assert sum("left out" in line for line in lines) == 4  # once for a whole split


def test_stores_without_names_and_sizes(said, tmp_path):
    """As all were before."""
    files = images("train", {"a": 3, "b": 3})
    files["train/b/9.png"] = files["train/a/1.png"]
    said(files, eval_split="train")
    (meta,) = (tmp_path / "store").glob("*/meta.json")
    content = json.loads(meta.read_text())
    for name in ("names.txt", "originals.u32"):
        (meta.parent / name).unlink()
        del content["crc32"][name]
    meta.write_text(json.dumps(content))
    lines = said({}, eval_split="train")
    assert not any("sizes" in line for line in lines)
    (line,) = (line for line in lines[:3] if "duplicate images" in line)
    first, again = (int(part.split()[-1].rstrip(")")) for part in line.split(" = "))
    array = np.fromfile(meta.parent / "images.u8", np.uint8).reshape(7, -1)
    assert (array[first] == array[again]).all()


def test_names_are_text(said):
    odd = ("[bold]a", "$x^$|y", "new\nline", "{0}%s\x1b[31m", "鳥" * 40)
    files = {f"train/{name}/{i}[0].png": encoded(pixels(100 * c + i)) for c, name in enumerate(odd) for i in range(2)}
    lines = said(files | images("train", {"z": 3}, start=1000), eval_split="train[:1]")
    names = ", ".join(("$x^$|y", "[bold]a", "new\\nline", "{0}%s\\x1b[31m", "鳥" * 40))
    assert lines[1] == f"  images of a class: least 2 ({names}), median 2, most 3 (z); 6 classes"
    assert not any(len(line.splitlines()) != 1 for line in lines)
    columns = text.table([("鳥", "x"), ("ab", "y"), ("a", "")])
    assert columns == ["鳥  x", "ab  y", "a"]
