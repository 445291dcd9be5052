"""Limits: whether they hold, and one clear error where they cannot, or where they hold already."""

import pytest
from plain_size import ATTENTION, NUM_LAYERS, model_size

from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.limits import LimitSpec
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.budgets.limits import check_limits, limits_of
from drop_ray.planning.budgets.resources import Setting
from drop_ray.planning.modules import PLURALS, Module, candidates

SIZE = model_size()  # 580 parameters of 4 bytes, 100 of them outside of the layers
AT = {"prompt": 10, "output": 10, "batch": 1}
HARDWARE = HardwareSpec(gpu="h100")


def limits(of="joint", hardware=HARDWARE, **spec):
    everything = candidates(of, Layers(NUM_LAYERS), DropLists())
    setting = Setting(SIZE, 50, DropLists(), everything, file_bytes=4 * SIZE.parameters)
    found = limits_of(LimitSpec(**spec), setting, hardware, "plans[0].limit")
    check_limits(found, everything, PLURALS[of], "plans[0].limit")
    return found


def test_a_limit_holds_up_to_the_very_byte():
    (limit,) = limits(bytes=f"{4 * (SIZE.parameters - ATTENTION)} B")
    assert limit.needed == 4 * ATTENTION
    assert not limit.holds(())
    assert limit.holds([Module("attention", 0)])
    (tighter,) = limits(bytes=f"{4 * (SIZE.parameters - ATTENTION) - 1} B")
    assert not tighter.holds([Module("attention", 0)])
    assert limit.value([Module("attention", 0)]) == 4 * (SIZE.parameters - ATTENTION)


def test_multiples_are_of_the_model_as_given():
    kv, count = limits(kv_bytes_per_token="0.5x", sub_layers="0.25x")
    assert (kv.most, count.most) == (NUM_LAYERS * 8 / 2, 2)
    (speedup,) = limits(speedup="1.4x", at=AT)
    dropped = [Module("mlp", layer) for layer in range(NUM_LAYERS)]
    assert speedup.value(()) == 1
    assert speedup.most == pytest.approx(speedup.resource.base / 1.4)
    assert speedup.holds(dropped) == (speedup.value(dropped) >= 1.4)


@pytest.mark.parametrize(
    ("of", "spec", "message"),
    [
        (
            "joint",
            {"bytes": "0.39 kB"},
            "limit.bytes: 0.39 kB cannot be reached: without all of its attention layers and MLPs the model has 0.4 kB",
        ),
        ("attention", {"bytes": "1 kB"}, "without all of its attention layers the model has 1.68 kB"),
        ("mlp", {"kv_bytes_per_token": "0.5x"}, "without all of its MLPs the model has 1x"),
        ("attention", {"sub_layers": 3}, "nearest limit is sub_layers: 4, or take of: joint"),
        ("attention", {"speedup": "9x", "at": AT}, r"limit.speedup: 9x cannot be reached: .* it is 1\.\d+x as fast"),
        (
            "mlp",
            {"bytes": "2 kB", "kv_bytes_per_token": "0.9x"},
            "limit.kv_bytes_per_token: .* the nearest limit is kv_bytes_per_token: 1x",
        ),
        ("joint", {"bytes": "1 MB"}, r"limit: holds before anything is dropped \(bytes 0.00232 MB\); lower it"),
    ],
)
def test_what_cannot_be_kept_names_the_nearest_limit_that_can(of, spec, message):
    with pytest.raises(UserError, match=rf"^plans\[0\]\..*{message}"):
        limits(of, **spec)


def test_the_nearest_limit_that_is_named_can_be_reached():
    assert limits(bytes="0.4 kB")
    assert limits("attention", bytes="1.68 kB")
    assert limits("attention", sub_layers=4)


def test_one_of_several_limits_may_hold_already():
    assert len(limits(bytes="1 MB", sub_layers=4)) == 2


def test_a_speedup_is_of_stated_hardware():
    with pytest.raises(UserError, match=r"plans\[0\].limit.speedup: .* execution: \{hardware: h100\}"):
        limits(hardware=None, speedup="1.4x", at=AT)
    assert limits(hardware=None, sub_layers=4)
