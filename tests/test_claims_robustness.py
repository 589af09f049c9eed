"""The effect of other choices on a claim's row, on simulated runs, compared with scipy and plain counting."""

import fake_sweep
import numpy as np
import pytest
from fake_sweep import arms_of
from scipy import stats

from alexnet_jax import config, run_files
from alexnet_jax.data import open_splits
from alexnet_jax.errors import ConfigError
from experiments import robustness
from experiments.analysis import workdirs


def _told(results, capsys, *words):
    robustness.main([*words, f"--results={results}"])
    return capsys.readouterr().out


@pytest.fixture
def results(tmp_path):
    arms = arms_of(pca__no_pca=0.1)
    fake_sweep.write_sweep(tmp_path / "paper_like_30_seeds", arms=arms, seeds=range(1, 31), epochs=2, outcomes=True)
    return tmp_path


def test_pairs_signs_and_equivalence_are_those_of_the_runs(results, capsys):
    sweep = workdirs.read_sweep(results / "paper_like_30_seeds")
    error = {arm.name: np.array([run.counts("ten_view")["top1_wrong"] / 100 for run in arm.runs.values()])
             for arm in sweep.arms}
    each = error["baseline"] - error["no_pca"]  # as the claim has it: with less without
    text = _told(results, capsys, "pca")
    assert f"pairs: 1: {each[0]:+.2f}".replace("-", "−") in text
    above = int((each > 0).sum())
    p = stats.binomtest(above, 30).pvalue
    assert f"signs: {above} above zero, {30 - above} below; sign test p {p:.3f}" in text
    means = [np.delete(each, i).mean() for i in range(30)]
    assert f"mean {min(means):+.2f} to {max(means):+.2f}, p at most".replace("-", "−") in text
    ends = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    inside = "yes" if ends.low > -0.5 and ends.high < 0.5 else "no"
    assert f"within ±0.5 over seeds: {inside}; over seeds and 10,000 images [" in text
    assert "over 15 tests (the first quantities of docs/evidence-plan.md)" in text
    assert "none was searched for this arm" in text


def test_an_arm_is_held_against_all_baselines_of_its_device(results, capsys):
    fake_sweep.write_sweep(results / "paper_like_10_seeds", arms=arms_of(decay__no_decay=2.0), seeds=range(1, 11),
                           epochs=2, gaps={"no_decay": -2.0}, states={("no_decay", 10): "not started"})
    text = _told(results, capsys, "decay")
    assert "9 runs against all 10 of baseline on Imaginary 9000, unpaired: " in text  # that have the quantity
    assert "10 above zero" not in text


def test_the_same_run_on_two_devices(results, capsys):
    fake_sweep.write_sweep(results / "paper_like_cpu", arms=arms_of(), seeds=(9, 10), epochs=2)
    for folder in (results / "paper_like_cpu").glob("runs/*"):
        about = run_files.read_json(folder / "run.json")
        run_files.write_json(folder / "run.json", {**about, "device": {**about["device"], "kind": "Another"}})
    text = _told(results, capsys)
    assert "baseline seed 9: Imaginary 9000 " in text
    assert "2 pairs" in text
    error = [[run.counts("ten_view")["top1_wrong"] / 100 for run in arm.runs.values()]
             for arm in workdirs.read_sweep(results / "paper_like_30_seeds").arms]
    other = [[run.counts("ten_view")["top1_wrong"] / 100 for run in workdirs.read_sweep(
        results / "paper_like_cpu").arm("baseline").runs.values()]]
    spread = (sum((len(of) - 1) * np.var(of, ddof=1) for of in error + other) / 59)**0.5  # 29 + 29 + 1
    assert f"two seeds of an arm on one device lie {2**0.5 * spread:.2f} apart" in text


def test_a_pair_of_another_device_is_held_against_the_first_ones_baseline_too(results, capsys):
    arms = arms_of(decay__no_decay=2.0, columns__one_column=1.0)
    for name, seeds, error in (("paper_like_10_seeds", range(1, 10), 20.0), ("paper_like_cpu", (10,), 30.0)):
        fake_sweep.write_sweep(results / name, arms=arms, seeds=seeds, epochs=2, error=error)
    for folder in (results / "paper_like_cpu").glob("runs/*"):
        about = run_files.read_json(folder / "run.json")
        run_files.write_json(folder / "run.json", {**about, "device": {**about["device"], "kind": "Another"}})
    wrong = {}
    for name in ("paper_like_30_seeds", "paper_like_10_seeds", "paper_like_cpu"):
        for arm in workdirs.read_sweep(results / name).arms:
            for seed, run in arm.runs.items():
                wrong.setdefault((arm.name, seed), []).append(run.counts("ten_view")["top1_wrong"] / 100)
    each = [wrong["baseline", seed][-1 if seed < 10 else 0] - wrong["one_column", seed][-1] for seed in range(1, 11)]
    ends = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    line = next(line for line in _told(results, capsys, "columns").splitlines() if "mixes devices" in line)
    assert line.strip().startswith(
        f"with Imaginary 9000's baseline of seed 10 too, which mixes devices in a pair: {np.mean(each):+.2f} "
        f"[{ends.low:+.2f}, {ends.high:+.2f}], p ".replace("-", "−"))


def test_two_views_of_the_same_runs_have_no_other_quantity_and_no_rate_of_their_own(results, capsys):
    text = _told(results, capsys, "crops")
    assert "pairs: 1: " in text
    assert not [words for words in ("other quantities", "learning rate") if words in text]


def test_nothing_recorded_and_a_claim_that_is_none(tmp_path, capsys):
    assert "nothing is recorded of these claims" in _told(tmp_path, capsys, "pca")
    with pytest.raises(ConfigError, match=r"^nonsense: no claim of that name; there is relu, "):
        robustness.main(["nonsense"])
    with pytest.raises(ConfigError, match=r"^--results=.*nowhere: no such folder; "):
        robustness.main([f"--results={tmp_path / 'nowhere'}"])


def test_what_is_in_the_images(results, capsys):
    """Of the embedded dataset, counted from its arrays."""
    fake_sweep.write_sweep(results / "paper_like_second_images", arms=arms_of(), seeds=(1,), epochs=2)
    text = _told(results, capsys, "pca", "--images")
    assert text.count("\nimages, 90 epochs on 12,000 ") == 2  # H's too
    sweep = workdirs.read_sweep(results / "paper_like_30_seeds")
    splits = open_splits(config.from_json(next(iter(sweep.runs.values())).config).data)
    images = {np.asarray(image).tobytes() for image in splits["train_split"].images[:]}
    for name, place in (("train_split", "learnt from: train"), ("eval_split", "reported on: test")):
        counts = np.bincount(splits[name].labels)
        assert f"{place}, {len(splits[name]):,} images; of a class {min(counts):,} to {max(counts):,}" in text
    seen = sum(np.asarray(image).tobytes() in images for image in splits["eval_split"].images[:])
    assert f"learnt from too, by their bytes: {seen}\n" in text
    assert f"twice among those learnt from: {len(splits['train_split']) - len(images)}\n" in text
