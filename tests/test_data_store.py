"""The packed store: its content, the checks on opening, and that it is complete or absent."""

import errno
import json
import os
import shutil
import subprocess
import sys

import emulated
import fake_driver
import numpy as np
import pytest
from data_files import data_config

from alexnet_jax.data import open_split, statistics
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.readers import shapes
from alexnet_jax.errors import ConfigError, DataError, Interrupted

COUNTS = {"train": 200, "test": 60}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", COUNTS)


@pytest.fixture
def data(tmp_path):
    return data_config(tmp_path / "store")


def open_quietly(data, split):
    return open_split(data, split, report=lambda line: None)


def left_in(store):
    """Everything in the store's folder but locks."""
    return sorted(p.name for p in store.iterdir() if not p.name.endswith(".lock"))


def start_slow(store, go, out):
    return subprocess.Popen([sys.executable, emulated.PROGRAMS / "slow_shapes.py", store, go], stdout=out)


def test_a_slice_is_a_view_of_the_whole_split(data):
    whole, part = open_quietly(data, "train"), open_quietly(data, "train[50:75%]")
    images, labels = shapes.draw("train", np.arange(200), 8)
    np.testing.assert_array_equal(whole.images, images)
    np.testing.assert_array_equal(part.images, images[50:150])
    np.testing.assert_array_equal(part.labels, labels[50:150])
    assert (len(part), part.size, part.name, part.split, part.corrupt) == (
        100,
        8,
        "shapes",
        "train[50:75%]",
        0,
    )
    assert part.classes == shapes.CLASSES
    assert part.labels.dtype == np.int32
    assert isinstance(part.images, np.memmap)
    assert not part.images.flags.writeable
    assert not part.images.flags.owndata


def test_size_and_version_have_stores_of_their_own(data, tmp_path, monkeypatch):
    open_quietly(data, "train")
    with data.unlocked():
        data.size = 12
    assert open_quietly(data, "train").images.shape == (200, 12, 12, 3)
    monkeypatch.setattr(shapes, "NOISE", (0.0, 0.1))
    open_quietly(data, "train")
    assert len(left_in(tmp_path / "store")) == 3


def test_an_existing_store_is_opened_without_tfds_pillow_or_filelock(data):
    folder = open_quietly(data, "test").store.folder
    script = f"""
import sys, types
from alexnet_jax.data import open_split
from alexnet_jax.data.readers import shapes
from alexnet_jax.data.loader import Course, training_batches
shapes.COUNTS.update(train=200, test=60)
data = types.SimpleNamespace(name="shapes", dir="", store={str(folder.parent)!r}, size=8, on_corrupt="skip",
                             order="stored", val_fraction=0.0, names="", orientation="stored", resize="shorter")
split = open_split(data, "test")
split.statistics()
assert len(next(training_batches(Course(split, 4, 1), 0, 0, 1)).images) == 4
heavy = ("tensorflow_datasets", "tensorflow", "PIL", "filelock", "jax", "array_record", "rich")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_opening_writes_nothing(data):
    folder = open_quietly(data, "train").store.folder
    before = {p: p.stat().st_mtime_ns for p in (folder.parent, folder, *folder.rglob("*"))}
    open_quietly(data, "train[:10]")
    assert {p: p.stat().st_mtime_ns for p in (folder.parent, folder, *folder.rglob("*"))} == before


def damage_truncate(folder):
    os.truncate(folder / "images.u8", 1000)


def damage_image(folder):
    with (folder / "images.u8").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"xxxxx")


def damage_labels(folder):
    labels = np.fromfile(folder / "labels.i32", "<i4")
    np.roll(labels, 1).tofile(folder / "labels.i32")


def damage_checksums(folder):
    (folder / "checksums.u32").write_bytes(bytes(800))


def damage_meta(folder):
    (folder / "meta.json").write_text('{"schema": 1,')


def damage_schema(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"schema": 99}))


def lose_labels(folder):
    (folder / "labels.i32").unlink()


def lose_meta(folder):
    (folder / "meta.json").unlink()


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (damage_truncate, "images.u8"),
        (damage_image, "images.u8"),
        (damage_labels, "labels.i32"),
        (damage_checksums, "checksums.u32"),
        (damage_meta, "meta.json"),
        (damage_schema, "meta.json"),
        (lose_labels, "labels.i32"),
        (lose_meta, "meta.json"),
    ],
)
def test_damage_is_named_with_its_remedy(data, damage, file):
    folder = open_quietly(data, "train").store.folder
    damage(folder)
    with pytest.raises(DataError) as error:
        open_quietly(data, "train")
    message = str(error.value)
    assert message.startswith(str(folder / file))
    assert f"delete the folder {folder}" in message
    assert "\n" not in message
    shutil.rmtree(folder)  # the remedy works
    assert len(open_quietly(data, "train")) == 200


def test_verify_reads_every_image(data, monkeypatch):
    monkeypatch.setattr(store_lib, "_SAMPLE", 2)
    folder = open_quietly(data, "train").store.folder
    with (folder / "images.u8").open("r+b") as file:
        file.seek(77 * 8 * 8 * 3)
        file.write(b"xxxxx")
    store_lib.open_store(folder)
    with pytest.raises(DataError, match=r"image 77 "):
        store_lib.open_store(folder, verify=True)


def test_full_disk_leaves_nothing_behind(data, tmp_path, monkeypatch):
    def pwrite(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(DataError, match=r"the disk is full.*config.data.store"):
        open_quietly(data, "train")
    assert left_in(tmp_path / "store") == []


def test_a_disk_too_small_is_noticed_before_anything_is_drawn(data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(shapes, "draw", lambda *arguments: pytest.fail("drawn"))
    with pytest.raises(DataError, match=r"38,400 bytes are needed, 1,000 are free"):
        open_quietly(data, "train")
    assert left_in(tmp_path / "store") == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"config.data.store or .ALEXNET_STORE_DIR") as error:
        open_quietly(data_config(tmp_path / "file" / "store"), "train")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store(data, tmp_path):
    folder = open_quietly(data, "train").store.folder
    try:
        folder.chmod(0o555)
        folder.parent.chmod(0o555)
        assert open_quietly(data, "train").statistics().mean.shape == (8, 8, 3)
        with pytest.raises(DataError, match=r"permission denied"):
            open_quietly(data, "test")
    finally:
        folder.parent.chmod(0o755)
        folder.chmod(0o755)


def test_an_interrupted_builder_leaves_nothing(data, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "draw", interrupted)
    with pytest.raises(Interrupted, match=r"^packing shapes train at 8×8: stopped; the same command resumes$"):
        open_quietly(data, "train")
    assert left_in(tmp_path / "store") == []


def test_a_killed_builder_is_cleaned_up_after(data, tmp_path):
    store = tmp_path / "store"
    with start_slow(store, tmp_path / "go", subprocess.PIPE) as process:
        assert b"drawing block 2\n" in iter(process.stdout.readline, b"")
        assert list(store.rglob("images.u8"))
        process.kill()
    assert len(left_in(store)) == 1  # what it had begun, and no store
    assert left_in(store)[0].startswith(".shapes-")
    split = open_quietly(data, "train")
    assert left_in(store) == [split.store.folder.name]
    np.testing.assert_array_equal(split.images, shapes.draw("train", np.arange(200), 8)[0])


def test_two_builders_at_once_build_once(tmp_path):
    said = [tmp_path / "first", tmp_path / "second"]
    processes = []
    for file in said:
        with file.open("wb") as out:
            processes.append(start_slow(tmp_path / "store", tmp_path / "go", out))
    fake_driver.wait(lambda: [file.read_text().count("drawing block 2") + file.read_text().count("another process")
                              for file in said] == [1, 1])
    (tmp_path / "go").touch()
    assert [process.wait(fake_driver.LONG) for process in processes] == [0, 0]
    outputs = [file.read_text() for file in said]
    assert all("opened 200" in output for output in outputs)
    assert sum("drawing" in output for output in outputs) == 1
    waiting = next(output for output in outputs if "drawing" not in output)
    assert "another process is building" in waiting
    assert len(left_in(tmp_path / "store")) == 1


def test_mistakes_are_found_before_anything_is_built(data, tmp_path):
    for split, words in [
        ("val", "no such split; shapes has train (200 images), test (60 images)"),
        ("tain", "did you mean train?"),
        ("train[:201]", "reaches beyond"),
        ("train[200:]", "is empty"),
    ]:
        with pytest.raises(ConfigError) as error:
            open_quietly(data, split)
        assert words in str(error.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar-10", "cifar10"),
        ("shape", "shapes"),
        ("imagefolder:a", "image_folder:"),
        ("tfds", "tfds:<name>"),
        ("shapes:x", "shapes"),
        ("xyz", "is not one of"),
    ],
)
def test_unknown_dataset(data, name, hint):
    with data.unlocked():
        data.name = name
    with pytest.raises(ConfigError, match=r"^config.data.name: ") as error:
        open_quietly(data, "train")
    assert hint in str(error.value)


def test_the_default_place(monkeypatch, tmp_path):
    monkeypatch.delenv("ALEXNET_STORE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store_lib.root("") == tmp_path / "alexnet_jax"
    monkeypatch.setenv("ALEXNET_STORE_DIR", str(tmp_path / "mine"))
    assert store_lib.root("") == tmp_path / "mine"
    assert store_lib.root("/elsewhere").name == "elsewhere"


def test_statistics_are_those_of_the_slice(data):
    split = open_quietly(data, "train[13:113]")
    found = split.statistics()
    images = np.asarray(split.images, np.float64)
    np.testing.assert_allclose(found.mean, images.mean(axis=0), rtol=1e-6)
    assert found.mean.dtype == np.float32
    covariance = np.cov(images.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(
        found.eigenvectors @ np.diag(found.eigenvalues) @ found.eigenvectors.T, covariance, rtol=1e-10
    )
    assert (np.diff(found.eigenvalues) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.eigenvectors, axis=0), 1.0)


def test_statistics_are_computed_once(data, monkeypatch):
    first = open_quietly(data, "train[:50]").statistics()
    other = open_quietly(data, "train[:51]").statistics()
    assert not np.array_equal(first.mean, other.mean)
    compute = statistics.compute
    monkeypatch.setattr(statistics, "compute", lambda images: pytest.fail("computed again"))
    again = open_quietly(data, "train[:50]").statistics()
    for a, b in zip(vars(first).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(statistics, "compute", compute)
    split = open_quietly(data, "train[:50]")
    split.statistics_file.write_bytes(b"PK not a zip")  # damaged: computed again
    np.testing.assert_array_equal(split.statistics().mean, first.mean)


def test_statistics_do_not_depend_on_the_blocks(data, monkeypatch):
    images = open_quietly(data, "train").images
    whole = statistics.compute(images)
    monkeypatch.setattr(statistics, "_BLOCK", 7 * 64)
    np.testing.assert_array_equal(statistics.compute(images).eigenvalues, whole.eigenvalues)


def test_statistics_without_a_place_to_keep_them(data, monkeypatch):
    split = open_quietly(data, "train")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    assert split.statistics().mean.shape == (8, 8, 3)
    assert not list(split.store.folder.glob("*statistics*"))
