"""The bisection for the cliff of a strategy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.evaluation.gates.cliff import Bisection, largest_passing


@pytest.mark.parametrize("num_counts", range(33))
def test_every_cliff_is_found_within_the_number_of_questions(num_counts):
    for cliff in range(num_counts + 1):
        asked = []

        def passes(count, asked=asked, cliff=cliff):
            asked.append(count)
            return count <= cliff

        assert largest_passing(num_counts, passes) == cliff
        assert len(asked) == len({*asked})
        assert all(1 <= count <= num_counts for count in asked)
        assert len(asked) <= (math.log2(num_counts) + 1 if num_counts else 0)


def test_it_asks_no_more_than_it_says_remain():
    search = Bisection(80)
    while search.asks is not None:
        before = search.remaining
        search.answer(search.asks <= 37)
        assert search.remaining < before
    assert (search.largest, search.fails, search.remaining) == (37, 38, 0)
    with pytest.raises(ValueError, match="nothing was asked"):
        search.answer(True)


@given(st.lists(st.booleans(), max_size=200))
def test_where_more_may_pass_than_less_what_is_found_passes_and_the_next_does_not(passes):
    answers = {}

    def ask(count):
        answers[count] = passes[count - 1]
        return answers[count]

    found = largest_passing(len(passes), ask)
    assert found == 0 or answers[found]
    assert found == len(passes) or answers[found + 1] is False
    assert len(answers) <= len(passes).bit_length()


def test_nothing_fails_where_everything_passes():
    search = Bisection(3)
    while search.asks is not None:
        search.answer(True)
    assert (search.largest, search.fails) == (3, None)


def test_there_are_no_fewer_than_no_counts():
    with pytest.raises(ValueError, match="-1 counts"):
        Bisection(-1)
