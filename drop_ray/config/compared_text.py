"""`calibration.compare`: a further text, or fewer samples of the same, on which one-shot plans are chosen too."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from drop_ray.config.section import FileName
from drop_ray.config.texts import Text

OWN = "calibration"
"""What tables call the run's own calibration text."""


class ComparedText(Text):
    """A calibration text that plans are compared by. Without a text of its own it is the run's calibration text."""

    name: FileName = Field(description="what the text is called in tables")
    num_samples: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (),
        description="first samples that are scored; a list compares several numbers; as calibration.num_samples if "
        "not given",
    )

    is_optional: ClassVar[bool] = True

    @field_validator("num_samples", mode="before", json_schema_input_type=int | tuple[int, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("num_samples")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if sorted({*value}) != [*value]:
            raise ValueError("name each number once, the smallest first")
        return value

    @model_validator(mode="after")
    def _differs(self) -> "ComparedText":
        if self.name == OWN:
            raise ValueError(f"`{OWN}` is what tables call the run's own text; give another `name`")
        if self.origin is None and not self.num_samples:
            raise ValueError("give a text, or `num_samples` of the run's own: this is the calibration text once more")
        return self
