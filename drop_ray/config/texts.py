"""What a text may be, wherever the config takes one: a file, a data set, ready token ids, or a mix of these."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, model_validator

from drop_ray.config.section import InnerPath, Location, Section


class TextOrigin(Section):
    """Where one text is from."""

    source: Location | None = Field(None, description="file of text: .txt, .json, .jsonl or .parquet")
    token_ids: Location | None = Field(
        None, description="instead of a text: .json or .parquet with lists of ints, a list for each sample"
    )
    dataset: Location | None = Field(
        None, description="Hugging Face dataset, or a folder of data files; read as a stream"
    )
    dataset_config: str | None = Field(None, description="configuration of the dataset, such as `en` of C4")
    dataset_split: str = Field("train", description="split of the dataset")
    dataset_revision: InnerPath | None = Field(None, description="branch, tag or commit; null is the newest commit")
    text_field: str = Field("text", description="field or column that holds the text")

    origins: ClassVar[tuple[str, ...]] = ("source", "token_ids", "dataset")
    """The fields of which one says where the text is from."""
    expected: ClassVar[str] = "`source` (a text file), `token_ids` or `dataset`"
    """The same for messages."""
    is_optional: ClassVar[bool] = False
    """Whether none of them stands for a text of the run."""

    @property
    def origin(self) -> str | None:
        """The field that says where the text is from; None for a text of the run."""
        return next((name for name in self.origins if getattr(self, name)), None)

    @property
    def reads_text(self) -> bool:
        """Whether it becomes tokens by the model's tokenizer; ready token ids do not."""
        return self.origin in ("source", "dataset")

    @model_validator(mode="after")
    def _one_origin(self) -> "TextOrigin":
        given = [name for name in self.origins if getattr(self, name)]
        if len(given) > 1 or not (given or self.is_optional):
            raise ValueError(f"give either {self.expected}, and only one of them")
        fields = type(self).model_fields
        stray = [name for name in fields if name.startswith("dataset_") and self._is_set(name)]
        if self.dataset is None and stray:
            raise ValueError(f"`{stray[0]}` goes with `dataset`")
        self._check_settings(given)
        return self

    def _check_settings(self, given: list[str]) -> None:
        """ValueError for a setting that the text, from where it is, does not have."""
        if self._is_set("text_field") and not self.reads_text:
            where = "; it goes into each of the `sources`" if given == ["sources"] else ""
            raise ValueError(f"`text_field` goes with `source` or `dataset`{where}")

    def _is_set(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)


class MixSource(TextOrigin):
    """One of the texts of a mix, and its share of the tokens."""

    share: float = Field(
        1.0, gt=0, description="share of the tokens, in proportion to those of the others: 2 and 1 are two to one"
    )


class Text(TextOrigin):
    """A text that samples are cut from."""

    sources: tuple[MixSource, ...] = Field(
        (), description="instead of one text: several, mixed by their shares; their order means nothing"
    )
    mix_seed: int = Field(0, description="seed of the order in which the samples of `sources` follow each other")
    shuffle_seed: int | None = Field(None, description="shuffle the documents first; null keeps their order")

    origins: ClassVar[tuple[str, ...]] = (*TextOrigin.origins, "sources")
    expected: ClassVar[str] = "`source` (a text file), `token_ids`, `dataset` or `sources` (a mix)"

    @property
    def reads_text(self) -> bool:
        return any(text.reads_text for text in self.sources) if self.sources else super().reads_text

    @property
    def reads_datasets(self) -> bool:
        """Whether a library for data sets reads the text, or a part of it."""
        return any(text.dataset is not None for text in (self, *self.sources))

    def _check_settings(self, given: list[str]) -> None:
        if self.mix_seed != 0 and not self.sources:
            raise ValueError("`mix_seed` goes with `sources`")
        if self.sources and self._is_set("text_field"):
            raise ValueError("`text_field` goes into each of the `sources`")
        super()._check_settings(given)
        if self.shuffle_seed is not None and not self.reads_text:
            raise ValueError("`shuffle_seed` goes with `source` or `dataset`: ready token ids keep their order")


class TextSection(Text):
    """A text of the user, cut into samples as calibration text is."""

    num_samples: int = Field(64, ge=1, description="first samples of the text that are used")
    seq_len: int = Field(2048, ge=2, description="tokens of each sample; no more than the model has positions")


@dataclass(frozen=True)
class SizedText:
    """A text with the samples that a run takes of it."""

    text: Text
    """Where it is from."""
    num_samples: int
    """Number of samples."""
    seq_len: int
    """Number of tokens of a sample."""
