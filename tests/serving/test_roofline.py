"""Predicted ratios against counts by hand."""

import pytest
from plain_size import model_size

from drop_ray.models.families import DropLists
from drop_ray.serving.roofline import predict

VOCABULARY = 50
HALF = DropLists(attn=(1, 2))


def prediction(base=DropLists(), variant=HALF, batches=(1, 1), prompt=10, output=10):
    return predict(model_size(), VOCABULARY, base, variant, batches, prompt, output)


def test_the_base_against_itself_is_predicted_to_be_as_fast():
    control = prediction(variant=DropLists())
    for metric in ("output_tokens_per_s", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_p50_s", "e2e_p99_s"):
        assert control.of(metric, 0.3) == pytest.approx(1)


def test_decoding_gains_with_the_context_up_to_the_ratio_of_kv_caches():
    ratios = [prediction(prompt=prompt).decode for prompt in (1, 100, 10_000, 10**7)]
    assert ratios == sorted(ratios)
    assert ratios[0] > 1
    assert ratios[-1] == pytest.approx(2, rel=1e-3)


def test_whole_requests_lie_between_prefill_and_decode():
    found = prediction(prompt=1000)
    assert found.of("output_tokens_per_s", 1) == pytest.approx(found.prefill)
    assert found.of("e2e_p50_s", 0) == pytest.approx(found.decode)
    low, high = sorted([found.prefill, found.decode])
    assert low < found.of("e2e_p50_s", 0.5) < high


def test_a_larger_batch_of_the_variant_gives_more_tokens_and_slower_ones():
    larger = prediction(batches=(4, 8))
    assert larger.of("decode_tokens_per_s", 0) == pytest.approx(2 * larger.of("tpot_p50_s", 0))
    assert larger.of("tpot_p50_s", 0) < prediction(batches=(4, 4)).of("tpot_p50_s", 0)
