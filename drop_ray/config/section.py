"""The base classes of the sections of a run's config, and the paths in them.

Paths that begin with `demo:` lie in the package's embedded demo folder. Others start at the working directory.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

DEMO_PREFIX = "demo:"
DEMO_FOLDER = Path(__file__).parents[1] / "demo"
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TextSection(Section):
    """A text of the user, cut into samples as calibration text is."""

    source: str = Field(description="file of text: .txt, .json, .jsonl or .parquet")
    text_field: str = Field("text", description="field or column that holds the text")
    num_samples: int = Field(64, ge=1, description="first samples of the text that are used")
    seq_len: int = Field(2048, ge=2, description="tokens of each sample; no more than the model has positions")


def resolve_path(path: str) -> Path:
    """The file or folder that a config's path names."""
    if path.startswith(DEMO_PREFIX):
        return DEMO_FOLDER / path.removeprefix(DEMO_PREFIX)
    return Path(path).expanduser()
