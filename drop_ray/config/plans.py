"""`plans`: what to drop, and by which strategy."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.limits import LimitSpec
from drop_ray.config.names import MetricName, StrategyName
from drop_ray.config.section import Location, Section
from drop_ray.extensions import STRATEGIES
from drop_ray.text.naming import first_twice

Droppable = Literal["attention", "mlp", "joint", "block"]
Objective = Literal["kl", "draft"]
UNQUANTIZED = "none"
"""The name in `quantized` that stands for weights in model.dtype."""
REFITTED = "refitted"
"""The value of `on` that stands for the first line of `refit`."""


class PlanSpec(Section):
    """One line of `plans`: a strategy and how many to drop, or a plan file. The strategy says which keys go with it."""

    strategy: StrategyName | None = Field(
        None, description="what is dropped: the least important of a kind, or by a baseline (random, reverse)"
    )
    drop: tuple[int, ...] = Field((), description="how many layers, MLPs or blocks; a list makes many plans")
    limit: LimitSpec | None = Field(
        None,
        description="what is left at most, in place of `drop`: budget drops what costs least to get there",
    )
    quantized: tuple[str, ...] = Field(
        (),
        description="in which forms the model is to keep the limit: names of lines of `quantization`, and none for "
        "16 bits; a plan for each",
    )
    swap_rounds: int | None = Field(
        None,
        ge=0,
        description="how many rounds of swaps budget measures at most to lower the kl of its plan; null is 4, and 0 "
        "keeps the least sum of scores",
    )
    iterative: int | None = Field(None, ge=1, description="drop this many, score again, repeat")
    on: str | None = Field(
        None,
        min_length=1,
        description="refitted: after each round the plan so far is refitted by the first line of `refit`, and the next "
        "round looks at that model; or the name of another line",
    )
    of: Droppable | None = Field(
        None, description="what greedy, budget, random and reverse drop; null is joint in a budget"
    )
    kinds: tuple[str, ...] = Field(
        (),
        description="which token mixers may be dropped as attention, by the kinds that `drop-ray inspect` shows, such "
        "as full_attention; empty is all",
    )
    objective: Objective | None = Field(
        None,
        description="what greedy seeks on the calibration samples: the lowest kl to the base (the default), or as a "
        "draft of the base the highest speedup",
    )
    width: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        None,
        description="how many candidates greedy measures in a round after the first: the best of the last ranking; "
        "null is all. How many swaps budget measures in a round; null is 8",
    )
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
        if any(count < 1 for count in self.drop):
            raise ValueError("`drop` takes numbers from 1")
        rule = STRATEGIES.load(self.strategy) if self.strategy else None
        self._check_amount(rule)
        is_default = self.of is None and self.limit is not None
        if (rule is not None and rule.of is None) != (self.of is not None) and not is_default:
            those = _strategies(lambda rule: rule.of is None)
            raise ValueError(f"`of` (attention, mlp, joint or block) goes with {those}, and only them")
        self._check_keys(rule)
        return self

    def _check_amount(self, rule: Any) -> None:
        """ValueError unless the plan says how many are dropped or what is left at most, as its strategy does."""
        limited = rule is not None and rule.limited
        if limited != (self.limit is not None):
            those = _strategies(lambda rule: rule.limited)
            raise ValueError(f"`limit`, e.g. limit: {{bytes: 24 GB}}, goes with {those}, and only there")
        if rule is not None and limited and self.drop:
            raise ValueError("`limit` says how much is dropped; leave `drop` out")
        if rule is not None and not limited and not self.drop:
            raise ValueError("`drop` says how many to drop, e.g. drop: [2, 4]")

    def _check_keys(self, rule: Any) -> None:
        """ValueError for a key that does not go with the strategy, whose rule is None for a file."""
        if self.iterative and not (rule and rule.iterative):
            raise ValueError(f"`iterative` goes with {_strategies(lambda rule: rule.iterative)}")
        if self.on and not (rule and (self.iterative or (rule.searches and not rule.limited))):
            those = _strategies(lambda rule: rule.searches and not rule.limited)
            raise ValueError(f"`on` goes with `iterative`, and with {those}")
        if self.seed and not (rule and rule.seeded):
            raise ValueError(f"`seed` goes with {_strategies(lambda rule: rule.seeded)}")
        if self.metric and not (rule and rule.uses_scores):
            raise ValueError("`metric` goes with strategies that rank by scores")
        if self.objective and not (rule and self.objective in rule.objectives):
            fitting = _strategies(lambda rule: self.objective in rule.objectives)
            raise ValueError(f"`objective: {self.objective}` goes with {fitting}")
        if self.width is not None and not (rule and rule.has_width):
            raise ValueError(f"`width` goes with {_strategies(lambda rule: rule.has_width)}")
        if self.width == "all" and rule.limited:
            raise ValueError(f"`width: all` does not go with {_strategies(lambda rule: rule.limited)}; give a number")
        if self.quantized and not (rule and rule.limited):
            raise ValueError(f"`quantized` goes with {_strategies(lambda rule: rule.limited)}")
        if (twice := first_twice(self.quantized)) is not None:
            raise ValueError(f"`quantized` names {twice} twice")
        of = (rule.of if rule and rule.of else self.of) or ("joint" if self.limit else None)
        if self.kinds and of not in ("attention", "joint"):
            raise ValueError("`kinds` goes with strategies that drop attention, alone or in a joint ranking")
        if (twice := first_twice(self.kinds)) is not None:
            raise ValueError(f"`kinds` names {twice} twice")
        if self.swap_rounds is not None and not (rule and rule.limited):
            raise ValueError(f"`swap_rounds` goes with {_strategies(lambda rule: rule.limited)}")


def _strategies(fit: Callable[[Any], bool]) -> str:
    """The strategies that take a key, for messages: `strategies random and reverse`."""
    *others, last = (name for name in STRATEGIES.names if fit(STRATEGIES.load(name)))
    return f"strategies {', '.join(others)} and {last}" if others else f"strategy {last}"
