"""`accept`: what a plan may lose, and how sure that must be, for the report to name it."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from drop_ray.config.section import Section

AVERAGE, KL = "average", "kl"
POINTS = 100
"""Accuracies are shares of 1, and their losses are stated in points of 100."""
AMOUNT = r"[0-9]+(\.[0-9]+)?"
LOSS = re.compile(rf"({AMOUNT}) (point|nat)s?")


def _loss(value: Any) -> str:
    found = LOSS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("write an amount with its unit: `0.5 points` of accuracies, or `0.05 nats` of KL")
    amount, unit = float(found[1]), found[3]
    if amount == 0 or (unit == "point" and amount >= POINTS):
        raise ValueError("an allowed loss is above 0, and below 100 points")
    return str(value)


def _amount(loss: str) -> float:
    amount, unit = loss.split()
    return float(amount) / POINTS if unit.startswith("point") else float(amount)


Loss = Annotated[
    str,
    BeforeValidator(_loss),
    WithJsonSchema({"type": "string", "pattern": f"^{AMOUNT} (point|nat)s?$"}),
]
"""An amount with its unit."""


class AcceptSpec(Section):
    """The rule by which a plan is acceptable: the upper end of the interval of what it loses is at most `loss`."""

    metric: str = Field(
        AVERAGE,
        description="what may be lost of: average is the mean of the tasks' primary metrics, kl the divergence from "
        "the base; or the name of a task",
    )
    loss: Loss = Field(
        "1 point", description="what may be lost: `0.5 points` of 100 of an accuracy, `0.05 nats` per token of kl"
    )
    each_task: Loss | None = Field(
        None,
        description="what each averaged task may lose by itself, `5 points`, by the same interval; with null, a task "
        "that surely loses more than `loss` is said beside the plan's name",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="confidence of the one-sided interval whose upper end must be within the loss"
    )

    @property
    def allowed(self) -> float:
        """The loss as a share of 1, or of KL in nats per token."""
        return _amount(self.loss)

    @property
    def allowed_each(self) -> float | None:
        """What each task may lose, as a share of 1; None where none is held to anything by itself."""
        return None if self.each_task is None else _amount(self.each_task)

    @model_validator(mode="after")
    def _unit_fits(self) -> "AcceptSpec":
        if (self.metric == KL) != ("nat" in self.loss):
            example = "nats, such as `0.05 nats`" if self.metric == KL else "points, such as `0.5 points`"
            raise ValueError(f"loss: `{self.loss}` is no loss of {self.metric}; state it in {example}")
        if self.each_task is not None and (self.metric == KL or "nat" in self.each_task):
            raise ValueError("each_task: tasks lose points, such as `5 points`; it goes with a metric of tasks, not kl")
        return self
