"""The gate lets the same model pass, and nothing else: every way in which an engine can differ is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from drop_ray.serving.engine import EngineFacts, PromptScores
from drop_ray.serving.gate import (
    TOLERANCES,
    TOLERANCES_IN_8_BITS,
    ExpectedKv,
    GateError,
    check_greedy,
    check_kv,
    check_scores,
)

POSITIONS = 200


def reference(margin=5.0):
    logprobs = np.linspace(-6, -1, POSITIONS)
    return PromptScores(logprobs, np.arange(POSITIONS), np.full(POSITIONS, margin))


def shifted(by, top=None):
    scores = reference()
    return PromptScores(scores.logprobs + by, scores.top if top is None else top)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_equal_scores_pass_in_every_dtype(dtype):
    found = check_scores("engine", dtype, shifted(0), reference())
    assert found == {
        "mean_difference": 0,
        "p99_difference": 0,
        "top1_agreement": 1,
        "top1_positions": POSITIONS,
        "compared_tokens": POSITIONS,
    }


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_mean_difference_just_beyond_the_tolerance_is_refused_and_just_within_passes(dtype):
    mean = TOLERANCES[dtype].mean
    check_scores("engine", dtype, shifted(-0.99 * mean), reference())
    with pytest.raises(GateError, match=f"engine differs .* in {dtype}: mean difference .* allowed"):
        check_scores("engine", dtype, shifted(1.01 * mean), reference())


def test_a_few_far_positions_are_refused_by_the_99th_percentile():
    by = np.zeros(POSITIONS)
    by[:4] = 0.005  # 2 % of positions; the mean stays within
    with pytest.raises(
        GateError, match=r"float32: 99th percentile 0.005 .* allowed 0.001\. Nothing of it is published"
    ):
        check_scores("engine", "float32", shifted(by), reference())
    by[2:] = 0
    check_scores("engine", "float32", shifted(by), reference())


def test_a_nan_is_refused():
    by = np.zeros(POSITIONS)
    by[7] = np.nan
    with pytest.raises(GateError, match="mean difference nan"):
        check_scores("engine", "float32", shifted(by), reference())


def test_the_most_probable_token_counts_only_where_its_margin_exceeds_the_tolerance():
    other = np.arange(POSITIONS) + 1
    undecided = reference(margin=2 * TOLERANCES["float32"].p99)
    assert check_scores("engine", "float32", shifted(0, other), undecided)["top1_positions"] == 0
    with pytest.raises(GateError, match="most probable tokens agree at 0.00% of 200 positions"):
        check_scores("engine", "float32", shifted(0, other), reference())


def test_greedy_tokens_must_be_equal():
    check_greedy("engine", ((1, 2), (3, 4)), ((1, 2), (3, 4)))
    with pytest.raises(GateError, match=r"on 1 of 2 prompts: \[3, 5\], expected \[3, 4\]"):
        check_greedy("engine", ((1, 2), (3, 5)), ((1, 2), (3, 4)))


def facts(**fields):
    values = {"kv_tokens": 160, "kv_blocks": 10, "block_size": 16, "kv_layers": (0, 2), "kv_bytes_per_token": 64}
    return EngineFacts(version="0", device="cpu", weights_bytes=1, **{**values, **fields})


EXPECTED = ExpectedKv(layers=(0, 2), bytes_per_token=64, budget=64 * 16 * 10 + 63)


def test_the_predicted_kv_cache_passes_within_one_block():
    for blocks in (9, 10, 11):
        check_kv("engine", facts(kv_blocks=blocks), EXPECTED)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kv_layers": (0, 1, 2)}, r"layers with KV cache \[0, 1, 2\], expected \[0, 2\]"),
        ({"kv_layers": (0, 3)}, r"layers with KV cache \[0, 3\]"),
        ({"kv_bytes_per_token": 65}, "65 bytes per token, expected 64"),
        ({"kv_blocks": 8}, "8 blocks of 16 tokens, expected 10"),
        ({"kv_blocks": 12}, "12 blocks"),
    ],
)
def test_another_kv_cache_than_predicted_is_refused(fields, message):
    with pytest.raises(GateError, match=f"engine has another KV cache than predicted: {message}"):
        check_kv("engine", facts(**fields), EXPECTED)


def test_without_a_fixed_budget_or_any_kv_cache_blocks_are_not_compared():
    check_kv("engine", facts(kv_blocks=77), ExpectedKv((0, 2), 64, None))
    nothing = facts(kv_layers=(), kv_bytes_per_token=0, kv_blocks=None, kv_tokens=None)
    check_kv("engine", nothing, ExpectedKv((), 0, 1000))


@pytest.mark.parametrize(
    ("in_8_bits", "dtype"), [(kind, dtype) for kind in TOLERANCES_IN_8_BITS for dtype in TOLERANCES]
)
def test_what_is_rounded_to_8_bits_has_tolerances_of_its_own(in_8_bits, dtype):
    mean = TOLERANCES_IN_8_BITS[in_8_bits][dtype].mean
    rounding = replace(reference(), in_8_bits=in_8_bits)
    assert mean > TOLERANCES[dtype].mean
    check_scores("engine", dtype, shifted(-0.99 * mean), rounding)
    with pytest.raises(GateError, match="mean difference"):
        check_scores("engine", dtype, shifted(1.01 * mean), rounding)
