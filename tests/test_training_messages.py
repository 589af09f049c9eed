"""Messages about folders, data or devices that a run can't use, and about runs that fail."""

import errno
import os

import filelock
import jax
import pytest
import tiny_run
from tiny_run import go

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError, WorkdirError, describe_os_error
from alexnet_jax.training import evaluate
from alexnet_jax.training import workdir as workdir_lib

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
unfinished = tiny_run.unfinished


# What a run refuses.


def test_a_workdir_of_another_config(tiny, finished):
    before = (finished / "run.json").read_bytes()
    with pytest.raises(WorkdirError, match=r"belongs to another config \(optim\.learning_rate = 0\.003 there, 0\.02 "
                       r"here\); choose another --workdir"):
        go(tiny(optim__learning_rate=0.02), finished)
    assert (finished / "run.json").read_bytes() == before
    # What cannot change the result makes no other run of it.
    assert go(tiny(checkpoint__keep=2, mesh__data="auto"), finished)["status"] == "finished"


@pytest.mark.parametrize("content", ["", "{", '{"id": "0123456789"}', "[]", "null"])
def test_a_damaged_run_json(tiny, unfinished, content):
    (unfinished / "run.json").write_text(content)
    with pytest.raises(WorkdirError, match=r"run\.json: damaged; restore it or choose another --workdir"):
        go(tiny(), unfinished)
    assert (unfinished / "run.json").read_text() == content


def test_a_folder_of_something_else(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(WorkdirError, match=r"holds other files \(thesis\.tex\); choose an empty or new --workdir"):
        go(tiny(), tmp_path)
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {"thesis.tex"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_row_that_cannot_be_written_names_the_folder_and_is_lost_for_a_while(tiny, finished, tmp_path, monkeypatch,
                                                                              number):
    def full(*_):
        raise OSError(number, os.strerror(number))  # as of a file that is open

    with monkeypatch.context() as patch:
        patch.setattr(run_files.Rows, "append", full)
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            go(tiny(), tmp_path / "run")
    assert describe_os_error(error.value).startswith(f"{tmp_path / 'run'}: ")
    go(tiny(), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()


def test_two_processes_do_not_train_one_run(tiny, tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(
            workdir_lib.WorkdirInUse, match="in use by another process") as error:
        go(tiny(), tmp_path)
    assert error.value.exit_code == 75


@pytest.mark.parametrize(("fields", "message"), [
    ({"model__classes": 3}, r"config\.model\.classes: 3 outputs for the 10 classes of shapes"),
    ({"train__batch_size": 65}, r"config\.train\.batch_size: 65 is more than the 64 images of 'train\[:64\]'"),
    ({"data__train_split": "train[:81]"}, r"train\[:81\]"),
    ({"mesh__data": "2"}, r"config\.mesh"),
    ({"data__tune_split": "train[60:70]"}, r"config\.data\.tune_split: 4 images of 'train\[60:70\]' are in "
                                           r"config\.data\.train_split = 'train\[:64\]' too"),
    ({"data__fit_split": "train[60:70]"}, r"config\.data\.fit_split: 6 images of 'train\[60:70\]' are not in "
                                          r"config\.data\.train_split = 'train\[:64\]'; choose"),
    ({"data__tune_split": "test[:5]"}, r"config\.data\.tune_split: 5 images of 'test\[:5\]' are in "
                                       r"config\.data\.eval_split = 'test' too"),
])
def test_what_the_data_or_the_devices_do_not_allow(tiny, tmp_path, fields, message):
    if "mesh__data" in fields and len(jax.devices()) > 1:
        pytest.skip("there are two devices here")
    with pytest.raises(ConfigError, match=message) as error:
        go(tiny(**fields), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run.json").exists()


# Runs that come to nothing.


def test_a_loss_that_is_not_finite(tiny, tmp_path):
    result = go(tiny(optim__learning_rate=1e9), tmp_path)
    assert (result["status"], result["eval"]) == ("diverged", None)
    assert result["message"].startswith("the loss was not finite at step ")
    assert "try a smaller config.optim.learning_rate (it is 1e+09)" in result["message"]
    assert run_files.read_json(tmp_path / "result.json") == result
    assert "given up: the loss was not finite" in (tmp_path / "log.txt").read_text()
    assert go(tiny(optim__learning_rate=1e9), tmp_path) == result


def test_a_last_update_that_is_one_too_many(tiny, tmp_path, monkeypatch):
    def poisoned(*_):
        return {"top1_wrong": 30, "top5_wrong": 30, "total": 30, "loss": float("nan")}

    monkeypatch.setattr(evaluate, "evaluate", poisoned)
    assert go(tiny(), tmp_path)["status"] == "diverged"


def test_a_run_that_never_leaves_chance(tiny, tmp_path):
    result = go(tiny(optim__learning_rate=0.0), tmp_path)
    assert result["status"] == "finished"
    assert result["message"].startswith("never left chance: error ")
    assert ("where naming one class always gives 89.1% and 90.0%; more epochs, another config.optim.learning_rate"
            in result["message"])
    assert f"WARNING: {result['message']}" in (tmp_path / "log.txt").read_text()
