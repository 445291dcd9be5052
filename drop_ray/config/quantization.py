"""`quantization`: the methods by which the base and every plan are quantized, after dropping."""

from typing import Literal

from pydantic import Field, model_validator

from drop_ray.config.section import RUN_NAME, Section

BITS = {"awq": (4,), "gptq": (4, 8)}


class QuantizationText(Section):
    """A text to quantize on, instead of the run's calibration samples."""

    source: str
    text_field: str = "text"
    num_samples: int = Field(128, ge=1)
    seq_len: int = Field(2048, ge=2)


class QuantizationSpec(Section):
    """One line of `quantization`: AutoAWQ's format (GEMM) or AutoGPTQ's."""

    method: Literal["awq", "gptq"]
    name: str | None = Field(None, pattern=RUN_NAME, description="of PLAN-NAME; the method if not given")
    bits: int = Field(4, description="4; gptq also takes 8")
    group_size: int = Field(128, description="inputs that share a scale; -1 is the whole row, gptq only")
    symmetric: bool | None = Field(None, description="null is the method's own: gptq symmetric, awq with zero points")
    desc_act: bool = Field(False, description="of gptq: most active inputs first; better, but slower to serve")
    num_samples: int | None = Field(None, ge=1, description="first calibration samples; null takes all")
    text: QuantizationText | None = Field(None, description="null takes the run's calibration samples")

    @model_validator(mode="after")
    def _fits_the_method(self) -> "QuantizationSpec":
        if self.bits not in BITS[self.method]:
            allowed = " or ".join(map(str, BITS[self.method]))
            raise ValueError(f"`bits` of {self.method} must be {allowed}, not {self.bits}")
        if self.group_size == 0 or self.group_size < -1:
            raise ValueError("`group_size` is a number of inputs, such as 128, or -1 for a whole row")
        if self.method == "awq" and self.group_size == -1:
            raise ValueError("`group_size` -1 is for gptq; AutoAWQ's format has groups")
        if self.method == "awq" and self.desc_act:
            raise ValueError("`desc_act` is for gptq")
        if self.text is not None and self.num_samples is not None:
            raise ValueError("`num_samples` is of the run's samples; a `text` has its own")
        return self

    @property
    def label(self) -> str:
        """What a quantized plan's name ends with."""
        return self.name or self.method

    @property
    def is_symmetric(self) -> bool:
        return self.method == "gptq" if self.symmetric is None else self.symmetric
