"""`calibration` and `scoring`: the calibration text, and what is measured on it."""

from pydantic import Field, field_validator, model_validator

from drop_ray.config.compared_text import ComparedText
from drop_ray.config.names import MetricName
from drop_ray.config.section import Section
from drop_ray.config.texts import Text
from drop_ray.text.naming import first_twice


class CalibrationConfig(Text):
    """The text on which importance is measured, cut into samples of equal length."""

    num_samples: int = Field(
        256, ge=2, description="samples of the text; two at least, since scores come with a standard error"
    )
    seq_len: int = Field(2048, ge=2, description="tokens of each sample; no more than the model has positions")
    compare: tuple[ComparedText, ...] = Field(
        (),
        description="further texts, or fewer samples, by which plans are chosen too, to see how far the text decides",
    )

    @property
    def has_consensus(self) -> bool:
        """Whether more than one text has a say in the plans."""
        return any(text.origin for text in self.compare)

    @model_validator(mode="after")
    def _compared(self) -> "CalibrationConfig":
        twice = first_twice(text.name for text in self.compare)
        if twice is not None:
            raise ValueError(f"`compare` names {twice} twice")
        for text in self.compare:
            most = max(text.num_samples, default=0)
            if text.origin is None and most > self.num_samples:
                raise ValueError(
                    f"compare ({text.name}).num_samples: {most} is more than the {self.num_samples} of calibration; "
                    "lower it, or raise calibration.num_samples"
                )
        return self


class ScoringConfig(Section):
    """What is measured on the calibration samples, and in which portions."""

    metrics: tuple[MetricName, ...] = Field(
        ("cosine",),
        min_length=1,
        description="how importance is measured; plans rank by the first by default; kl and loss leave modules out",
    )
    micro_batch: int = Field(4, ge=1, description="samples per forward pass")
    range_size: int = Field(16, ge=1, description="samples per unit of work")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: tuple[MetricName, ...]) -> tuple[MetricName, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each metric once")
        return value
