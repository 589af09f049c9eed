"""ILSVRC-2012 from its official archives, in miniature."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile

import imagenet_files as mini
import numpy as np
import pytest
from data_files import data_config, pixels, write_tar, write_tree

from alexnet_jax.data import open_split, store
from alexnet_jax.data.dataset import mixed
from alexnet_jax.data.readers import decode, imagenet
from alexnet_jax.errors import ConfigError, DataError

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIGNALLED = ROOT / "tests" / "programs" / "signalled_prepare.py"
TRAIN, VAL, DEVKIT = (imagenet.ARCHIVES[name].file for name in ("train", "val", "devkit"))


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A data dir with the three archives, which nobody changes."""
    place = tmp_path_factory.mktemp("official")
    mini.write_all(place / "imagenet")
    return place


@pytest.fixture
def archives(official, tmp_path):
    """A copy of imagenet/ to spoil."""
    return pathlib.Path(shutil.copytree(official / "imagenet", tmp_path / "data" / "imagenet"))


def open_quietly(place, store_dir, split, **fields):
    data = data_config(store_dir, **{"name": "imagenet", "dir": place, "size": 16} | fields)
    return open_split(data, split, report=lambda line: None)


def refused(place, store_dir, split="train"):
    """The message of a DataError, which is one line and leaves nothing."""
    with pytest.raises(DataError) as error:
        open_quietly(place, store_dir, split)
    assert "\n" not in str(error.value)
    assert [p for p in store_dir.glob("*") if not p.name.endswith(".lock")] == []
    return str(error.value)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # builds set this themselves
def test_train(official, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in (official, *official.rglob("*"))}
    split = open_quietly(official, tmp_path, "train")
    images = {f"{wnid}/{name}": content for wnid, files in mini.train_images().items()
              for name, content in files.items() if name != mini.TRUNCATED}
    order = sorted(images, key=mixed)
    assert len(split) == len(order) == 24
    for image, label, name in zip(split.images, split.labels, order, strict=True):
        np.testing.assert_array_equal(image, decode.decode(images[name], 16))
        assert mini.SORTED[label] == name.split("/")[0]
    assert split.classes == tuple(mini.WORDS[wnid] for wnid in mini.SORTED)
    assert split.store.meta["class_keys"] == mini.SORTED
    [corrupt] = split.store.meta["corrupt"]
    assert corrupt["name"] == f"{official}/imagenet/{TRAIN}: n02100735/{mini.TRUNCATED}"
    assert "truncated" in corrupt["reason"]
    # Nothing is unpacked, and nothing is written but the store.
    assert {p: p.stat().st_mtime_ns for p in (official, *official.rglob("*"))} == before
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == [split.store.folder.name]


def test_what_is_unusual_has_the_right_colours(official, tmp_path):
    split = open_quietly(official, tmp_path, "train", size=20)
    order = sorted((f"{wnid}/{name}" for wnid, files in mini.train_images().items() for name in files
                    if name != mini.TRUNCATED), key=mixed)
    picture = pixels(7, 20, 24)[:, 2:22].astype(int)
    grey = np.round(picture @ [0.299, 0.587, 0.114])[..., None]
    for name, expected, tolerance in [
        ("n02105855/n02105855_2933.JPEG", picture, 0),  # a PNG
        ("n01440764/n01440764_5.JPEG", picture, 8),  # CMYK
        ("n01440764/n01440764_6.JPEG", grey, 4),
        ("n03000134/n03000134_8.JPEG", picture, 6),  # EXIF of no sense
    ]:
        assert np.abs(split.images[order.index(name)] - expected).max() <= tolerance, name


def test_val_has_the_labels_of_the_devkit(official, tmp_path):
    split = open_quietly(official, tmp_path, "val")
    wnids = {name: mini.WNIDS[number] for name, number in zip(mini.val_images(), mini.TRUTH, strict=True)}
    order = sorted(wnids, key=lambda name: mixed(f"{wnids[name]}/{name}"))
    assert split.corrupt == 0
    assert [mini.SORTED[label] for label in split.labels] == [wnids[name] for name in order]
    for image, name in zip(split.images, order, strict=True):
        np.testing.assert_array_equal(image, decode.decode(mini.val_images()[name], 16))
    assert split.classes == open_quietly(official, tmp_path, "train").classes


@pytest.mark.parametrize("split", ["train", "val"])
def test_it_equals_the_unpacked_images(official, tmp_path, split):
    files = {f"train/{wnid}/{name}": c for wnid, files in mini.train_images().items() for name, c in files.items()}
    files |= {f"val/{mini.WNIDS[number]}/{name}": content
              for (name, content), number in zip(mini.val_images().items(), mini.TRUTH, strict=True)}
    write_tree(tmp_path / "imagenet", files)
    folder = open_quietly(tmp_path, tmp_path / "store", split, name="image_folder:imagenet")
    archive = open_quietly(official, tmp_path / "store", split)
    np.testing.assert_array_equal(archive.images, folder.images)
    np.testing.assert_array_equal(archive.labels, folder.labels)


def test_slices_hold_all_classes(official, tmp_path):
    parts = [open_quietly(official, tmp_path, text) for text in ("train[:-12]", "train[-12:]")]
    assert [len(part) for part in parts] == [12, 12]
    assert set(parts[1].labels) == set(range(5))


def test_the_archives_may_lie_in_the_data_dir_itself(official, tmp_path):
    one = open_quietly(official, tmp_path, "val")
    assert open_quietly(official / "imagenet", tmp_path, "val").store.folder == one.store.folder


def test_the_stores_stand_in_for_absent_archives(archives, tmp_path):
    train, val = (open_quietly(archives.parent, tmp_path / "store", split) for split in ("train", "val"))
    (archives / DEVKIT).unlink()
    assert open_quietly(archives.parent, tmp_path / "store", "val").version == val.version
    shutil.rmtree(archives)
    again = open_quietly(archives.parent, tmp_path / "store", "train")
    np.testing.assert_array_equal(again.images, train.images)
    assert again.classes == train.classes
    assert len(open_quietly("", tmp_path / "store", "val[2:]")) == 8


def test_an_existing_store_is_opened_without_scipy_or_pillow(official, tmp_path):
    open_quietly(official, tmp_path, "val")
    script = f"""
import sys, types
from alexnet_jax.data import open_split
places = dict(dir={str(official)!r}, store={str(tmp_path)!r})
data = types.SimpleNamespace(name="imagenet", size=16, on_corrupt="skip", order="stored", val_fraction=0.0,
                             names="", orientation="stored", resize="shorter", **places)
print(len(open_split(data, "val")), [name for name in ("scipy", "PIL", "filelock", "jax") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("10 []\n", "")


def test_changed_archives_have_another_version(archives, tmp_path):
    store_dir = tmp_path / "store"
    train, val = (open_quietly(archives.parent, store_dir, split) for split in ("train", "val"))
    mini.write_val(archives, mini.val_images() | {"ILSVRC2012_val_00000001.JPEG": mini.jpeg(1, 30, 30)})
    assert open_quietly(archives.parent, store_dir, "val").version != val.version
    assert open_quietly(archives.parent, store_dir, "train").version == train.version
    mini.write_devkit(archives, ILSVRC2012_validation_ground_truth__txt=mini.truth_txt(mini.TRUTH[::-1]))
    assert open_quietly(archives.parent, store_dir, "train").version != train.version


def test_members_may_have_folders_and_company(archives, tmp_path):
    plain = open_quietly(archives.parent, tmp_path / "store", "train")
    classes = mini.train_images()
    inner = {f"./train/{wnid}.tar": mini.tar({f"{wnid}/{name}": c for name, c in reversed(files.items())}
                                             | {f"{wnid}/._{next(iter(files))}": b"x", "notes": b"y"})
             for wnid, files in reversed(classes.items())}
    write_tar(archives / TRAIN, {"./train/n.tar": b"z", "./train/README": b"x"} | inner)
    message = refused(archives.parent, tmp_path / "other")
    assert "it holds n.tar where something like n01440764.tar should be" in message
    write_tar(archives / TRAIN, inner | {"./train/README": b"x"})
    other = open_quietly(archives.parent, tmp_path / "store", "train")
    assert other.version != plain.version
    np.testing.assert_array_equal(other.images, plain.images)
    np.testing.assert_array_equal(other.labels, plain.labels)


@pytest.mark.parametrize(("split", "words"), [
    ("validation", "'validation': no such split; imagenet has train and val; its validation images are val"),
    ("test", "'test': no such split; imagenet has train and val; the labels of ILSVRC-2012's test images are not "
             "public, and results are reported on val"),
    ("valid[:5]", "'valid': no such split; imagenet has train and val"),
    ("train[:99]", "'train[:99]' reaches beyond train; imagenet has train (25 images), val"),
])
def test_splits_that_there_are_not(official, tmp_path, split, words):
    with pytest.raises(ConfigError) as error:
        open_quietly(official, tmp_path, split)
    assert str(error.value) == words


@pytest.mark.parametrize(("file", "title"), [(TRAIN, "Training images"), (DEVKIT, "Development kit")])
def test_a_missing_archive(archives, tmp_path, file, title):
    (archives / file).unlink()
    message = refused(archives.parent, tmp_path / "store")
    assert message.startswith(f"{archives / file}: no such file; put '{title} ")
    assert "from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (needs an account there)" in message
    assert "image_folder" not in message
    (archives / "train" / "n01440764").mkdir(parents=True)
    message = refused(archives.parent, tmp_path / "store")
    assert "config.data.name=image_folder:imagenet" in message


def test_no_data_dir(tmp_path, monkeypatch):
    monkeypatch.delenv("ALEXNET_DATA_DIR", raising=False)
    message = refused("", tmp_path / "store", "val")
    assert message.startswith("imagenet: config.data.dir (or ALEXNET_DATA_DIR) is not set; set it to the folder that "
                              f"holds imagenet/{VAL} and imagenet/{DEVKIT}, from https://image-net.org/")


def spoil(change):
    """A change of an archive's bytes."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def cut_in_class(content):
    """The archive with a class archive that is cut off, though the outer one is whole."""
    files = {f"{wnid}.tar": mini.tar(images) for wnid, images in mini.train_images().items()}
    files["n02119789.tar"] = files["n02119789.tar"][:2000]
    return mini.tar(files)


@pytest.mark.parametrize(("file", "change", "reason"), [
    (TRAIN, lambda c: b"", "it is empty"),
    (TRAIN, lambda c: b"<html>" + bytes(5000), "it is not a tar archive"),
    (TRAIN, lambda c: mini.tar(mini.val_images()), "it holds ILSVRC2012_val_00000001.JPEG where something like "
                                                    "n01440764.tar should be"),
    (TRAIN, lambda c: mini.tar({}), "it holds nothing where something like n01440764.tar should be"),
    (TRAIN, lambda c: c[:1000], "truncated: it ends within n02119789.tar"),
    (TRAIN, lambda c: c[: c.rindex(b"n03000134_33.JPEG") + 700], "bytes lack the end of an archive"),
    (TRAIN, lambda c: c[: c.index(b"n01440764_33.JPEG")] + bytes(1024), "truncated: it ends within n01440764.tar"),
    (TRAIN, lambda c: mini.tar({f"{w}.tar": mini.tar(f) for w, f in mini.train_images().items() if w != "n02105855"}),
     "it holds 4 of the 5 class archives; n02105855.tar is missing"),
    (TRAIN, lambda c: mini.tar({"n99999999.tar": c}), "it holds n99999999.tar, which the devkit does not list"),
    (TRAIN, lambda c: mini.tar({f"{w}.tar": mini.tar({"x.JPEG": b""}) for w in mini.WORDS if w in mini.SORTED}),
     "has no images such as n02119789_1.JPEG"),
    (TRAIN, cut_in_class, "n02119789.tar in it: truncated: "),
    (VAL, lambda c: mini.tar({"n01440764.tar": c}), "it holds n01440764.tar where something like ILSVRC2012_val_0000"),
    (VAL, lambda c: mini.tar(dict(list(mini.val_images().items())[:7])), "it holds 7 of the 10 images"),
    (VAL, lambda c: mini.tar(mini.val_images() | {"ILSVRC2012_val_00000011.JPEG": b"x"}),
     "it holds ILSVRC2012_val_00000011.JPEG, but the devkit has the labels of 10 images"),
    (DEVKIT, lambda c: b"", "truncated or damaged ("),
    (DEVKIT, lambda c: c[: len(c) // 2], "truncated or damaged ("),
    (DEVKIT, lambda c: b"<html>not found</html>", "truncated or damaged ("),
    (DEVKIT, lambda c: mini.tar({"devkit/data/meta.mat": mini.meta_mat()}),
     "data/ILSVRC2012_validation_ground_truth.txt is missing in it"),
    (DEVKIT, lambda c: mini.tar({"a/data/meta.mat": b"no", "data/ILSVRC2012_validation_ground_truth.txt": b"1"}),
     "data/meta.mat in it is damaged ("),
    (DEVKIT, lambda c: mini.tar({"a/data/meta.mat": mini.meta_mat(),
                                 "data/ILSVRC2012_validation_ground_truth.txt": b"1\n7\n"}),
     "has a line that is not a class (7)"),
])
def test_archives_that_are_not_the_official_ones(archives, tmp_path, file, change, reason):
    spoil(change)(archives / file)
    message = refused(archives.parent, tmp_path / "store", "val" if file == VAL else "train")
    assert message.startswith(f"{archives / file}: ")
    assert reason in message
    known = next(archive for archive in imagenet.ARCHIVES.values() if archive.file == file)
    assert (f"; the official {known.title!r} ({known.identity}) is expected: copy or download it again from "
            "https://image-net.org/") in message


def test_a_compressed_archive(archives, tmp_path):
    with tarfile.open(archives / TRAIN, "w:gz") as tar:
        tar.add(archives / VAL, "n01440764.tar")
    assert f"{TRAIN}: it is compressed; the official" in refused(archives.parent, tmp_path / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", [TRAIN, DEVKIT])
def test_an_archive_that_may_not_be_read(archives, tmp_path, file):
    (archives / file).chmod(0)
    assert refused(archives.parent, tmp_path / "store").startswith(f"{archives / file}: permission denied")


def prepare(place, store_dir, *program):
    arguments = ["--config=configs/imagenet_released.py", f"--config.data.dir={place}",
                 f"--config.data.store={store_dir}", "--config.data.size=16", "--config.data.crop=8"]
    return subprocess.run([sys.executable, *(program or ("-m", "alexnet_jax.data.prepare")), *arguments],
                          capture_output=True, text=True, check=False, cwd=ROOT, timeout=240)


def test_prepare_resumes_after_a_kill(official, tmp_path):
    done = prepare(official, tmp_path / "killed", SIGNALLED, "SIGKILL")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((tmp_path / "killed").glob("[!.]*")) == []
    done = prepare(official, tmp_path / "killed")
    assert (done.returncode, done.stderr) == (0, "")
    kept = "resuming after "
    [line] = [line for line in done.stdout.splitlines() if kept in line]
    # Nine images, and the corrupt one if it came before.
    assert line.partition(kept)[2] in ("9 of 25 images", "10 of 25 images")
    done = prepare(official, tmp_path / "whole")
    assert kept not in done.stdout
    assert "train_split train: 24 images of 16×16" in done.stdout
    assert "eval_split  val: 10 images of 16×16" in done.stdout
    one, other = (
        {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}
        for root in (tmp_path / "killed", tmp_path / "whole"))
    assert len(one) == 12
    assert one == other
    for folder in (tmp_path / "killed").glob("[!.]*"):
        store.open_store(folder, verify=True)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_prepare_stopped_by_a_signal_says_how_to_go_on(official, tmp_path, number):
    done = prepare(official, tmp_path, SIGNALLED, number)
    assert done.returncode == 130
    assert re.fullmatch(r"error: packing imagenet train at 16×16: stopped; 1[01] of 25 images are kept, and the same "
                        r"command resumes\n", done.stderr)


SMALL = {
    "data.size": 32, "data.crop": 24, "model.conv1.kernel": 5, "model.conv1.stride": 1, "model.conv1.padding": 2,
    "model.conv1.features": 4, "model.conv2.features": 4, "model.conv3.features": 0, "model.conv4.features": 0,
    "model.conv5.features": 0, "model.fc6.features": 8, "model.fc7.features": 0, "model.pool.layers": "(1,2)",
    "train.batch_size": 8, "augment.chunk": 8, "train.epochs": 1, "mesh.data": 1, "mesh.column": 1}


def test_training_starts_from_the_archives(official, tmp_path):
    # The network keeps the config's 1000 outputs, though the miniature has five classes.
    done = subprocess.run([sys.executable, "-m", "alexnet_jax.main", "--config=configs/imagenet_released.py",
                           f"--workdir={tmp_path / 'run'}", f"--config.data.dir={official}",
                           f"--config.data.store={tmp_path / 'store'}",
                           *(f"--config.{name}={value}" for name, value in SMALL.items())],
                          capture_output=True, text=True, check=False, cwd=ROOT, timeout=200,
                          env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("finished", 3)
    assert result["data"] | {"version": ""} == {
        "name": "imagenet", "version": "", "size": 32, "crop": 24, "train_split": "train", "train_images": 24,
        "eval_split": "val", "eval_images": 10, "corrupt": result["data"]["corrupt"]}
    assert result["eval"]["centre"]["total"] == result["eval"]["ten_view"]["total"] == 10


def test_each_rule_of_resizing_has_a_store_of_its_own(official, tmp_path):
    opened = {rule: open_quietly(official, tmp_path, "val", resize=rule) for rule in ("warp", "torchvision", "shorter")}
    files = mini.val_images()
    for rule, split in opened.items():
        for image, name in zip(split.images, sorted(files, key=lambda n: mixed(f"{_wnid(n)}/{n}")), strict=True):
            np.testing.assert_array_equal(image, decode.decode(files[name], 16, resize=rule))
    assert len({split.store.folder for split in opened.values()}) == 3
    for rule, split in opened.items():  # without the archives each store stands in for its own rule
        assert open_quietly("", tmp_path, "val", resize=rule).store.folder == split.store.folder


def _wnid(name):
    return mini.WNIDS[mini.TRUTH[int(name[15:23]) - 1]]
