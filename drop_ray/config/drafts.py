"""`serving.drafts`: variants as drafts of the base, whose tokens the base verifies (speculative decoding)."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from drop_ray.config.section import Section

MOST_DRAFTED = 16
"""Largest number of tokens that are drafted before a step."""


Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DraftsConfig(Section):
    """Variants as drafts of the base: how many of their tokens it keeps, and how much faster it generates with them."""

    plans: Literal["all"] | tuple[str, ...] = Field("all", description="variants that draft for the base")
    tokens: tuple[Annotated[int, Field(ge=1, le=MOST_DRAFTED)], ...] = Field(
        (1, 2, 3, 4), min_length=1, description="numbers of tokens that are drafted before a step, each measured"
    )
    prompt: int = Field(64, ge=1, description="tokens of each prompt, which are pieces of a text, not random tokens")
    output: int = Field(64, ge=2, description="tokens that are generated for each")
    batch_size: int = Field(1, ge=1, description="prompts at a time; each pair has others")
    temperature: Temperature | tuple[Temperature, ...] = Field(
        0,
        description="measured besides greedy decoding, which always is: a number or a list; only where the base as its "
        "own draft has nearly all kept, and what comes out is distributed as without a draft",
    )

    @field_validator("tokens")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each number once")
        return value

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those at which tokens are drawn, each once."""
        given = self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)
        return tuple(dict.fromkeys(float(one) for one in given if one))

    @property
    def model_len(self) -> int:
        """Tokens of a request that the engines are built for: drafted ones may lie behind the last one."""
        return self.prompt + self.output + MOST_DRAFTED + 1
