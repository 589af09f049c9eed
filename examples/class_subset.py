"""Some of the classes of an image folder, and few of their training images, as a folder of their own.

    python examples/class_subset.py tiny-imagenet-100 tiny-half --classes=::2
    python examples/class_subset.py tiny-imagenet-100 tiny-few --classes=1::2 --images=20

FROM has train and val, as folders of classes or packed as train.tar.gz, val.tar. --classes is a slice of the classes in
the order of their names, as Python writes it; --images takes the first so many files of each class for train, and val
keeps all. docs/weights.md trains on the first and fine-tunes on the second.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence

Files = dict[tuple[str, str], Callable[[], bytes]]  # (class, file) → its content


def files_of(source: pathlib.Path, split: str, stack: contextlib.ExitStack) -> Files:
    """Of one split, a folder or an archive, which `stack` closes."""
    if (source / split).is_dir():
        return {(path.relative_to(source / split).parts[0], path.name): path.read_bytes
                for path in sorted((source / split).glob("*/**/*")) if path.is_file()}
    packed = next((path for path in sorted(source.glob(f"{split}.*")) if tarfile.is_tarfile(path)), None)
    if packed is None:
        sys.exit(f"error: {source}: has no folder {split} and no archive of that name")
    tar, found = stack.enter_context(tarfile.open(packed)), {}  # noqa: SIM115
    for member in tar:
        parts = pathlib.PurePosixPath(member.name).parts
        parts = parts[1:] if parts[:1] == (split,) else parts
        if member.isfile() and len(parts) > 1 and ".." not in parts:
            found[parts[0], parts[-1]] = lambda member=member: tar.extractfile(member).read()
    return found


def natural(name: str) -> list:
    """By which x_2 comes before x_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="FROM")
    parser.add_argument("target", type=pathlib.Path, metavar="TO", help="a folder that is not there yet")
    parser.add_argument("--classes", default=":", help="e.g. :50, ::2 or 1::2")
    parser.add_argument("--images", type=int, default=0, help="of each class for train; 0: all")
    options = parser.parse_args(argv)
    if not re.fullmatch(r"-?\d*:-?\d*(:[1-9]\d*)?", options.classes) or options.images < 0:
        sys.exit(f"error: --classes={options.classes} --images={options.images}: a slice such as 1::2, and a count")
    if options.target.exists():
        sys.exit(f"error: {options.target}: is there already")
    with contextlib.ExitStack() as stack:
        copy(options, files_of(options.source, "train", stack), files_of(options.source, "val", stack))


def copy(options: argparse.Namespace, train: Files, val: Files) -> None:
    chosen = sorted({name for name, _ in train})[slice(*(int(part) if part else None
                                                        for part in options.classes.split(":")))]
    if not chosen:
        sys.exit(f"error: --classes={options.classes}: none of the classes")
    for split, there, most in (("train", train, options.images), ("val", val, 0)):
        kept = set()
        for name in chosen:
            kept |= {(name, file) for file in sorted((f for c, f in there if c == name), key=natural)[:most or None]}
        for key in there:  # in the archive's order, which is read front to back
            if key in kept:
                place = options.target / split / key[0]
                place.mkdir(parents=True, exist_ok=True)
                (place / key[1]).write_bytes(there[key]())
        print(f"{options.target / split}: {len(kept):,} images of {len(chosen)} classes")
    if (options.source / "labels.txt").is_file():
        shutil.copy(options.source / "labels.txt", options.target)


if __name__ == "__main__":
    main()
