"""`evaluation.gates`: what a model must still be able to do, whatever the tasks say."""

from typing import Annotated

from pydantic import Field, field_validator

from drop_ray.config.names import StrategyName
from drop_ray.config.section import Section
from drop_ray.extensions import STRATEGIES
from drop_ray.text.naming import first_twice


class GatesConfig(Section):
    """Tests that are made from a seed and the model's own tokens, and compared with the base's results."""

    seed: int = Field(0, description="seed that the tests are made from")
    num_items: int = Field(
        64, ge=8, description="items of each test; with 64, a loss of 0.1 is seen more often than not"
    )
    needle_lengths: tuple[Annotated[int, Field(ge=64)], ...] = Field(
        (1024, 4096, 16384, 32768),
        description="tokens of the texts in which a needle is recalled; those beyond the model's positions are skipped",
    )
    generated_tokens: int = Field(256, ge=16, description="tokens of each free generation")
    tolerance: float = Field(0.1, gt=0, lt=1, description="loss of accuracy from which on a plan is a regression")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="confidence of the bounds of a loss: lower ones of all tests at once, upper each",
    )
    cliffs: tuple[StrategyName, ...] = Field(
        (), description="strategies of which the largest number of drops that passes is sought, by bisection"
    )

    @field_validator("needle_lengths")
    @classmethod
    def _lengths_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each length once")
        return value

    @field_validator("cliffs")
    @classmethod
    def _can_be_sought(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if (twice := first_twice(value)) is not None:
            raise ValueError(f"`{twice}` is named twice")
        for name in value:
            if not _has_cliff(name):
                known = ", ".join(one for one in STRATEGIES.names if _has_cliff(one))
                raise ValueError(
                    f"no cliff of `{name}` can be sought: a larger drop must contain every smaller one, as where one "
                    f"ranking of scores is followed; such strategies are {known}"
                )
        return value


def _has_cliff(name: str) -> bool:
    """Whether a larger drop of the strategy contains every smaller one: it ranks by scores that no drop changes."""
    rule = STRATEGIES.load(name)
    return rule.uses_scores and rule.of is not None and not rule.gaps(2)
