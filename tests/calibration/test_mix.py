"""How many samples each text of a mix gives, and their order."""

import random
from fractions import Fraction

import numpy as np
import pytest

from drop_ray.calibration import mix


@pytest.mark.parametrize(
    ("shares", "num_samples", "counts"),
    [
        ((0.1, 0.2, 0.7), 10, (1, 2, 7)),  # 0.1 + 0.2 is not 0.3 in floats
        ((1, 1, 1), 10, (4, 3, 3)),
        ((5, 3, 2), 7, (4, 2, 1)),  # 3.5, 2.1, 1.4
        ((1, 3), 2, (0, 2)),  # .5, 1.5: equal remainders, the larger part first
        ((7,), 5, (5,)),
    ],
)
def test_counts_by_largest_remainders(shares, num_samples, counts):
    assert mix.counts_of(mix.parts_of(shares), num_samples) == counts


def test_every_count_is_within_a_sample_of_its_share_and_scale_decides_nothing():
    draw = random.Random(0)
    for _ in range(200):
        shares = [draw.choice([0.05, 0.1, 0.3, 1, 2, 7]) for _ in range(draw.randint(1, 6))]
        number, parts = draw.randint(2, 300), mix.parts_of(shares)
        counts = mix.counts_of(parts, number)
        assert sum(counts) == number
        assert all(abs(count - part * number) < 1 for count, part in zip(counts, parts, strict=True))
        assert mix.parts_of([4 * share for share in shares]) == parts


def test_the_order_is_the_seeds_and_every_beginning_is_a_small_mix():
    counts = (60, 30, 10)
    orders = [mix.order_of(counts, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert tuple(map(order.count, range(3))) == counts
        for length in range(1, 101):
            begun = [order[:length].count(part) for part in range(3)]
            assert all(abs(n - length * count / 100) <= 2 for n, count in zip(begun, counts, strict=True))


def test_a_seed_gives_the_order_it_always_gave():
    # Pinned: samples of a seed that are in a store must stay those of that seed.
    assert mix.order_of((4, 2, 1), 7) == (2, 0, 1, 0, 0, 1, 0)


def test_samples_of_a_text_keep_their_order():
    first = np.arange(15, dtype=np.int32).reshape(5, 3)
    parts = [first, first[:2] + 90]
    mixed = mix.interleaved([*parts, np.empty((0, 3), np.int32)], 3)
    assert mixed.dtype == np.int32
    assert mixed[mixed[:, 0] < 90].tolist() == parts[0].tolist()
    assert mixed[mixed[:, 0] >= 90].tolist() == parts[1].tolist()


def test_the_largest_share_that_would_do_does_and_a_tenth_more_does_not():
    draw = random.Random(1)
    for _ in range(300):
        shares = [draw.choice([0.05, 0.3, 1, 20]) for _ in range(draw.randint(2, 5))]
        number, position = draw.randint(20, 300), draw.randrange(len(shares))
        available = draw.randint(1, number - 1)
        share = mix.largest_share(shares, position, available, number)
        changed = [*shares[:position], share, *shares[position + 1 :]]
        assert mix.counts_of(mix.parts_of(changed), number)[position] <= available
        exact = Fraction(sum(map(Fraction, map(repr, shares))) - Fraction(repr(shares[position]))) * available
        assert share >= 0.99 * exact / (number - available)


def test_no_share_does_of_a_text_without_a_sample_or_of_the_only_one():
    assert mix.largest_share([1, 2], 0, 0, 10) is None
    assert mix.largest_share([2], 0, 3, 10) is None


def test_the_text_that_ends_first_decides_the_size():
    parts = mix.parts_of([3, 1])
    assert mix.most_samples(parts, [30, 2], 40) == 10  # 11 would take 3 of the second: 2.75
    assert mix.most_samples(parts, [30, 0], 40) == 2  # 1.5 and 0.5: the larger part goes first
    assert mix.most_samples(parts, [30, 30], 8) == 8
    assert mix.most_samples(parts, [0, 0], 8) == 0
