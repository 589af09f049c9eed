"""Miniature archives in the official layout of ILSVRC-2012, from generated images."""

import io
import tarfile

import numpy as np
import scipy.io
from data_files import encoded, pixels, write_tar
from PIL import Image

# The challenge's own number of each class, in an order that isn't the sorted one; then nodes above the classes.
WNIDS = {1: "n02119789", 2: "n02100735", 3: "n01440764", 4: "n02105855", 5: "n03000134"}
ABOVE = {6: ("n00001740", (7, 5)), 7: ("n00004475", (1, 2, 3, 4))}
WORDS = {"n02119789": "kit fox, Vulpes macrotis", "n02100735": "English setter", "n01440764": "tench, Tinca tinca",
         "n02105855": "Shetland sheepdog", "n03000134": "chainlink fence", "n00001740": "entity", "n00004475": "being"}
SORTED = sorted(WNIDS.values())
TRUTH = (3, 1, 4, 2, 5, 1, 3, 3, 5, 2)  # of the validation images 1 … 10
TRUNCATED = "n02100735_7.JPEG"


def jpeg(seed: int, height: int = 20, width: int = 24) -> bytes:
    return encoded(pixels(seed, height, width), "JPEG", quality=95)


def train_images(each: int = 4) -> dict[str, dict[str, bytes]]:
    """{WordNet id: {file: content}}, with what ILSVRC has: CMYK, a PNG named .JPEG, greyscale, strange EXIF."""
    classes = {wnid: {f"{wnid}_{10 * i + 3}.JPEG": jpeg(100 * number + i, 20 + i, 26 - i) for i in range(each)}
               for number, wnid in WNIDS.items()}
    picture = Image.fromarray(pixels(7, 20, 24))
    classes["n02105855"]["n02105855_2933.JPEG"] = encoded(picture, "PNG")
    classes["n01440764"]["n01440764_5.JPEG"] = encoded(picture.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    classes["n01440764"]["n01440764_6.JPEG"] = encoded(picture.convert("L"), "JPEG", quality=98)
    junk = b"Exif\0\0MM\0*junk" + bytes(range(200))
    classes["n03000134"]["n03000134_8.JPEG"] = encoded(picture, "JPEG", quality=98, subsampling=0, exif=junk)
    classes["n02100735"][TRUNCATED] = jpeg(99, 200, 240)[:1500]
    return classes


def val_images() -> dict[str, bytes]:
    return {f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(9000 + i) for i in range(1, len(TRUTH) + 1)}


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def meta_mat() -> bytes:
    """meta.mat: struct array `synsets` [n, 1], as the devkit's."""
    names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
             "num_train_images")
    rows = []
    for number, wnid in WNIDS.items():
        rows.append((np.uint16([[number]]), wnid, WORDS[wnid], f"what {wnid} is", np.uint8([[0]]),
                     np.zeros((1, 0), np.uint16), np.uint8([[0]]), np.uint16([[4]])))
    for number, (wnid, children) in ABOVE.items():
        rows.append((np.uint16([[number]]), wnid, WORDS[wnid], "above", np.uint8([[len(children)]]),
                     np.uint16([children]), np.uint8([[1]]), np.uint16([[0]])))
    synsets = np.empty((len(rows), 1), [(name, object) for name in names])
    for place, row in enumerate(rows):
        synsets[place, 0] = row
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def truth_txt(truth=TRUTH) -> bytes:
    return "".join(f"{number}\n" for number in truth).encode()


def write_devkit(folder, **changes: bytes) -> None:
    files = {"readme.txt": b"read me", "data/ILSVRC2012_validation_ground_truth.txt": truth_txt(),
             "data/meta.mat": meta_mat(), "evaluation/demo.m": b"% demo"}
    files |= {f"data/{name.replace('__', '.')}": content for name, content in changes.items()}
    write_tar(folder / "ILSVRC2012_devkit_t12.tar.gz",
              {f"ILSVRC2012_devkit_t12/{name}": content for name, content in files.items()})


def write_train(folder, classes=None) -> None:
    write_tar(folder / "ILSVRC2012_img_train.tar",
              {f"{wnid}.tar": tar(files) for wnid, files in (classes or train_images()).items()})


def write_val(folder, files=None) -> None:
    write_tar(folder / "ILSVRC2012_img_val.tar", files or val_images())


def write_all(folder) -> None:
    write_train(folder)
    write_val(folder)
    write_devkit(folder)
