"""`evaluation.screen` and a target as `evaluation.limit`: which variants get the tasks, and how much of each task."""

from typing import Annotated, Literal

from pydantic import Field

from drop_ray.config.section import Section


class ScreenSpec(Section):
    """Which plans get the tasks, after all got the divergence panel. The base always gets them."""

    by: Literal["kl"] = Field("kl", description="what decides: the mean KL divergence from the base, per token")
    keep: Annotated[int, Field(ge=1)] | Literal["pareto"] = Field(
        description="number of plans with the lowest divergence; pareto keeps every plan that no other beats in both "
        "divergence and kept parameters"
    )


class PrecisionTarget(Section):
    """A task ends as soon as the difference between variant and base is known well enough."""

    within: float = Field(gt=0, lt=1, description="half the width of the interval of the difference at which to stop")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability with which the interval holds at every document at once"
    )


Limit = Annotated[int, Field(ge=1)] | PrecisionTarget
"""A number of documents, or how well the difference to the base is to be known."""
