"""Stores under construction: a builder may end at any time, and the next one resumes."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import emulated
import numpy as np
import pytest

from alexnet_jax import progress
from alexnet_jax.data import build, partial
from alexnet_jax.data import store as store_lib
from alexnet_jax.data.dataset import Block, Corrupt, Dataset, Reading
from alexnet_jax.errors import DataError, Interrupted

COUNT, SIZE = 12, 4
BAD = (3, 7, 8)
ORDER = (5, 0, 7, 11, 3, 8, 1, 2, 10, 4, 6, 9)
NAMES = ("a/0.jpg", "a\nb/1", "a\\nb", "a\rb", "[bold]$x$", "鳥/5.png", "\udcff.jpg", "7", "8", "\u2028\x85", "",
         "\\u000a")


class Toy(Dataset):
    """Twelve images, three of them corrupt, in a mixed order. `read_ranks` are those that were read."""

    name, key = "toy", "toy"

    def __init__(self, made_by="nobody", stop=None):
        self.made_by, self.read_ranks, self._stop = made_by, [], stop

    def read(self, split, size, report):
        def examples(done):
            for rank in ORDER:
                if done[rank]:
                    continue
                if self._stop is not None and len(self.read_ranks) == self._stop[0]:
                    self._stop[1]()
                self.read_ranks.append(rank)
                if rank in BAD:
                    yield Corrupt(rank, f"image {rank}", "too beautiful")
                else:
                    image = np.random.default_rng(rank).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
                    yield Block(rank, image, np.array([rank % 2], np.int32), np.array([(rank + 1, 70000)]))

        return Reading(COUNT, ("even", "odd"), ("0", "1"), examples, "toys", self.made_by, lambda: NAMES,
                       {"PDF": {"0": 2}})


def make(store, source, *, on_corrupt="skip", said=None):
    report = (lambda line: None) if said is None else said.append
    build.build(source, "train", "1", SIZE, store / "toy-1-train-4", on_corrupt=on_corrupt, report=report)
    return store / "toy-1-train-4"


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of the store that was built without an interruption."""
    folder = make(tmp_path_factory.mktemp("whole"), Toy())
    store = store_lib.open_store(folder, verify=True)
    kept = [rank for rank in range(COUNT) if rank not in BAD]
    for image, rank in zip(store.images, kept, strict=True):
        np.testing.assert_array_equal(image, np.random.default_rng(rank).integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    assert list(store.labels) == [rank % 2 for rank in kept]
    assert [entry["name"] for entry in store.meta["corrupt"]] == [f"image {rank}" for rank in BAD]
    assert store.names == [NAMES[rank] for rank in kept]
    assert (folder / "names.txt").read_text(encoding="utf-8").count("\n") == len(kept)
    assert store.originals.tolist() == [[rank + 1, 70000] for rank in kept]
    assert store.meta["left_out"] == {"PDF": {"0": 2}}
    return files(folder)


@pytest.fixture(autouse=True)
def _keep_each(monkeypatch):
    """Every image is safe as soon as it is put."""
    monkeypatch.setattr(partial.Partial, "keep_now_and_then", partial.Partial.keep)


def hidden(store):
    return sorted(p.name for p in store.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock"))


def test_stores_of_before_are_read(whole, tmp_path):
    """They have neither names nor the originals' sizes."""
    toy = Toy()
    read = toy.read

    def without_sizes(*arguments):
        reading = read(*arguments)
        return dataclasses.replace(reading, examples=lambda done: (
            item if isinstance(item, Corrupt) else item._replace(originals=None) for item in reading.examples(done)))

    toy.read = without_sizes
    store = store_lib.open_store(make(tmp_path, toy), verify=True)
    assert store.originals is None
    assert store.names == [NAMES[rank] for rank in range(COUNT) if rank not in BAD]
    meta = json.loads((store.folder / "meta.json").read_text())
    (store.folder / "names.txt").unlink()
    with pytest.raises(DataError, match=r"names.txt: no such file"):
        store_lib.open_store(store.folder).names  # noqa: B018
    del meta["crc32"]["names.txt"], meta["left_out"]
    (store.folder / "meta.json").write_text(json.dumps(meta))
    assert store_lib.open_store(store.folder).names is None


def test_a_builder_killed_at_any_moment(whole, tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path])}
    done = subprocess.run([sys.executable, emulated.PROGRAMS / "killed_builds.py", str(tmp_path)], env=env,
                          capture_output=True, text=True, check=False)
    assert done.stderr == ""
    results = json.loads(done.stdout)
    seen = set()
    for place, safe, complete, code in results:
        store = pathlib.Path(place)
        assert code == 0
        assert files(store / "toy-1-train-4") == whole
        assert hidden(store) == []
        read = json.loads((store / "read.json").read_text())
        if complete or len(safe) == COUNT:
            assert read == []
        else:
            assert sorted(read + safe) == list(range(COUNT))  # nothing twice
        seen.add(len(safe))
    assert seen == set(range(COUNT + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_done(whole, tmp_path, number, monkeypatch):
    monkeypatch.setattr(partial.Partial, "keep_now_and_then", lambda self: None)  # nothing is safe yet
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"^packing toy train at 4×4: stopped; 5 of 12 images are kept, and the same "
                                          r"command resumes$"):
        make(tmp_path, Toy(stop=(4, lambda: os.kill(os.getpid(), number))))
    assert signal.getsignal(number) == before
    assert hidden(tmp_path) == [".toy-1-train-4.building"]
    said, toy = [], Toy()
    assert files(make(tmp_path, toy, said=said)) == whole
    assert tuple(toy.read_ranks) == ORDER[5:]
    assert "packing toy train at 4×4: resuming after 5 of 12 images" in said
    assert said[-1].startswith("packing toy train at 4×4: 9 images, 5 of them earlier in ")
    assert hidden(tmp_path) == []


def test_a_signal_while_the_source_is_listed(tmp_path):
    toy = Toy()
    toy.read = lambda *arguments: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"stopped; the same command resumes"):
        make(tmp_path, toy)
    assert hidden(tmp_path) == []


def interrupted(store, after=6, **arguments):
    with pytest.raises(Interrupted):
        make(store, Toy(stop=(after - 1, lambda: os.kill(os.getpid(), signal.SIGINT)), **arguments))
    return store / ".toy-1-train-4.building"


UNKNOWN = "nothing says what it holds: progress.npz is missing or damaged"


def flip(file):
    """One bit of the checksums in it."""
    content = bytearray(file.read_bytes())
    content[content.index(b"crcs.npy") + 150] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda folder: (folder / "progress.npz").unlink(), UNKNOWN),
    (lambda folder: (folder / "progress.npz").write_bytes(b""), UNKNOWN),
    (lambda folder: (folder / "progress.npz").write_bytes(bytes(100)), UNKNOWN),
    (lambda folder: flip(folder / "progress.npz"), UNKNOWN),
    (lambda folder: (folder / "progress.npz").rename(folder / "journal"), UNKNOWN),  # as earlier versions left it
    (lambda folder: (folder / "images.u8").write_bytes(bytes(12 * 48)), "its images are not those that were written"),
    (lambda folder: (folder / "images.u8").unlink(), "its images are not those that were written"),
])
def test_what_is_damaged_is_rebuilt(whole, tmp_path, damage, reason):
    damage(interrupted(tmp_path))
    said, toy = [], Toy()
    assert files(make(tmp_path, toy, said=said)) == whole
    assert tuple(toy.read_ranks) == ORDER
    assert any(line.endswith(f"can't be used ({reason}); starting again") for line in said)


def test_what_another_decoder_made_is_rebuilt(whole, tmp_path):
    interrupted(tmp_path, made_by="Pillow 1.0")
    said, toy = [], Toy()
    assert files(make(tmp_path, toy, said=said)) == whole
    assert tuple(toy.read_ranks) == ORDER
    assert any("what it was made from or by has changed: made_by" in line for line in said)


def test_a_corrupt_image_of_before_is_refused_now(whole, tmp_path):
    interrupted(tmp_path)
    toy = Toy()
    with pytest.raises(DataError, match=r"^image 3: too beautiful; repair or remove it, or set config.data.on_corrupt"):
        make(tmp_path, toy, on_corrupt="refuse")
    assert toy.read_ranks == []
    assert files(make(tmp_path, toy)) == whole  # under skip it resumes from there
    assert tuple(toy.read_ranks) == ORDER[6:]


def test_refusing_keeps_what_is_safe(whole, tmp_path):
    said, toy = [], Toy()
    with pytest.raises(DataError, match=r"^image 7: too beautiful"):
        make(tmp_path, toy, on_corrupt="refuse", said=said)
    assert said[-1].startswith("packing toy train at 4×4: 2 of 12 images are kept in ")
    toy = Toy()
    assert files(make(tmp_path, toy)) == whole
    assert tuple(toy.read_ranks) == ORDER[2:]


@pytest.mark.parametrize("wait", [True, False])
def test_a_dataset_that_changes_while_it_is_read_leaves_nothing(tmp_path, monkeypatch, wait):
    save = partial.Partial._save

    def slow(self, *arguments):
        time.sleep(0.0 if wait else 0.05)  # it is still being kept when that is found out
        save(self, *arguments)

    monkeypatch.setattr(partial.Partial, "_save", slow)
    monkeypatch.setattr(partial.Partial, "keep_now_and_then", lambda self: self.keep(wait=wait))
    toy = Toy()
    toy.read = lambda *arguments: Reading(COUNT, ("a", "b"), ("0", "1"), lambda done: (
        Block(rank, np.zeros((1, SIZE, SIZE, 3), np.uint8), np.zeros(1, np.int32)) for rank in range(COUNT - 1)),
        "toys", "")
    with pytest.raises(DataError, match=r"^toys: changed while it was read; try again"):
        make(tmp_path, toy)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("piece", [1, 2, 5, 100])
def test_a_power_cut_while_places_are_closed_up(whole, tmp_path, monkeypatch, piece):
    """Whatever became of what was being written: nothing is lost, and nothing read again."""
    monkeypatch.setattr(partial, "_PIECE", piece * SIZE * SIZE * 3)
    land = partial.Partial._land
    for number in range(1, 10):
        landed = []

        def torn(self, content, landed=landed, number=number):
            landed.append(content)
            if len(landed) < number:
                return land(self, content)
            place = int(content[:20])
            os.pwrite(self._images, bytes(len(content) - 20), place * SIZE * SIZE * 3)
            raise KeyboardInterrupt

        store = tmp_path / str(number)
        store.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(partial.Partial, "_land", torn)
            try:
                make(store, Toy())
            except Interrupted:
                assert len(landed) == number
        toy = Toy()
        assert files(make(store, toy)) == whole
        assert toy.read_ranks == []
    assert len(landed) == -(-(COUNT - len(BAD) - BAD[0]) // piece)


def test_the_space_of_what_is_there_is_not_needed_again(whole, tmp_path, monkeypatch):
    folder = interrupted(tmp_path)
    taken = (folder / "images.u8").stat().st_blocks * 512
    needed = max(0, COUNT * SIZE * SIZE * 3 - taken)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert taken > 0
    assert files(make(tmp_path, Toy())) == whole


def test_a_store_of_another_version_under_construction_is_mentioned(tmp_path):
    folder = interrupted(tmp_path)
    said = []
    build.build(Toy(), "train", "2", SIZE, tmp_path / "toy-2-train-4", on_corrupt="skip", report=said.append)
    assert f"{folder}: an unfinished store of another version; if nobody is building it, python -m " \
           "alexnet_jax.data.prepare --delete=.toy-1-train-4.building removes it" in said
    said.clear()
    build.build(Toy(), "train", "2", 5, tmp_path / "toy-2-train-5", on_corrupt="skip", report=said.append)
    assert not any("unfinished" in line for line in said)


def test_rates_count_this_process_alone(tmp_path, monkeypatch):
    interrupted(tmp_path)
    clock = iter(range(0, 10_000, 20))  # 20 s from one look to the next
    monkeypatch.setattr(build, "time", type("time", (), {"monotonic": lambda: next(clock)}))
    shows = iter(range(0, 10_000, 20))
    monkeypatch.setattr(progress, "time", type("time", (), {"monotonic": lambda: next(shows)}))
    said = []
    make(tmp_path, Toy(), said=said)
    lines = [line for line in said if "images/s" in line]
    assert lines[0] == "packing toy train at 4×4: 8 of 12 · 0 images/s · 1 min 20 s left"  # one in 20 s; four to come
