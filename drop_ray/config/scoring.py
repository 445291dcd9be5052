"""`calibration` and `scoring`: the calibration text, and what is measured on it."""

from pydantic import Field, field_validator, model_validator

from drop_ray.config.calibration_source import CalibrationSource, check_dataset_fields
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
    sources: tuple[CalibrationSource, ...] = Field(
        (), description="instead of one text: several, mixed by their shares; their order means nothing"
    )
    mix_seed: int = Field(0, description="seed of the order in which the samples of `sources` follow each other")
    num_samples: int = Field(
        256, ge=2, description="samples of the text; two at least, since scores come with a standard error"
    )
    seq_len: int = Field(2048, ge=2, description="tokens of each sample; no more than the model has positions")
    shuffle_seed: int | None = Field(None, description="shuffle the documents first; null keeps their order")

    @model_validator(mode="after")
    def _one_source(self) -> "CalibrationConfig":
        if [self.source, self.token_ids, self.dataset, self.sources or None].count(None) != 3:
            raise ValueError(
                "give either `source` (a text file), `token_ids`, `dataset` or `sources` (a mix), and only one of them"
            )
        if self.sources and self.text_field != "text":
            raise ValueError("`text_field` goes into each of the `sources`")
        if not self.sources and self.mix_seed != 0:
            raise ValueError("`mix_seed` goes with `sources`")
        check_dataset_fields(self)
        return self

    @property
    def reads_datasets(self) -> bool:
        """Whether a library for data sets reads the text, or a part of it."""
        return self.dataset is not None or any(text.dataset is not None for text in self.sources)


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
