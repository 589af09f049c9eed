"""Common helpers of the layouts' tests: images whose colour encodes their class, folders, lists and archives."""

import io
import os
import pathlib
import tarfile
import zipfile

import numpy as np
from data_files import write_tree
from PIL import Image

from alexnet_jax.data import open_split

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


def numbered(first, names=("cat", "dog", "elk"), file="classes.txt"):
    """Class folders, and a flat val whose list has numbers."""
    files, pairs = flat("val")
    numbers = [(name, list(COLOURS).index(of) + first) for name, of in pairs]
    named = {} if file is None else {file: "".join(f"{n}\n" for n in names).encode()}
    return classes("train") | files | {"val.txt": table(numbers, " ")} | named


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
