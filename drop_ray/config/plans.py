"""`plans`: what to drop, and by which strategy."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.names import MetricName, StrategyName
from drop_ray.config.section import Location, Section
from drop_ray.extensions import STRATEGIES

Droppable = Literal["attention", "mlp", "joint", "block"]


class PlanSpec(Section):
    """One line of `plans`: a strategy and how many to drop, or a plan file. The strategy says which keys go with it."""

    strategy: StrategyName | None = Field(
        None, description="what is dropped: the least important of a kind, or by a baseline (random, reverse)"
    )
    drop: tuple[int, ...] = Field((), description="how many layers, MLPs or blocks; a list makes many plans")
    iterative: int | None = Field(None, ge=1, description="drop this many, score again, repeat")
    of: Droppable | None = Field(None, description="what random and reverse drop")
    seed: int = Field(0, description="seed of the choices of random")
    metric: MetricName | None = Field(None, description="one of scoring.metrics to rank by; null is the first of them")
    file: Location | None = Field(None, description="a plan as JSON, instead of a strategy")

    @field_validator("drop", mode="before", json_schema_input_type=int | tuple[int, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _complete(self) -> "PlanSpec":
        if (self.strategy is None) == (self.file is None):
            raise ValueError("give either `strategy` or `file`")
        if self.strategy and not self.drop:
            raise ValueError("`drop` says how many to drop, e.g. drop: [2, 4]")
        if any(count < 1 for count in self.drop):
            raise ValueError("`drop` takes numbers from 1")
        rule = STRATEGIES.load(self.strategy) if self.strategy else None
        if (rule is not None and rule.of is None) != (self.of is not None):
            those = _strategies(lambda rule: rule.of is None)
            raise ValueError(f"`of` (attention, mlp, joint or block) goes with {those}, and only them")
        if self.iterative and not (rule and rule.iterative):
            raise ValueError(f"`iterative` goes with {_strategies(lambda rule: rule.iterative)}")
        if self.seed and not (rule and rule.seeded):
            raise ValueError(f"`seed` goes with {_strategies(lambda rule: rule.seeded)}")
        if self.metric and not (rule and rule.uses_scores):
            raise ValueError("`metric` goes with strategies that rank by scores")
        return self


def _strategies(fit: Callable[[Any], bool]) -> str:
    """The strategies that take a key, for messages: `strategies random and reverse`."""
    *others, last = (name for name in STRATEGIES.names if fit(STRATEGIES.load(name)))
    return f"strategies {', '.join(others)} and {last}" if others else f"strategy {last}"
