"""Bytes and operations of a forward pass against counts by hand."""

from dataclasses import replace

import pytest
from plain_size import KV_BYTES, NUM_LAYERS, model_size

from drop_ray.models.families import DropLists
from drop_ray.models.forward_pass import decode_step, prefill_step

VOCABULARY, HIDDEN = 50, 4
HEAD = VOCABULARY * HIDDEN
HALF = DropLists(attn=(1, 2))


def test_a_decode_step_reads_the_kept_weights_the_output_layer_and_the_kept_kv():
    step = decode_step(model_size(), VOCABULARY, HALF, batch=3, context=7)
    assert step.num_bytes == (HEAD + 2 * 40 + 4 * 80) * 4 + 3 * 7 * 2 * KV_BYTES
    # Each new token: two per weight, and 2 x 2 x hidden for each of the 7 tokens in each of two attention layers.
    assert step.flops == 3 * (2 * (HEAD + 2 * 40 + 4 * 80) + 2 * 4 * HIDDEN * 7)


def test_a_prefill_computes_every_token_but_one_row_of_logits():
    step = prefill_step(model_size(), VOCABULARY, HALF, batch=2, prompt=10)
    assert step.num_bytes == (HEAD + 2 * 40 + 4 * 80) * 4
    # Causal attention: half of the 10 tokens on average.
    assert step.flops == 2 * (10 * (2 * (2 * 40 + 4 * 80) + 2 * 2 * HIDDEN * 10) + 2 * HEAD)


def test_of_experts_those_are_read_that_the_batch_is_routed_to():
    experts = replace(model_size(), active_mlp_parameters=(20,) * NUM_LAYERS)
    alone, two, many = (decode_step(experts, VOCABULARY, DropLists(), batch, 0).num_bytes for batch in (1, 2, 1000))
    attention = HEAD + 4 * 40
    assert alone == pytest.approx((attention + 4 * 20) * 4)
    assert two == pytest.approx((attention + 4 * 80 * (1 - 0.75**2)) * 4)
    assert many == pytest.approx((attention + 4 * 80) * 4)


def test_a_window_bounds_what_is_read():
    windowed = model_size(windows=(2, 2, None, None))
    step = decode_step(windowed, VOCABULARY, DropLists(), 1, 10)
    assert (
        step.num_bytes - decode_step(windowed, VOCABULARY, DropLists(), 1, 0).num_bytes == (2 + 2 + 10 + 10) * KV_BYTES
    )
