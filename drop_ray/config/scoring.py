"""`calibration` and `scoring`: the calibration text, and what is measured on it."""

from pydantic import Field, field_validator, model_validator

from drop_ray.config.names import MetricName
from drop_ray.config.section import InnerPath, Location, Section


class CalibrationConfig(Section):
    """The text on which importance is measured, cut into samples of equal length."""

    source: Location | None = Field(None, description="file of text: .txt, .json, .jsonl or .parquet")
    token_ids: Location | None = Field(None, description="instead of a text: .json or .parquet with lists of ints")
    dataset: Location | None = Field(
        None, description="Hugging Face dataset, or a folder of data files; read as a stream"
    )
    dataset_config: str | None = Field(None, description="configuration of the dataset, such as `en` of C4")
    dataset_split: str = Field("train", description="split of the dataset")
    dataset_revision: InnerPath | None = Field(None, description="branch, tag or commit; null is the newest commit")
    text_field: str = Field("text", description="field or column that holds the text")
    num_samples: int = Field(
        256, ge=2, description="samples of the text; two at least, since scores come with a standard error"
    )
    seq_len: int = Field(2048, ge=2, description="tokens of each sample; no more than the model has positions")
    shuffle_seed: int | None = Field(None, description="shuffle the documents first; null keeps their order")

    @model_validator(mode="after")
    def _one_source(self) -> "CalibrationConfig":
        if [self.source, self.token_ids, self.dataset].count(None) != 2:
            raise ValueError("give either `source` (a text file), `token_ids` or `dataset`, and only one of them")
        fields = [(name, field) for name, field in type(self).model_fields.items() if name.startswith("dataset_")]
        stray = [name for name, field in fields if getattr(self, name) != field.default]
        if self.dataset is None and stray:
            raise ValueError(f"`{stray[0]}` goes with `dataset`")
        return self


class ScoringConfig(Section):
    """What is measured on the calibration samples, and in which portions."""

    metrics: tuple[MetricName, ...] = Field(
        ("cosine",), min_length=1, description="how residual states are compared; plans rank by the first by default"
    )
    micro_batch: int = Field(4, ge=1, description="samples per forward pass")
    range_size: int = Field(16, ge=1, description="samples per unit of work")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: tuple[MetricName, ...]) -> tuple[MetricName, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each metric once")
        return value
