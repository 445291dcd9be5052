"""What dropping saves, against the sizes of whole models and counts by hand."""

import itertools
from dataclasses import replace

import pytest
from plain_size import ATTENTION, HIDDEN, KV_BYTES, MLP, NUM_LAYERS, OUTSIDE, model_size

from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.limits import RequestSpec
from drop_ray.models.families import DropLists
from drop_ray.planning.budgets.resources import (
    Setting,
    kv_bytes_per_token,
    request_seconds,
    sub_layers,
    weight_bytes,
)
from drop_ray.planning.modules import Module, candidates, without

SIZE, VOCABULARY = model_size(), 50
HEADERS = 1000
# So slow at moving bytes, or at computing, that only one of the two counts.
MEMORY_BOUND = HardwareSpec(flops=1e30, bandwidth=1, memory=1, compute_efficiency=1, bandwidth_efficiency=0.5)
COMPUTE_BOUND = HardwareSpec(flops=1, bandwidth=1e30, memory=1, compute_efficiency=0.5, bandwidth_efficiency=1)
REQUESTS = RequestSpec(prompt=10, output=6, batch=3)


def setting(of="joint", size=SIZE, base_drops=DropLists(), **fields):
    files = HEADERS + size.bytes_per_parameter * size.kept_parameters(base_drops)
    return Setting(size, VOCABULARY, base_drops, candidates(of, size.layers, base_drops), file_bytes=files, **fields)


def test_what_is_left_is_what_the_sizes_of_the_model_say():
    one = setting()
    bytes_, kv, count = weight_bytes(one), kv_bytes_per_token(one), sub_layers(one)
    assert (bytes_.base, kv.base, count.base) == (HEADERS + 4 * SIZE.parameters, NUM_LAYERS * KV_BYTES, 8)
    for dropped in itertools.combinations(one.candidates, 3):
        drops = without(DropLists(), dropped)
        assert bytes_.left(dropped) == HEADERS + 4 * SIZE.kept_parameters(drops)
        assert kv.left(dropped) == SIZE.kv_bytes_per_token(drops)
        assert count.left(dropped) == 5


def test_a_block_saves_both_of_its_sub_layers_or_the_one_that_is_left():
    lacking = DropLists(attn=(1,))
    one = setting("block", base_drops=lacking)
    bytes_, kv, count = weight_bytes(one), kv_bytes_per_token(one), sub_layers(one)
    whole, half = Module("block", 0), Module("block", 1)
    assert (bytes_.saved[whole], bytes_.saved[half]) == (4 * (ATTENTION + MLP), 4 * MLP)
    assert (kv.saved[whole], kv.saved[half]) == (KV_BYTES, 0)
    assert (count.base, count.saved[whole], count.saved[half]) == (7, 2, 1)
    seconds = request_seconds(one, REQUESTS, MEMORY_BOUND)
    joint = request_seconds(setting(base_drops=lacking), REQUESTS, MEMORY_BOUND)
    assert seconds.base == pytest.approx(joint.base)
    assert seconds.saved[half] == pytest.approx(joint.saved[Module("mlp", 1)])
    parts = joint.saved[Module("mlp", 0)] + joint.saved[Module("attention", 0)]
    assert seconds.saved[whole] == pytest.approx(parts)


def test_quantized_layers_are_planned_for_from_the_start():
    quantized = weight_bytes(setting(layer_bytes=0.5))
    assert quantized.base == HEADERS + 4 * SIZE.parameters
    assert quantized.undropped == HEADERS + 4 * OUTSIDE + 0.5 * NUM_LAYERS * (ATTENTION + MLP)
    assert quantized.saved[Module("mlp", 2)] == 0.5 * MLP
    assert quantized.left(quantized.saved) == HEADERS + 4 * OUTSIDE
    seconds = [request_seconds(setting(layer_bytes=width), REQUESTS, MEMORY_BOUND) for width in (None, 0.5)]
    assert seconds[0].base == seconds[1].base == seconds[0].undropped > seconds[1].undropped


def test_seconds_bound_by_bytes_are_the_weights_and_the_cache_by_the_bandwidth():
    seconds = request_seconds(setting(), REQUESTS, MEMORY_BOUND)
    # One prefill, and six steps at a context of 13. Half of the bandwidth of 1 byte a second is reached.
    mlp = (4 * MLP) * (1 + 6) / 0.5
    attention = (4 * ATTENTION * (1 + 6) + 6 * 3 * 13 * KV_BYTES) / 0.5
    head = 4 * VOCABULARY * HIDDEN * (1 + 6) / 0.5
    assert seconds.saved[Module("mlp", 0)] == pytest.approx(mlp)
    assert seconds.saved[Module("attention", 3)] == pytest.approx(attention)
    assert seconds.base == pytest.approx(head + NUM_LAYERS * (mlp + attention))


def test_seconds_bound_by_operations_are_those_of_every_token():
    seconds = request_seconds(setting(), REQUESTS, COMPUTE_BOUND)
    # Two operations per weight and token: 3 prompts of 10, then 6 tokens of each.
    assert seconds.saved[Module("mlp", 0)] == pytest.approx(2 * MLP * 3 * (10 + 6) / 0.5)


def test_a_window_and_the_routing_of_experts_show_in_the_seconds():
    windowed = request_seconds(setting(size=model_size(windows=(2, None, None, None))), REQUESTS, MEMORY_BOUND)
    assert windowed.saved[Module("attention", 0)] < windowed.saved[Module("attention", 1)]
    experts = replace(SIZE, active_mlp_parameters=(20,) * NUM_LAYERS)
    routed = request_seconds(setting(size=experts), REQUESTS, MEMORY_BOUND)
    dense = request_seconds(setting(), REQUESTS, MEMORY_BOUND)
    assert routed.saved[Module("mlp", 0)] < dense.saved[Module("mlp", 0)]


def test_seconds_add_up_over_any_drop():
    """What is left after a drop is what is reckoned for the model that lacks it from the start."""
    whole = request_seconds(setting(), REQUESTS, HardwareSpec(flops=50, bandwidth=3, memory=1))
    for count in (1, 4, 7):
        for dropped in itertools.islice(itertools.combinations(whole.saved, count), 20):
            less = setting(base_drops=without(DropLists(), dropped))
            own = request_seconds(less, REQUESTS, HardwareSpec(flops=50, bandwidth=3, memory=1))
            assert whole.left(dropped) == pytest.approx(own.base)
