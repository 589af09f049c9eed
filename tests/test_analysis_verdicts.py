"""The rules for verdicts and stars, on planted differences; their facts compared with scipy's tests."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import families, speed, statistics, verdicts
from experiments.analysis.speed import Arrival
from experiments.analysis.statistics import Estimate, estimate
from experiments.analysis.verdicts import Claimed, judge

SIZED = {1: Claimed(1, 1.4), -1: Claimed(-1, -1.4)}


@pytest.mark.parametrize(("values", "claimed", "word", "facts", "part"), [
    # values, what is claimed, the word, (sign, inside, contains the size), part of the reason
    ([1.3, 1.5, 1.4], Claimed(1, 1.4), "reproduced", (1, False, True), "contains the paper's size"),
    ([-1.3, -1.5, -1.4], Claimed(-1, -1.4), "reproduced", (-1, False, True), "contains"),
    ([5.0, 5.1, 5.2], Claimed(1, 1.4), "reproduced", (1, False, False), "differs from the paper's"),
    ([-1.3, -1.5, -1.4], Claimed(1, 1.4), "contradicted", (-1, False, False), "opposite sign"),
    ([0.28, 0.3, 0.32], Claimed(1, 1.4), "reproduced", (1, True, False), "the interval lies within ±0.5"),
    ([-0.28, -0.3, -0.32], Claimed(1, 1.4), "contradicted", (-1, True, False), "the interval lies within ±0.5"),
    # An interval that holds zero: is it within ±x, does it exclude the size, or is all open?
    ([0.1, -0.15, 0.12], Claimed(1, 1.4), "no effect larger than ±0.5", (0, True, False), "and excludes the paper's"),
    ([0.1, -0.15, 0.12], Claimed(1, 0.2), "no effect larger than ±0.5", (0, True, True), "within ±0.5"),
    ([0.1, -0.15, 0.12], Claimed(1, 0.2, 0.1), "unresolved", (0, False, True), "which the interval contains"),
    ([0.1, -0.15, 0.12], Claimed(1), "no effect larger than ±0.5", (0, True, None), "within ±0.5"),
    ([0.5, -0.6, 0.3, -0.1], Claimed(1, 1.4), "smaller than claimed", (0, False, False), "excludes the paper's size"),
    ([0.5, -0.6, 0.3, -0.1], Claimed(1, 1.4, whose="the log's"), "smaller than claimed", (0, False, False), "log's"),
    ([1.0, -1.0, 0.5], Claimed(1, 0.4), "unresolved", (0, False, True), "seeds would resolve the paper's effect"),
    ([0.0, 0.1, 0.8, 1.2, 1.3], Claimed(1, 1.2), "unresolved", (0, False, True), "5 seeds had a chance of 9"),
    ([1e6, -1e6], Claimed(1, 0.1), "unresolved", (0, False, True), "more than 100,000 seeds"),
    ([1.4], Claimed(1, 1.4), "unresolved", (None, None, None), "one seed has no interval"),
    ([], Claimed(1, 1.4), "unresolved", (None, None, None), "no pair of finished runs"),
    ([0.3, 0.3], Claimed(1, 0.4), "unresolved", (None, None, None), "no measure of the noise"),
    # A sign and no size.
    ([1.3, 1.5, 1.4], Claimed(1), "reproduced", (1, False, None), "a sign and no size"),
    ([1.3, 1.5, 1.4], Claimed(-1), "contradicted", (1, False, None), "opposite sign"),
    ([1.0, -1.0, 0.5], Claimed(1), "unresolved", (0, False, None), "as large as the one measured"),
    ([1.0, -1.0, 0.5], Claimed(-1), "unresolved", (0, False, None), "measured, which has the opposite sign"),
    # A claim of no difference.
    ([0.1, -0.1, 0.05, 0.0], Claimed(0, -0.007), "reproduced", (0, True, True), "within ±0.5"),
    ([0.3, 0.31, 0.32], Claimed(0), "reproduced", (1, True, None), "within ±0.5"),
    ([1.4, 1.5, 1.6], Claimed(0), "contradicted", (1, False, None), "lies beyond ±0.5"),
    ([-0.2, -0.5, -0.9], Claimed(0, -0.007, 0.7), "unresolved", (0, False, True), "nothing larger than 0.7"),
    ([-0.5, -0.6, -0.7], Claimed(0, -0.007, 0.7), "contradicted", (-1, False, False), "excludes zero and reaches"),
])
def test_three_facts_make_the_word(values, claimed, word, facts, part):
    v = judge(estimate(values), claimed)
    assert (v.word, (v.sign, v.inside, v.contains_paper)) == (word, facts)
    assert part in v.why


def test_the_facts_are_those_of_scipys_tests():
    """The sign is a two-sided t test at 5%, within ±x two one-sided tests at 2.5%, the size another t test."""
    rng = np.random.default_rng(7)
    for centre in (0.0, 0.3, 0.5, 1.5, -1.5):
        for row in rng.normal(centre, 0.4, (100, 5)):
            v = judge(estimate(row), Claimed(1, 0.8, 0.5))
            assert (v.sign != 0) == (stats.ttest_1samp(row, 0).pvalue < 0.05)
            assert v.inside == (stats.ttest_1samp(row, 0.5, alternative="less").pvalue < 0.025 and
                                stats.ttest_1samp(row, -0.5, alternative="greater").pvalue < 0.025)
            assert v.contains_paper == (stats.ttest_1samp(row, 0.8).pvalue >= 0.05)


def test_the_other_way_round_it_is_the_same_verdict():
    for row in np.random.default_rng(3).normal(0.4, 0.6, (50, 4)):
        v, back = judge(estimate(row), Claimed(1, 0.9)), judge(-estimate(row), Claimed(1, 0.9).turned())
        assert (v.word, v.why, v.sign, v.contains_paper) == (back.word, back.why, -back.sign, back.contains_paper)


def test_before_the_planned_seeds_are_there_there_is_no_word():
    v = judge(estimate([1.3, 1.5, 1.4]), SIZED[1], planned=4)
    assert (v.word, v.why, v.sign) == ("preliminary", "3 of 4 seeds", 1)
    assert not verdicts.starred(v.word, v.by_sign, 0.9)
    assert judge(estimate([1.3, 1.5, 1.4]), SIZED[1], planned=3).word == "reproduced"
    twice = speed.ratio({s: Arrival(8 + s, True) for s in range(3)}, {s: Arrival(17 + 2 * s, True) for s in range(3)})
    assert [verdicts.ratio(twice, 2.0, planned).word for planned in (0, 3, 4)] == [
        "reproduced", "reproduced", "preliminary"]


def test_signs_are_called_wrongly_as_often_as_the_level_says():
    rows = np.random.default_rng(6).normal(0, 1, (4000, 5))
    words = [judge(estimate(row), Claimed(1)).word for row in rows]
    assert words.count("reproduced") / 4000 == pytest.approx(0.025, abs=0.01)
    assert words.count("contradicted") / 4000 == pytest.approx(0.025, abs=0.01)


def test_an_effect_as_large_as_x_is_called_none_in_one_of_forty_tables():
    rows = np.random.default_rng(6).normal(0.7, 0.3, (4000, 20))
    assert np.mean([judge(estimate(row), Claimed(0, None, 0.7)).word == "reproduced" for row in rows]) == pytest.approx(
        0.025, abs=0.01)


def test_the_seeds_are_those_that_the_measured_noise_asks_for():
    difference = estimate([1.0, -1.0, 0.5, -0.2])
    v = judge(difference, Claimed(1, 0.4))
    assert v.seeds_needed == statistics.seeds_needed(0.4, difference.sd)
    assert f"{v.seeds_needed} seeds" in v.why


def test_a_star_is_for_a_word_that_rests_on_the_sign():
    sign, none = judge(estimate([1.3, 1.5, 1.4]), Claimed(1)), judge(estimate([0.3, 0.31, 0.32]), Claimed(0))
    assert verdicts.starred(sign.word, sign.by_sign, 0.051)
    assert not verdicts.starred(sign.word, sign.by_sign, 0.049)
    assert not verdicts.starred(sign.word, sign.by_sign, None)
    assert none.word == "reproduced"
    assert not verdicts.starred(none.word, none.by_sign, 0.9)


def test_a_family_counts_all_its_tests():
    family = families.Family("three", (("a", "error"), ("b", "error"), ("c", "gap")))
    found = family.adjusted({("a", "error"): 0.01, ("c", "gap"): 0.03, ("d", "error"): 1e-9})
    assert found == {("a", "error"): pytest.approx(0.03), ("c", "gap"): pytest.approx(0.06)}
    assert families.DESCRIPTIVE.adjusted({("a", "error"): 0.01}) == {}


@pytest.mark.parametrize(("low", "high", "word", "contains"), [
    (-3.0, -1.0, "reproduced", True), (-2.0, -1.0, "reproduced", False), (1.0, 2.0, "contradicted", False),
    (-3.0, 1.0, "unresolved", True)])
def test_averages_of_networks(low, high, word, contains):
    v = verdicts.averages(Estimate(5, (low + high) / 2, 1.0, low, high), 5, -2.6)
    assert (v.word, v.contains_paper) == (word, contains)


def test_neighbours_and_counts():
    assert [verdicts.neighbours(Estimate(5, (a + b) / 2, 1.0, a, b)).word for a, b in ((1, 2), (-2, -1), (-1, 1))] == [
        "reproduced", "contradicted", "unresolved"]
    assert verdicts.neighbours(Estimate(1, 1.0)).word == "unresolved"
    assert verdicts.counted((101.9, 98.1), (100, 100)).word == "reproduced"
    assert verdicts.counted((101.9, 97.0), (100, 100)) == verdicts.Verdict(
        "contradicted", "+1.9% and -3.0% from the paper's round numbers")


def test_no_margin_makes_no_fact():
    v = judge(estimate([math.log(6.0), math.log(6.5), math.log(5.8)]), Claimed(1, math.log(6), None))
    assert (v.word, v.inside, v.contains_paper) == ("reproduced", None, True)
