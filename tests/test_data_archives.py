"""Archives of images: complete, truncated, altered, or without usable content."""

import tarfile

import image_folders
import numpy as np
import pytest
from data_files import data_config, encoded, pixels, write_tar, write_tree
from image_folders import mixed, one_line, open_quietly, tree

from alexnet_jax.data.readers import decode
from alexnet_jax.errors import DataError

data, toy = image_folders.data, image_folders.toy


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
    with pytest.raises(DataError, match=r"no images of the form <class>/<file> in it, only 1 without a class; make"):
        open_quietly(data, "train")


def test_links_in_an_archive_count_as_corrupt(data, toy):
    write_tar(toy / "train.tar", tree("train"))
    with tarfile.open(toy / "train.tar", "a") as tar:
        member = tarfile.TarInfo("train/n01/link.png")
        member.type, member.linkname = tarfile.SYMTYPE, "0.PNG"
        tar.addfile(member)
    split = open_quietly(data, "train")
    assert (len(split), split.corrupt) == (9, 1)
