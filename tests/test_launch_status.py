"""What status says of a single run's folder."""

import fake_sweep
import pytest

from alexnet_jax import config, files, run_files
from alexnet_jax.errors import ConfigError
from experiments import status


def _said(folder, capsys):
    status.main([f"--workdir={folder}"])
    return capsys.readouterr().out


@pytest.mark.parametrize(("state", "words"), [
    ("finished", "no_lrn: finished: error 20.0% (ten views)"),
    ("diverged", "no_lrn: diverged: the loss was not finite at step 40"),
    ("failed", "failed: no_lrn: DataError: the store is truncated"),
    ("unfinished", "no_lrn: partial at epoch 1.5 of 4; the command that began it goes on")])
def test_a_single_run_has_a_state(tmp_path, capsys, state, words):
    c = config.override(fake_sweep.base_config(4), {"model.lrn.layers": ()})
    fake_sweep.write_run(tmp_path / "one", c, name="no_lrn", state=state)
    progress = {"state": "training", "epoch": 1.5, "epochs": 4, "images_per_second": 70.0, "seconds_left": 5}
    run_files.write_json(tmp_path / "one" / "progress.json", progress)
    before = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert _said(tmp_path / "one", capsys).startswith(words)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == before


def test_a_single_run_under_way_is_shown(tmp_path, capsys):
    fake_sweep.write_run(tmp_path / "one", fake_sweep.base_config(4), name="", state="unfinished")
    run_files.write_json(tmp_path / "one" / "progress.json", {
        "state": "training", "epoch": 1.5, "epochs": 4, "images_per_second": 70.0, "seconds_left": 5})
    with files.lock(tmp_path / "one" / ".lock"):
        shown = _said(tmp_path / "one", capsys)
    assert "one: running" in shown
    assert "1.5/4" in shown
    (tmp_path / "two").mkdir()
    with files.lock(tmp_path / "two" / ".lock"):  # before its first line is written
        assert "two: running" in _said(tmp_path / "two", capsys)


def test_a_folder_of_neither_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"neither plan\.json nor run\.json is there"):
        _said(tmp_path, capsys)
