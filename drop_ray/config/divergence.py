"""`evaluation.divergence`: the text on which every variant is compared with the base, token by token."""

from pydantic import Field

from drop_ray.config.section import Location, Section


class DivergenceSpec(Section):
    """The text on which the predictions of a variant are compared with those of the base."""

    source: Location | None = Field(
        None,
        description="file of text: .txt, .json, .jsonl or .parquet; null takes the samples of the calibration text "
        "that follow those that are scored",
    )
    text_field: str = Field("text", description="field or column of `source` that holds the text")
    num_samples: int = Field(32, ge=2, description="samples that are compared")
    seq_len: int | None = Field(None, ge=2, description="tokens of each sample; null is calibration.seq_len")
