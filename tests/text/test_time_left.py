"""How the time that is left is told: a range where it is one, no more digits than are known."""

import pytest

from drop_ray.text.time_left import TimeLeft, by_count, rounded


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "5 s"),
        (13, "15 s"),
        (44, "40 s"),
        (54, "50 s"),
        (55, "1 min"),
        (130, "2 min"),
        (700, "10 min"),
        (3299, "55 min"),
        (3300, "1 h"),
        (5400, "1.5 h"),
        (36000, "10 h"),
        (172800, "2 d"),
    ],
)
def test_a_time_is_told_to_a_tenth(seconds, text):
    assert rounded(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (100, 110, "about 2 min left"),
        (110, 600, "2 to 10 min left"),
        (40, 600, "40 s to 10 min left"),
        (3600, 18000, "1 to 5 h left"),
        (0, 3, "about 5 s left"),
        (0, 60, "5 s to 1 min left"),
        (600, float("inf"), "at least 10 min left"),
    ],
)
def test_a_range_is_told_where_it_is_one(low, high, text):
    assert str(TimeLeft(low, high)) == text


def test_pieces_that_take_alike():
    assert by_count(1, 4, 10.0) == (30.0, 30.0)
    assert by_count(0, 4, 10.0) is None
    assert by_count(4, 4, 10.0) is None
