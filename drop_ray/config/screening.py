"""`evaluation.screen` and a target as `evaluation.limit`: which variants get the tasks, and how much of each task."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from drop_ray.config.section import Section


def _number_or_word(value: Any) -> str:
    return "one of: word" if isinstance(value, str) else "one of: number"


def _number_or_section(value: Any) -> str:
    return "one of: section" if isinstance(value, dict | Section) else "one of: number"


# Of a union without tags each member would have its own say about a wrong value.
Keep = Annotated[
    Annotated[Annotated[int, Field(ge=1)], Tag("one of: number")] | Annotated[Literal["pareto"], Tag("one of: word")],
    Discriminator(_number_or_word),
]
"""A number of plans, or a word."""


class ScreenSpec(Section):
    """Which plans get the tasks, after all got the divergence panel. The base always gets them."""

    by: Literal["kl"] = Field("kl", description="what decides: the mean KL divergence from the base, per token")
    keep: Keep = Field(
        description="number of plans with the lowest divergence; pareto keeps every plan that no other beats in both "
        "divergence and kept parameters"
    )


class PrecisionTarget(Section):
    """A task ends as soon as the difference between variant and base is known well enough."""

    within: float = Field(gt=0, lt=1, description="half the width of the interval of the difference at which to stop")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability with which the interval holds at every document at once"
    )


Limit = Annotated[
    Annotated[Annotated[int, Field(ge=1)], Tag("one of: number")] | Annotated[PrecisionTarget, Tag("one of: section")],
    Discriminator(_number_or_section),
]
"""A number of documents, or how well the difference to the base is to be known."""
