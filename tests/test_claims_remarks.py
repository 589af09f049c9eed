"""Remarks in the table of claims about other views and records, compared with scipy and plain counting."""

import dataclasses

import fake_sweep
import numpy as np
import pytest
from fake_sweep import arms_of
from scipy import stats

from alexnet_jax import run_files
from experiments import robustness
from experiments.analysis import compare, workdirs
from experiments.claims import regimes, summary, table
from experiments.claims.registry import CLAIMS
from experiments.claims.rows import rows


def _set(workdir, arm, seed, **wrong):
    path = fake_sweep.folder_of(workdir, arm, seed) / "result.json"
    tree = run_files.read_json(path)
    for views, count in wrong.items():
        tree["eval"][views] |= {"top1_wrong": count, "total": 10_000}
    run_files.write_json(path, tree)


def test_a_row_says_where_the_centre_crop_or_the_other_records_change_its_star(tmp_path):
    """One arm of a family of fifteen: Holm's p is fifteen times its own, by hand, from the counts."""
    few = arms_of(depth__no_conv5=-0.6)
    for name, seeds in (("paper_like_10_seeds", range(1, 9)), ("paper_like_cpu", (9, 10))):
        fake_sweep.write_sweep(tmp_path / name, arms=few, seeds=seeds, epochs=2)
        for seed in seeds:  # in hundredths of a point: ten views far from zero, the centre crop near it
            _set(tmp_path / name, "baseline", seed, ten_view=3000, centre=3300)
            _set(tmp_path / name, "no_conv5", seed, ten_view=2970 - 20 * (seed % 2), centre=3300 - 40 * (seed % 3))
    ten, centre = ([-0.3 - 0.2 * (seed % 2) for seed in range(1, 11)], [-0.4 * (seed % 3) for seed in range(1, 11)])
    p = [15 * stats.ttest_1samp(each, 0).pvalue for each in (ten, ten[:8], centre)]
    assert p[0] < 0.05
    assert p[1] < 0.05
    assert p[2] / 15 < 0.05 <= p[2]
    row = next(row for row in rows(tmp_path)[0] if row.part == "without conv5" and row.measured)
    assert (row.verdict, row.starred, row.p_holm) == ("contradicted", False, pytest.approx(p[0]))
    by_centre, without = row.remark.split("; ")
    assert by_centre == "by the centre crop contradicted*"
    assert without == "without seeds 9, 10 of paper_like_cpu: −0.40 [−0.49, −0.31], 8 seeds"
    for text in (table.front([row]), table.brief([row]), table.by_regime([row, dataclasses.replace(
            row, regime=regimes.FIVE.name)])):
        assert text.count("contradicted here; by the centre crop contradicted*") == text.count("−0.40 [−0.48") > 0
    _set(tmp_path / "paper_like_10_seeds", "no_conv5", 1, ten_view=2870)
    row = next(row for row in rows(tmp_path)[0] if row.part == "without conv5" and row.measured)
    own, alone = ([-1.3, *ten[1:end]] for end in (10, 8))
    assert 15 * stats.ttest_1samp(own, 0).pvalue < 0.05 <= 15 * stats.ttest_1samp(alone, 0).pvalue
    assert row.remark.endswith("8 seeds, contradicted*")


def test_the_seeds_that_a_word_without_a_star_hangs_on_are_named(tmp_path, capsys):
    """By hand: fifteen times the p of the other nine pairs is above 0.05."""
    each = [-0.5, -1.1, -0.3, -0.1, -0.5, -1.6, -0.5, -0.4, -0.4, -1.4]
    fake_sweep.write_sweep(tmp_path / "paper_like_10_seeds", arms=arms_of(depth__no_conv5=-0.6), seeds=range(1, 11),
                           epochs=2)
    for seed, difference in enumerate(each, start=1):
        _set(tmp_path / "paper_like_10_seeds", "baseline", seed, ten_view=3000)
        _set(tmp_path / "paper_like_10_seeds", "no_conv5", seed, ten_view=3000 + round(100 * difference))
    assert 15 * stats.ttest_1samp(each, 0).pvalue < 0.05
    lost = [str(seed) for seed in range(1, 11)
            if 15 * stats.ttest_1samp(each[:seed - 1] + each[seed:], 0).pvalue >= 0.05]
    assert 0 < len(lost) < 10
    robustness.main(["depth", f"--results={tmp_path}"])
    assert f"seeds without which the word would have a star: {', '.join(lost)}\n" in capsys.readouterr().out


def _planned(folder, seeds, **sweep):
    fake_sweep.write_sweep(folder, seeds=seeds, epochs=2, **sweep)
    run_files.write_json(folder / "plan.json", {**fake_sweep.plan_of(folder), "name": folder.name})


def test_parts_of_the_plan_that_come_later_have_their_rows_and_words(tmp_path, capsys):
    """H beside the claim's own regime, no word before its seeds are there; C is a picture, and no regime of its own."""
    arms = arms_of(lrn__no_lrn=2.0)
    _planned(tmp_path / "paper_like_30_seeds", range(1, 31), arms=arms)
    more = arms_of(lrn__no_lrn=2.0, dropout__no_dropout=1.0)  # whose error is above zero by one of the views alone
    _planned(tmp_path / "paper_like_second_images", range(1, 5), arms=more, gaps={"no_dropout": -3})
    for seed in range(1, 5):
        _set(tmp_path / "paper_like_second_images", "baseline", seed, ten_view=3000, centre=3300)
        _set(tmp_path / "paper_like_second_images", "no_dropout", seed, ten_view=2990 + 10 * (seed % 3),
             centre=3400 + seed)
    _planned(tmp_path / "dropout_by_images", range(1, 6), arms=arms_of(dropout__no_dropout=1.0),
             gaps={"no_dropout": -3})
    found = [row for row in rows(tmp_path)[0] if row.measured and row.quantity != "counted"]
    assert [(row.id, row.regime, row.verdict) for row in found if row.id == "lrn"] == [
        ("lrn", regimes.PAPER_LIKE_30.name, "reproduced"), ("lrn", regimes.SECOND_IMAGES.name, "preliminary")]
    assert not [row for row in found if "dropout_by_images" in row.source]
    assert table.brief(found).count("preliminary |") == 2  # and no word beside it
    assert table.front(found).count("**lrn** ") == 1
    assert not [row for row in found if row.verdict == "preliminary" and row.remark]
    assert {summary.of_workdir(tmp_path / name)["family"]["name"] for name in (
        "paper_like_second_images", "dropout_by_images")} == {regimes.DESCRIPTIVE.name}
    robustness.main(["lrn", f"--results={tmp_path}"])
    assert "90 epochs on 12,000 other images: " in (text := capsys.readouterr().out)
    assert "4 seeds; preliminary: 4 of 5 seeds" in text
    own, other = (compare.of_sweep(workdirs.read_sweep(tmp_path / name))["no_lrn"].each
                  for name in ("paper_like_30_seeds", "paper_like_second_images"))
    apart = stats.ttest_ind(own, other, equal_var=False).confidence_interval(0.95)  # with the norm less without
    numbers = f"{np.mean(own) - np.mean(other):+.2f} [{apart.low:+.2f}, {apart.high:+.2f}]".replace("-", "−")
    assert f"that less this regime's: {numbers}, p " in text


def test_every_regime_of_the_plan_is_known_once_and_b_has_a_family_of_its_own():
    records = [name for regime in dict.fromkeys(regimes.of(CLAIMS.values())) for name in regime.records]
    assert {"tiny_imagenet_paper_like", "dropout_by_images"} <= set(records)
    assert regimes.HUNDRED_CLASSES.family is None
    assert all(what.regimes[0] is not regimes.HUNDRED_CLASSES for claim in CLAIMS.values() for what in claim.measures)
