"""`calibration.sources`: one of the texts that a calibration text is mixed from."""

from pydantic import Field, model_validator

from drop_ray.config.section import InnerPath, Location, Section


class CalibrationSource(Section):
    """One of the texts of a mix, and its share of the tokens."""

    source: Location | None = Field(None, description="file of text: .txt, .json, .jsonl or .parquet")
    dataset: Location | None = Field(
        None, description="Hugging Face dataset, or a folder of data files; read as a stream"
    )
    dataset_config: str | None = Field(None, description="configuration of the dataset, such as `en` of C4")
    dataset_split: str = Field("train", description="split of the dataset")
    dataset_revision: InnerPath | None = Field(None, description="branch, tag or commit; null is the newest commit")
    text_field: str = Field("text", description="field or column that holds the text")
    share: float = Field(
        1.0, gt=0, description="share of the tokens, in proportion to those of the others: 2 and 1 are two to one"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "CalibrationSource":
        if (self.source is None) == (self.dataset is None):
            raise ValueError("give either `source` (a text file) or `dataset`, and only one of them")
        check_dataset_fields(self)
        return self


def check_dataset_fields(section: Section) -> None:
    """ValueError for a setting of a dataset in a section that names none."""
    fields = [(name, field) for name, field in type(section).model_fields.items() if name.startswith("dataset_")]
    stray = [name for name, field in fields if getattr(section, name) != field.default]
    if section.dataset is None and stray:  # type: ignore[attr-defined]
        raise ValueError(f"`{stray[0]}` goes with `dataset`")
