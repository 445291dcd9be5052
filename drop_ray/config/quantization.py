"""`quantization`: the methods by which the base and every plan are quantized, after dropping."""

from typing import Literal

from pydantic import Field, model_validator

from drop_ray.config.section import FileName, Section, TextSection, split_samples

BITS = {"awq": (4,), "gptq": (4, 8)}


class QuantizationSpec(Section):
    """One line of `quantization`: AutoAWQ's format (GEMM) or AutoGPTQ's."""

    method: Literal["awq", "gptq"] = Field(description="awq writes AutoAWQ's format, gptq AutoGPTQ's")
    name: FileName | None = Field(None, description="end of the variants' names; the method if not given")
    bits: int = Field(4, description="bits of a weight: 4; gptq also takes 8")
    group_size: int = Field(128, description="inputs that share a scale; -1 is the whole row, gptq only")
    symmetric: bool | None = Field(None, description="null is the method's own: gptq symmetric, awq with zero points")
    desc_act: bool = Field(False, description="gptq only: most active inputs first; better, but slower to serve")
    text: TextSection | None = Field(
        None, description="another text to calibrate on; null takes the run's calibration samples"
    )
    num_samples: int | None = Field(None, ge=1, description="first samples to calibrate on; null is all that are left")
    held_out: int = Field(8, ge=1, description="last samples, on which the error of every layer is measured")
    plans: Literal["all"] | tuple[str, ...] = Field("all", description="which plans are quantized; the base always is")

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
    def label(self) -> str:
        """The end of a quantized variant's name."""
        return self.name or self.method

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
