"""What a variant loses: bounds that hold for few documents, means over tasks, and how many documents would tell."""

import math
import random

import pytest
from scipy.optimize import minimize_scalar

from drop_ray.evaluation.losses import (
    Answers,
    Differences,
    Settled,
    differences,
    documents_to_tell,
    evidence,
    mean_loss,
)

Z = 1.6448536269514722


def likelihood(gains, lost, gained, documents, loss):
    """Of the counts, with that share of gains and `gains + loss` of losses."""
    shares = (gains + loss, gains, 1 - 2 * gains - loss)
    counts = (lost, gained, documents - lost - gained)
    return sum(count * math.log(max(share, 1e-300)) for count, share in zip(counts, shares, strict=True) if count)


@pytest.mark.parametrize(("lost", "gained", "documents"), [(14, 8, 250), (1, 0, 44), (12, 2, 14), (3, 30, 100)])
def test_the_upper_bound_is_where_the_score_test_says_so(lost, gained, documents):
    """The variance at the bound, with the most likely share of gains found by search, is that of the definition."""
    bound = Answers(lost, gained, documents).loss(0.95).high
    most = (1 - bound) / 2
    found = minimize_scalar(
        lambda gains: -likelihood(gains, lost, gained, documents, bound),
        bounds=(max(0.0, -bound), most),
        method="bounded",
        options={"xatol": 1e-12},
    )
    variance = documents * (2 * found.x + bound - bound**2)
    assert (lost - gained - documents * bound) / math.sqrt(variance) == pytest.approx(-Z, abs=1e-4)


def test_of_documents_that_do_not_differ_the_bound_is_no_zero():
    """n losses of p each are all absent with (1 - p)**n: about 3 / n at 95 %, by the score test 2.7 / n."""
    for documents in (10, 250, 10_000):
        loss = Answers(0, 0, documents).loss(0.95)
        assert loss.high == pytest.approx(Z**2 / (documents + Z**2))
        assert loss.low == -loss.high


def test_bounds_of_exchanged_sides_are_exchanged():
    one, other = Answers(9, 4, 80).loss(0.9), Answers(4, 9, 80).loss(0.9)
    assert (one.low, one.high) == (-other.high, -other.low)


def test_everything_lost_and_everything_gained():
    assert Answers(50, 0, 50).loss(0.95).high == pytest.approx(1)
    assert Answers(0, 50, 50).loss(0.95).low == pytest.approx(-1)


def test_the_upper_bound_is_below_the_true_loss_as_seldom_as_it_says():
    chance, misses, draws = random.Random(0), 0, 3000
    lost, gained = 0.05, 0.03
    for _ in range(draws):
        drawn = [chance.random() for _ in range(60)]
        counts = sum(one < lost for one in drawn), sum(lost <= one < lost + gained for one in drawn)
        misses += Answers(*counts, 60).loss(0.95).high < lost - gained
    assert misses / draws < 0.065


def test_what_is_no_answer_has_bounds_of_students_t():
    loss = evidence({1: 0.5, 2: 0.25, 3: 0.0}, {1: 0.25, 2: 0.25, 3: 0.25}).loss(0.95)
    assert loss.value == 0
    assert loss.high == pytest.approx(2.919986 * 0.25 / math.sqrt(3))


def test_only_common_documents_count_and_one_that_is_no_answer_is_not_enough():
    assert evidence({1: 1.0, 2: 1.0, 3: 0.0}, {2: 0.0, 3: 1.0, 4: 0.0}) == Answers(1, 1, 2)
    assert evidence({1: 1.0}, {2: 1.0}) is None
    assert evidence({1: 0.7}, {1: 0.2}) is None
    assert evidence({1: 1.0}, {1: 1.0}) == Answers(0, 0, 1)
    assert differences([0.3]) is None


def test_a_mean_over_tasks_has_the_errors_of_independent_tasks():
    tasks = [Differences(0.02, 0.09, 400), Differences(-0.01, 0.16, 900)]
    loss = mean_loss(tasks, 0.95)
    halves = [task.loss(0.95).high - task.mean for task in tasks]
    assert loss.value == pytest.approx(0.005)
    assert loss.high - loss.value == pytest.approx(math.hypot(*halves) / 2)
    # In numbers: sqrt(0.09 / 400 + 0.16 / 900) / 2 is the standard error, and t is near the normal quantile.
    assert loss.high - loss.value == pytest.approx(1.647 * math.sqrt(0.09 / 400 + 0.16 / 900) / 2, rel=1e-3)
    assert loss.value - loss.low == pytest.approx(loss.high - loss.value)
    with pytest.raises(ValueError, match="no tasks"):
        mean_loss([], 0.95)


def test_a_settled_interval_is_taken_as_it_is():
    assert mean_loss([Settled(0.01, -0.01, 0.03, 128)], 0.95).high == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("tasks", "allowed"),
    [
        ([Answers(0, 0, 10)], 0.01),
        ([Answers(14, 8, 750), Answers(2, 2, 250)], 0.01),
        ([Answers(30, 8, 250)], 0.05),
        ([Differences(0.02, 0.09, 40)], 0.03),
        ([Settled(0.01, -0.01, 0.03, 128)], 0.02),
    ],
)
def test_so_many_documents_tell_and_a_few_less_do_not(tasks, allowed):
    needed, known = documents_to_tell(tasks, 0.95, allowed), sum(task.documents for task in tasks) / len(tasks)

    def tells(documents):
        loss = mean_loss(tasks, 0.95, documents / known)
        return loss.high <= allowed or loss.low > allowed

    assert needed > known
    assert tells(1.001 * needed)
    assert not tells(0.99 * needed)


def test_a_loss_that_is_as_large_as_allowed_is_never_told():
    assert documents_to_tell([Differences(0.01, 0.09, 100)], 0.95, 0.01) is None
