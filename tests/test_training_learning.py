"""Did a run learn, and does it transfer? The rule at its edges, and the advice that fits each case."""

import math

import numpy as np
import pytest
from scipy import stats

from alexnet_jax.training import learning
from alexnet_jax.training.learning import Errors
from experiments.launch import display

ADVICE = "learning_rate"
# (training errors and images, chance) · (reported likewise) · more · the case and a word of its advice
CASES = [
    # Beyond chance: nothing to say, however high.
    ((900, 1000, 0.9), (860, 1000, 0.9), {}, "", ""),
    ((10, 1000, 0.9), (500, 1000, 0.9), {}, "", ""),
    # Neither learns nor transfers.
    ((900, 1000, 0.9), (900, 1000, 0.9), {}, learning.NEVER, ADVICE),
    ((905, 1000, 0.9), (896, 1000, 0.9), {}, learning.NEVER, ADVICE),
    # The training error fell to 64%; the reported one stays. Wrong labels or overfitting, not the rate.
    ((640, 1000, 0.9), (900, 1000, 0.9), {}, learning.ELSEWHERE, "overfits"),
    ((640, 1000, 0.9), (950, 1000, 0.9), {"unseen": 300}, learning.ELSEWHERE, "choose splits"),
    # A thousand classes of an image each, cut in two: no rate mends that, whatever has been learnt.
    ((0, 800, 0.999), (200, 200, 0.995), {"unseen": 200}, learning.UNSEEN, "choose splits"),
    ((800, 800, 0.999), (200, 200, 0.995), {"unseen": 200}, learning.UNSEEN, "choose splits"),
    # An error below that of naming one class, by no more than so few images' noise, of a network that has just begun.
    ((1250, 1280, 0.99), (249, 256, 0.98), {}, learning.HARDLY, "more epochs"),
    # The training loss shows it before the error can: 95 of 100 images are of one class.
    ((50, 1000, 0.05), (50, 1000, 0.05), {"loss": 0.6}, learning.HARDLY, "more epochs"),
    ((50, 1000, 0.05), (50, 1000, 0.05), {"loss": 0.99}, learning.NEVER, ADVICE),
    # It had learnt, and lost it again.
    ((900, 1000, 0.9), (900, 1000, 0.9), {"best": (3, Errors(500, 1000, 0.9))}, learning.FELL, f"smaller config.optim."
                                                                                                f"{ADVICE}"),
    ((900, 1000, 0.9), (900, 1000, 0.9), {"best": (3, Errors(895, 1000, 0.9))}, learning.NEVER, ADVICE),
    # Nothing can be told.
    ((500, 1000, 0.9), (0, 10, 0.0), {}, learning.ONE_CLASS, "report on several"),
]


@pytest.mark.parametrize(("train", "reported", "more", "case", "advice"), CASES)
def test_each_case_has_its_words_and_advice_that_fits(train, reported, more, case, advice):
    message = learning.judge(Errors(*train), Errors(*reported), split="val", **more)
    assert learning.case(message) == case
    assert message.startswith(case)
    assert advice in message
    assert "\n" not in message
    assert ("too few images to tell" in message) == (0 < reported[0] / reported[1] < reported[2] and bool(case))
    assert (ADVICE in message) == (case in (learning.NEVER, learning.FELL))
    result = {"status": "finished", "message": message, "eval": {"centre": {
        "top1_wrong": reported[0], "top5_wrong": 0, "total": reported[1]}}}
    told = display.describe_result(result)  # the case and its numbers, without the advice
    assert case in told
    assert "may help" not in told


@pytest.mark.parametrize("total", [30, 1000, 50_000])
def test_chance_is_left_where_the_exact_binomial_test_says_so(total):
    edge = int(stats.binom.ppf(learning.ALPHA, total, 0.9))
    for wrong in range(max(0, edge - 3), edge + 4):
        p = stats.binomtest(wrong, total, 0.9, alternative="less").pvalue
        assert Errors(wrong, total, 0.9).at_chance == (p >= learning.ALPHA), (wrong, p)


def test_guesses_alone_hardly_ever_leave_chance():
    rng = np.random.default_rng(0)
    wrong = rng.binomial(500, 0.9, size=2000)
    assert sum(not Errors(int(n), 500, 0.9).at_chance for n in wrong) <= 8  # 2 expected


def test_chance_and_blind_loss_of_uneven_classes():
    labels = np.repeat([0, 2, 3], [70, 20, 10])  # no image of class 1
    assert learning.chance(labels) == pytest.approx(0.3)
    assert learning.blind_loss(labels) == pytest.approx(stats.entropy([0.7, 0.2, 0.1]))
    assert learning.blind_loss(np.arange(10)) == pytest.approx(math.log(10))
    assert learning.blind_loss(np.zeros(5, int)) == 0


OLD = ("never left chance: its best error is 90.0%, naming one class always gives 90.0%; more epochs, another "
       "config.optim.learning_rate or a larger init_std may help")


@pytest.mark.parametrize(("message", "train", "case"), [
    (OLD, 0.9, learning.NEVER), (OLD, 0.64, learning.ELSEWHERE), (OLD, None, learning.NEVER), ("", 0.64, "")])
def test_an_old_record_of_a_run_that_learns_is_not_told_to_try_another_rate(message, train, case):
    result = {"message": message, "train": {"top1_error": train}, "data": {"train_images": 1000, "eval_split": "val"},
              "eval": {"centre": {"top1_wrong": 900, "top5_wrong": 0, "total": 1000}}}
    told = learning.reread(result)
    assert learning.case(told) == case
    assert (ADVICE in told) == (case == learning.NEVER)


def test_why_runs_cannot_be_compared_is_told_by_their_cases():
    assert learning.why(["", "another note"]) == ""
    assert learning.why([OLD, "", OLD]) == "runs that never left chance"
    assert learning.why([OLD, f"{learning.ELSEWHERE}: …"]) == (
        "runs that never left chance and runs that learn, but not for the reported images")
