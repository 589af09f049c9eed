"""CIFAR-10: the official files in all their forms, and the errors for other files."""

import hashlib
import pathlib
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request

import numpy as np
import pytest
from data_files import data_config, real_data, write_tar, write_tree

from alexnet_jax import files as locks
from alexnet_jax.data import open_split
from alexnet_jax.data.dataset import Asked
from alexnet_jax.data.readers import cifar10, decode
from alexnet_jax.errors import ConfigError, DataError

EACH = 20  # records in a file of the small stand-in


def open_quietly(data, split, **how):
    return open_split(data, split, report=lambda line: None, **how)


@pytest.fixture
def files(monkeypatch):
    """Six small files in place of the official ones, their MD5s being the published ones."""
    rng = np.random.default_rng(0)
    contents = {}
    for names in (cifar10.TRAIN, cifar10.TEST):
        for name in names:
            records = rng.integers(0, 256, (EACH, cifar10.RECORD), dtype=np.uint8)
            records[:, 0] %= 10
            contents[name] = records.tobytes()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(cifar10, "EACH", EACH)
    monkeypatch.setattr(cifar10, "TRAIN", {name: md5[name] for name in cifar10.TRAIN})
    monkeypatch.setattr(cifar10, "TEST", {name: md5[name] for name in cifar10.TEST})
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/refused.tar.gz")
    return contents


def image(content, number):
    record = np.frombuffer(content, np.uint8).reshape(-1, cifar10.RECORD)[number]
    return np.stack(
        [record[1 + 1024 * c : 1 + 1024 * (c + 1)].reshape(32, 32) for c in range(3)], axis=-1
    ), record[0]


def check(data, files, **how):
    train, test = (open_quietly(data, split, **how) for split in ("train", "test"))
    assert (len(train), len(test), train.classes[3]) == (5 * EACH, EACH, "cat")
    for split, names in ((train, cifar10.TRAIN), (test, cifar10.TEST)):
        for i, name in enumerate(names):
            for number in (0, 7, EACH - 1):
                pixels, label = image(files[name], number)
                np.testing.assert_array_equal(split.images[i * EACH + number], pixels)
                assert split.labels[i * EACH + number] == label


def test_nothing_is_left_in_the_temporary_folder(tmp_path, files, monkeypatch):
    write_tree(tmp_path / "data" / cifar10.FOLDER, files)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    check(config_for(tmp_path, tmp_path / "data"), files)
    assert list((tmp_path / "temporary").iterdir()) == []


def config_for(tmp_path, directory):
    return data_config(tmp_path / "store", name="cifar10", dir=directory, size=32)


def test_neither_tfds_nor_an_image_library_is_needed(tmp_path, files, monkeypatch):
    for name in ("tensorflow_datasets", "array_record", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, decode.__name__)
    monkeypatch.delattr(sys.modules[decode.__name__.rpartition(".")[0]], "decode")
    write_tree(tmp_path / "data" / cifar10.FOLDER, files)
    data = config_for(tmp_path, tmp_path / "data")
    check(data, files)
    with data.unlocked():
        data.size = 16
    with pytest.raises(ImportError, match="PIL"):
        open_quietly(data, "test")


def test_what_is_packed_is_not_read_again(tmp_path, files):
    folder = tmp_path / cifar10.FOLDER
    write_tree(folder, files)
    reading = cifar10.Cifar10(Asked("cifar10", folder=tmp_path, store=tmp_path)).read("train", 32, lambda line: None)
    (folder / "data_batch_2.bin").unlink()
    done = np.zeros(5 * EACH, bool)
    done[EACH:2 * EACH] = True
    assert [block.rank for block in reading.examples(done)] == [0, 2 * EACH, 3 * EACH, 4 * EACH]


@pytest.mark.parametrize("form", ["folder", "folder itself", "archive", "archive itself"])
def test_each_form_of_the_files(tmp_path, files, form):
    inside = {f"{cifar10.FOLDER}/{name}": content for name, content in files.items()}
    inside |= {f"{cifar10.FOLDER}/readme.html": b"<html>"}
    place = tmp_path / "data"
    if form.startswith("folder"):
        write_tree(place, inside)
        directory = place / cifar10.FOLDER if form == "folder itself" else place
    else:
        write_tar(place / cifar10.ARCHIVE, inside)
        directory = place / cifar10.ARCHIVE if form == "archive itself" else place
    data = config_for(tmp_path, directory)
    check(data, files)
    # The store stands on its own afterwards.
    shutil.rmtree(place)
    check(data, files, remembered=True)


def test_the_archive_serves_what_the_folder_lacks(tmp_path, files):
    inside = {f"{cifar10.FOLDER}/{name}": content for name, content in files.items()}
    write_tar(tmp_path / "data" / cifar10.ARCHIVE, inside)
    del inside[f"{cifar10.FOLDER}/test_batch.bin"]
    write_tree(tmp_path / "data", inside)
    check(config_for(tmp_path, tmp_path / "data"), files)


def test_training_files_alone(tmp_path, files, monkeypatch):
    folder = tmp_path / "data" / cifar10.FOLDER
    write_tree(folder, {name: content for name, content in files.items() if name in cifar10.TRAIN})
    data = config_for(tmp_path, tmp_path / "data")
    assert len(open_quietly(data, "train[:80]")) == 80
    np.testing.assert_array_equal(
        open_quietly(data, "train[80:]").images[0], image(files["data_batch_5.bin"], 0)[0]
    )
    monkeypatch.setattr(cifar10.urllib.request, "urlopen", pytest.fail)  # nothing is downloaded
    with pytest.raises(DataError) as error:
        open_quietly(data, "test")
    message = str(error.value)
    assert "\n" not in message
    for words in ("test_batch.bin", str(folder), "train[:40000]", "train[40000:]"):
        assert words in message
    # When the file comes, the test split does too.
    (folder / "test_batch.bin").write_bytes(files["test_batch.bin"])
    check(data, files)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-100], f"{EACH * cifar10.RECORD - 100:,} bytes instead of"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "not the official file"),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_a_file_that_is_not_the_official_one(tmp_path, files, damage, words, archived):
    files["data_batch_3.bin"] = damage(files["data_batch_3.bin"])
    inside = {f"{cifar10.FOLDER}/{name}": content for name, content in files.items()}
    if archived:
        write_tar(tmp_path / "data" / cifar10.ARCHIVE, inside)
    else:
        write_tree(tmp_path / "data", inside)
    with pytest.raises(DataError, match=r"data_batch_3.bin: not the official file") as error:
        open_quietly(config_for(tmp_path, tmp_path / "data"), "train")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").glob("cifar10*"))


def test_a_missing_training_file(tmp_path, files):
    del files["data_batch_4.bin"]
    write_tree(tmp_path / "data" / cifar10.FOLDER, files)
    with pytest.raises(DataError, match=r"data_batch_4.bin is missing in "):
        open_quietly(config_for(tmp_path, tmp_path / "data"), "train")


def test_a_truncated_archive(tmp_path, files):
    write_tar(tmp_path / "data" / cifar10.ARCHIVE, {f"x/{name}": content for name, content in files.items()})
    archive = tmp_path / "data" / cifar10.ARCHIVE
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"truncated or damaged") as error:
        open_quietly(config_for(tmp_path, tmp_path / "data"), "train")
    assert str(archive) in str(error.value)


def test_other_sizes_are_rescaled(tmp_path, files):
    write_tree(tmp_path / "data" / cifar10.FOLDER, files)
    data = config_for(tmp_path, tmp_path / "data")
    with data.unlocked():
        data.size = 16
    assert open_quietly(data, "test").images.shape == (EACH, 16, 16, 3)


@pytest.fixture
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ALEXNET_DATA_DIR", raising=False)


@pytest.mark.usefixtures("_no_proxy")
def test_nothing_there_is_downloaded_once(tmp_path, files, monkeypatch):
    source = tmp_path / "server" / cifar10.ARCHIVE
    write_tar(source, {f"{cifar10.FOLDER}/{name}": content for name, content in files.items()})
    monkeypatch.setattr(cifar10, "URL", source.as_uri())
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(source.read_bytes()).hexdigest())
    data = config_for(tmp_path, "")
    open_quietly(data, "train")
    source.unlink()
    check(data, files)
    assert [p.name for p in (tmp_path / "store" / "downloads").iterdir()] == [cifar10.ARCHIVE]


@pytest.mark.usefixtures("_no_proxy")
def test_a_wrong_download_is_not_kept(tmp_path, files, monkeypatch):
    source = tmp_path / "page.html"
    source.write_text("please log in")
    monkeypatch.setattr(cifar10, "URL", source.as_uri())
    with pytest.raises(DataError, match=r"is not the official archive"):
        open_quietly(config_for(tmp_path, ""), "train")
    assert list((tmp_path / "store" / "downloads").iterdir()) == []


def test_one_process_downloads_for_all(tmp_path):
    said, found = [], []
    target = tmp_path / "downloads" / cifar10.ARCHIVE
    target.parent.mkdir()
    with locks.lock(tmp_path / f".{cifar10.ARCHIVE}.lock"):
        waiting = threading.Thread(target=lambda: found.append(cifar10.download(tmp_path, None, said.append)))
        waiting.start()
        while not said:
            time.sleep(0.01)
        target.write_bytes(b"x")
    waiting.join()
    assert found == [target]
    assert said == [f"another process is downloading {cifar10.ARCHIVE}; waiting for it"]


@pytest.mark.usefixtures("_no_proxy", "files")
def test_a_missing_network_is_reported_at_once(tmp_path, monkeypatch):
    opened, asked, seconds = urllib.request.urlopen, [], cifar10._SECONDS
    monkeypatch.setattr(cifar10.urllib.request, "urlopen", lambda *a, **b: asked.append(b) or opened(*a, **b))
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"cannot be downloaded.*cifar-10-binary.tar.gz") as error:
        open_quietly(config_for(tmp_path, tmp_path / "data"), "train")
    assert str(tmp_path / "data") in str(error.value)
    assert "\n" not in str(error.value)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        monkeypatch.setattr(cifar10, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz")
        monkeypatch.setattr(cifar10, "_SECONDS", 0.2)
        with pytest.raises(DataError, match=r"timed out.*config.data.dir or ALEXNET_DATA_DIR"):
            open_quietly(config_for(tmp_path, ""), "train")
    assert [options["timeout"] for options in asked] == [seconds, 0.2], "once, and for so long at most"


def test_what_is_not_a_split(tmp_path):
    data = config_for(tmp_path, tmp_path)
    for split in ("val", "train[:50001]"):
        with pytest.raises(ConfigError, match=r"cifar10 has train \(50000 images\), test \(10000 images\)"):
            open_quietly(data, split)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = real_data(cifar10.FOLDER)
    return data_config(tmp_path_factory.mktemp("store"), name="cifar10", dir=folder.parent, size=32), folder


def test_real_images_are_the_bytes_of_the_files(real):
    data, folder = real
    first, last = open_quietly(data, "train[:40000]"), open_quietly(data, "train[40000:]")
    assert (len(first), len(last)) == (40000, 10000)
    for split, index, name, number in [
        (first, 0, 1, 0),
        (first, 12345, 2, 2345),
        (first, 39999, 4, 9999),
        (last, 0, 5, 0),
        (last, 9999, 5, 9999),
    ]:
        with pathlib.Path(folder / f"data_batch_{name}.bin").open("rb") as file:
            file.seek(number * cifar10.RECORD)
            pixels, label = image(file.read(cifar10.RECORD), 0)
        np.testing.assert_array_equal(split.images[index], pixels)
        assert split.labels[index] == label
    assert np.bincount(last.labels).sum() == 10000


def test_the_real_folder_without_its_test_file(real):
    data, folder = real
    if (folder / "test_batch.bin").exists():
        pytest.skip("this folder has test_batch.bin")
    with pytest.raises(DataError, match=r"test_batch.bin is missing in .*train.:40000.* and train.40000:."):
        open_quietly(data, "test")
