"""Which documents a task with a target takes, when it ends, and what is then said of the variant."""

import random
import statistics

import pytest

from drop_ray.errors import UserError
from drop_ray.evaluation.targets.target import Pursuit, Target, estimate_over_all, looks, next_look, seeded_order

TARGET = Target(within=0.05, confidence=0.95)


def answers(size, share, seed=0, task="t"):
    """Values of that many documents, of which a share is right."""
    draws = random.Random(seed)
    return {(task, number): float(draws.random() < share) for number in range(size)}


def pursue(pursuit, variant):
    """The looks that it takes until it is over."""
    counts = []
    while documents := pursuit.next_documents():
        pursuit.take({document: variant[document] for document in documents})
        counts.append(len(pursuit.seen))
    return counts


def test_the_order_is_that_of_seed_name_and_documents_alone():
    documents = [("a", number) for number in range(50)] + [("b", number) for number in range(50)]
    order = seeded_order(1234, "group", documents)
    assert sorted(order) == documents
    assert order != documents
    assert order == seeded_order(1234, "group", reversed(documents))
    assert order != seeded_order(1235, "group", documents)
    assert order != seeded_order(1234, "other", documents)
    # Known once and for all: results of other machines are compared with these.
    known = [("task", number) for number in (3, 2, 4, 5, 0, 1)]
    assert seeded_order(1234, "task", sorted(known)) == known


def test_each_task_of_a_group_has_about_its_part_of_the_first_documents():
    documents = [("large", number) for number in range(900)] + [("small", number) for number in range(100)]
    first = seeded_order(1, "group", documents)[:300]
    assert 15 <= sum(task == "small" for task, _ in first) <= 45


def test_looks_are_64_documents_apart_at_first_then_a_tenth():
    assert list(looks(200)) == [64, 128, 192, 200]
    assert next_look(640, 10_000) == 704
    assert next_look(2000, 10_000) == 2240
    assert list(looks(10)) == [10]


def test_a_variant_equal_to_the_base_ends_early_and_a_noisy_one_later():
    base = answers(4000, 0.6)
    equal = Pursuit("t", "acc", "none", base, TARGET, 0)
    assert pursue(equal, base)[-1] < 400
    other = answers(4000, 0.6, seed=1)
    noisy = Pursuit("t", "acc", "none", base, TARGET, 0)
    assert len(equal.seen) < pursue(noisy, other)[-1] < 4000
    low, high = noisy.interval
    assert (high - low) / 2 <= 0.05
    truth = statistics.fmean(other[one] - base[one] for one in base)
    assert low <= truth <= high


def test_a_small_task_is_evaluated_to_its_end_and_its_difference_is_exact():
    base, other = answers(100, 0.5), answers(100, 0.5, seed=1)
    pursuit = Pursuit("t", "acc", "none", base, Target(0.001, 0.95), 0)
    assert pursue(pursuit, other) == [64, 100]
    outcome = pursuit.outcome()
    assert outcome.documents == outcome.population == 100
    assert outcome.low == outcome.high == outcome.difference
    assert outcome.difference == pytest.approx(statistics.fmean(other.values()) - statistics.fmean(base.values()))


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), None])
def test_a_value_out_of_range_or_none_is_refused(value):
    base = answers(70, 0.5)
    pursuit = Pursuit("t", "acc", "none", base, TARGET, 0)
    odd = pursuit.next_documents()[10]
    values = {**base, odd: value}
    if value is None:
        del values[odd]
    with pytest.raises(ValueError, match="t: acc is"):
        pursuit.take(values)


def test_the_estimate_over_all_documents_is_the_variants_own_once_all_are_seen():
    base, other = answers(50, 0.6), answers(50, 0.5, seed=1)
    estimate = estimate_over_all(base, other)
    assert estimate.value == pytest.approx(statistics.fmean(other.values()))
    assert estimate.stderr == pytest.approx((statistics.variance(other.values()) / 50) ** 0.5)


def test_the_estimate_takes_the_bases_mean_over_all_documents():
    # By hand: the base has 0.5 over all; on the two seen it is 1, the variant 0.5.
    base = {("t", 0): 1.0, ("t", 1): 1.0, ("t", 2): 0.0, ("t", 3): 0.0}
    estimate = estimate_over_all(base, {("t", 0): 1.0, ("t", 1): 0.0})
    assert estimate.value == 0.0
    assert estimate.stderr == pytest.approx(((1 / 3 + 0) / 4 + 0.5 / 2) ** 0.5)


def test_its_standard_error_is_that_of_repeated_draws():
    # Populations drawn anew, 200 of 400 documents seen: the spread of the estimates is what is stated.
    draws = random.Random(3)
    values, errors = [], []
    for _ in range(400):
        base = {("t", number): float(draws.random() < 0.6) for number in range(400)}
        other = {one: (value if draws.random() < 0.8 else 1 - value) for one, value in base.items()}
        estimate = estimate_over_all(base, {("t", number): other["t", number] for number in range(200)})
        values.append(estimate.value)
        errors.append(estimate.stderr)
    assert statistics.fmean(errors) == pytest.approx(statistics.stdev(values), rel=0.12)


@pytest.mark.parametrize(("within", "confidence"), [(0, 0.95), (1, 0.95), (0.01, 0.5), (0.01, 1)])
def test_a_target_without_meaning_is_refused(within, confidence):
    with pytest.raises(UserError, match="evaluation.limit"):
        Target(within, confidence)
