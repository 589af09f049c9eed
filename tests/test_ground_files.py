"""Locks and atomically replaced files, also by and for other users."""

import errno
import os
import subprocess
import sys
import threading

import another_user
import fake_driver
import filelock
import pytest
from another_user import NOBODY, in_child

from alexnet_jax import files, run_files
from alexnet_jax.errors import describe_os_error
from alexnet_jax.training import workdir

pytestmark = another_user.forks
shared = another_user.shared


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".lock"


def take(path, seconds=0.0):
    with files.lock(path, seconds) as mine:
        return mine


def test_a_lock_is_one_processs_and_looking_at_it_takes_nothing(path):
    assert files.held(path) is False
    assert not path.exists()
    with files.lock(path) as mine:
        assert mine
        assert files.held(path) is True
        assert not take(path)
        assert in_child(lambda: take(path)) is False
        with pytest.raises(filelock.Timeout):  # a program that locks as this one did before
            filelock.FileLock(path).acquire(timeout=0)
    assert files.held(path) is False
    with filelock.FileLock(path):
        assert files.held(path) is True
        assert not take(path)


def test_a_lock_is_waited_for(path):
    with files.lock(path):
        waiting = threading.Thread(target=take, args=(path, None))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(fake_driver.LONG)
    assert not waiting.is_alive()


def test_a_lock_ends_with_a_killed_process(path):
    code = ("import os, pathlib, sys; from alexnet_jax import files\n"
            "with files.lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert take(path)


def test_a_removed_lock_file_is_not_held(path, monkeypatch):
    real = files._take

    def removed(file, shared):
        path.unlink(missing_ok=True)  # between opening and locking
        monkeypatch.setattr(files, "_take", real)
        return real(file, shared)

    monkeypatch.setattr(files, "_take", removed)
    with files.lock(path) as mine:
        assert mine
        assert files.held(path) is True


@pytest.mark.parametrize(("number", "words"), [
    (errno.ENOLCK, "the file system has no locks"), (errno.ENOSYS, "the file system has no locks"),
    (errno.EOPNOTSUPP, "the file system has no locks"), (errno.ESTALE, "the network file system has lost it"),
    (errno.EROFS, "the file system is read-only"), (errno.EIO, "the disk cannot be read or written")])
@pytest.mark.parametrize("call", ["open", "flock"])
def test_what_keeps_a_file_from_being_locked_is_named(path, monkeypatch, number, words, call):
    def refused(file, *_):
        raise OSError(number, os.strerror(number), *([str(file)] if call == "open" else []))

    monkeypatch.setattr(*(files.os, "open") if call == "open" else (files.fcntl, "flock"), refused)
    with pytest.raises(OSError, match="lock") as error, workdir.lock(path.parent):
        pass
    assert describe_os_error(error.value).startswith(f"{path}: {words}")


@another_user.needs_root
def test_another_users_lock(shared):
    path = shared / ".lock"
    take(path)
    path.chmod(0o644)
    assert in_child(lambda: [files.held(path), take(path)], NOBODY) == [False, True]
    with files.lock(path):
        assert in_child(lambda: [files.held(path), take(path)], NOBODY) == [True, False]
        path.chmod(0o600)
        assert in_child(lambda: files.held(path), NOBODY) is None
    assert "Permission denied" in in_child(lambda: take(path), NOBODY)
    assert "Permission denied" in in_child(lambda: take(shared / ".other"), NOBODY)


def test_text_that_is_no_utf8_reads_back(tmp_path):
    tree = {"dir": os.fsdecode(b"/data/m\xfcll"), "arm": "no×lrn"}
    run_files.write_json(tmp_path / "run.json", tree)
    assert run_files.read_json(tmp_path / "run.json") == tree
    assert "no×lrn" in (tmp_path / "run.json").read_text(encoding="utf-8")
    with workdir.Log(tmp_path / "log.txt", echo=False) as log:
        log(tree["dir"])
    assert "/data/m\\udcfcll" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_what_a_killed_process_leaves_is_cleared(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".run.json.{dead.pid}.tmp", tmp_path / f".metrics.csv.{dead.pid}.tmp"]
    others = [tmp_path / ".lock", tmp_path / "a.tmp", tmp_path / f".progress.json.{os.getpid()}.tmp",
              tmp_path / ".x.y.tmp"]
    for file in (*left, *others):
        file.touch()
    files.clear(tmp_path)
    assert all(file.exists() for file in left), "perhaps of a process on another machine, which is at it"
    os.utime(left[0], (0, 0))
    files.clear(tmp_path)
    assert [file.exists() for file in left] == [False, True]
    with workdir.lock(tmp_path):
        assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize(("make", "words"), [
    (lambda folder: (folder / "file").mkdir(exist_ok=True), "something else has this name"),
    (lambda folder: (folder / "broken").mkdir(exist_ok=True), "something else has this name"),
    (lambda folder: (folder / "file" / "x").mkdir(), "a part of this path is a file"),
    (lambda folder: (folder / ("x" * 300)).mkdir(), "longer than the file system allows"),
    (lambda folder: (folder / "circle").read_text("utf-8"), "symbolic links lead in a circle"),
    (lambda folder: folder.read_text("utf-8"), "this is a folder, where a file is needed")])
def test_what_is_in_the_way_has_a_remedy(tmp_path, make, words):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as error:
        make(tmp_path)
    assert describe_os_error(error.value).startswith(f"{error.value.filename}: {words}")


@pytest.mark.parametrize(("error", "words"), [
    (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "x"), "x: larger than this process or the file "),
    (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
     "No usable temporary directory found in ['/tmp']")])
def test_os_errors_are_described_beyond_their_number(error, words):
    assert describe_os_error(error).startswith(words)


def test_a_current_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError) as error:
        os.getcwd()
    assert describe_os_error(error.value).startswith("the current folder is no longer there")
