"""Folders of images with symbolic links: linked images are read, and loops are walked once without an error."""

import numpy as np
from data_files import data_config, encoded, write_tree

from alexnet_jax.data import open_splits


def _tree(root):
    write_tree(root, {f"x/{split}/{key}/{n}.png": encoded(np.full((9, 9, 3), value + n, np.uint8))
                      for split, count in (("train", 3), ("val", 2)) for key, value in (("cat", 10), ("dog", 20))
                      for n in range(count)})


def _opened(root):
    return open_splits(data_config(root / "store", dir=root, name="image_folder:x", train_split="train",
                                   eval_split="val"), report=lambda line: None)


def _assert_right(split, count):
    assert len(split) == count
    for image, label in zip(split.images, split.labels, strict=True):
        assert image[0, 0, 0] // 10 == 1 + label


def test_a_loop_of_links_refuses_nothing(tmp_path):
    _tree(tmp_path)
    train = tmp_path / "x" / "train"
    (train / "cat" / "self").symlink_to(".")
    (train / "cat" / "up").symlink_to("..")
    (train / "dog" / "down").mkdir()
    (train / "dog" / "down" / "again").symlink_to(train / "dog")
    (train / "dog" / "a").symlink_to("b")  # of no folder at all
    (train / "dog" / "b").symlink_to("a")
    _assert_right(_opened(tmp_path)["train_split"], 6)


def test_what_is_linked_from_elsewhere_is_read(tmp_path):
    _tree(tmp_path)
    write_tree(tmp_path / "elsewhere", {f"{n}.png": encoded(np.full((9, 9, 3), 15 + n, np.uint8)) for n in range(2)})
    (tmp_path / "x" / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "x" / "val" / "cat" / "4.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    found = _opened(tmp_path)
    _assert_right(found["train_split"], 8)
    _assert_right(found["eval_split"], 5)
