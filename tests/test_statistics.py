"""Simulated data with known effects: coverage, power, the verdict rule; and the paper's numbers as data."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiments import paper
from experiments.analysis import statistics
from experiments.analysis.statistics import Estimate, estimate, paired_difference, verdict


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


@pytest.mark.parametrize(("values", "paper", "word", "contains", "part"), [
    ([1.3, 1.5, 1.4], 1.4, "reproduced", True, "contains the paper's size"),
    ([-1.3, -1.5, -1.4], -1.4, "reproduced", True, "contains"),
    ([5.0, 5.1, 5.2], 1.4, "reproduced", False, "differs from the paper's"),
    ([-1.3, -1.5, -1.4], 1.4, "contradicted", False, "opposite sign"),
    ([1.0, -1.0, 0.5], 0.4, "unresolved", True, "seeds would resolve the paper's effect"),
    # Resolved or not, it is said whether the interval has the paper's size in it.
    ([1.0, -1.0, 0.5], 0.4, "unresolved", True, "the paper's effect, which the interval contains"),
    ([-0.9, 0.1, -0.2, 0.3, -1.0], 0.8, "unresolved", False,
     "seeds would resolve the paper's effect; the interval excludes it"),
    ([0.01, -0.02, 0.01], 1.4, "unresolved", False,
     "3 seeds would hardly have missed an effect of the paper's size; the interval excludes it"),
    ([0.0, 0.1, 0.8, 1.2, 1.3], 1.2, "unresolved", True,
     "5 seeds had a chance of 9"),
    ([1.4], 1.4, "unresolved", None, "one seed has no interval"),
    ([], 1.4, "unresolved", None, "no pair of finished runs"),
    ([0.3, 0.3], 0.4, "unresolved", None, "no measure of the noise"),
    ([1e6, -1e6], 0.1, "unresolved", True, "more than 100,000 seeds"),
])
def test_verdict_rule(values, paper, word, contains, part):
    v = verdict(estimate(values), paper)
    assert (v.word, v.contains_paper) == (word, contains)
    assert part in v.why


def test_verdict_gives_the_seeds_that_the_measured_noise_asks_for():
    difference = estimate([1.0, -1.0, 0.5, -0.2])
    v = verdict(difference, 0.4)
    assert v.seeds_needed == statistics.seeds_needed(0.4, difference.sd)
    assert f"{v.seeds_needed} seeds" in v.why


def test_a_verdict_needs_a_claim():
    with pytest.raises(ValueError, match="other than zero"):
        verdict(estimate([1.0, 2.0]), 0.0)


def test_logged_differences_are_those_of_the_spec():
    expected = {"148": (1.370, 1.152), "147": (0.394, 0.300), "145-half": (1.695, 1.230),
                "145-2010 centre": (1.552, 1.296), "150": (1.164, 1.120)}
    for run, (top1, top5) in expected.items():
        value = paper.log_difference(run)
        assert (value.top1, value.top5) == (pytest.approx(top1), pytest.approx(top5))
        assert f"run {run} against" in value.where
    with pytest.raises(KeyError):
        paper.log_difference("133")


def test_every_claim_has_its_source_and_protocol():
    assert len(paper.CLAIMS) == 23
    for claim in paper.CLAIMS.values():
        assert claim.kind in ("difference", "level", "ratio", "count", "qualitative")
        assert claim.where
        assert claim.protocol
        assert claim.paper.source == paper.PAPER
        assert claim.log is None or "released source" in claim.log.source
        if claim.kind == "difference" and claim.log is not None and claim.log.top1 is not None:
            assert claim.log.top1 == pytest.approx(claim.paper.top1, abs=0.06)  # the paper rounds its logs


@pytest.mark.parametrize(("ablation", "arm", "top1", "top5", "log1"), [
    ("lrn", "no_lrn", 1.4, 1.2, 1.370),
    ("lrn", "lrn-none", 1.4, 1.2, 1.370),
    ("", "no_lrn", 1.4, 1.2, 1.370),
    ("pooling", "nonoverlapping", 0.4, 0.3, 0.394),
    ("pooling", "non-overlapping", 0.4, 0.3, 0.394),
    ("columns", "half_width", 1.7, 1.2, 1.695),
    ("pca", "no_pca", 1.0, None, None),
    ("depth", "no_conv4", 2.0, None, None),
])
def test_effect_of_an_arm(ablation, arm, top1, top5, log1):
    effect = paper.effect(ablation, arm)
    assert effect.reference is effect.paper
    assert (effect.paper.top1, effect.paper.top5) == (top1, top5)
    assert (effect.log and effect.log.top1) == (None if log1 is None else pytest.approx(log1))


def test_effects_without_a_number_or_below_the_logs_noise():
    tanh = paper.effect("activation", "tanh")
    assert tanh.reference is None
    assert tanh.protocol.startswith("CIFAR-10")
    second = paper.effect("lrn", "lrn_first")  # run 167: −0.0075 points, nothing
    assert second.log is not None
    assert second.reference is None
    assert paper.effect("columns", "no_exchange").reference.top1 == pytest.approx(1.164)
    assert paper.effect("lrn", "somewhere_else") is None
    assert paper.effect("mine:width", "no_lrn") is None


def test_signed():
    assert [paper.signed(x, 2) for x in (1.4, -0.3, 0.001, -0.001)] == ["+1.40", "−0.30", "0.00", "0.00"]


@pytest.mark.parametrize(("values", "sign", "word", "part"), [
    ([1.3, 1.5, 1.4], 1, "reproduced", "a sign and no size"), ([1.3, 1.5, 1.4], -1, "contradicted", "opposite sign"),
    ([-1.3, -1.5, -1.4], -1, "reproduced", "sign"), ([1.0, -1.0, 0.5], 1, "unresolved", "as large as the one measured"),
    ([1.0, -1.0, 0.5], -1, "unresolved", "as large as the one measured, which has the opposite sign"),
    ([1.0], 1, "unresolved", "one seed"), ([], 1, "unresolved", "no pair"),
    ([0.2, 0.2], 1, "unresolved", "no measure")])
def test_verdict_on_a_claim_without_a_size(values, sign, word, part):
    v = statistics.sign_verdict(estimate(values), sign)
    assert v.word == word
    assert part in v.why


@pytest.mark.parametrize(("values", "word", "part"), [
    ([0.1, -0.1, 0.05, 0.0], "reproduced", "within ±0.7"), ([0.3, 0.31, 0.32], "reproduced", "within ±0.7"),
    ([1.4, 1.5, 1.6], "contradicted", "beyond ±0.7"), ([-1.4, -1.5, -1.6], "contradicted", "beyond"),
    ([0.6, 0.7, 0.9], "unresolved", "would show that nothing larger than 0.7"), ([0.1], "unresolved", "one seed"),
    ([0.6, 0.8, 1.0], "unresolved", "the mean lies beyond ±0.7 and the interval excludes zero; if there is no"),
    ([-0.5, -0.6, -0.7], "unresolved", "the interval excludes zero; if there is no difference, about"),
    ([-0.5, 0.6, 0.7], "unresolved", "about")])
def test_verdict_on_a_claim_of_no_difference(values, word, part):
    v = statistics.equivalence(estimate(values), 0.7)
    assert v.word == word
    assert part in v.why


def test_the_p_value_of_a_claim_of_no_difference_goes_with_its_word():
    rng = np.random.default_rng(7)
    for centre in (0.0, 0.4, 0.7, 1.5, -1.5):
        for row in rng.normal(centre, 0.4, (200, 5)):
            difference = estimate(row)
            word = statistics.equivalence(difference, 0.7).word
            assert (statistics.equivalence_p(difference, 0.7) < 0.05) == (word != "unresolved")
    assert statistics.equivalence_p(estimate([0.1]), 0.7) is None


def test_seeds_for_a_claim_of_no_difference_show_it_four_times_in_five():
    rng = np.random.default_rng(5)
    v = statistics.equivalence(estimate([1.0, -1.0, 0.5, -0.5]), 0.7)
    sd, n = estimate([1.0, -1.0, 0.5, -0.5]).sd, v.seeds_needed
    within = [statistics.equivalence(estimate(row), 0.7).word == "reproduced" for row in rng.normal(0, sd, (2000, n))]
    assert np.mean(within) == pytest.approx(0.8, abs=0.03)
    assert statistics.equivalence_power(0.7, sd, n) == pytest.approx(np.mean(within), abs=0.02)
    # A difference as large as the margin is called none in at most one of forty tables.
    wrong = [statistics.equivalence(estimate(row), 0.7).word == "reproduced" for row in rng.normal(0.7, sd, (2000, n))]
    assert np.mean(wrong) == pytest.approx(0.025, abs=0.01)


def test_signs_are_called_wrongly_as_often_as_the_level_says():
    rows = np.random.default_rng(6).normal(0, 1, (4000, 5))
    words = [statistics.sign_verdict(estimate(row), 1).word for row in rows]
    assert words.count("reproduced") / 4000 == pytest.approx(0.025, abs=0.01)
    assert words.count("contradicted") / 4000 == pytest.approx(0.025, abs=0.01)


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
