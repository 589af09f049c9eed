"""Common layouts: every image gets its right label."""

import bz2
import gzip
import lzma

import pytest
from data_files import data_config
from layout_files import (
    COLOURS,
    EACH,
    check_labels,
    classes,
    colour_of,
    flat,
    image,
    numbered,
    put,
    quietly,
    table,
    tarred,
    zipped,
)

from alexnet_jax.data import splits

FLAT, PAIRS = flat("images")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


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


def tables():
    """Lists as programs write them, {what: (content)} of the images in `FLAT`."""
    columns = "x1,y1,class,fname\n" + "".join(f'1,2,"{n}",{f}\n' for f, n in PAIRS)
    lines = "path,label,description\n" + "".join(f'{f},{n},"two\nlines, the ""second"""\n' for f, n in PAIRS)
    return {
        "an unknown name of the column of paths": columns.replace("fname", "fichier"),
        "quotes over several lines": lines,
        "a very long column": lines.replace("lines", "l" * 140_000),
        "quotes as signs": "path,label,size\n" + "".join(f'{f},{n},5"\n' for f, n in PAIRS),
        "Excel's sign": "sep=;\r\nid;path;label\r\n" + "".join(f"{i};{f};{n}\r\n" for i, (f, n) in enumerate(PAIRS)),
        "numbered, without a header": "".join(f"{i},{f},{n}\n" for i, (f, n) in enumerate(PAIRS)),
    }


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
        "Oxford pets, with masks": (pets() | {f"annotations/trimaps/{n}_{i}.png": image("elk", 9) for n in COLOURS
                                              for i in range(EACH)}, {"trainval": 2, "test": 1, "all": EACH}),
        "splits a folder deeper": ({f"x_train/{k.replace('train/', 'x_train/')}": v for k, v in train.items()} | {
            f"x_test/{k.replace('val/', 'images/')}": v for k, v in val.items()} | {
            "train.csv": table(train_pairs, ",", "fname,class"), "test.csv": table(val_pairs, ",", "fname,class")},
            {"train": EACH, "test": EACH}),
        "one folder for all splits": (train | {
            "train.csv": table([p for p in train_pairs if p[0][1] != "2"], ",", "id,label"),
            "val.csv": table([p for p in train_pairs if p[0][1] == "2"], ",", "id,label")}, {"train": 2, "val": 1}),
        "checksums": (classes() | {"md5.txt": b"".join(b"%08x  %s\n" % (i * 977, k.encode()) for i, k in
                                                       enumerate(classes()))}, {"all": EACH}),
        "a text with a quote": (classes() | {"notes.csv": b'"we, say\nor, so\nor, not\n'}, {"all": EACH}),
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
        "a zip of paths from above": ({"../x.zip": zipped({f"../{k}": v for k, v in whole.items()})}, two),
        "a tar of whole paths": ({"../x.tar": tarred({f"/home/me/{k}": v for k, v in whole.items()})}, two),
        "a zip of classes": ({"../x.zip": zipped(classes())}, {"all": EACH}),
        "a zip within the folder": ({"archive.zip": zipped(whole)}, two),
        "tar.gz of all": ({"../x.tar.gz": tarred(whole, gzip.compress)}, two),
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


CASES = trees() | lists() | {
    what: (FLAT | {"labels.csv": content.encode()}, {"all": EACH}) for what, content in tables().items()
} | layouts_with_lists_and_folders()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return data_config(tmp_path / "store", name="image_folder:x", dir=tmp_path / "data")


@pytest.mark.parametrize("what", CASES)
def test_every_image_has_its_label(data, what):
    files, expected = CASES[what]
    put(data, files)
    for split, each in expected.items():
        check_labels(quietly(data, split), each)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("file", "names"), [("classes.txt", ("cat", "dog", "elk")),
                                             ("synset_words.txt", ("cat tabby, feline", "dog hound", "elk"))])
def test_numbers_are_classes_by_a_file_of_their_names(data, first, file, names):
    put(data, numbered(first, names, file))
    check_labels(quietly(data, "val"), EACH)



@pytest.mark.parametrize("inside", ["val/", "val/Images/"])
def test_numbers_are_those_of_training_however_they_are_written(data, inside):
    names = {"cat": "00002", "dog": "00010", "elk": "00011"}
    files, pairs = flat(inside.rstrip("/"))
    listed = table([(file, str(int(names[name]))) for file, name in pairs], ";", "Filename;ClassId")
    put(data, {f"train/{names[n]}/{i}.png": image(n, i) for n in COLOURS for i in range(EACH)} | files | {
        f"{inside}gt.csv": listed})
    split = quietly(data, "val")
    assert split.class_keys == tuple(names.values())
    check_labels(split, EACH)
    assert {split.class_keys[label]: colour_of(pixels) for pixels, label in zip(split.images, split.labels, strict=True)
            } == {number: name for name, number in names.items()}


@pytest.mark.parametrize(("name", "expected"), [
    ("train", "train"), ("Training Set", "train"), ("trainImages", "train"), ("images_train", "train"),
    ("valid", "val"), ("VAL", "val"), ("validation2012", "val"), ("dev", "val"), ("Testing", "test"), ("eval", "test"),
    ("trainval", None), ("trains", None), ("photos", None), ("2019", None)])
def test_what_a_name_of_a_split_means(name, expected):
    assert splits.role(name, plain=True) == expected


def test_rows_without_images_and_images_without_rows_are_counted(data):
    put(data, FLAT | {"images/more.png": image("cat", 99), "labels.csv": table([*PAIRS, ("zz.png", "cat"), PAIRS[0]])})
    said = []
    split = quietly(data, "all", said)
    check_labels(split, EACH)
    assert split.store.meta["left_out"] == {"in the list and not there": {"cat": 1}, "not named by a list": {"": 1}}
    assert any("1 of the images that it names are missing: zz.png (line 10)" in line for line in said)


def test_an_image_that_is_missing_in_its_folder_is_not_taken_from_another(data):
    # 022.png of train is gone; one of that name lies in test.
    files = flat("train")[0] | {f"test/{k[7:]}": image("cat", 50 + i) for i, k in enumerate(FLAT)}
    del files["train/022.png"]
    put(data, files | {"train.csv": table(PAIRS, ",", "id,label")})
    split = quietly(data, "train")
    assert len(split) == len(PAIRS) - 1
    assert all(colour_of(p) == split.class_keys[label] for p, label in zip(split.images, split.labels, strict=True))


def test_a_class_in_a_hidden_folder_is_mentioned(data):
    put(data, classes("train") | {"train/.net/1.png": image("cat", 80), "train/.git/config": b"x"})
    said = []
    check_labels(quietly(data, "train", said), EACH)
    assert [line for line in said if "hidden folders" in line] == [
        f"note: {data.dir}/x/train: hidden folders that hold images are ignored: .net"]


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
    assert any("no image can be read from emu (1 HEIC" in line for line in said)
