"""The two layouts, by hand and by a packer of the tests' own, and the grids of rounding to nearest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_models import pack_awq, pack_gptq

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.quantization.packing import Packing, dequantize
from drop_ray.quantization.round_to_nearest import round_to_nearest

GPTQ = Packing("gptq", 4, -1, symmetric=True)
AWQ = Packing("awq", 4, 8, symmetric=False)


def words(*rows):
    """int32 words from their hexadecimal digits."""
    return torch.tensor([[int(word, 16) for word in row] for row in rows], dtype=torch.int64).to(torch.int32)


def by_hand():
    """Eight inputs and outputs in gptq: output 0 has the codes 0 to 7, output 1 the codes 8 to 15, the rest zero."""
    return {
        "qweight": words(["76543210", "fedcba98", *["88888888"] * 6]),
        "qzeros": words(["77777777"]),  # 8, less one
        "scales": torch.tensor([[0.5, 2.0, *[1.0] * 6]], dtype=torch.float16),
        "g_idx": torch.zeros(8, dtype=torch.int32),
    }


def test_gptq_packs_inputs_and_stores_zeros_less_one():
    weight = dequantize(GPTQ, by_hand())
    assert weight.shape == (8, 8)
    assert weight.dtype == torch.float32
    assert weight[0].tolist() == [-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5]
    assert weight[1].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]
    assert not weight[2:].any()


def test_gptq_of_eight_bits_has_four_codes_a_word():
    tensors = {
        "qweight": words(["03020100", "ff807f81", "80808080", "80808080"]),
        "qzeros": words(["7f7f7f7f"]),
        "scales": torch.ones(1, 4, dtype=torch.float16),
        "g_idx": torch.zeros(4, dtype=torch.int32),
    }
    weight = dequantize(Packing("gptq", 8, -1, symmetric=True), tensors)
    assert weight.tolist() == [[-128, -127, -126, -125], [1, -1, 0, 127], [0] * 4, [0] * 4]


def test_a_zero_of_gptq_is_added_to_within_its_own_bits():
    """Code zero is stored as all ones: it becomes 0, and does not carry into the next output's zero."""
    tensors = by_hand() | {"qzeros": words(["7777777f"])}
    weight = dequantize(Packing("gptq", 4, -1, symmetric=False), tensors)
    assert weight[0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert torch.equal(weight[1:], dequantize(GPTQ, by_hand())[1:])


def test_gptq_takes_the_group_of_an_input_from_g_idx():
    order = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0], dtype=torch.int32)
    tensors = by_hand() | {"qzeros": words(["77777777"], ["77777777"]), "g_idx": order}
    tensors["scales"] = torch.tensor([[1.0] * 8, [10.0] * 8], dtype=torch.float16)
    weight = dequantize(Packing("gptq", 4, 4, symmetric=True, desc_act=True), tensors)
    assert weight[0].tolist() == [-80, -7, -6, -50, -40, -3, -20, -1]


def test_awq_packs_outputs_in_its_own_order_and_stores_zeros_as_they_are():
    tensors = {
        "qweight": words(*[["75316420"]] * 8),  # outputs 0 to 7 have the codes 0 to 7
        "qzeros": words(["00000200"]),  # output 4, whose place is the third of the word, has the zero 2
        "scales": torch.full((1, 8), 0.5, dtype=torch.float16),
    }
    weight = dequantize(AWQ, tensors)
    assert weight[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 1.0, 2.5, 3.0, 3.5]
    assert (weight == weight[:, :1]).all()


@settings(max_examples=30, deadline=None)
@given(
    method=st.sampled_from(["gptq", "awq"]),
    bits=st.sampled_from([4, 8]),
    outputs=st.integers(1, 4),
    groups=st.integers(1, 3),
    group_size=st.sampled_from([8, 16]),
    desc_act=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_what_is_packed_comes_back(method, bits, outputs, groups, group_size, desc_act, seed):
    bits, desc_act = (4, False) if method == "awq" else (bits, desc_act)
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = groups * group_size, outputs * 8
    codes = torch.randint(2**bits, (inputs, outputs), generator=generator)
    zeros = torch.randint(2**bits, (groups, outputs), generator=generator)
    scales = torch.rand(groups, outputs, generator=generator).half() + 0.001
    order = torch.randperm(inputs, generator=generator) if desc_act else torch.arange(inputs)
    group_of = order // group_size
    packed = pack_awq(codes, zeros, scales) if method == "awq" else pack_gptq(codes, zeros, scales, group_of, bits)
    weight = dequantize(Packing(method, bits, group_size, False, desc_act), packed)
    assert torch.equal(weight, ((codes - zeros[group_of]) * scales.float()[group_of]).T)


@pytest.mark.parametrize(
    ("packing", "change", "message"),
    [
        (GPTQ, {"qzeros": words(["77777767"])}, "symmetric"),
        (Packing("gptq", 4, 4, True), {}, r"qzeros is torch.int32 \[1, 1\]; gptq has torch.int32 \[2, 1\]"),
        (Packing("gptq", 4, 3, True), {}, "groups of 3 do not divide 8 inputs"),
        (GPTQ, {"scales": torch.ones(1, 8)}, "scales is"),
        (GPTQ, {"scales": torch.ones(8, 1, dtype=torch.float16)}, "scales is"),
        (GPTQ, {"qweight": torch.zeros(1, 8, dtype=torch.int64)}, "qweight is torch.int64"),
        (GPTQ, {"g_idx": torch.zeros(8, dtype=torch.int64)}, "g_idx is"),
        (GPTQ, {"g_idx": torch.ones(8, dtype=torch.int32)}, "g_idx does not name the groups in turn"),
        (Packing("gptq", 4, -1, True, True), {"g_idx": torch.arange(8).int()}, "g_idx does not give 8 inputs to each"),
    ],
)
def test_tensors_that_break_their_layout_are_refused(packing, change, message):
    with pytest.raises(ValueError, match=message):
        dequantize(packing, by_hand() | change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (None, "quant_method is None"),
        ({"quant_method": "bitsandbytes"}, "quant_method is bitsandbytes"),
        ({"quant_method": "gptq", "checkpoint_format": "gptq_v2"}, "checkpoint_format is gptq_v2; gptq"),
        ({"quant_method": "awq", "version": "gemv"}, "version is gemv; gemm"),
    ],
)
def test_another_layout_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Packing.from_config({"quantization_config": fields} if fields else {})


@pytest.mark.parametrize("method", ["gptq", "awq"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [16, 64])
def test_rounding_moves_a_weight_by_half_a_step_at_most(method, symmetric, group_size):
    spec = QuantizationSpec(method=method, group_size=group_size, symmetric=symmetric)
    weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 24)[:, None]
    groups = weight.reshape(24, -1, group_size)
    steps = groups.abs().amax(-1) / (7 if method == "awq" else 7.5)
    if not symmetric:
        steps = (groups.amax(-1) - groups.amin(-1)) / 15
    moved = (round_to_nearest(weight, spec) - weight).reshape(groups.shape).abs().amax(-1)
    # A step in float16 is off by 2**-11, over eight steps from zero.
    assert (moved <= steps * (0.5 + 8 * 2**-11)).all()
    assert (moved > steps * 0.3).all()


def test_rounding_takes_a_group_of_zeros_and_one_of_equal_weights():
    weight = torch.cat([torch.zeros(1, 16), torch.full((1, 16), 3.0), torch.full((1, 16), -3.0)])
    assert torch.allclose(round_to_nearest(weight, QuantizationSpec(method="awq", group_size=16)), weight, rtol=1e-3)
    # The symmetric grid of gptq has no point at its end: half a step is 3 / 15.
    rounded = round_to_nearest(weight, QuantizationSpec(method="gptq", group_size=-1))
    assert not rounded[0].any()
    assert torch.allclose(rounded, weight, atol=0.201, rtol=0)


def test_rounding_keeps_a_weight_that_lies_on_the_grid():
    codes = torch.randint(16, (4, 32), generator=torch.Generator().manual_seed(1))
    codes[:, ::16], codes[:, 1::16] = 0, 15
    weight = (codes - 5) * 0.25
    spec = QuantizationSpec(method="gptq", group_size=16, symmetric=False)
    assert torch.equal(round_to_nearest(weight, spec), weight)


def test_rounding_refuses_a_group_size_that_does_not_divide():
    with pytest.raises(ValueError, match="groups of 24 do not divide 64 inputs"):
        round_to_nearest(torch.zeros(8, 64), QuantizationSpec(method="gptq", group_size=24))
