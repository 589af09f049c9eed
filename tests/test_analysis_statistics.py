"""Simulated data with known effects: coverage, power, corrections; and the logs' differences."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import statistics, text
from experiments.analysis.statistics import Estimate, estimate, paired_difference
from experiments.claims import paper


def test_estimate_equals_a_hand_calculation():
    e = estimate([1.0, 2.0, 3.0])
    assert (e.n, e.mean, e.sd) == (3, 2.0, 1.0)
    assert e.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) = 4.302653
    assert e.p_value == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue)


@pytest.mark.parametrize(("values", "expected"), [
    ([], Estimate(0)),
    ([1.4], Estimate(1, 1.4)),
    ([0.3, 0.3], Estimate(2, 0.3, 0.0)),  # agreement to the last image is no certainty
    ([0.1 + 0.2, 0.3], Estimate(2, pytest.approx(0.3), 0.0)),
])
def test_too_little_for_an_interval(values, expected):
    assert estimate(values) == expected


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_intervals_cover_the_truth_95_percent_of_the_time(n):
    """Seed effects that both arms share drop out of paired differences, which alone are tested here."""
    rng, trials, truth = np.random.default_rng(n), 1000, 1.4
    hits = 0
    for _ in range(trials):
        shared = rng.normal(20, 5, n)
        baseline = dict(enumerate(shared + rng.normal(0, 0.3, n)))
        arm = dict(enumerate(shared + truth + rng.normal(0, 0.3, n)))
        e = paired_difference(arm, baseline)
        hits += e.low <= truth <= e.high
    assert hits / trials == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_pairs_are_the_seeds_that_both_have():
    e = paired_difference({0: 10.0, 1: 12.0, 5: 99.0}, {1: 11.0, 0: 9.5, 7: 1.0})
    assert (e.n, e.mean) == (2, 0.75)


@pytest.mark.parametrize(("effect", "sd", "n"), [(1.4, 1.0, 5), (0.4, 0.3, 3), (0.0, 1.0, 4), (-2.0, 1.0, 2)])
def test_power_agrees_with_simulation(effect, sd, n):
    x = np.random.default_rng(7).normal(effect, sd, (20_000, n))
    hits = (stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05).mean()
    assert statistics.power(effect, sd, n) == pytest.approx(hits, abs=0.015)


def test_power_stays_a_probability_for_any_size():
    for effect in (0.0, 1e-6, 0.3, 20.0, 28.0, 1e4, 1e9):  # scipy's noncentral t gives NaN for some of these
        powers = [statistics.power(effect, 1.0, n) for n in (1, 2, 3, 10, 1000, 100_000)]
        assert all(0 <= p <= 1 for p in powers)
        assert all(p <= q + 1e-9 for p, q in itertools.pairwise(powers))


@pytest.mark.parametrize(("effect", "sd"), [(0.4, 0.08), (0.4, 1.0), (1.4, 0.5), (0.1, 5.0), (30.0, 1.0)])
def test_seeds_needed_is_the_smallest_number(effect, sd):
    n = statistics.seeds_needed(effect, sd)
    assert n == statistics.seeds_needed(-effect, sd)
    assert statistics.power(effect, sd, n) >= 0.8 > statistics.power(effect, sd, n - 1)


def test_seeds_needed_without_an_answer():
    assert statistics.seeds_needed(0.0, 1.0) is None
    assert statistics.seeds_needed(1e-4, 5.0) is None  # more than anyone will run


def test_holm_equals_the_textbook():
    assert statistics.holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), None,
                                                         pytest.approx(0.06)]
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_keeps_the_error_rate_of_a_family():
    """Four arms without any effect: at most 5% of tables may call one of them significant."""
    p = np.random.default_rng(3).uniform(size=(4000, 4))
    wrong = np.mean([min(q for q in statistics.holm(list(row)) if q is not None) < 0.05 for row in p])
    assert wrong == pytest.approx(0.05, abs=0.014)


def test_noise_of_counts_and_of_seeds():
    assert statistics.binomial_standard_error(0.2, 10_000) == pytest.approx(0.004)
    assert statistics.pooled_sd([[1.0, 3.0], [5.0, 5.0], [9.0]]) == pytest.approx(1.0)
    assert statistics.pooled_sd([[1.0], []]) is None


def test_logged_differences_are_those_of_the_spec():
    expected = {"148": (1.370, 1.152), "147": (0.394, 0.300), "145-half": (1.695, 1.230),
                "145-2010 centre": (1.552, 1.296), "150": (1.164, 1.120)}
    for run, (top1, top5) in expected.items():
        value = paper.log_difference(run)
        assert (value.top1, value.top5) == (pytest.approx(top1), pytest.approx(top5))
        assert f"run {run} against" in value.where
    with pytest.raises(KeyError):
        paper.log_difference("133")


def test_signed():
    assert [text.signed(x, 2) for x in (1.4, -0.3, 0.001, -0.001)] == ["+1.40", "−0.30", "0.00", "0.00"]


def test_seeds_for_a_claim_of_no_difference_show_it_four_times_in_five():
    rng = np.random.default_rng(5)
    sd = estimate([1.0, -1.0, 0.5, -0.5]).sd
    n = statistics.seeds_for_none(0.7, sd)
    ends = [(e.low, e.high) for row in rng.normal(0, sd, (2000, n)) if (e := estimate(row))]
    within = np.mean([low > -0.7 and high < 0.7 for low, high in ends])
    assert within == pytest.approx(0.8, abs=0.03)
    assert statistics.equivalence_power(0.7, sd, n) == pytest.approx(within, abs=0.02)
    assert statistics.seeds_for_none(1e-4, 5.0) is None


def test_holm_counts_the_tests_that_are_still_to_come():
    p = [0.001, None, 0.02, 0.04]
    assert statistics.holm(p, 5) == [pytest.approx(0.005), None, pytest.approx(0.08), pytest.approx(0.12)]
    assert statistics.holm(p, 3) == statistics.holm(p)


def test_the_other_way_round_is_the_same_with_its_signs_turned():
    e = estimate([1.0, 2.0, 4.0])
    back = -e
    assert (back.mean, back.low, back.high, back.sd, back.p_value) == (-e.mean, -e.high, -e.low, e.sd, e.p_value)
    assert -back == e
    assert (-Estimate(0)).mean is None


# Seeds and images.


def _crossed(rng, seeds, images, truth=1.0, seed_sd=0.3, image_sd=20.0, rest_sd=30.0):
    """Differences [seeds, images], in points: a true mean, what each seed, each image and both together add."""
    return (truth + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, image_sd, (1, images))
            + rng.normal(0, rest_sd, (seeds, images)))


def test_the_noise_of_images_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(1)
    arm, baseline = rng.random((3, 8)) < 0.5, rng.random((3, 8)) < 0.3
    d = arm.astype(float) - baseline
    # Sums of squares by least squares: what images explain beyond seeds, and what neither does.
    seeds, images = np.repeat(np.eye(3), 8, axis=0), np.tile(np.eye(8), (3, 1))
    left = [float(np.sum((d.ravel() - x @ np.linalg.lstsq(x, d.ravel(), rcond=None)[0])**2))
            for x in (seeds, np.hstack([seeds, images]))]
    ms_images, ms_rest = (left[0] - left[1]) / 7, left[1] / 14
    over = statistics.over_images(arm, baseline)
    assert ms_images > ms_rest
    assert over.standard_error == pytest.approx(math.sqrt((ms_images - ms_rest) / 24), rel=1e-9)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_and_images_cover_the_truth_at_least_95_percent_of_the_time(seeds):
    rng, trials, images = np.random.default_rng(seeds), 1000, 400
    hits, alone, excluded, errors = 0, 0, 0, []
    for _ in range(trials):
        d = _crossed(rng, seeds, images)
        over, own = statistics.over_images(d, np.zeros_like(d)), estimate(d.mean(axis=1))
        assert over.low <= own.low < own.high <= over.high
        hits += over.low <= 1.0 <= over.high
        alone += own.low <= 1.0 <= own.high
        excluded += over.low > 0
        assert (over.high - over.low) / 2 == pytest.approx(math.hypot(own.half, 1.959964 * over.standard_error))
        errors.append(over.standard_error**2)
    assert math.sqrt(np.mean(errors)) == pytest.approx(20 / math.sqrt(images), rel=0.05)
    assert hits / trials >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / trials)
    if seeds == 5:  # with two or three the seeds' own interval is wide enough by itself
        assert alone / trials < 0.9
        assert hits / trials < 0.98
        assert excluded / trials > 0.05  # a true effect of one standard error


def test_right_and_wrong_are_the_same_as_their_numbers():
    rng = np.random.default_rng(3)
    arm, baseline = rng.random((4, 300)) < 0.4, rng.random((4, 300)) < 0.3
    counted, numbers = (statistics.over_images(arm.astype(kind), baseline.astype(kind), scale=100)
                        for kind in (bool, float))
    assert dataclasses.astuple(counted) == pytest.approx(dataclasses.astuple(numbers), rel=1e-9)


def test_images_that_all_arms_find_equally_hard_add_nothing():
    rng = np.random.default_rng(2)
    d = _crossed(rng, 5, 2000, image_sd=0.0)
    assert statistics.over_images(d, np.zeros_like(d)).standard_error < 0.5 * 30 / math.sqrt(5 * 2000)


@pytest.mark.parametrize("shape", [(1, 50), (3, 1)])
def test_no_noise_of_images_from_one_seed_or_image(shape):
    assert statistics.over_images(np.ones(shape), np.zeros(shape)) is None


def test_the_same_difference_at_every_seed_has_no_interval_over_images_either():
    over = statistics.over_images(np.eye(4)[:2, ::-1], np.eye(4)[:2])
    assert (over.low, over.high) == (None, None)
