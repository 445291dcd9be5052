"""`quantization`: the methods by which the base and every plan are quantized, after dropping."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from drop_ray.config.section import FileName, Section, split_samples
from drop_ray.config.texts import TextSection

BITS = {"awq": (4,), "gptq": (4, 8)}
METHODS = ("awq", "gptq", "fp8")
BLOCK = 128
"""Rows and columns of a block of fp8 that has one scale, as in DeepSeek-V3."""


class QuantizationLine(Section):
    """What the lines of all methods have."""

    method: str = Field(description="the method")
    name: FileName | None = Field(None, description="end of the variants' names; the method if not given")
    text: TextSection | None = Field(
        None, description="another text to calibrate on; null takes the run's calibration samples"
    )
    held_out: int = Field(8, ge=1, description="last samples, on which the error of every layer is measured")
    plans: Literal["all"] | tuple[str, ...] = Field("all", description="which plans are quantized; the base always is")

    @property
    def label(self) -> str:
        """The end of a quantized variant's name."""
        return self.name or self.method


class QuantizationSpec(QuantizationLine):
    """One line of `quantization`: AutoAWQ's format (GEMM) or AutoGPTQ's."""

    method: Literal["awq", "gptq"] = Field(description="awq writes AutoAWQ's format, gptq AutoGPTQ's")
    bits: int = Field(4, description="bits of a weight: 4; gptq also takes 8")
    group_size: int = Field(128, description="inputs that share a scale; -1 is the whole row, gptq only")
    symmetric: bool | None = Field(None, description="null is the method's own: gptq symmetric, awq with zero points")
    desc_act: bool = Field(False, description="gptq only: most active inputs first; better, but slower to serve")
    num_samples: int | None = Field(None, ge=1, description="first samples to calibrate on; null is all that are left")

    @field_validator("method", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        if value not in METHODS:
            *others, last = map(repr, METHODS)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return value

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
        return self

    @property
    def is_symmetric(self) -> bool:
        return self.method == "gptq" if self.symmetric is None else self.symmetric

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of a quantized weight, with its part of its group's zero point and 16-bit scale.

        Embeddings stay in 16 bits.
        """
        overhead = (2 + self.bits / 8) / self.group_size if self.group_size > 0 else 0.0
        return self.bits / 8 + overhead

    def split(self, total: int) -> tuple[range, range]:
        """Of `total` samples, those to calibrate on and those held out. ValueError if there are too few."""
        return split_samples(total, self.num_samples, self.held_out, "calibrate on")

    def identity(self) -> dict[str, Any]:
        """What decides the checkpoint and the measured errors, besides the samples."""
        fields = {"method", "bits", "group_size", "desc_act", "num_samples", "held_out"}
        return {**self.model_dump(include=fields), "symmetric": self.is_symmetric}


class Fp8Spec(QuantizationLine):
    """One line of `quantization`: weights in 8-bit floats (E4M3) with scales, from the weights alone, in a stream."""

    method: Literal["fp8"] = Field(description="8-bit floats; activations are quantized while the model is served")
    scheme: Literal["channel", "block"] = Field(
        "channel",
        description="channel: a scale for each output, in the format of compressed-tensors; block: for each 128 x 128 "
        "weights, in that of DeepSeek-V3",
    )
    text: TextSection | None = Field(
        None, description="another text to measure errors on; null takes the run's calibration samples"
    )

    @property
    def bits(self) -> int:
        return 8

    @property
    def group_size(self) -> int:
        """Inputs that share a scale; -1 is the whole row."""
        return BLOCK if self.scheme == "block" else -1

    @property
    def is_symmetric(self) -> bool:
        return True

    @property
    def desc_act(self) -> bool:
        return False

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of a quantized weight, with its part of its block's 32-bit scale. Embeddings stay in 16 bits."""
        return 1.0 + (4 / BLOCK**2 if self.scheme == "block" else 0.0)

    def split(self, total: int) -> tuple[range, range]:
        """Of `total` samples none to calibrate on, and those held out. ValueError if there are too few."""
        if self.held_out > total:
            raise ValueError(f"{self.held_out} samples held out are more than the {total} that there are")
        return range(0), range(total - self.held_out, total)

    def identity(self) -> dict[str, Any]:
        """What decides the checkpoint and the measured errors, besides the samples."""
        return self.model_dump(include={"method", "scheme", "held_out"})


def _kind(value: Any) -> str:
    method = value.get("method") if isinstance(value, dict) else getattr(value, "method", None)
    return FP8_KIND if method == "fp8" else GPTQMODEL_KIND


GPTQMODEL_KIND, FP8_KIND = "one of: gptqmodel", "one of: fp8"
AnyQuantization = Annotated[
    Annotated[QuantizationSpec, Tag(GPTQMODEL_KIND)] | Annotated[Fp8Spec, Tag(FP8_KIND)], Discriminator(_kind)
]
"""A line of any method, which its `method` tells."""
