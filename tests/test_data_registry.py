"""From config.data.name to a dataset, and a user's own dataset as in docs/data.md."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from data_files import data_config

from alexnet_jax.data import open_splits, registry, store
from alexnet_jax.data.dataset import Dataset
from alexnet_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("form", registry.DATASETS)
def test_every_dataset_is_found_by_its_name(tmp_path, form):
    name = form.partition("<")[0] + ("x" if "<" in form else "")
    found = registry.find(data_config(tmp_path, name=name, dir=tmp_path), tmp_path)
    assert isinstance(found, Dataset)
    assert found.name == found.title == name
    assert store.folder_name(found.key, "1", "train", 8).startswith(name.partition(":")[0])


@pytest.mark.parametrize(("name", "hint"), [
    ("shape", "did you mean shapes"), ("cifar10:x", "did you mean cifar10"), ("tfds:", "did you mean tfds:<name>"),
    ("Image_Folder:x", "did you mean image_folder:<folder>"), ("coco", "tfds:<name>$")])
def test_a_name_of_no_dataset_is_refused_with_those_that_there_are(tmp_path, name, hint):
    with pytest.raises(ConfigError, match=rf"^config.data.name: '{name}' is not one of shapes, cifar10, .*{hint}"):
        registry.find(data_config(tmp_path, name=name), tmp_path)


def test_a_dataset_is_one_file_and_one_line(tmp_path):
    """Those of docs/data.md, added to a copy of the package."""
    reader, line = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    package = shutil.copytree(ROOT / "alexnet_jax", tmp_path / "alexnet_jax", ignore=shutil.ignore_patterns("*.pyc"))
    (package / "data" / "readers" / "digits.py").write_text(reader)
    listed = package / "data" / "registry.py"
    listed.write_text(listed.read_text().replace("DATASETS = {\n", f"DATASETS = {{\n{line}"))
    rng, counts = np.random.default_rng(0), {"train": 30, "test": 20}
    (tmp_path / "data" / "digits").mkdir(parents=True)
    for split, count in counts.items():
        np.savez(tmp_path / "data" / "digits" / f"{split}.npz", labels=np.arange(count) % 10,
                 images=rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    fields = {"name": "digits", "dir": tmp_path / "data", "size": 32, "train_split": "train[:20]",
              "tune_split": "train[20:]", "eval_split": "test"}
    command = [sys.executable, "-m", "alexnet_jax.data.prepare", f"--config={ROOT}/configs/shapes.py",
               *(f"--config.data.{field}={value}" for field, value in fields.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "ALEXNET_STORE_DIR": str(tmp_path / "store")})
    assert (done.returncode, done.stderr) == (0, "")
    assert "train_split train[:20]: 20 images of 32×32" in done.stdout
    assert "eval_split  test: 20 images of 32×32" in done.stdout
    written = np.load(tmp_path / "data" / "digits" / "test.npz")
    [folder] = (tmp_path / "store").glob("digits-*-test-32")
    packed = store.open_store(folder, verify=True)
    np.testing.assert_array_equal(packed.images, written["images"])
    np.testing.assert_array_equal(packed.labels, written["labels"])


def test_a_dataset_that_needs_no_files_needs_no_data_dir(tmp_path, monkeypatch):
    from alexnet_jax.data.readers import shapes

    monkeypatch.setattr(shapes, "COUNTS", {"train": 20, "test": 10})
    found = open_splits(data_config(tmp_path, dir=tmp_path / "absent"), report=lambda line: None)
    assert len(found["train_split"]) == 20
