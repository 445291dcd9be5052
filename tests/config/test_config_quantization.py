import pytest

from drop_ray.config import Fp8Spec, QuantizationSpec, parse_config
from drop_ray.errors import UserError

VALUES = {
    "name": "run",
    "model": {"path": "model"},
    "calibration": {"source": "text.txt", "num_samples": 16, "seq_len": 64},
}


def config_of(*lines):
    return parse_config({**VALUES, "quantization": list(lines)}, "run.yaml")


def test_defaults_are_those_of_the_methods():
    awq, gptq = config_of({"method": "awq"}, {"method": "gptq"}).quantization
    assert (awq.label, awq.bits, awq.group_size, awq.is_symmetric) == ("awq", 4, 128, False)
    assert (gptq.label, gptq.bits, gptq.group_size, gptq.is_symmetric, gptq.desc_act) == ("gptq", 4, 128, True, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"method": "squeeze"}, r"quantization\[0\]\.method: .*'awq', 'gptq' or 'fp8'"),
        ({"method": "awq", "bits": 8}, r"quantization\[0\]: `bits` of awq must be 4, not 8"),
        ({"method": "gptq", "bits": 3}, r"`bits` of gptq must be 4 or 8, not 3"),
        ({"method": "awq", "desc_act": True}, "`desc_act` is for gptq"),
        ({"method": "gptq", "group_size": 0}, "`group_size` is a number of inputs"),
        ({"method": "awq", "group_size": -1}, "AutoAWQ's format has groups"),
        ({"method": "gptq", "group": 128}, r"quantization\[0\]\.group: unknown key; did you mean `group_size`"),
        ({"method": "fp8", "bits": 8}, r"quantization\[0\]\.bits: unknown key; .*scheme"),
        ({"method": "fp8", "schem": "block"}, r"quantization\[0\]\.schem: unknown key; did you mean `scheme`"),
        ({"method": "fp8", "scheme": "row"}, r"quantization\[0\]\.scheme: .*'channel' or 'block'"),
        ({"method": "fp8", "held_out": 17}, "17 samples held out are more than the 16"),
        ({"method": "gptq", "num_samples": 9}, r"quantization\[0\].*9 samples to calibrate on and 8 held out .* 16"),
        ({"method": "gptq", "held_out": 16}, "1 samples to calibrate on and 16 held out"),
        ({"method": "gptq", "text": {"source": "x.txt", "num_samples": 8}}, "and 8 held out are more than the 8"),
    ],
)
def test_what_does_not_fit_is_refused(line, message):
    with pytest.raises(UserError, match=message):
        config_of(line)


def test_fp8_calibrates_on_nothing():
    (spec,) = config_of({"method": "fp8", "held_out": 4}).quantization
    assert isinstance(spec, Fp8Spec)
    assert (spec.label, spec.scheme, spec.split(16)) == ("fp8", "channel", (range(0), range(12, 16)))
    assert spec.bytes_per_weight == 1
    assert Fp8Spec(method="fp8", scheme="block").bytes_per_weight == 1 + 4 / 128**2


def test_two_lines_of_one_method_need_names():
    with pytest.raises(UserError, match="two lines are called gptq; give one a `name`"):
        config_of({"method": "gptq"}, {"method": "gptq", "bits": 8})
    config_of({"method": "gptq"}, {"method": "gptq", "bits": 8, "name": "gptq-8"})


def test_the_held_out_samples_are_the_last_and_never_calibrated_on():
    assert QuantizationSpec(method="gptq").split(32) == (range(24), range(24, 32))
    assert QuantizationSpec(method="gptq", num_samples=4, held_out=2).split(32) == (range(4), range(30, 32))


def test_a_weight_takes_its_bits_and_its_share_of_scale_and_zero_point():
    assert QuantizationSpec(method="awq").bytes_per_weight == 0.5 + 2.5 / 128
    assert QuantizationSpec(method="gptq", bits=8, group_size=-1).bytes_per_weight == 1
