"""A store folder shared by two users: both pack, one resumes the other's interrupted build, both read."""

import encodings.cp437  # noqa: F401 (zipfile's, for names in an .npz: another user may not be able to load it)
import os
import shutil

import another_user
import numpy as np
import pytest
import test_data_partial as t
from another_user import NOBODY, in_child
from data_files import data_config

from alexnet_jax.data import open_split, partial
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.readers import shapes
from alexnet_jax.errors import DataError, Interrupted

pytestmark = [*another_user.forks, another_user.needs_root]
shared = another_user.shared
FIRST, SECOND = NOBODY, NOBODY - 1
BUILDING = ".toy-1-train-4.building"
CLOSED = f"{BUILDING} belongs to another user, and this user may not write there"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of the store that one builder makes at once. Another user may not be able to load what this loads."""
    folder = t.make(tmp_path_factory.mktemp("undisturbed"), t.Toy())
    store_lib.open_store(folder)
    return t.files(folder)


@pytest.fixture
def store(shared, undisturbed):
    (shared / "store").mkdir()
    return shared / "store"


@pytest.fixture(autouse=True)
def _keep_each(monkeypatch):
    """Every image is safe as soon as it is put."""
    monkeypatch.setattr(partial.Partial, "keep_now_and_then", partial.Partial.keep)


def of(user, function, mask=0o022, group=None):
    """`function()` as this user."""
    def call():
        os.umask(mask)
        return function()

    return in_child(call, user, group)


def stopped(store, after=6):
    """Leaves six images."""
    def stop():
        raise KeyboardInterrupt

    try:
        t.make(store, t.Toy(stop=(after, stop)))
    except Interrupted as error:
        return str(error)


def finish(store):
    """[the ranks that had to be read, what was said]."""
    toy, said = t.Toy(), []
    t.make(store, toy, said=said)
    return [toy.read_ranks, said]


@pytest.mark.parametrize(("mode", "mask", "line"), [
    (0o777, 0o022, f"{CLOSED}; resuming from a copy"),
    (0o1777, 0o022, f"{CLOSED}; resuming from a copy"),
    (0o1777, 0o000, f"{CLOSED}; resuming from a copy"),  # a folder that only its owner may move
    (0o777, 0o000, None),
    (0o2775, 0o002, None),
])
def test_a_dead_builders_images(store, undisturbed, mode, mask, line):
    os.chown(store, -1, 100)
    store.chmod(mode)
    group = 100 if mode == 0o2775 else None
    assert "stopped" in of(FIRST, lambda: stopped(store), mask, group)
    read, said = of(SECOND, lambda: finish(store), mask, group)
    assert read == list(t.ORDER[6:])
    assert [text for text in said if "another user" in text] == ([line] if line else [])
    assert "packing toy train at 4×4: resuming after 6 of 12 images" in said
    assert t.files(store / "toy-1-train-4") == undisturbed
    left = t.hidden(store)
    assert left == ([BUILDING] if line else [])
    shutil.rmtree(store / BUILDING, ignore_errors=True)
    assert of(FIRST, lambda: finish(store), mask, group) == [[], []]


def test_images_that_are_of_no_use(store, undisturbed):
    store.chmod(0o777)
    of(FIRST, lambda: stopped(store))
    (store / BUILDING / "images.u8").chmod(0o600)
    read, said = of(SECOND, lambda: finish(store))
    assert (read, said[0]) == (list(t.ORDER), f"{CLOSED}, nor read all of it; starting again")
    assert t.files(store / "toy-1-train-4") == undisturbed
    shutil.rmtree(store / "toy-1-train-4")
    folder = store / BUILDING
    for damage in (lambda: folder.chmod(0o700), lambda: (folder / "progress.npz").write_bytes(b"")):
        damage()
        read, said = of(SECOND, lambda: finish(store))
        assert (read, said[0]) == (list(t.ORDER), f"{CLOSED}; starting again")
        assert t.files(store / "toy-1-train-4") == undisturbed
        shutil.rmtree(store / "toy-1-train-4")
        (store / BUILDING).chmod(0o755)


def test_a_copy_that_was_cut_off_is_made_again(store, undisturbed):
    store.chmod(0o777)
    of(FIRST, lambda: stopped(store))

    def cut_off():
        copyfile = shutil.copyfile
        shutil.copyfile = lambda source, target: (copyfile(source, target), os._exit(0))
        finish(store)

    with pytest.raises(ValueError, match="Expecting value"):  # it says nothing any more
        of(SECOND, cut_off)
    own = f".toy-1-train-4.{SECOND}.building"
    assert t.hidden(store) == sorted([own, BUILDING])
    assert of(SECOND, lambda: finish(store))[0] == list(t.ORDER[6:])
    assert t.files(store / "toy-1-train-4") == undisturbed
    # And what this user has done since is not lost either.
    shutil.rmtree(store / "toy-1-train-4")
    assert "stopped" in of(SECOND, lambda: stopped(store, 3))
    assert t.hidden(store) == sorted([own, BUILDING])
    assert of(SECOND, lambda: finish(store))[0] == list(t.ORDER[9:])
    assert t.files(store / "toy-1-train-4") == undisturbed


def test_a_store_that_only_lacks_its_name(store, undisturbed):
    store.chmod(0o777)
    of(FIRST, lambda: t.make(store, t.Toy()).rename(store / BUILDING) and None)
    assert of(SECOND, lambda: finish(store)) == [[], []]
    assert t.files(store / "toy-1-train-4") == undisturbed


def test_a_living_builder_is_waited_for(store):
    from alexnet_jax.data import build

    store.chmod(0o777)
    of(FIRST, lambda: (store / ".toy-1-train-4.lock").touch())
    said = []

    def once(line):
        said.append(line)
        raise DataError(line)

    def look():
        try:
            build.build(t.Toy(), "train", "1", t.SIZE, store / "toy-1-train-4", on_corrupt="skip", report=once)
        except DataError as error:
            return str(error)

    with build.lock(store / "toy-1-train-4", print):
        assert of(SECOND, look) == "another process is building toy-1-train-4; waiting for it"


def test_missing_write_permission_is_reported_before_anything_is_read(store):
    toy = t.Toy()
    toy.read = None
    text = of(SECOND, lambda: t.make(store, toy))
    assert text == repr(DataError(f"{store}: this user may not write there, and toy train is not packed yet; "
                                  "config.data.store or $ALEXNET_STORE_DIR names another place for packed images"))


def test_what_another_user_keeps_closed(store):
    """With a mask of 077. One line, with the field that chooses another folder."""
    def packed():
        try:
            t.make(store, t.Toy())
        except DataError as error:
            return str(error)

    store.chmod(0o777)
    of(FIRST, packed, 0o077)
    remedy = "choose a place that you may read and write (config.data.store or $ALEXNET_STORE_DIR is where the " \
             "packed images "
    assert of(SECOND, packed) == f"{store}/.toy-1-train-4.lock: permission denied; {remedy}go)"

    def opened():
        try:
            store_lib.open_store(store / "toy-1-train-4")
        except DataError as error:
            return [str(error), store_lib.stores_of(store, lambda meta: True)]

    assert of(SECOND, opened) == [f"{store}/toy-1-train-4/meta.json: permission denied; {remedy}are)", []]


def test_a_store_of_another_user_is_read_and_nothing_is_written(store, monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", {"train": 20, "test": 10})
    data = data_config(store)
    mean = open_split(data, "train", report=lambda line: None).images.mean(axis=0)
    before = sorted(store.rglob("*"))

    def look():
        split = open_split(data, "train", report=lambda line: None)
        return [len(split), np.abs(split.statistics().mean - mean).max().item()]

    count, difference = of(SECOND, look)
    assert count == 20
    assert difference < 1e-3
    assert sorted(store.rglob("*")) == before
