"""`python -m alexnet_jax.data.prepare`."""

import subprocess
import sys

import pytest
from data_files import data_config, encoded, pixels, write_tree

from alexnet_jax.data import summary
from alexnet_jax.errors import ConfigError

CONFIG = """
from alexnet_jax import config

def get_config():
    c = config.default()
    c.data.name, c.data.size, c.data.crop = "image_folder:toy", 8, 8
    c.data.train_split, c.data.eval_split, c.data.tune_split = "train[:3]", "val", "train[3:]"
    return c
"""


@pytest.fixture
def place(tmp_path):
    files = {
        f"data/toy/{split}/{name}/{i}.png": encoded(pixels(i))
        for split in ("train", "val")
        for name in "ab"
        for i in range(2)
    }
    write_tree(tmp_path, files | {"mine.py": CONFIG.encode(), "data/toy/train/a/9.png": b"x"})
    return tmp_path


def run(place, *arguments):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "alexnet_jax.data.prepare",
            f"--config={place / 'mine.py'}",
            f"--config.data.dir={place / 'data'}",
            f"--config.data.store={place / 'store'}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_prepare_and_verify(place):
    done = run(place, "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("train_split train[:3]: 3 images of 8×8, 576 bytes, classes a, b; 1 corrupt")
        for line in lines
    )
    assert any(line.startswith("tune_split  train[3:]: 1 images") for line in lines)
    assert lines[-1].startswith("verified")
    assert "train_split train[:3]: 3 images, 0.6 kB" in lines
    assert "  corrupt images of train, left out: 1 (" in done.stdout
    folder = next((place / "store").glob("*-val-8"))
    assert f"in {folder}" in done.stdout
    with (folder / "images.u8").open("r+b") as file:
        file.write(b"damaged")
    done = run(place)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {folder}/images.u8: image 0 has other bytes")


def test_a_sheet(place):
    done = run(place, "--sheet=/absent/sheet.png")
    assert (done.returncode, done.stdout) == (2, "")  # before anything is prepared
    assert done.stderr == "error: --sheet=/absent/sheet.png: there is no folder /absent\n"
    assert not (place / "store").exists()
    done = run(place, f"--sheet={place / 'sheet.png'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"drawn: {place / 'sheet.png'}"
    assert (place / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_mistyped_split_names_its_field(tmp_path):
    data = data_config(tmp_path, eval_split="tset")
    with data.unlocked():
        data.train_split = ""
    with pytest.raises(
        ConfigError, match=r"^config.data.eval_split: 'tset': no such split .did you mean test"
    ):
        summary.prepare(data, report=lambda line: None)
    with data.unlocked():
        data.name = "shapez"
    with pytest.raises(ConfigError, match=r"^config.data.name: 'shapez'"):
        summary.prepare(data, report=lambda line: None)
