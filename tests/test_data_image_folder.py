"""Folders and archives of images."""

import gzip
import hashlib
import json
import re
import tarfile

import numpy as np
import pytest
from data_files import data_config, encoded, pixels, real_data, write_tar, write_tree
from PIL import Image

from alexnet_jax.data import open_split, store
from alexnet_jax.data.readers import decode
from alexnet_jax.errors import ConfigError, DataError

CLASSES = ("n02", "n01", "n03")


def tree(split, classes=CLASSES, each=3, seed=0):
    """{path: JPEG or PNG} in an order that isn't sorted."""
    files = {}
    for c, name in enumerate(classes):
        for i in reversed(range(each)):
            form = ("PNG", "JPEG")[i % 2]
            files[f"{split}/{name}/{i}.{form}"] = encoded(pixels(seed + 100 * c + i), form)
    return files


@pytest.fixture
def data(tmp_path):
    return data_config(tmp_path / "store", name="image_folder:toy", dir=tmp_path / "data")


@pytest.fixture
def toy(tmp_path):
    return tmp_path / "data" / "toy"


def open_quietly(data, split, **fields):
    with data.unlocked():
        data.update(fields)
    return open_split(data, split, report=lambda line: None)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


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


def mixed(path):
    """The stored order: that of a hash of class and path."""
    return hashlib.blake2b(path.partition("/")[2].encode(), digest_size=16).digest()


def test_a_slice_holds_all_classes(data, toy):
    write_tree(toy, {f"train/n{i % 4}/{i}.png": content for i, content in enumerate(tree("train").values())})
    write_tree(toy, {f"train/n{c}/more{i}.png": content for c in range(4)
                     for i, content in enumerate(tree("train").values())})
    assert set(open_quietly(data, "train[:50%]").labels) == {0, 1, 2, 3}


@pytest.mark.parametrize("archive", ["train.tar", "train.tar.gz", "train.tgz"])
@pytest.mark.parametrize("prefix", ["train/", "./train/", "wrapped/train/", ""])
def test_an_archive_equals_the_folder(tmp_path, archive, prefix):
    files = tree("train")
    write_tree(tmp_path / "data" / "folder", files)
    packed = {prefix + path.removeprefix("train/"): content for path, content in files.items()}
    write_tar(
        tmp_path / "data" / "packed" / archive,
        {f"{prefix}._junk": b"x", f"{prefix}readme.txt": b"y"} | packed,
    )
    a, b = (
        open_quietly(
            data_config(tmp_path / "store", name=f"image_folder:{name}", dir=tmp_path / "data"), "train"
        )
        for name in ("folder", "packed")
    )
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.classes == b.classes


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


def test_what_was_unpacked_goes_before_its_archive(data, toy):
    write_tree(toy, tree("train"))
    write_tar(toy / "train.tar", tree("train", each=1))
    assert len(open_quietly(data, "train")) == 9


def test_a_member_that_is_twice_in_an_archive_is_its_last(data, toy):
    files = tree("train")
    write_tar(toy / "train.tar", files)
    with tarfile.open(toy / "train.tar", "a") as tar:
        (toy / "new.png").write_bytes(encoded(pixels(999)))
        tar.add(toy / "new.png", "train/n01/0.PNG")
    split = open_quietly(data, "train")
    assert len(split) == 9
    place = sorted(files, key=mixed).index("train/n01/0.PNG")
    np.testing.assert_array_equal(split.images[place], decode.decode(encoded(pixels(999)), 8))


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
    assert listed["9.jpg"] == "not an image of a format that is read but text"
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


def truncate(path, content, keep):
    path.write_bytes(content[:keep])


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1, -9])
def test_a_truncated_gzip_archive(data, toy, keep):
    write_tar(toy / "train.tar.gz", tree("train"))
    content = (toy / "train.tar.gz").read_bytes()
    truncate(toy / "train.tar.gz", content, int(len(content) * keep) if isinstance(keep, float) else keep)
    with pytest.raises(
        DataError, match=r"train.tar.gz: truncated or damaged; copy or download it again"
    ) as error:
        open_quietly(data, "train")
    one_line(error)


@pytest.mark.parametrize("cut", [0, 100, 512 - 1, 512, 512 + 100])
def test_a_truncated_tar_archive(data, toy, cut):
    write_tar(toy / "train.tar", tree("train"))
    content = (toy / "train.tar").read_bytes()
    with tarfile.open(toy / "train.tar") as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    truncate(toy / "train.tar", content, end - cut)  # up to the end of a file, and less
    with pytest.raises(
        DataError, match=r"train.tar: truncated or damaged; copy or download it again"
    ) as error:
        open_quietly(data, "train")
    one_line(error)


def test_a_gzip_archive_with_changed_bytes(data, toy):
    write_tar(toy / "train.tar.gz", tree("train"))
    content = bytearray((toy / "train.tar.gz").read_bytes())
    content[-6] ^= 255  # in the checksum
    (toy / "train.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"truncated or damaged"):
        open_quietly(data, "train")


def test_no_archive_at_all(data, toy):
    toy.mkdir(parents=True)
    (toy / "train.tar").write_text("this is not an archive" * 100)
    with pytest.raises(DataError, match=r"train.tar: truncated or damaged"):
        open_quietly(data, "train")


def test_archives_within_an_archive(data, toy):
    write_tar(toy / "train.tar", {"n01.tar": b"x", "n02.tar": b"y"})
    with pytest.raises(DataError, match=r"unpack them into train/<class>/"):
        open_quietly(data, "train")


def test_an_archive_with_nothing_of_use(data, toy):
    write_tar(toy / "train.tar.gz", {"readme.txt": b"x", "image.png": encoded(pixels(1))})
    with pytest.raises(DataError, match=r"no images of the form <class>/<file> in it, 1 without a class, which"):
        open_quietly(data, "train")


def test_links_in_an_archive_count_as_corrupt(data, toy):
    write_tar(toy / "train.tar", tree("train"))
    with tarfile.open(toy / "train.tar", "a") as tar:
        member = tarfile.TarInfo("train/n01/link.png")
        member.type, member.linkname = tarfile.SYMTYPE, "0.PNG"
        tar.addfile(member)
    split = open_quietly(data, "train")
    assert (len(split), split.corrupt) == (9, 1)


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
    toy.mkdir(parents=True)
    with pytest.raises(DataError, match=r"toy: holds 0 folders, 0 images, .*what is read: <class>/\*, or"):
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
        DataError, match=r"2 packed stores could stand in for them .*delete all but one"
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
