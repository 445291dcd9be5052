"""`evaluation.divergence`: the text on which every variant is compared with the base, token by token."""

from typing import ClassVar

from pydantic import Field

from drop_ray.config.texts import Text


class DivergenceSpec(Text):
    """The text on which the predictions of a variant are compared with those of the base.

    Without one of its own it is the samples of the calibration text that follow those that are scored.
    """

    num_samples: int = Field(32, ge=2, description="samples that are compared")
    seq_len: int | None = Field(None, ge=2, description="tokens of each sample; null is calibration.seq_len")

    is_optional: ClassVar[bool] = True
