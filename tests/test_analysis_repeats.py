"""The same runs made twice: paired by id, and the statistics of their differences."""

import shutil

import fake_sweep
import numpy as np
import pytest

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import repeats
from experiments.analysis import statistics
from experiments.analysis.text import signed
from experiments.claims.__main__ import main as claims


def _shift(workdir, points):
    """Makes all runs of a sweep worse by so many points, another for each run, and of another revision."""
    for path, by in zip(sorted(workdir.rglob("result.json")), points, strict=True):
        tree = run_files.read_json(path)
        tree["eval"]["ten_view"]["top1_wrong"] += round(100 * by)
        run_files.write_json(path, tree)
        about = path.with_name("run.json")
        run_files.write_json(about, {**run_files.read_json(about),
                                     "git": {"revision": "fedcba9876543210", "dirty": False}})


def test_pairs_are_runs_of_one_id_and_their_differences_are_printed(tmp_path, capsys):
    fake_sweep.write_sweep(tmp_path / "before", seeds=(0, 1), epochs=2)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    fake_sweep.write_run(tmp_path / "before" / "another", fake_sweep.base_config(3), name="alone")
    _shift(tmp_path / "after", points := [0.5, 0.7, -0.1, 0.3, 0.9, -0.2, 0.4, 0.14])
    assert repeats.main([str(tmp_path / "before"), str(tmp_path / "after"), f"--record={tmp_path / 'kept'}"]) == 0
    tree = run_files.read_json(tmp_path / "kept" / repeats.FILE)
    before = {row["id"]: row for row in repeats.pairs(*[repeats.finished(tmp_path / "before")] * 2)["rows"]}
    assert len(tree["rows"]) == 8
    for row in tree["rows"]:
        assert row["before"] == before[row["id"]]["before"]
        assert (row["before_revision"], row["after_revision"]) == ("0123456789", "fedcba9876")
    assert sorted(row["after"] - row["before"] for row in tree["rows"]) == pytest.approx(sorted(points))
    printed = capsys.readouterr().out
    about = tree["protocol"]
    assert (f"\nshapes 1.0.0, {about['train_split']} → {about['eval_split']}, 32 px, 24 px crops, 2 epochs, seeds "
            "0, 1; Imaginary 9000, 1 core") in printed
    assert "8 pairs: after less before +0.33 [" in printed
    assert f"standard deviation {np.std(points, ddof=1):.2f}" in printed
    errors = np.array([[row["before"], row["after"]] for row in tree["rows"]]).reshape(-1, 2, 2)  # arm, seed, side
    centred = (errors - errors.mean(axis=1, keepdims=True)).reshape(-1, 2)
    spread = np.sqrt((centred**2).sum(axis=0) / 4)
    assert f"between seeds {spread[0]:.2f} before and {spread[1]:.2f} after" in printed
    assert f"correlate by {np.corrcoef(centred.T)[0, 1]:+.2f} within arms" in printed
    assert repeats.main([f"--results={tmp_path / 'kept'}"]) == 0
    alone = capsys.readouterr().out.strip()
    assert alone in printed
    claims([f"--results={tmp_path}"])  # the table of claims tells it too
    assert f"## Runs that were made twice: kept\n\n`python -m experiments.repeats --results={tmp_path / 'kept'}`" in (
        told := capsys.readouterr().out)
    assert alone in told


def _text(rows, seeds):
    about = dict.fromkeys(("dataset", "train_split", "eval_split", "resolution", "epochs", "device"), "")
    return repeats.text({"rows": rows, "views": "centre", "protocol": {**about, "seeds": seeds}})


def test_the_arms_differences_are_printed_by_either_folder_and_by_both():
    rows = [{"name": name, "seed": seed, "before": before, "after": after} for name, *errors in (
        ("baseline", (40.0, 39.0), (40.4, 39.0)), ("no_lrn", (41.0, 41.0), (41.2, 42.0)), ("alone", (50.0, 50.0)))
        for seed, (before, after) in enumerate(errors)]
    lines = _text(rows, [0, 1]).splitlines()
    assert lines[1].split()[:5] == ["baseline", "2", "40.20%", "39.00%", "−1.20"]
    lrn, alone = (next(line for line in lines[5:] if line.startswith(name)) for name in ("no_lrn", "alone"))
    for number, values in (("+0.90", (1.0, 0.8)), ("+2.50", (2.0, 3.0)), ("+1.70", (1.5, 1.9))):
        e = statistics.estimate(values)
        assert f"{number} [{signed(e.low, 2)}, {signed(e.high, 2)}]" in lrn
    assert "+10.00 (one seed)" in alone
    assert alone.endswith("+10.50 (one seed)")
    assert "no differences from a baseline" in _text(rows[:2], [0])
    assert "no differences from a baseline" in _text(rows[2:], [0, 1])


def test_wrong_folders_are_named(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "one", seeds=(0,), epochs=2)
    other = fake_sweep.write_sweep(tmp_path / "other", seeds=(7,), epochs=2)
    (tmp_path / "empty").mkdir()
    for given, error, words in (
            ([workdir], ConfigError, "name two folders"), ([workdir, tmp_path / "none"], ConfigError, "no such folder"),
            ([workdir, tmp_path / "empty"], ConfigError, "no finished run"),
            ([workdir, other], ConfigError, "no run of one"),
            ([f"--results={tmp_path / 'empty'}"], WorkdirError, "not there")):
        with pytest.raises(error, match=words):
            repeats.main([str(word) for word in given])
