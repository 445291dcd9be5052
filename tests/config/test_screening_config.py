"""Screens and targets in a config: what is taken, and that each fault is told once, with its field."""

import pytest

from drop_ray.config import parse_config
from drop_ray.config.screening import PrecisionTarget
from drop_ray.errors import UserError


def parse(**evaluation):
    values = {"name": "x", "model": {"path": "m"}, "calibration": {"source": "t"}, "evaluation": evaluation}
    return parse_config(values, "f").evaluation


def test_a_limit_is_a_number_or_a_target():
    assert parse(limit=250).limit == 250
    assert parse(limit={"within": 0.02}).limit == PrecisionTarget(within=0.02, confidence=0.95)
    assert parse().limit is None
    (task,) = parse(tasks=[{"name": "a", "limit": {"within": 0.01, "confidence": 0.9}}]).tasks
    assert task.limit == PrecisionTarget(within=0.01, confidence=0.9)


def test_a_screen_keeps_a_number_or_what_no_other_beats():
    assert parse(screen={"keep": 8}).screen.keep == 8
    assert parse(screen={"by": "kl", "keep": "pareto"}).screen.keep == "pareto"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 0}, r"^f: evaluation.limit: [^\n]*greater than or equal to 1$"),
        ({"limit": {"within": 0}}, r"^f: evaluation.limit.within: [^\n]*greater than 0$"),
        ({"limit": {"within": 1}}, r"^f: evaluation.limit.within: [^\n]*less than 1$"),
        ({"limit": {"within": 0.1, "confidence": 0.5}}, r"^f: evaluation.limit.confidence: [^\n]*greater than 0.5$"),
        ({"limit": {"within": 0.1, "confidenc": 0.9}}, r"evaluation.limit.confidenc: .*did you mean `confidence`\?$"),
        ({"limit": {}}, r"^f: evaluation.limit.within: missing$"),
        ({"tasks": [{"name": "a", "limit": {"within": 2}}]}, r"^f: evaluation.tasks\[0\].limit.within: [^\n]*$"),
        ({"screen": {"keep": 0}}, r"^f: evaluation.screen.keep: [^\n]*greater than or equal to 1$"),
        ({"screen": {"keep": "best"}}, r"^f: evaluation.screen.keep: [^\n]*'pareto'$"),
        ({"screen": {}}, r"^f: evaluation.screen.keep: missing$"),
        ({"screen": {"keep": 2, "by": "loss"}}, r"^f: evaluation.screen.by: [^\n]*'kl'$"),
        ({"screen": {"keep": 2}, "divergence": None}, r"screen needs the divergence .*; state `divergence`, or omit"),
    ],
)
def test_a_fault_is_told_once_with_its_field(fields, message):
    with pytest.raises(UserError, match=message):
        parse(**fields)
