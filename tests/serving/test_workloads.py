"""Prompts and batches: reproducible, without special tokens, never more than fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.serving.workloads import draw_prompts, equal_memory_batch, largest_batch, ordinary_tokens, saturated


def test_prompts_are_drawn_from_the_vocabulary_without_special_tokens():
    tokens = ordinary_tokens(8, special={0, 3, 99})
    assert tokens == [1, 2, 4, 5, 6, 7]
    drawn = {token for prompt in draw_prompts(tokens, 20, 30, 0) for token in prompt}
    assert drawn == set(tokens)


def test_equal_seeds_give_equal_prompts_and_a_larger_batch_begins_with_the_smaller():
    few, many = draw_prompts(range(100), 2, 5, 0, "a", 1), draw_prompts(range(100), 4, 5, 0, "a", 1)
    assert many[:2] == few
    assert draw_prompts(range(100), 2, 5, 1, "a", 1) != few
    assert draw_prompts(range(100), 2, 5, 0, "a", 2) != few
    assert [len(prompt) for prompt in many] == [5] * 4


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([], False),
        ([(1, 100.0)], False),
        ([(1, 100.0), (2, 190.0)], False),
        ([(1, 100.0), (2, 104.0)], True),
        ([(1, 100.0), (2, 60.0)], True),
        # 8 % more from doubling twice is 4 % from each.
        ([(8, 100.0), (32, 108.0)], True),
        ([(8, 100.0), (32, 112.0)], False),
        # Only the last step counts.
        ([(1, 100.0), (2, 101.0), (4, 200.0)], False),
    ],
)
def test_throughput_is_saturated_when_a_doubling_gains_less_than_five_percent(rates, expected):
    assert saturated(rates) is expected


def test_a_request_takes_whole_blocks():
    assert largest_batch(160, 16, 16) == 10
    assert largest_batch(160, 16, 17) == 5
    assert largest_batch(159, 16, 160) == 0
    assert largest_batch(None, 16, 17) is None


def test_the_batch_at_equal_memory_is_scaled_by_kv_tokens_and_rounded_down():
    assert equal_memory_batch(8, 100, 200, 100) == 16
    assert equal_memory_batch(3, 100, 150, 100) == 4
    assert equal_memory_batch(8, 100, 200, 9) == 9
    assert equal_memory_batch(8, 100, None, None) == 8
    assert equal_memory_batch(8, None, None, None) == 8


@given(st.integers(1, 64), st.integers(1, 10**6), st.integers(1, 8), st.integers(1, 512))
def test_at_equal_memory_the_plans_requests_fit_where_the_bases_do(batch, base_blocks, times, request_tokens):
    block = 16
    base, plan = base_blocks * block, base_blocks * block * times
    if batch > largest_batch(base, block, request_tokens):
        return
    scaled = equal_memory_batch(batch, base, plan, largest_batch(plan, block, request_tokens))
    assert scaled >= batch
    assert scaled * -(-request_tokens // block) * block <= plan
