"""`accept` in a config: what is taken, and that each fault is told once, with its field and the remedy."""

import pytest

from drop_ray.config import AcceptSpec, parse_config
from drop_ray.errors import UserError


def parse(accept, **evaluation):
    values = {"name": "x", "model": {"path": "m"}, "calibration": {"source": "t"}, "evaluation": evaluation}
    return parse_config({**values, "accept": accept}, "f").accept


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, 0.01),
        ({"loss": "0.5 points"}, 0.005),
        ({"metric": "boolq", "loss": "2 points"}, 0.02),
        ({"metric": "kl", "loss": "0.05 nats"}, 0.05),
        ({"metric": "kl", "loss": "1 nat"}, 1),
    ],
)
def test_a_loss_has_the_unit_of_its_metric(fields, allowed):
    assert parse(fields, tasks=["boolq"]).allowed == pytest.approx(allowed)


def test_the_default_is_a_point_of_the_average_and_is_read_again():
    assert parse({}) == AcceptSpec(metric="average", loss="1 point", confidence=0.95)
    assert parse(parse({"loss": "2 points"}).model_dump(mode="json")).loss == "2 points"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": 0.5}, r"^f: accept.loss: write an amount with its unit: `0.5 points` .* or `0.05 nats` of KL$"),
        ({"loss": "0.5"}, r"^f: accept.loss: write an amount with its unit"),
        ({"loss": "0.5 percent"}, r"^f: accept.loss: write an amount"),
        ({"loss": "-1 points"}, r"^f: accept.loss: write an amount"),
        ({"loss": "nan points"}, r"^f: accept.loss: write an amount"),
        ({"loss": "0 points"}, r"^f: accept.loss: an allowed loss is above 0, and below 100 points$"),
        ({"loss": "100 points"}, r"^f: accept.loss: an allowed loss is above 0"),
        ({"each_task": 5}, r"^f: accept.each_task: write an amount with its unit"),
        ({"each_task": "0.1 nats"}, r"^f: accept: each_task: tasks lose points, such as `5 points`"),
        ({"metric": "kl", "loss": "0.1 nats", "each_task": "5 points"}, r"it goes with a metric of tasks, not kl$"),
        ({"metric": "kl"}, r"^f: accept: loss: `1 point` is no loss of kl; state it in nats, such as `0.05 nats`$"),
        ({"loss": "0.1 nats"}, r"^f: accept: loss: `0.1 nats` is no loss of average; state it in points, such as"),
        ({"confidence": 1}, r"^f: accept.confidence: [^\n]*less than 1$"),
        ({"confidence": 0.5}, r"^f: accept.confidence: [^\n]*greater than 0.5$"),
        ({"metrics": "kl"}, r"^f: accept.metrics: unknown key; did you mean `metric`\?$"),
        ({"metric": "piqa"}, r"^f: accept.metric: piqa is not evaluated; add it to .*one of average, kl, boolq$"),
    ],
)
def test_a_fault_is_told_once_with_its_field(fields, message):
    with pytest.raises(UserError, match=message):
        parse(fields, tasks=["boolq"])


def test_kl_needs_the_divergence():
    with pytest.raises(UserError, match=r"accept.metric: kl needs the divergence; state `evaluation.divergence`"):
        parse({"metric": "kl", "loss": "0.1 nats"}, divergence=None)
