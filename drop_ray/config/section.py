"""The base classes of the sections of a run's config, and the paths in them.

Paths that begin with `demo:` lie in the package's embedded demo folder. Others start at the working directory.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema

from drop_ray.text.path_names import LONGEST_NAME, NAME, file_name, inner_path, path_or_url

DEMO_PREFIX = "demo:"
DEMO_FOLDER = Path(__file__).parents[1] / "demo"

# Names and paths as `drop_ray.text.path_names` checks them.
FileName = Annotated[
    str,
    AfterValidator(file_name),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME}$", "maxLength": LONGEST_NAME}),
]
InnerPath = Annotated[str, AfterValidator(inner_path), WithJsonSchema({"type": "string", "minLength": 1})]
Location = Annotated[str, AfterValidator(path_or_url), WithJsonSchema({"type": "string", "minLength": 1})]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def split_samples(total: int, num_samples: int | None, held_out: int, purpose: str) -> tuple[range, range]:
    """Of `total` samples, the first ones for a purpose (all that are left if None), and the last ones held out.

    ValueError if there are too few. `purpose` is for the message, such as `calibrate on`.
    """
    wanted = (num_samples or 1) + held_out
    if wanted > total:
        raise ValueError(
            f"{wanted - held_out} samples to {purpose} and {held_out} held out are more than the {total} that there are"
        )
    first = total - held_out
    return range(num_samples or first), range(first, total)


def resolve_path(path: str) -> Path:
    """The file or folder that a config's path names."""
    if path.startswith(DEMO_PREFIX):
        return DEMO_FOLDER / path.removeprefix(DEMO_PREFIX)
    return Path(path).expanduser()
