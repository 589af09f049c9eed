"""Ambiguous or unsupported layouts: one clear line."""

import pathlib

import pytest
from data_files import data_config
from layout_files import COLOURS, classes, flat, image, numbered, put, quietly, table, tarred, zipped

from alexnet_jax.data import open_split, open_splits
from alexnet_jax.errors import ConfigError, DataError

FLAT, PAIRS = flat("images")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return data_config(tmp_path / "store", name="image_folder:x", dir=tmp_path / "data")


REFUSED = {
    "one level too deep": ({f"train/flowers/{k}": v for k, v in classes().items()}, "train",
                           r"train: has only one class folder, flowers, and that holds cat, dog, elk; .*move them"),
    "one class": (classes("train", ("cat",)) | classes("val", ("cat",)), "train", r"only one class \(cat\)"),
    "classes among classes": (classes("train") | classes("train/more"), "train",
                              r"train: more is among the class folders and has folders named like classes"),
    "no splits": (classes(), "train", r"'train': no such split; all images of image_folder:x are in all: set config"
                                      r".data.val_fraction=0.2 .*train_split=all\[:80%\] and .*_split=all\[80%:\]"),
    "no labels": ({f"train/{n}.{i}.jpg": image(n, i) for n in COLOURS for i in range(3)} | {"test/1.jpg": image("cat")},
                  "train", r"x/train: 9 files directly in it, no class folders, and no list .*labels.csv with"),
    "a test split without labels": (classes("train") | {f"test/{k}": v for k, v in FLAT.items()}, "test",
                                    r"x/test: .*, only 9 in images without a class; make"),
    "a list without labels": (classes("train") | {f"test/{k[7:]}": v for k, v in FLAT.items()} | {
        "test.csv": b"id\n" + b"".join(f"{f}\n".encode() for f, _ in PAIRS)}, "test",
                              r"test.csv: names images but no labels"),
    "two candidates": (classes("train") | classes("valid") | classes("validation"), "val",
                       r"'val': image_folder:x has valid and validation; name the one"),
    "images of YOLO": ({f"images/{s}/{i}.jpg": image("cat", i) for s in ("train", "val") for i in range(3)} | {
        f"labels/train/{i}.txt": b"0 0.5 0.5 0.1 0.1\n" for i in range(3)}, "train",
                       r"images/train: 3 files directly in it"),
    "nothing": ({"a.pdf": b"%PDF", "b/c.docx": b"PK\3\4"}, "train",
                r"x: holds 1 folder \(b\), 0 images, 1 other file, .*supported: <class>/\*, or train/<class>/\*"),
    "images without folders": ({f"{i}.jpg": image("cat", i) for i in range(4)}, "all",
                               r"x: holds 0 folders, 4 images, .*put them into class folders, <class>/\*, or add"),
    "HEIC only": ({f"train/{n}/{i}.HEIC": HEIC for n in COLOURS for i in range(2)}, "train",
                  r"train: no images .*only 6 HEIC \(convert them to JPEG or PNG\) files"),
    "an image with two labels": (FLAT | {"labels.csv": table([*PAIRS, (PAIRS[0][0], "elk")])}, "all",
                                 r"labels.csv, lines 1 and 10: two labels for 000.png, 'cat' and 'elk'"),
    "an empty label": (FLAT | {"labels.csv": table([*PAIRS[:-1], (PAIRS[-1][0], "")])}, "all",
                       r"labels.csv, line 9: no label for 022.png"),
    "unknown columns": (FLAT | {"labels.csv": table(PAIRS, ",1,", "file,width,kind")}, "all",
                        r"none of its columns \(file, width, kind\) has a name such as label"),
    "two lists that differ": (FLAT | {"a.csv": table(PAIRS), "b.csv": table([(f, "cat") for f, _ in PAIRS])}, "all",
                              r"a.csv and .*b.csv: two lists of labels for one split"),
    "numbers without names": (numbered(0, file=None), "val", r"val.txt: its classes are numbers but those of training "
                                                             r"are names, cat, dog, elk; .*put classes.txt"),
    "an archive in an archive": ({"../x.zip": zipped({"train.tar": tarred(classes())})}, "train", r"x.zip: .*unpack"),
    "no zip": ({"../x.zip": b"PK\3\4 nothing"}, "train", r"x.zip: truncated or damaged"),
    "a name in two spellings": ({f"train/{name}/{i}.png": image("cat", i) for name in ("caf\u00e9", "cafe\u0301")
                                 for i in range(2)}, "train", r"train: two folders are called café"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_understood_is_one_line(data, what, tmp_path):
    files, split, message = REFUSED[what]
    put(data, files)
    with data.unlocked():
        data.train_split = data.eval_split = split
    with pytest.raises((ConfigError, DataError), match=message) as error:
        open_splits(data, report=lambda line: None)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").glob("*/images.u8"))


@pytest.mark.parametrize("folders", ["x", "xy"])
def test_a_data_dir_of_datasets_where_one_should_be_named(data, folders):
    put(data, {f"../{folder}/{k}": v for folder in folders for k, v in classes().items()})
    with data.unlocked():
        data.name = "image_folder"
    with pytest.raises(ConfigError, match=rf"'train': no such split; .*data has the folders {', '.join(folders)}: if "
                       r"these are datasets, name one, e\.g\. config\.data\.name=image_folder:x$"):
        open_split(data, "train")


def test_all_splits_are_checked_before_the_first_image_is_decoded(data, tmp_path):
    put(data, classes("train"))
    with data.unlocked():
        data.train_split, data.eval_split = "train", "val"
    with pytest.raises(ConfigError, match=r"config.data.eval_split: 'val': no such split"):
        open_splits(data, report=lambda line: None)
    assert not list((tmp_path / "store").glob("*"))


def refused():
    """Layouts that could only be guessed at, {what: ({path: content}, the split asked for, what the line says)}."""
    files, pairs = flat("train")
    several = {"cat": "big cat", "dog": "big dog", "elk": "elk"}
    commas = {"cat": "Felis, wild", "dog": "Felis, tame", "elk": "elk"}
    families = table([(file, "elk" if name == "elk" else "pet") for file, name in pairs], " ")
    column = f"{'image,' + ','.join(COLOURS)}\n" + "".join(f"{f},1,0,0\n" for f, _ in pairs)
    return {
        "labels of several words": (files | {"train.txt": table([(f, several[n]) for f, n in pairs], " ")},
                                    "train", "train.txt, line 1: words after 000.png and big"),
        "labels with commas": (files | {"train.csv": table([(f, commas[n]) for f, n in pairs])},
                               "train", "quote the labels"),
        "one of two lists can't be told": (files | {
            "species_train.txt": table([(f, several[n]) for f, n in pairs], " "), "families_train.txt": families},
            "train", "species_train.txt, line 1: words after"),
        "a column for each class": (files | {"train.csv": column.encode()}, "train", "train.csv: none of its columns"),
        "an example of what to hand in": (files | {"sample_submission.csv": table(pairs, ",", "id,label")},
                                          "train", "no list of labels; make"),
        "other letters": (files | {"train.csv": table(pairs, ",", "id,label", "IMG_")}, "train",
                          "most of the images that it names are missing, e.g. IMG_000.png (line 2)"),
        "a line without a label": (files | {"train.csv": table(pairs[1:], ",", "id,label") + b"000.png,\n"},
                                   "train", "no label for 000.png"),
        "a name of two images": (files | {"train/000.jpg": image("dog", 9, "JPEG"), "train.csv": table(
            [(f[:-4], n) for f, n in pairs], ",", "id,label")}, "train", "000 may be train/000.jpg or train/000.png"),
        "images of another split": (
            {k.replace("train/", "test/"): v for k, v in files.items()} | {"train.csv": table(pairs, ",", "id,label")},
            "train", "train.csv: most of the images that it names are missing"),
        "paths of another split": (
            {k.replace("train/", "test/"): v for k, v in files.items()} | {"train.csv": table(pairs, prefix="train/")},
            "train", "train.csv: most of the images that it names are missing"),
        "val's images are missing": (files | {
            "train.csv": table(pairs, ",", "id,label"), "val.csv": table(
                [(f, {"cat": "dog"}.get(n, n)) for f, n in pairs], ",", "id,label")}, "train",
            "train.csv and {x}/val.csv: two labels for train/000.png, 'cat' and 'dog'; keep one"),
        "a label of its own for each image": (files | {"train.csv": table(
            [(f, i) for i, (f, _) in enumerate(pairs)], ",", "file,number")}, "train",
            "a different value for each image"),
        "places in images": (files | {"train.txt": table([(f, "1 9 9 9") for f, _ in pairs], " ")}, "train",
                             "train.txt, line 1: numbers after 000.png and 1, and no header"),
        "a quote that stays open": (files | {"train.csv": b'path,label\n"000.png,cat\n' + table(pairs[1:])}, "train",
                                    "train.csv, line 2: a quote that is never closed"),
        "a list of what?": ({k[6:]: v for k, v in classes("train").items()} | {"sizes.txt": "".join(
            f"{k[6:]} {i % 2}00\n" for i, k in enumerate(classes("train"))).encode()}, "train",
            "sizes.txt: groups the images differently from the folders that they lie in, cat, dog, elk; if it has"),
        "masks beside images": ({f"{of}/{k[6:]}": v for k, v in files.items() for of in ("images", "masks")}, "all",
                                "holds images, masks, which are not class names"),
        "classes beside pictures of something else": (
            {f"data/{k[6:]}": v for k, v in classes("train").items()} | {"logo/1.png": image("cat", 9)}, "all",
            "of data, logo only data holds folders, cat, dog, elk; if these are the classes, name data itself"),
        "archives of images without classes": (
            {"train.zip": zipped(files), "train.csv": table(pairs, ",", "id,label")}, "train",
            "train.zip: no images of the form <class>/<file> in it, only 9 in train without a class"),
        "splits in classes": ({f"{name}/{split}/{i}.png": image(name, i) for name in COLOURS for i in range(2)
                               for split in ("train", "val")}, "train", "move them to <split>/<class>/*"),
        "splits in domains": (classes("a/train") | classes("a/test") | classes("b/train") | classes("b/test"),
                              "a", "holds the splits test, train, not classes"),
    }


@pytest.mark.parametrize("what", refused())
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_what_could_only_be_guessed_is_refused(data, what, fraction):
    files, split, line = refused()[what]
    put(data, files)
    with pytest.raises(DataError) as refusal:
        quietly(data, split, val_fraction=fraction if split == "train" else 0.0)
    assert line.replace("{x}", f"{data.dir}/x") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def against(folder="train", form=lambda name: name, wrong=(("cat", 3),)):
    """Class folders of ten images and the lines of a list that says otherwise of the `wrong`."""
    files = classes(folder, each=10)
    rows = [(path.partition("/")[2], form("elk" if (path.split("/")[1], int(path.split("/")[2][:-4])) in wrong
                                          else path.split("/")[1])) for path in files]
    return files, rows


def contradicting():
    """Class folders and a list that disagrees about a few, {what: ({path: content}, split, what the line says)}."""
    files, rows = against()
    number = {"cat": "7", "dog": "8", "elk": "9"}
    _, numbers = against(form=number.get)
    _, two = against(wrong=(("cat", 3), ("dog", 0)))
    whole = {k.removeprefix("train/"): v for k, v in files.items()}
    column = b"path,label,split\n" + table([(f, f"{n},train") for f, n in against(wrong=())[1]]) + table(
        [(f, f"{n},val") for f, n in rows])
    said = "labels cat/3.png as elk, but it lies in the class folder cat of"
    return {
        "beside the split": (files | {"train.csv": table(rows, ",", "path,label")}, "train", f"x/train.csv: {said}"),
        "with the split's folder": (files | {"train.csv": table(rows, prefix="train/")}, "train", said),
        "in the split": (files | {"train/labels.csv": table(rows)}, "train", f"train/labels.csv: {said}"),
        "in a folder of lists": (files | {"meta/train.txt": table(rows, " ")}, "train", f"meta/train.txt: {said}"),
        "numbers": (files | {"train.csv": table(numbers)}, "train", "labels cat/3.png as 9"),
        "of several": (files | {"train.csv": table(two)}, "train", rf"{said} .* \(and 1 more image like it\); move"),
        "without splits": (whole | {"labels.csv": table(rows)}, "all", said),
        "without splits, numbers": (whole | {"labels.csv": table(numbers)}, "all", "labels cat/3.png as 9"),
        "of one of two splits": (classes("train", each=10) | classes("val", each=10) | {"labels.csv": column}, "val",
                                 rf"labels.csv: {said} .*/val;"),
        "beside an archive": ({"train.tar": tarred(files), "train.csv": table(rows)}, "train", f"x/train.csv: {said}"),
        "in an archive": ({"../x.zip": zipped(files | {"train.csv": table(rows)})}, "train", f"train.csv: {said}"),
    }


@pytest.mark.parametrize("what", contradicting())
def test_class_folders_and_a_list_that_disagree_about_a_few_images(data, what, tmp_path):
    files, split, line = contradicting()[what]
    put(data, files)
    with data.unlocked():
        data.train_split = data.eval_split = split
    for opened in (lambda: open_split(data, split), lambda: open_splits(data)):
        with pytest.raises(DataError, match=line) as refusal:
            opened()
        assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "store").glob("*/images.u8"))


def test_class_folders_and_a_list_of_other_classes(data):
    """Folders count, and the list is mentioned; one that says the same in other words is not."""
    files, rows = against(wrong=())
    said = []
    put(data, files | {"train.csv": table([(f, "elk" if n == "elk" else "pet") for f, n in rows], ",", "path,label")})
    assert quietly(data, "train", said).class_keys == tuple(COLOURS)
    assert [s for s in said if "differently" in s] == [
        f"note: {data.dir}/x/train.csv: groups the images differently from the class folders of {data.dir}/x/train, "
        "which are used; to use the list, put the images into one folder"]
    said.clear()
    put(data, {f"../y/{path}": content for path, content in (
        files | {"train.csv": table([(f, str(len(n) * 10 + ord(n[0]))) for f, n in rows], ",", "path,label"),
                 "boxes.csv": table([(f, f"{i},{i}") for i, (f, _) in enumerate(rows)], ",", "path,x,y")}).items()})
    assert quietly(data, "train", said, name="image_folder:y").class_keys == tuple(COLOURS)
    assert [s for s in said if "note" in s] == []


def test_a_list_with_a_header_is_used_and_mentioned(data):
    files = {k[6:]: v for k, v in classes("train").items()}
    said = []
    put(data, files | {"labels.csv": table([(f, "day" if i % 2 else "night") for i, f in enumerate(files)], ",",
                                           "path,label")})
    assert quietly(data, "all", said).class_keys == ("day", "night")
    assert [s for s in said if "note" in s] == [
        f"note: {data.dir}/x/labels.csv: its labels are used, not the folders that hold the images, cat, dog, elk"]


def test_what_else_could_be_the_classes_is_mentioned(data):
    said = []
    put(data, {f"train/{group}/{name}/0.png": image(name) for group, name in
               (("pets", "cat"), ("pets", "dog"), ("wild", "elk"))})
    assert quietly(data, "train", said).class_keys == ("pets", "wild")
    assert any("the classes are pets, wild, and their images lie in folders deeper, cat, dog, elk" in s for s in said)
    files, pairs = flat("images")
    rows = "".join(f"{file},{'elk' if name == 'elk' else 'pet'},{name}\n" for file, name in pairs)
    put(data, {f"../y/{path}": content for path, content in
               (files | {"labels.csv": f"file,class,species\n{rows}".encode()}).items()})
    assert set(quietly(data, "all", said, name="image_folder:y").class_keys) == {"elk", "pet"}
    assert any("its column class is read as the labels, not species" in s for s in said)


@pytest.mark.parametrize("named", ["config.data.dir", "ALEXNET_DATA_DIR"])
def test_a_data_dir_that_is_named_has_to_be_there(data, monkeypatch, named):
    put(data, classes("train") | classes("val"))
    first = quietly(data, "train")
    folder = pathlib.Path(data.dir)
    folder.rename(folder.with_name("moved"))
    if named != "config.data.dir":
        monkeypatch.setenv(named, data.dir)
        with data.unlocked():
            data.dir = ""
    for opened in (lambda: open_split(data, "train"), lambda: open_splits(data)):
        with pytest.raises(DataError, match=rf"^{named}: .*/data: no such folder; name the one"):
            opened()
    said = []
    stands_in = open_split(data, "train", report=said.append, remembered=True)  # of a run that was trained on it
    assert stands_in.store.folder == first.store.folder
    assert said == ["note: the files of image_folder:x train are missing; using the images packed from them earlier, "
                    f"{first.store.folder}"]
