"""What a row of the table of claims says of other views and records, held against scipy and plain counting."""

import fake_sweep
import pytest
from fake_sweep import arms_of
from scipy import stats

from alexnet_jax import run_files
from experiments.claims import table
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
    assert "contradicted here; by the centre crop contradicted*" in table.front([row])
    _set(tmp_path / "paper_like_10_seeds", "no_conv5", 1, ten_view=2870)
    row = next(row for row in rows(tmp_path)[0] if row.part == "without conv5" and row.measured)
    own, alone = ([-1.3, *ten[1:end]] for end in (10, 8))
    assert 15 * stats.ttest_1samp(own, 0).pvalue < 0.05 <= 15 * stats.ttest_1samp(alone, 0).pvalue
    assert row.remark.endswith("8 seeds, contradicted*")
