"""`model`: the model of a run."""

from typing import Literal

from pydantic import Field, model_validator

from drop_ray.config.section import InnerPath, Location, Section, resolve_path
from drop_ray.text.naming import first_twice


class ModelConfig(Section):
    """Which weights a run is about, and in which precision they are computed with."""

    path: Location = Field(
        description="folder of a transformers checkpoint, s3://bucket/prefix, or a Hugging Face name"
    )
    revision: InnerPath | None = Field(
        None, description="branch, tag or commit of a Hugging Face name; subfolder of a folder or URL"
    )
    revisions: tuple[InnerPath, ...] = Field(
        (), description="training checkpoints to score, oldest first; the last is the model that plans are made for"
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="what weights and activations are computed in, whatever they are stored in"
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="transformers' attention; eager for Gemma 2, whose soft caps sdpa leaves out"
    )
    allow_unlisted: bool = Field(
        False, description="take an architecture that no test covers, if a small model of it stands a probe first"
    )

    @model_validator(mode="after")
    def _one_model(self) -> "ModelConfig":
        if self.revision is not None and self.revisions:
            raise ValueError("give either `revision` or `revisions`, whose last is the run's model")
        if len(self.revisions) == 1:
            raise ValueError("`revisions` compares two or more training checkpoints; for a single one give `revision`")
        twice = first_twice(self.revisions)
        if twice is not None:
            raise ValueError(f"`revisions` names {twice} twice")
        return self

    @property
    def name(self) -> str:
        """Name of the run's model, for people."""
        return f"{self.path} at {self.main_revision}" if self.main_revision else self.path

    @property
    def location(self) -> str:
        """The path for `locate_model`: a URL as it is, a folder as `resolve_path` gives it."""
        return self.path if "://" in self.path else str(resolve_path(self.path))

    @property
    def main_revision(self) -> str | None:
        """The revision of the run's model, for which plans, exports and evaluations are made."""
        return self.revisions[-1] if self.revisions else self.revision
