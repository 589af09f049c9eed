"""`prepare --list` and `--delete`: the content of a store folder."""

import os
import signal
import subprocess
import sys

import another_user
import pytest
import test_data_partial as t
from another_user import NOBODY, in_child
from data_files import data_config, encoded, pixels, write_tree

from alexnet_jax import files
from alexnet_jax.data import open_split, partial, stores
from alexnet_jax.errors import ConfigError, DataError, Interrupted

shared = another_user.shared
STORE, BUILDING, LOCK = "toy-1-train-4", ".toy-1-train-4.building", ".toy-1-train-4.lock"


@pytest.fixture(autouse=True)
def _keep_each(monkeypatch):
    monkeypatch.setattr(partial.Partial, "keep_now_and_then", partial.Partial.keep)


def unfinished(store):
    with pytest.raises(Interrupted):
        t.make(store, t.Toy(stop=(6, lambda: os.kill(os.getpid(), signal.SIGINT))))


def row(store, name):
    """The line of that name, as words."""
    (line,) = [line for line in stores.lines(store) if line.split("  ")[0] == name]
    return line.split()


def delete(store, name):
    said = []
    stores.delete(store, name, said.append)
    return said


def test_nothing_there(tmp_path):
    for store in (tmp_path, tmp_path / "absent"):
        assert stores.lines(store) == [f"no packed images in {store}"]
        with pytest.raises(ConfigError, match=r"^--delete=x: no packed store in .* has that name; --list shows"):
            delete(store, "x")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: a part of this path is a file"):
        stores.lines(tmp_path / "file")


def test_list(tmp_path):
    t.make(tmp_path, t.Toy())
    for name in ("tfds/cifar10_binary", "downloads", "xla", ".hidden", "notes-2024"):  # none of them a store
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file-7").touch()
    head, line, total = stores.lines(tmp_path)
    assert head.split() == ["name", "dataset", "split", "size", "images", "classes", "version", "on", "disk", "written"]
    assert line.split()[:7] == [STORE, "toy", "train", "4×4", "9", "2", "1"]
    assert total.endswith(f" in {tmp_path}")
    (tmp_path / STORE / "labels.i32").unlink()
    assert row(tmp_path, STORE)[4] == "9"
    (tmp_path / STORE / "meta.json").write_text("{")
    assert row(tmp_path, STORE)[-1] == "damaged"
    (tmp_path / STORE / "meta.json").unlink()
    assert row(tmp_path, STORE)[-1] == "missing"
    assert delete(tmp_path, STORE)[0].startswith(f"{STORE}: deleted, ")
    assert stores.entries(tmp_path) == []


def test_unfinished_ones(tmp_path):
    unfinished(tmp_path)
    line = row(tmp_path, BUILDING)
    assert line[1:7] == ["toy", "train", "4×4", "7", "of", "12"]
    assert line[-1] == "unfinished"
    with files.lock(tmp_path / LOCK):
        assert row(tmp_path, BUILDING)[-2:] == ["being", "built"]
        with pytest.raises(DataError, match=rf"{BUILDING}: a process is building it; stop that first$"):
            delete(tmp_path, BUILDING)
    (tmp_path / BUILDING / "progress.npz").unlink()
    assert row(tmp_path, BUILDING)[-1] == "unfinished"
    assert len(delete(tmp_path, BUILDING)) == 1
    assert list(tmp_path.iterdir()) == []  # its lock too


def test_delete_leaves_the_others(tmp_path):
    t.make(tmp_path, t.Toy())
    (tmp_path / STORE).rename(tmp_path / "toy-2-train-4")
    t.make(tmp_path, t.Toy())
    (tmp_path / BUILDING).mkdir()
    assert delete(tmp_path, STORE)[0].startswith(f"{STORE}: deleted")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([BUILDING, LOCK, "toy-2-train-4"])
    delete(tmp_path, BUILDING)
    assert [p.name for p in tmp_path.iterdir()] == ["toy-2-train-4"]
    before = t.files(tmp_path / "toy-2-train-4")
    (tmp_path / "elsewhere").mkdir()
    for name in ("toy", "toy-2-train-5", "", ".", "..", "elsewhere", "toy-2-train-4/", "./toy-2-train-4",
                 "toy-2-train-4/images.u8", str(tmp_path / "toy-2-train-4"), "toy-2-train-4\n", "*"):
        with pytest.raises(ConfigError, match="no packed store in"):
            delete(tmp_path, name)
    with pytest.raises(ConfigError, match=r"did you mean toy-2-train-4\?"):
        delete(tmp_path, "toy-2-tran-4")
    assert t.files(tmp_path / "toy-2-train-4") == before


def test_links_are_not_followed(tmp_path):
    t.make(tmp_path / "far", t.Toy())
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / STORE).symlink_to(tmp_path / "far" / STORE)
    assert "a link to" in " ".join(row(tmp_path / "near", STORE))
    with pytest.raises(ConfigError, match=r"a link to .*; remove the link by hand$"):
        delete(tmp_path / "near", STORE)
    assert (tmp_path / "far" / STORE / "images.u8").exists()


def test_a_deletion_that_was_cut_off(tmp_path, monkeypatch):
    t.make(tmp_path, t.Toy())
    with monkeypatch.context() as patch:
        patch.setattr(stores.shutil, "rmtree", lambda folder: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            delete(tmp_path, STORE)
    name = f".{STORE}.{os.getpid()}.building"
    assert [entry.name for entry in stores.entries(tmp_path)] == [name]
    delete(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork")
@another_user.needs_root
def test_another_users(shared):
    t.make(shared, t.Toy())
    error = repr(DataError(f"{shared / STORE}: this user may not delete it; ask its owner"))
    for mode in (0o755, 0o777):
        shared.chmod(mode)
        assert in_child(lambda: row(shared, STORE)[4], NOBODY) == "9"
        assert in_child(lambda: delete(shared, STORE), NOBODY) == error
    (shared / STORE).chmod(0o700)
    assert in_child(lambda: row(shared, STORE)[-2:], NOBODY) == ["permission", "denied"]
    assert in_child(lambda: delete(shared, STORE), NOBODY) == error


def test_names_are_text(tmp_path):
    """A dataset's name may hold anything."""
    folder = "a\nb[bold]$x$ 鳥 \\u000a" + "long" * 20
    write_tree(tmp_path, {f"{folder}/train/{c}/{i}.png": encoded(pixels(i)) for c in "xy" for i in range(2)})
    data = data_config(tmp_path / "store", dir=tmp_path, name=f"image_folder:{folder}")
    open_split(data, "train", report=lambda line: None)
    lines = stores.lines(tmp_path / "store")
    assert len(lines) == 3
    assert not any("\n" in line for line in lines)
    assert "image_folder:a\\nb[bold]$x$ 鳥 \\u000alonglong" in lines[1]
    (entry,) = stores.entries(tmp_path / "store")
    assert delete(tmp_path / "store", entry.name)[0].startswith(entry.name)


def command(*arguments, **env):
    command = [sys.executable, "-m", "alexnet_jax.data.prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=os.environ | env)


def test_the_command_needs_no_config(tmp_path):
    t.make(tmp_path, t.Toy())
    unfinished(tmp_path / "other")
    done = command("--list", ALEXNET_STORE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith(STORE)
    done = command(f"--delete={STORE}", "--list", ALEXNET_STORE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == f"no packed images in {tmp_path}"
    done = command("--config=configs/shapes.py", f"--config.data.store={tmp_path / 'other'}", "--list")
    assert BUILDING in done.stdout
    done = command(f"--delete={STORE}", ALEXNET_STORE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stdout == ""


def test_its_flags_leave_a_sweep_s_driver_its_own():
    script = "from experiments import run; run.define_flags(); from alexnet_jax.data import prepare"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
