"""Another user's sweep: whoever may read it can inspect it, and writes nothing there."""

import contextlib
import io
import re

import another_user
import fake_sweep
import pytest
from another_user import NOBODY, in_child

from alexnet_jax import files
from alexnet_jax.errors import WorkdirError
from experiments import ensemble, kernels, report, retrieval, status

pytestmark = [*another_user.forks, another_user.needs_root]
shared = another_user.shared


@pytest.fixture
def sweep(shared):
    folder = fake_sweep.write_sweep(shared / "sweep", seeds=(0, 1), states={
        ("no_lrn", 0): "unfinished", ("no_lrn", 1): "unfinished", ("tanh", 0): "failed", ("tanh", 1): "not started"})
    for arm in ("baseline", "no_lrn"):
        (fake_sweep.folder_of(folder, arm, 1) / ".lock").touch()
    return folder


def said(main, *arguments):
    """What another user reads on stdout and stderr."""
    def look():
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(arguments))
        return [out.getvalue(), err.getvalue()]

    return in_child(look, NOBODY)


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_status(sweep):
    before = tree(sweep)
    workdir = f"--workdir={sweep}"
    out, err = said(status.main, workdir)
    assert re.search(r"8 runs: 4 finished, 1 failed, 2 partial, 1 waiting", out)
    assert err == ""
    run = fake_sweep.folder_of(sweep, "no_lrn", 1)
    with files.lock(run / ".lock"):
        assert "1 running, 1 partial" in said(status.main, workdir)[0]
    (run / ".lock").chmod(0o600)
    before = tree(sweep)
    out = said(status.main, workdir)[0]
    assert "1 partial, 1 waiting, 1 unknown" in out
    assert f"unknown: no_lrn seed 1: {run / '.lock'} cannot be read, so it may be in use or not; no sign of life" in out
    (run / "progress.json").write_text('{"state": "training", "epoch": 1, "epochs": 2}')
    assert re.search(r"its last sign of life is \d+ s old \(training\)", said(status.main, workdir)[0])
    fake_sweep.folder_of(sweep, "baseline", 0).chmod(0o700)
    (run / "progress.json").unlink()
    out = said(status.main, workdir)[0]
    assert "3 finished" in out
    assert "1 unreadable" in out
    assert re.search(r"unreadable: baseline seed 0: .*: permission denied", out)
    assert tree(sweep).keys() == before.keys()


def test_report(sweep):
    fake_sweep.folder_of(sweep, "nonoverlapping", 0).chmod(0o700)
    before = tree(sweep)
    out, err = said(report.main, f"--workdir={sweep}")
    assert "| baseline" in out
    assert re.search(r"nonoverlapping seed 0 \(unreadable: .*run.json: permission denied", out)
    assert err == (f"note: {sweep}: this user may not write there, so the report is only printed; "
                   "--out=FOLDER gets its files\n")
    assert tree(sweep) == before


@pytest.mark.parametrize("command", [kernels, retrieval, ensemble])
def test_what_draws_into_the_workdir_says_so_first(sweep, command):
    text = in_child(lambda: command.main([f"--workdir={sweep}"]), NOBODY)
    assert text == repr(WorkdirError(f"{sweep}: this user may not write there; --record=FOLDER names a place for the "
                                     "files"))


def refused(path):
    try:
        files.write_text(path, "")
    except PermissionError as error:
        return error.filename


def test_what_cannot_be_written_is_named(shared):
    text = in_child(lambda: refused(shared / "plan.json"), NOBODY)
    assert text == f"{shared}/plan.json"
