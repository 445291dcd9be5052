"""`plans`: what to drop, by which strategy."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.scoring import Metric
from drop_ray.config.section import Section

Ranked = Literal["attention", "mlp", "joint", "block"]


class PlanSpec(Section):
    """One line of `plans`: a strategy and how many to drop, or a plan file."""

    strategy: Literal["attention", "mlp", "joint", "block", "block_consecutive", "random", "reverse"] | None = Field(
        None, description="what is dropped: the least important of a kind, or by a baseline (random, reverse)"
    )
    drop: tuple[int, ...] = Field((), description="how many layers, MLPs or blocks; a list makes many plans")
    iterative: int | None = Field(None, ge=1, description="drop this many, score again, repeat")
    of: Ranked | None = Field(None, description="what random and reverse drop")
    seed: int = Field(0, description="of random")
    metric: Metric | None = Field(None, description="one of scoring.metrics to rank by; null is the first of them")
    file: str | None = Field(None, description="a plan as JSON, instead of a strategy")

    @field_validator("drop", mode="before", json_schema_input_type=int | tuple[int, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _complete(self) -> "PlanSpec":
        if (self.strategy is None) == (self.file is None):
            raise ValueError("give either `strategy` or `file`")
        if self.strategy and not self.drop:
            raise ValueError("`drop` says how many to drop, e.g. drop: [2, 4]")
        if any(count < 1 for count in self.drop):
            raise ValueError("`drop` takes numbers from 1")
        if (self.strategy in ("random", "reverse")) != (self.of is not None):
            raise ValueError(
                "`of` (attention, mlp, joint or block) goes with strategies random and reverse, and only them"
            )
        if self.iterative and self.strategy not in ("attention", "mlp", "joint", "block"):
            raise ValueError("`iterative` goes with strategies attention, mlp, joint and block")
        if self.metric and self.strategy in (None, "random", "reverse"):
            raise ValueError("`metric` goes with strategies that rank by scores")
        return self
