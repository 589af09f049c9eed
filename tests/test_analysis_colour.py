"""Colour shares of kernels, and the permutation test over columns, with known answers."""
import json

import fake_sweep
import numpy as np
import pytest
from scipy import stats

from alexnet_jax.errors import ConfigError, WorkdirError
from experiments import kernels
from experiments.analysis import colour, verdicts
from experiments.figures import kernels as kernels_figure

RNG = np.random.default_rng(0)


def _kernels(grey, columns=2, count=16, smooth=False):
    """[columns, 5, 5, 3, count]: `grey` of each column's kernels without colour, the others of opponent colours."""
    form = RNG.normal(size=(columns, 5, 5, 1, count))
    if smooth:  # gratings whose period is longer than the kernel
        y, x = np.mgrid[:5, :5][:, None, :, :, None, None]
        a, b, phase = RNG.uniform(-0.6, 0.6, (3, columns, 1, 1, 1, count))
        form = np.cos(a * y + b * x + 5 * phase)
    out = form * np.array([1.0, -1.0, 0.0])[None, None, None, :, None]
    for column, number in enumerate(grey):
        out[column, ..., :number] = form[column, ..., :number]
    return out


def test_shares_of_grey_of_opponent_and_of_random_kernels():
    np.testing.assert_allclose(colour.colour_shares(_kernels((16, 0))), np.repeat([[0.0], [1.0]], 16, axis=1),
                               atol=1e-12)
    random = colour.colour_shares(RNG.normal(size=(2, 11, 11, 3, 500)))
    assert random.mean() == pytest.approx(2 / 3, abs=0.005)
    # Red alone: its grey part is a third of its energy.
    red = RNG.normal(size=(1, 5, 5, 1, 3)) * np.array([1.0, 0, 0])[None, None, None, :, None]
    np.testing.assert_allclose(colour.colour_shares(red), 2 / 3)
    assert np.all(colour.colour_shares(np.zeros((1, 3, 3, 3, 2))) == 0)


def test_the_permutation_test_agrees_with_scipy():
    shares = RNG.uniform(0.2, 0.8, (2, 12))
    shares[0] += 0.12
    found = colour.separation(shares, shuffles=20_000)
    theirs = stats.permutation_test(tuple(shares), lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)),
                                    vectorized=True, n_resamples=20_000, alternative="greater", rng=1)
    assert found.gap == pytest.approx(theirs.statistic)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.012)
    assert found.chance == pytest.approx(theirs.null_distribution.mean(), rel=0.02)


def test_without_separation_p_is_uniform():
    found = [colour.separation(RNG.uniform(size=(2, 16)), shuffles=199, seed=i).p_value for i in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.001


@pytest.mark.parametrize(("grey", "word"), [
    ([(15, 2)] * 4, "reproduced"), ([(8, 8)] * 4, "contradicted"), ([(15, 2)] * 2 + [(8, 8)] * 2, "unresolved"),
    ([(15, 2)], "unresolved")])
def test_verdicts_on_planted_columns(grey, word):
    # A little noise, so that no two runs are the same.
    found = [colour.measure(_kernels(g, smooth=True) + RNG.normal(0, 0.2, (2, 5, 5, 3, 16))) for g in grey]
    assert verdicts.kernels(colour.answer(found)).word == word


def test_kernels_that_are_still_noise_contradict_nothing():
    found = [colour.measure(RNG.normal(size=(2, 5, 5, 3, 16))) for _ in range(4)]
    found = verdicts.kernels(colour.answer(found))
    word, why = found.word, found.why
    assert word == "unresolved"
    assert "still like random ones" in why


def test_smoothness_of_flat_of_alternating_and_of_random_kernels():
    assert colour.smoothness(np.ones((2, 5, 5, 3, 4))) == pytest.approx(1.0)
    signs = (-1.0) ** np.add.outer(np.arange(5), np.arange(5))[None, :, :, None, None]
    assert colour.smoothness(np.broadcast_to(signs, (1, 5, 5, 3, 4))) == pytest.approx(-1.0)
    assert colour.smoothness(RNG.normal(size=(2, 5, 5, 3, 2_000))) == pytest.approx(0.0, abs=0.01)


def test_four_columns_have_a_gap_too():
    shares = np.full((4, 8), 0.5) + RNG.normal(0, 0.01, (4, 8))
    shares[2] -= 0.3
    found = colour.separation(shares)
    assert np.argmin(found.columns) == 2
    assert found.gap == pytest.approx(0.3, abs=0.03)
    assert found.p_value < 0.001


def test_a_kernel_is_stretched_around_grey():
    k = np.zeros((3, 3, 3, 2))
    k[0, 0, 0, 0], k[2, 2, 1, 0] = 2.0, -1.0
    sheet = kernels_figure.tile(k, across=2)
    assert tuple(sheet[0, 0]) == (1.0, 0.5, 0.5)
    assert tuple(sheet[11, 11]) == (0.5, 0.25, 0.5)
    assert tuple(sheet[0, 13]) == (1.0, 1.0, 1.0)  # the gap
    assert tuple(sheet[0, 20]) == (0.5, 0.5, 0.5)  # a kernel of zeros


def test_folders_of_runs_are_named_and_none_is_lost(tmp_path, monkeypatch):
    """One run has its own name in the title, several are counted; two of one seed would be one row."""
    workdir = fake_sweep.write_sweep(tmp_path / "three", seeds=(0, 1), epochs=2)
    folders = [fake_sweep.folder_of(workdir, "baseline", seed) for seed in (0, 1)]
    folders.append(fake_sweep.folder_of(workdir, "no_lrn", 1))

    class Trained:
        def __init__(self, folder):
            self.params = {"conv1": {"kernel": _kernels((12, 3))}}

    monkeypatch.setattr("alexnet_jax.inspect.trained.Trained", Trained)
    drawn = {}
    monkeypatch.setattr(kernels_figure, "draw", lambda by, measured, arm, caption: drawn.update({arm: list(by)}))
    monkeypatch.setattr("experiments.figures.style.save", lambda figure, path: None)
    kernels.main([str(folders[0])])
    monkeypatch.chdir(tmp_path)
    kernels.main(list(map(str, folders[:2])))
    assert drawn == {folders[0].name: [0], "2 runs": [0, 1]}
    with pytest.raises(ConfigError, match="another of these runs has seed 1 too"):
        kernels.main(list(map(str, folders)))
    with pytest.raises(ConfigError, match="--arm=baseline: only a sweep has arms"):
        kernels.main([str(folders[0]), "--arm=baseline"])


def test_what_is_recorded_gives_the_same_numbers_and_picture(tmp_path, capsys):
    made = {"baseline": {s: _kernels((12, 3)).astype(np.float16) for s in (0, 1)},
            "talk": {0: _kernels((8, 8)).astype(np.float16)}}
    kernels.save(tmp_path / "kernels.npz", made, "cifar10, 3 epochs")
    assert (tmp_path / "kernels.npz").stat().st_size < 200_000
    again, caption = kernels.load(tmp_path / "kernels.npz")
    assert caption == "cifar10, 3 epochs"
    assert kernels.measure(again) == kernels.measure(made)
    assert kernels.main([f"--results={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 runs p < 0.05" in out
    first = [(tmp_path / f"kernels_{arm}.png").read_bytes() for arm in made]
    kernels.main([f"--results={tmp_path}"])
    assert [(tmp_path / f"kernels_{arm}.png").read_bytes() for arm in made] == first


@pytest.mark.parametrize(("arm", "claimed"), [("baseline", True), (None, True), ("no_lrn", False)])
def test_a_control_is_recorded_with_its_protocol_and_makes_no_claim(tmp_path, monkeypatch, arm, claimed):
    """The paper's claim is of its own network; another arm's kernels.json would be counted as a measurement of it."""
    monkeypatch.setattr(kernels, "gather", lambda sweep, say: (
        {sweep.baseline: {s: _kernels((12, 3)) for s in (0, 1)}}, {sweep.baseline: list(sweep.runs.values())}))
    workdir, record = fake_sweep.write_sweep(tmp_path / "w", seeds=(0, 1), epochs=2), tmp_path / "results" / "mine"
    kernels.main([f"--workdir={workdir}", f"--record={record}", *([f"--arm={arm}"] if arm else [])])
    [path] = record.glob("*.json")
    tree = json.loads(path.read_text())
    assert path.name == ("kernels.json" if claimed else "control.json")
    assert ("claim" in tree) == ("verdict" in tree) == claimed
    assert tree["protocol"]["seeds"] == [0, 1]
    assert list(tree["kernels"]) == [arm or "baseline"]
    # The other kind would overwrite what is recorded there.
    other = "--arm=no_lrn" if claimed else "--arm=baseline"
    before = {file: file.read_bytes() for file in record.iterdir()}
    with pytest.raises(ConfigError, match=f"holds {path.name} and its kernels; choose another folder"):
        kernels.main([f"--workdir={workdir}", f"--record={record}", other])
    assert {file: file.read_bytes() for file in record.iterdir()} == before


def test_files_that_are_none(tmp_path):
    with pytest.raises(WorkdirError, match="no such file"):
        kernels.load(tmp_path / "kernels.npz")
    (tmp_path / "kernels.npz").write_bytes(b"PK nonsense")
    with pytest.raises(WorkdirError, match=r"not a kernels\.npz"):
        kernels.load(tmp_path / "kernels.npz")
