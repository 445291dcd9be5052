"""`limit` of a plan: what the model may have at most, in place of how many sub-layers are dropped."""

import math
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from drop_ray.config.section import Section
from drop_ray.text.quantities import BYTES, COUNT, TIMES, Quantity, read_quantity

UNITS = {
    "bytes": (*BYTES, TIMES),
    "kv_bytes_per_token": (*BYTES, TIMES),
    "speedup": (TIMES,),
    "sub_layers": (COUNT, TIMES),
}
"""The units that each limit is written in."""
EXAMPLES = {
    "bytes": "24 GB, 22 GiB or 0.7x",
    "kv_bytes_per_token": "64 KiB or 0.5x",
    "speedup": "1.4x",
    "sub_layers": "48 or 0.75x",
}


class RequestSpec(Section):
    """The requests of which a speedup is: a batch of equal ones, from the first token of the prompts to the last."""

    prompt: int = Field(ge=1, description="tokens of each prompt")
    output: int = Field(ge=1, description="tokens that are generated for each")
    batch: int = Field(ge=1, description="requests that are served at the same time")


class LimitSpec(Section):
    """What is left of the model at most. Several limits hold together. `0.5x` is half of what the given model has."""

    bytes: str | None = Field(None, description="weights in model.dtype at most: 24 GB, 22 GiB, 0.7x")
    kv_bytes_per_token: str | None = Field(None, description="KV cache of a token at most: 64 KiB, 0.5x")
    speedup: str | None = Field(
        None, description="seconds of the requests `at`, the base's over the variant's, at least: 1.4x"
    )
    at: RequestSpec | None = Field(None, description="requests of the speedup, on the GPU of execution.hardware")
    sub_layers: str | None = Field(None, description="attention layers and MLPs that are left at most: 48, 0.75x")

    @field_validator(*UNITS.keys() - {"sub_layers"}, mode="before", json_schema_input_type=str | None)
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """A bare number is text without a unit, and refused as such."""
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("sub_layers", mode="before", json_schema_input_type=str | int | None)
    @classmethod
    def _as_count(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator(*UNITS)
    @classmethod
    def _is_quantity(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            name = str(info.field_name)
            try:
                quantity = read_quantity(text, UNITS[name])
            except ValueError as error:
                raise ValueError(f"{error}; write it like {EXAMPLES[name]}") from error
            number = float(quantity.number)
            if name == "speedup" and number <= 1:
                raise ValueError(f"{quantity} is no speedup; give more than 1x")
            if name != "speedup" and not 0 < number < (1 if quantity.is_relative else math.inf):
                raise ValueError(f"{quantity} is no limit; give more than 0, and less than 1x of what the model has")
        return text

    @model_validator(mode="after")
    def _is_complete(self) -> "LimitSpec":
        if not self.quantities:
            raise ValueError(f"give at least one of {', '.join(f'`{name}`' for name in UNITS)}")
        if (self.speedup is None) != (self.at is None):
            raise ValueError("`speedup` goes with `at`, the requests that it is of: at: {prompt, output, batch}")
        return self

    @property
    def quantities(self) -> dict[str, Quantity]:
        """The limits by name, in the order of the fields."""
        texts = {name: getattr(self, name) for name in UNITS}
        return {name: read_quantity(text, UNITS[name]) for name, text in texts.items() if text is not None}

    @property
    def label(self) -> str:
        """The limits as the part of a plan's name that tells it from others: `bytes-24GB-kv-0.5x`."""
        parts = [f"{NAMES.get(name, name)}-{quantity.part}" for name, quantity in self.quantities.items()]
        if self.at is not None:
            parts.append(f"at-{self.at.prompt}-{self.at.output}-{self.at.batch}")
        return "-".join(parts)


NAMES = {"kv_bytes_per_token": "kv", "sub_layers": "sublayers"}
"""How the names of plans abbreviate limits."""
