"""Layouts that people have: every image under its right label, or one clear line."""

import bz2
import io
import lzma
import os
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest
from data_files import data_config, write_tree
from PIL import Image

from alexnet_jax.data import layouts, open_split, open_splits
from alexnet_jax.errors import ConfigError, DataError

COLOURS = {"cat": (220, 30, 30), "dog": (30, 220, 30), "elk": (30, 30, 220)}
EACH = 3


def image(name, number=0, form="PNG"):
    """A square of the class's colour; the number makes it differ from others."""
    file = io.BytesIO()
    pixels = np.full((10, 10, 3), COLOURS[name], np.uint8)
    pixels[..., :] += np.uint8(number)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def colour_of(pixels):
    """The class that an image is of, by its colour."""
    mean = pixels.reshape(-1, 3).mean(0)
    return min(COLOURS, key=lambda name: np.abs(mean - COLOURS[name]).sum())


def classes(split="", names=tuple(COLOURS), each=EACH, below="", start=0):
    """{path: image} of folders of classes."""
    prefix = f"{split}/" if split else ""
    return {f"{prefix}{name}/{below}{i}.png": image(name, i) for name in names for i in range(start, start + each)}


def flat(folder, start=0, each=EACH, form="{:03}.png"):
    """({path: image} of one folder, [(file's name, class)])."""
    pairs = [(form.format(start + 10 * i + number), name)
             for number, name in enumerate(COLOURS) for i in range(each)]
    prefix = f"{folder}/" if folder else ""
    return {prefix + file: image(name, i) for i, (file, name) in enumerate(pairs)}, pairs


def table(pairs, sign=",", header="", prefix="", end="\n"):
    lines = ([header] if header else []) + [f"{prefix}{file}{sign}{name}" for file, name in pairs]
    return (end.join(lines) + end).encode()


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files, pack=lambda content: content):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return pack(content.getvalue())


def lists(folder="images"):
    """Layouts with lists of labels, {what: ({path: content}, {split asked for: images of each class})}."""
    files, pairs = flat(folder)
    more, others = flat(folder, start=500)
    prefix = f"{folder}/"
    both = files | more
    one = {"all": EACH}
    two = {"train": EACH, "val": EACH}
    ids = [(file.removesuffix(".png"), name) for file, name in pairs]
    split_column = "file,label,split\n" + "".join(f"{f},{n},train\n" for f, n in pairs) + "".join(
        f"{f},{n},valid\n" for f, n in others)
    windows = table(pairs, ",", "Filename,Label", f"{folder}\\", "\r\n")
    quoted = "path,class\n" + "".join(f'"{prefix}{f}","{n}"\n' for f, n in pairs)
    wide = ",Filename,Label,ClassName\n" + "".join(f'{i},{f},{n},"{n}, big"\n' for i, (f, n) in enumerate(pairs))
    return {
        "csv with a header": (files | {"labels.csv": table(pairs, ",", "filename,label")}, one),
        "csv without one": (files | {"labels.csv": table(pairs, prefix=prefix)}, one),
        "tabs": (files | {"labels.tsv": table(pairs, "\t")}, one),
        "spaces": (files | {"list.txt": table(pairs, " ", prefix=f"./{prefix}")}, one),
        "semicolons": (files | {"GT.csv": table(pairs, ";", "Filename;ClassId")}, one),
        "a byte order mark": (files | {"labels.csv": b"\xef\xbb\xbf" + table(pairs, ",", "image,label")}, one),
        "utf-16": (files | {"labels.csv": table(pairs, ",", "image,label").decode().encode("utf-16")}, one),
        "backslashes": (files | {"labels.csv": windows}, one),
        "quotes": (files | {"labels.csv": quoted.encode()}, one),
        "many columns": (files | {"EuroSAT.csv": wide.encode()}, one),
        "without endings": (files | {"labels.csv": table(ids, ",", "id,breed")}, one),
        "beside the images": ({"labels.csv": table(pairs, ",", "id,label")} | {k[len(prefix):]: v for k, v in
                                                                               files.items()}, one),
        "in a folder of lists": (files | {"meta/labels.csv": table(pairs, ",", "file,label")}, one),
        "a folder that isn't there": (files | {"labels.csv": table(pairs, prefix=f"dataset/{prefix}")}, one),
        "the label first": (files | {"labels.csv": "".join(f"{n},{f}\n" for f, n in pairs).encode()}, one),
        "one a split": (both | {"train.csv": table(pairs), "val.csv": table(others)}, two),
        "text, one a split": (both | {"train.txt": table(pairs, " ", prefix=prefix),
                                      "valid.txt": table(others, " ", prefix=prefix)}, two),
        "a column of splits": (both | {"labels.csv": split_column.encode()}, two),
    }


def pets():
    """The class in the file's name and in lists, `annotations/trainval.txt` among them."""
    lines = {(name, i): f"{name}_{i} {k + 1} 1 {k + 1}\n" for k, name in enumerate(COLOURS) for i in range(EACH)}
    return {f"images/{name}_{i}.jpg": image(name, i, "JPEG") for name, i in lines} | {
        "annotations/trainval.txt": "".join(line for (_, i), line in lines.items() if i < 2).encode(),
        "annotations/test.txt": "".join(line for (_, i), line in lines.items() if i == 2).encode(),
        "annotations/list.txt": ("#Image CLASS-ID SPECIES BREED ID\n" + "".join(lines.values())).encode()}


def layouts_with_lists_and_folders():
    train, train_pairs = flat("train")
    val, val_pairs = flat("val")  # the same names as in train
    boxes = "".join(f"{file}\t{name}\t0\t0\t62\t62\n" for file, name in val_pairs).encode()
    tiny = classes("train", below="images/") | {f"train/{name}/{name}_boxes.txt": b"0.png\t0\t0\t9\t9\n"
                                                for name in COLOURS}
    tiny |= {k.replace("val/", "val/images/"): v for k, v in val.items()} | {"val/val_annotations.txt": boxes}
    tiny |= {k.replace("val/", "test/images/"): v for k, v in val.items()}
    tiny |= {"wnids.txt": b"cat\ndog\nelk\n", "words.txt": b"cat\tfeline\ndog\tcanine\n"}
    imagenet, synsets = flat("val", form="ILSVRC2012_val_{:08}.JPEG")
    two = {"train": EACH, "val": EACH}
    only_paths = {"meta/train.txt": b"".join(f"{n}/{i}\n".encode() for n in COLOURS for i in range(2)),
                  "meta/test.txt": b"".join(f"{n}/2\n".encode() for n in COLOURS)}
    return {
        "Tiny-ImageNet": (tiny, two),
        "val flat, its list in it": (classes("train") | val | {"val/labels.csv": table(val_pairs)}, two),
        "val flat, its list beside it": (classes("train") | val | {"val.txt": table(val_pairs, " ")}, two),
        "ImageNet's val": (classes("train") | imagenet | {"val_labels.txt": table(synsets, " ")}, two),
        "both flat, lists inside": (train | val | {"train/labels.csv": table(train_pairs),
                                                   "val/labels.csv": table(val_pairs)}, two),
        "both flat, lists beside": (train | val | {"train.csv": table(train_pairs, ",", "image_id,label"),
                                                   "val.csv": table(val_pairs, ",", "image_id,label")}, two),
        "both flat, one list": (train | val | {"labels.csv": table(train_pairs, prefix="train/") +
                                               table(val_pairs, prefix="val/")}, two),
        "Kaggle's": ({k.replace("train/", "train_images/"): v for k, v in train.items()} |
                     {"train.csv": table(train_pairs, ",", "image_id,label"), "test_images/1.png": image("cat")},
                     {"train": EACH}),
        "GTSRB": ({k.capitalize(): v for k, v in classes("train").items()} | {
            k.capitalize(): v for k, v in flat("test")[0].items()} | {
            "Test.csv": table(flat("test")[1], ",", "Path,ClassId", "Test/"),
            "Train.csv": b"Path,ClassId\nTrain/cat/0.png,cat\n"}, {"train": EACH, "test": EACH}),
        "Oxford pets": (pets(), {"trainval": 2, "test": 1, "all": EACH}),
        "Kaggle's, with an example of what to hand in": (train | {
            k.replace("val/", "test/"): v for k, v in val.items()} | {
            "train.csv": table(train_pairs, ",", "id,label"),
            "sample_submission.csv": table(val_pairs, ",", "id,label").replace(b"dog", b"cat")}, {"train": EACH}),
        "Food-101": ({f"images/{k}": v for k, v in classes().items()} | only_paths, {"train": 2, "test": 1}),
        "Caltech-101": ({f"101_ObjectCategories/{k}": v for k, v in classes().items()} | {
            f"Annotations/{n}/annotation_0.mat": b"MATLAB 5.0" for n in COLOURS}, {"all": EACH}),
        "a list that says what folders do": (classes() | {"labels.csv": b"file,label\n" + b"".join(
            f"{n}/{i}.png,{k}\n".encode() for k, n in enumerate(COLOURS) for i in range(EACH))}, {"all": EACH}),
        "a list that says better": (
            {f"part_{i}/{name}_{i}.png": image(name, i) for name in COLOURS for i in range(EACH)} |
            {"metadata.csv": b"image_id,dx\n" + b"".join(f"{n}_{i},{n}\n".encode() for n in COLOURS
                                                         for i in range(EACH))}, {"all": EACH}),
    }


def trees():
    """Layouts of folders and archives."""
    train, val = classes("train"), classes("val", start=5, each=2)
    two = {"train": EACH, "val": 2}
    whole = train | val
    junk = {"__MACOSX/train/cat/._0.png": b"x", ".DS_Store": b"x", "train/cat/Thumbs.db": b"x", "train/.DS_Store": b"x"}
    odd = {"Ähre ü": "cat", "train": "dog", "10": "elk"}
    named = {f"{new}/{i}.PNG": image(old, i) for new, old in odd.items() for i in range(EACH)}
    found = {
        "train and val": (whole, two),
        "with what systems leave": (whole | junk, two),
        "classes only": (classes(), {"all": EACH}),
        "train only": (train, {"train": EACH}),
        "classes in a folder": ({f"photos/{k}": v for k, v in classes().items()}, {"all": EACH, "photos": EACH}),
        "a folder around it": ({f"flowers/{k}": v for k, v in whole.items()}, two),
        "two folders around it": ({f"a/b/{k}": v for k, v in whole.items()}, two),
        "a folder around classes": ({f"flowers/v1/{k}": v for k, v in classes().items()}, {"all": EACH}),
        "images one deeper": (classes(below="images/"), {"all": EACH}),
        "split folders with images/": ({k.replace("/", "/images/", 1): v for k, v in whole.items()}, two),
        "seg_train/seg_train": ({f"seg_{k.replace('/', '/seg_train/', 1)}" if k.startswith("train") else
                                 f"seg_{k.replace('val/', 'test/seg_test/')}": v for k, v in whole.items()} |
                                {"seg_pred/1.png": image("cat")}, {"train": EACH, "test": 2}),
        "odd names of classes": (named, {"all": EACH}),
        "domains": (classes("photo") | classes("sketch", each=2), {"photo": EACH, "sketch": 2}),
        "domains with images/": (classes("amazon/images") | classes("dslr/images", each=2),
                                 {"amazon": EACH, "dslr": 2}),
        "a zip of all": ({"../x.zip": zipped(whole | junk)}, two),
        "a zip of all in a folder": ({"../x.zip": zipped({f"x-main/{k}": v for k, v in (whole | junk).items()})}, two),
        "a zip of classes": ({"../x.zip": zipped(classes())}, {"all": EACH}),
        "a zip within the folder": ({"archive.zip": zipped(whole)}, two),
        "tar.gz of all": ({"../x.tar.gz": tarred(whole, lambda c: __import__("gzip").compress(c))}, two),
        "tar.bz2 of all": ({"../x.tar.bz2": tarred(whole, bz2.compress)}, two),
        "tar.xz of splits": ({"train.tar.xz": tarred(train, lzma.compress), "val.tar.xz": tarred(val, lzma.compress)},
                             two),
        "zips of splits in a folder": ({"a/b/train.zip": zipped(train), "a/b/val.zip": zipped(val)}, two),
        "zips of splits": ({"train.zip": zipped(train), "val.zip": zipped({k[4:]: v for k, v in val.items()})}, two),
        "tar.bz2 of splits": ({"training.tbz2": tarred(train, bz2.compress), "val.tar.bz2": tarred(val, bz2.compress)},
                              two),
        "a class called as its archive": ({"train.tar": tarred({f"{n}/a/{i}.png": image(c, i) for n, c in
                                                                {"car": "cat", "train": "dog", "bus": "elk"}.items()
                                                                for i in range(EACH)})}, {"train": EACH}),
    }
    for train_name, val_name in (("training", "validation"), ("Train", "Val"), ("TRAIN", "valid"), ("train", "dev"),
                                 ("train_images", "val_images"), ("Training Set", "Validation Set"),
                                 ("train2017", "val2017"), ("flowers-train", "flowers-val")):
        found[f"{train_name}/{val_name}"] = (classes(train_name) | classes(val_name, each=2), two)
    for test in ("testing", "Test", "eval", "tst"):
        found[f"train/{test}"] = (classes("train") | classes(test, each=2), {"train": EACH, "test": 2})
    return found


CASES = trees() | lists() | layouts_with_lists_and_folders()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return data_config(tmp_path / "store", name="image_folder:x", dir=tmp_path / "data")


def put(data, files):
    write_tree(pathlib.Path(data.dir), {os.path.normpath(f"x/{path}"): content for path, content in files.items()})


def quietly(data, split, said=None, **fields):
    with data.unlocked():
        data.update(fields)
    return open_split(data, split, report=(lambda line: None) if said is None else said.append)


def check_labels(split, each, key=lambda name: name):
    """Every image has the label of its colour, and every class its number of images."""
    by_class = {}
    for pixels, label in zip(split.images, split.labels, strict=True):
        by_class.setdefault(split.class_keys[label], []).append(colour_of(pixels))
    assert {name: len(set(colours)) for name, colours in by_class.items()} == dict.fromkeys(by_class, 1)
    assert {colours[0]: len(colours) for colours in by_class.values()} == dict.fromkeys(COLOURS, each)
    assert len({pixels.tobytes() for pixels in split.images}) == len(split)
    if set(by_class) <= set(COLOURS):
        assert all(colours[0] == name for name, colours in by_class.items())


@pytest.mark.parametrize("what", CASES)
def test_every_image_has_its_label(data, what):
    files, expected = CASES[what]
    put(data, files)
    for split, each in expected.items():
        check_labels(quietly(data, split), each)


def numbered(first, names=("cat", "dog", "elk"), file="classes.txt"):
    """Class folders, and a flat val whose list has numbers."""
    files, pairs = flat("val")
    numbers = [(name, list(COLOURS).index(of) + first) for name, of in pairs]
    named = {} if file is None else {file: "".join(f"{n}\n" for n in names).encode()}
    return classes("train") | files | {"val.txt": table(numbers, " ")} | named


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("file", "names"), [("classes.txt", ("cat", "dog", "elk")),
                                             ("synset_words.txt", ("cat tabby, feline", "dog hound", "elk"))])
def test_numbers_are_classes_by_a_file_of_their_names(data, first, file, names):
    put(data, numbered(first, names, file))
    check_labels(quietly(data, "val"), EACH)


FLAT, PAIRS = flat("images")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
REFUSED = {
    "one level too deep": ({f"train/flowers/{k}": v for k, v in classes().items()}, "train",
                           r"train: holds one class folder only, flowers, and that holds cat, dog, elk; .*move them"),
    "one class": (classes("train", ("cat",)) | classes("val", ("cat",)), "train", r"one class only \(cat\)"),
    "classes among classes": (classes("train") | classes("train/more"), "train",
                              r"train: more lies among the class folders and holds folders that are called as classes"),
    "no splits": (classes(), "train", r"'train': no such split; all images of image_folder:x are in all: set config"
                                      r".data.val_fraction=0.2 .*train_split=all\[:80%\] and .*_split=all\[80%:\]"),
    "no labels": ({f"train/{n}.{i}.jpg": image(n, i) for n in COLOURS for i in range(3)} | {"test/1.jpg": image("cat")},
                  "train", r"x/train: 9 files right in it, no class folders, and no list .*labels.csv of path,label"),
    "a test split without labels": (layouts_with_lists_and_folders()["Tiny-ImageNet"][0], "test",
                                    r"x/test: .*9 in images without a class, which nothing can be learnt from or"),
    "a list without labels": (classes("train") | {f"test/{k[7:]}": v for k, v in FLAT.items()} | {
        "test.csv": b"id\n" + b"".join(f"{f}\n".encode() for f, _ in PAIRS)}, "test",
                              r"test.csv: names images and no labels"),
    "two candidates": (classes("train") | classes("valid") | classes("validation"), "val",
                       r"'val': image_folder:x has valid and validation; name the one"),
    "images of YOLO": ({f"images/{s}/{i}.jpg": image("cat", i) for s in ("train", "val") for i in range(3)} | {
        f"labels/train/{i}.txt": b"0 0.5 0.5 0.1 0.1\n" for i in range(3)}, "train",
                       r"images/train: 3 files right in it"),
    "nothing": ({"a.pdf": b"%PDF", "b/c.docx": b"PK\3\4"}, "train",
                r"x: holds 1 folder \(b\), 0 images, 1 other file, .*what is read: <class>/\*, or train/<class>/\*"),
    "images without folders": ({f"{i}.jpg": image("cat", i) for i in range(4)}, "all",
                               r"x: holds 0 folders, 4 images, .*put them into class folders, <class>/\*, or add"),
    "HEIC only": ({f"train/{n}/{i}.HEIC": HEIC for n in COLOURS for i in range(2)}, "train",
                  r"train: no images .*only 6 HEIC \(convert them to JPEG or PNG\) files"),
    "an image with two labels": (FLAT | {"labels.csv": table([*PAIRS, (PAIRS[0][0], "elk")])}, "all",
                                 r"labels.csv, lines 1 and 10: two labels for 000.png, 'cat' and 'elk'"),
    "an empty label": (FLAT | {"labels.csv": table([*PAIRS[:-1], (PAIRS[-1][0], "")])}, "all",
                       r"labels.csv, line 9: no label for 022.png"),
    "unknown columns": (FLAT | {"labels.csv": table(PAIRS, ",1,", "file,width,kind")}, "all",
                        r"none of its columns file, width, kind is called label"),
    "two lists that differ": (FLAT | {"a.csv": table(PAIRS), "b.csv": table([(f, "cat") for f, _ in PAIRS])}, "all",
                              r"a.csv and .*b.csv: two lists of labels for one split"),
    "numbers without names": (numbered(0, file=None), "val", r"val.txt: its classes are numbers and those of training "
                                                             r"names, cat, dog, elk; .*put classes.txt"),
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


def test_all_splits_are_checked_before_the_first_image_is_decoded(data, tmp_path):
    put(data, classes("train"))
    with data.unlocked():
        data.train_split, data.eval_split = "train", "val"
    with pytest.raises(ConfigError, match=r"config.data.eval_split: 'val': no such split"):
        open_splits(data, report=lambda line: None)
    assert not list((tmp_path / "store").glob("*"))


@pytest.mark.parametrize(("name", "expected"), [
    ("train", "train"), ("Training Set", "train"), ("trainImages", "train"), ("images_train", "train"),
    ("valid", "val"), ("VAL", "val"), ("validation2012", "val"), ("dev", "val"), ("Testing", "test"), ("eval", "test"),
    ("trainval", None), ("trains", None), ("photos", None), ("2019", None)])
def test_what_a_name_of_a_split_means(name, expected):
    assert layouts.role(name, plain=True) == expected


def test_rows_without_images_and_images_without_rows_are_counted(data):
    put(data, FLAT | {"images/more.png": image("cat", 99), "labels.csv": table([*PAIRS, ("zz.png", "cat"), PAIRS[0]])})
    said = []
    split = quietly(data, "all", said)
    check_labels(split, EACH)
    assert split.store.meta["left_out"] == {"in the list and not there": {"cat": 1}, "not named by a list": {"": 1}}
    assert any("1 of the images that it names are not there: zz.png (line 10)" in line for line in said)


def test_an_image_that_is_missing_in_its_folder_is_not_taken_from_another(data):
    # 022.png of train is gone; one of that name lies in test.
    files = flat("train")[0] | {f"test/{k[7:]}": image("cat", 50 + i) for i, k in enumerate(FLAT)}
    del files["train/022.png"]
    put(data, files | {"train.csv": table(PAIRS, ",", "id,label")})
    split = quietly(data, "train")
    assert len(split) == len(PAIRS) - 1
    assert all(colour_of(p) == split.class_keys[label] for p, label in zip(split.images, split.labels, strict=True))


def test_lists_of_parts_have_names_of_their_own(data):
    lines = {n: [(f"{n.title()}_{i}", k) for i in range(3)] for k, n in enumerate(COLOURS, 1)}
    rows = {"list": [r for of in lines.values() for r in of], "trainval": [r for of in lines.values() for r in of[:2]],
            "test": [of[2] for of in lines.values()]}
    put(data, {f"images/{n.title()}_{i}.jpg": image(n, i) for n in COLOURS for i in range(3)} | {
        f"annotations/{k}.txt": b"#Image CLASS\n" + table(of, " ") for k, of in rows.items()})
    for name, each in (("trainval", 2), ("test", 1), ("all", 3)):
        check_labels(quietly(data, name), each)


def test_what_is_left_out_is_counted_by_kind_and_by_class(data):
    svg, text = b'<?xml version="1.0"?><svg xmlns="x"/>', b"no image"
    put(data, classes("train") | {"train/cat/a.heic": HEIC, "train/cat/b.jpg": HEIC, "train/cat/c.svg": svg,
                                  "train/dog/d.txt": text, "train/emu/1.jpg": HEIC, "train/e.png": image("cat", 70),
                                  "train/elk/f.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n", "train/elk/Thumbs.db": text})
    said = []
    split = quietly(data, "train", said)
    check_labels(split, EACH)
    assert split.corrupt == 0
    assert split.store.meta["left_out"] == {"HEIC": {"cat": 2, "emu": 1}, "SVG": {"cat": 1}, "text": {"dog": 1},
                                            "EPS": {"elk": 1}, "not in a class folder": {"": 1}}
    words = "left out: 3 HEIC (convert them to JPEG or PNG), 1 EPS, 1 SVG, 1 text files, 1 not in a class folder"
    assert any(words in line for line in said)
    assert any("no image is read of emu (1 HEIC" in line for line in said)


def refused():
    """Layouts that could only be guessed at, {what: ({path: content}, the split asked for, what the line says)}."""
    files, pairs = flat("train")
    several = {"cat": "big cat", "dog": "big dog", "elk": "elk"}
    commas = {"cat": "Felis, wild", "dog": "Felis, tame", "elk": "elk"}
    families = table([(file, "elk" if name == "elk" else "pet") for file, name in pairs], " ")
    column = f"{'image,' + ','.join(COLOURS)}\n" + "".join(f"{f},1,0,0\n" for f, _ in pairs)
    return {
        "labels of several words": (files | {"train.txt": table([(f, several[n]) for f, n in pairs], " ")},
                                    "train", "train.txt, line 1: words behind 000.png and big"),
        "labels with commas": (files | {"train.csv": table([(f, commas[n]) for f, n in pairs])},
                               "train", "quote labels"),
        "one of two lists can't be told": (files | {
            "species_train.txt": table([(f, several[n]) for f, n in pairs], " "), "families_train.txt": families},
            "train", "species_train.txt, line 1: words behind"),
        "a column for each class": (files | {"train.csv": column.encode()}, "train", "train.csv: none of its columns"),
        "an example of what to hand in": (files | {"sample_submission.csv": table(pairs, ",", "id,label")},
                                          "train", "no list that says"),
        "other letters": (files | {"train.csv": table(pairs, ",", "id,label", "IMG_")}, "train",
                          "hardly any of the images that it names are there, not IMG_000.png (line 2)"),
        "a line without a label": (files | {"train.csv": table(pairs[1:], ",", "id,label") + b"000.png,\n"},
                                   "train", "no label for 000.png"),
        "a name of two images": (files | {"train/000.jpg": image("dog", 9, "JPEG"), "train.csv": table(
            [(f[:-4], n) for f, n in pairs], ",", "id,label")}, "train", "000 may be train/000.jpg or train/000.png"),
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
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_else_could_be_the_classes_is_said(data):
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
    assert any("its column class is taken for the labels, not species" in s for s in said)
