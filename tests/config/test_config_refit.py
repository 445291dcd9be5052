"""The section `refit` of a config: its defaults, and what is no such line."""

import pytest

from drop_ray.config import parse_config
from drop_ray.errors import UserError

VALUES = {
    "name": "run",
    "model": {"path": "model"},
    "calibration": {"source": "text.txt", "num_samples": 64},
    "plans": [{"strategy": "attention", "drop": [2]}],
}


def lines(*values):
    return parse_config({**VALUES, "refit": list(values)}, "test").refit


def test_a_line_without_keys_is_complete():
    (line,) = lines({})
    assert (line.label, line.ridge, line.plans, line.text) == ("refit", "auto", "all", None)
    assert line.split(64) == (range(56), range(56, 64))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"ridge": 0}], "ridge"),
        ([{"ridge": "much"}], "ridge"),
        ([{"held_out": 1}], "held_out"),
        ([{}, {"ridge": 0.1}], "two lines are called refit; give one a `name`"),
        ([{"num_samples": 60}], r"refit\[0\].num_samples: 60 samples to fit to and 8 held out are more than the 64"),
        ([{"text": {"source": "t.txt", "num_samples": 8}}], r"1 samples to fit to and 8 held out are more than the 8"),
        ([{"strength": 1}], "strength"),
    ],
)
def test_what_is_no_line_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        lines(*values)
