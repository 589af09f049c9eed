"""Folders of images: what is read, how it is named and stored. Archives: test_data_archives.py."""

import gzip
import json
import re
import tarfile

import image_folders
import numpy as np
import pytest
from data_files import data_config, encoded, pixels, real_data, write_tar, write_tree
from image_folders import mixed, one_line, open_quietly, tree
from PIL import Image

from alexnet_jax.data import open_split, store
from alexnet_jax.data.readers import decode
from alexnet_jax.errors import ConfigError, DataError

data, toy = image_folders.data, image_folders.toy


def test_a_folder(data, toy):
    files = tree("train") | tree("val", ("n03", "n01"), seed=50)
    write_tree(toy, files)
    train, val = open_quietly(data, "train"), open_quietly(data, "val[1:]")
    assert train.classes == val.classes == ("n01", "n02", "n03")
    assert sorted(open_quietly(data, "val").labels) == [0, 0, 0, 2, 2, 2]
    assert len(val) == 5
    order = sorted((p for p in files if p.startswith("train")), key=mixed)
    for i, path in enumerate(order):
        np.testing.assert_array_equal(train.images[i], decode.decode(files[path], 8))
        assert train.classes[train.labels[i]] == path.split("/")[1]
    assert train.store.names == [path.partition("/")[2] for path in order]
    assert train.store.originals.tolist() == [[12, 10]] * len(order)


def test_a_slice_holds_all_classes(data, toy):
    write_tree(toy, {f"train/n{i % 4}/{i}.png": content for i, content in enumerate(tree("train").values())})
    write_tree(toy, {f"train/n{c}/more{i}.png": content for c in range(4)
                     for i, content in enumerate(tree("train").values())})
    assert set(open_quietly(data, "train[:50%]").labels) == {0, 1, 2, 3}


def test_the_data_dir_itself_and_other_split_names(tmp_path):
    write_tree(tmp_path / "data", tree("train") | tree("test", each=2))
    write_tar(tmp_path / "data" / "validation.tar.gz", tree("validation", each=1))
    data = data_config(tmp_path / "store", name="image_folder", dir=tmp_path / "data")
    assert [len(open_quietly(data, split)) for split in ("train", "test", "validation")] == [9, 6, 3]
    assert len(open_quietly(data, "val")) == 3
    with pytest.raises(
        ConfigError,
        match=r"'vaildation': no such split \(did you mean validation\?\); image_folder has "
        "train, test, validation",
    ):
        open_quietly(data, "vaildation")


def test_names_for_display(data, toy):
    write_tree(
        toy,
        tree("train")
        | tree("val", ("n02",))
        | {"labels.txt": b"n01\tgoldfish, Carassius\nn03\tcr\xc3\xaape\n"},
    )
    assert open_quietly(data, "train").classes == ("goldfish, Carassius", "n02", "crêpe")
    assert list(open_quietly(data, "val").labels) == [1, 1, 1]


def test_files_that_are_no_images_are_ignored(data, toy):
    files = tree("train")
    junk = {
        "train/n01/.DS_Store": b"x",
        "train/n01/Thumbs.db": b"x",
        "train/n01/notes.txt": b"x",
        "train/top.png": b"x",
        "train/.hidden/a.png": b"x",
        "train/n01/._0.JPEG": b"x",
    }
    named_oddly = {"train/n01/photo": files["train/n01/0.PNG"], "train/n01/z.txt": files["train/n01/1.JPEG"]}
    write_tree(toy, files | junk | named_oddly)
    split = open_quietly(data, "train")
    assert (len(split), split.corrupt) == (11, 0)
    assert split.classes == ("n01", "n02", "n03")


def test_images_deeper_below_their_class(data, toy):
    files = {path.replace("/n01/", "/n01/images/"): content for path, content in tree("train").items()}
    write_tree(toy, files)
    split = open_quietly(data, "train")
    assert [split.classes[label] for label in split.labels] == [
        path.split("/")[1] for path in sorted(files, key=mixed)]
    assert list(np.bincount(split.labels)) == [3, 3, 3]


def corrupt_files():
    good = tree("train")
    jpeg, png = good["train/n01/1.JPEG"], good["train/n01/0.PNG"]
    return good | {
        "train/n01/0b.JPEG": jpeg[:-2],
        "train/n01/zz.jpg": jpeg[: len(jpeg) // 2],
        "train/n02/2b.png": png[:-6],
        "train/n03/0.jpg": b"",
        "train/n03/9.jpg": b"<html>not found</html>",
        "train/n03/99.png": encoded(pixels(3), "GIF")[:60],
        "train/n03/98.png": png[:8] + bytes(100),
    }


def first_corrupt():
    """Of `corrupt_files()`, the first in the stored order, without its split: 'n01/0b.JPEG'."""
    return min(set(corrupt_files()) - set(tree("train")), key=mixed).partition("/")[2]


@pytest.mark.parametrize("archived", [False, True])
def test_corrupt_images_are_named_skipped_and_counted(data, toy, archived):
    write_tree(toy, tree("train"))
    clean = open_quietly(data, "train")
    files = corrupt_files()
    if archived:
        write_tar(
            toy / "val.tar.gz", {path.replace("train/", "val/"): content for path, content in files.items()}
        )
    else:
        write_tree(toy / "val", {path.removeprefix("train/"): content for path, content in files.items()})
    said = []
    split = open_split(data, "val", report=said.append)
    assert split.corrupt == 7
    np.testing.assert_array_equal(split.images, clean.images)
    np.testing.assert_array_equal(split.labels, clean.labels)
    store.open_store(split.store.folder, verify=True)
    listed = {entry["name"].rpartition("/")[2]: entry["reason"] for entry in split.store.meta["corrupt"]}
    assert listed.keys() == {"0b.JPEG", "zz.jpg", "2b.png", "0.jpg", "9.jpg", "99.png", "98.png"}
    assert "truncated" in listed["zz.jpg"].lower()
    assert listed["0.jpg"] == "the file is empty"
    assert listed["9.jpg"] == "not in a supported image format: text"
    assert any("n01/zz.jpg: " in line and line.endswith("skipped") for line in said)
    # What was skipped then is refused now, though the store is there.
    with pytest.raises(DataError, match=rf"{first_corrupt()}: .*config.data.on_corrupt=skip"):
        open_quietly(data, "val", on_corrupt="refuse")


def test_corrupt_images_are_refused(data, toy, tmp_path):
    write_tree(toy, corrupt_files())
    with pytest.raises(DataError, match=rf"{first_corrupt()}: .*config.data.on_corrupt=skip") as error:
        open_quietly(data, "train", on_corrupt="refuse")
    one_line(error)
    assert not list((tmp_path / "store").glob("image_folder*"))
    assert open_quietly(data, "train", on_corrupt="skip").corrupt == 7


def test_nothing_but_corrupt_images(data, toy):
    write_tree(toy, {"train/a/1.jpg": b"x", "train/b/1.jpg": b"y"})
    with pytest.raises(DataError, match=r"none of its 2 images can be read") as error:
        open_quietly(data, "train")
    one_line(error)


def test_see_through_palettes_do_not_end_a_build(data, toy):
    # Pillow warns of them, and warnings are errors here.
    content = encoded(Image.fromarray(pixels(5)).quantize(200), transparency=bytes(range(200)))
    write_tree(toy, {"train/a/1.png": content})
    assert open_quietly(data, "train").corrupt == 0


def test_classes_that_train_lacks(data, toy):
    """They may be looked at; a run refuses them (tests/test_data_classes.py)."""
    write_tree(toy, tree("train") | tree("val", ("n01", "n99", "n77")))
    train = open_quietly(data, "train")
    val = open_quietly(data, "val")
    assert val.class_keys == ("n01", "n77", "n99")
    assert set(val.labels) == {0, 1, 2}
    with pytest.raises(DataError, match=r"val: classes that training does not have: n77, n99; training has"):
        open_split(data, "val", classes=train.known)


def test_a_split_without_any_train(data, toy):
    write_tree(toy, tree("test", ("b", "a")))
    assert open_quietly(data, "test").classes == ("a", "b")


def test_missing_places(data, toy, tmp_path):
    with pytest.raises(
        DataError, match=r"config.data.dir: .*data: no such folder; name the one"
    ):
        open_quietly(data, "train")
    toy.parent.mkdir()
    with pytest.raises(
        DataError, match=r"toy: no such folder; it should hold train/<class>/\*, train.tar or"
    ):
        open_quietly(data, "train")
    (toy.parent / "toys").mkdir()
    with pytest.raises(DataError, match=r"toy: no such folder \(did you mean toys\?\); it should hold"):
        open_quietly(data, "train")
    toy.mkdir(parents=True)
    with pytest.raises(DataError, match=r"toy: holds 0 folders, 0 images, .*supported: <class>/\*, or"):
        open_quietly(data, "train")
    (toy / "train" / "n01").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images of the form"):
        open_quietly(data, "train")


def test_no_data_dir(data, monkeypatch):
    monkeypatch.delenv("ALEXNET_DATA_DIR", raising=False)
    with pytest.raises(DataError, match=r"config.data.dir .or ALEXNET_DATA_DIR. is not set"):
        open_quietly(data, "train", dir="")


def test_changed_content_gives_another_store(data, toy):
    write_tree(toy, tree("train") | tree("val"))
    first = open_quietly(data, "train")
    val = open_quietly(data, "val")
    labels = list(val.labels)
    assert open_quietly(data, "train").version == first.version
    write_tree(toy, tree("train", ("n00",)))
    second = open_quietly(data, "train")
    assert second.version != first.version
    assert (len(first), len(second)) == (9, 12)
    assert open_quietly(data, "val").version != val.version  # its labels have moved
    assert list(open_quietly(data, "val").labels) == [label + 1 for label in labels]


def test_the_store_stands_in_for_an_absent_source(data, toy):
    write_tree(toy, tree("train") | tree("val", ("n02", "n03")))
    train, val = open_quietly(data, "train"), open_quietly(data, "val")
    (toy / "train").rename(toy.parent / "elsewhere")
    assert open_quietly(data, "train").version == train.version
    assert open_quietly(data, "val").version == val.version  # train's labels are known from its store
    toy.rename(toy.parent / "gone")
    assert open_quietly(data, "train[:5]").version == train.version
    assert list(open_quietly(data, "val").labels) == list(val.labels)
    with pytest.raises(DataError, match=r"no such folder"):
        open_quietly(data, "val", size=9)


def test_two_stores_could_stand_in(data, toy):
    write_tree(toy, tree("train"))
    open_quietly(data, "train")
    write_tree(toy, tree("train", ("n00",)))
    open_quietly(data, "train")
    toy.rename(toy.parent / "gone")
    with pytest.raises(
        DataError, match=r"2 packed stores could be used instead .*delete all but one"
    ) as error:
        open_quietly(data, "train")
    one_line(error)


def spellings(toy, monkeypatch):
    """config.data.name of one folder, {what: (name, data dir)}."""
    monkeypatch.setenv("HOME", str(toy.parents[1]))
    (toy.parent / "link").symlink_to("toy")
    (toy.parents[1] / "elsewhere").symlink_to(toy.parent)
    base, elsewhere = toy.parents[1], toy.parents[1] / "elsewhere"
    there = [f"image_folder:{name}" for name in ("toy/", "./toy", "../data/toy", toy, "link", "~/data/toy")]
    return [*((name, toy.parent) for name in there), ("image_folder:~/data/toy", ""), (f"image_folder:{toy}", ""),
            ("image_folder", toy), ("image_folder:toy", elsewhere), ("image_folder:data/toy", base)]


def stores_in(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_one_folder_is_one_store(data, toy, tmp_path, monkeypatch):
    write_tree(toy, tree("train"))
    names = spellings(toy, monkeypatch)
    for number, (name, folder) in enumerate(names):  # each may be the first
        open_quietly(data, "train", store=str(tmp_path / str(number)), name=name, dir=str(folder))
        for other, place in (("image_folder:toy", toy.parent), *names):
            open_quietly(data, "train", name=other, dir=str(place))
        assert len(stores_in(tmp_path / str(number))) == 1, name
    written = {tuple(stores_in(tmp_path / str(i))) for i, (_, folder) in enumerate(names) if folder == toy.parent}
    assert len(written) == 1  # two that begin at once wait for each other
    assert next(iter(written))[0].startswith("image_folder-toy-")


def test_stores_that_were_named_by_a_spelling_are_found(data, toy, tmp_path, monkeypatch):
    write_tree(toy, tree("train"))
    (tmp_path / "data" / "copy").mkdir()
    write_tree(tmp_path / "data" / "copy", tree("train"))  # the same version, but another folder
    version = open_quietly(data, "train").version
    store_folder = tmp_path / "store"
    names = spellings(toy, monkeypatch)
    folder = store_folder / stores_in(store_folder)[0]
    meta = json.loads((folder / "meta.json").read_text())
    del meta["folder"]  # as older stores
    for name in (f"image_folder:{toy}", "image_folder:link", "image_folder:./toy"):
        old = store_folder / f"image_folder-{re.sub('[^a-z]+', '_', name)}-{version}-train-8"
        folder = folder.rename(old)
        (folder / "meta.json").write_text(json.dumps(meta | {"name": name}))
        for other, place in (("image_folder:toy", toy.parent), *names):
            if place != toy.parent and "/" not in name.removeprefix("image_folder:./"):
                continue  # relative to a data dir that it doesn't tell
            assert open_quietly(data, "train", name=other, dir=str(place)).store.folder == old
    assert open_quietly(data, "train", name="image_folder:copy", dir=str(toy.parent)).store.folder != old
    toy.rename(toy.parent / "gone")
    assert open_quietly(data, "train", name="image_folder:toy/", dir=str(toy.parent)).store.folder == old


def test_a_name_that_is_no_text(data, toy):
    write_tree(toy, tree("train"))
    (toy / "train" / "n01").joinpath(b"\xff.jpg".decode(errors="surrogateescape")).write_bytes(b"x")
    whole = encoded(pixels(3, height=20))
    (toy / "train" / "n01").joinpath(b"\xfe\n.jpg".decode(errors="surrogateescape")).write_bytes(whole)
    split = open_quietly(data, "train")
    assert (len(split), split.corrupt) == (10, 1)
    (place,) = np.flatnonzero(split.store.originals[:, 0] == 20)
    assert split.store.names[place] == "n01/\udcfe\n.jpg"


def test_real_validation_images(tmp_path):
    folder = real_data("tiny-imagenet-100")
    if not (folder / "val.tar.gz").is_file():
        pytest.skip(f"{folder} holds no val.tar.gz")
    data = data_config(tmp_path, name=f"image_folder:{folder.name}", dir=folder.parent, size=64)
    split = open_quietly(data, "val")
    assert (len(split), split.corrupt, len(split.classes)) == (5000, 0, 100)
    assert (np.bincount(split.labels) == 50).all()
    assert split.classes[0] == "goldfish, Carassius auratus"
    wnids = [line.split("\t")[0] for line in (folder / "labels.txt").read_text().splitlines()]
    with gzip.open(folder / "val.tar.gz") as file, tarfile.open(fileobj=file) as tar:
        member = next(m for m in tar if m.isfile())
        content = tar.extractfile(member)
        assert content is not None
        image = decode.decode(content.read(), 64)
    own = split.labels == sorted(wnids).index(member.name.split("/")[-2])
    assert any(np.array_equal(image, other) for other in split.images[own])
