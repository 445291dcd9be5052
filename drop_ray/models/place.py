"""What may be the place of a model: a folder, a URL, or a name of the Hugging Face hub. It imports nothing heavy."""

import re
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.text.path_names import tried

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_place(path: str) -> None:
    """UserError for what can be no place of a model."""
    if "://" not in path and not Path(path).is_dir() and not HUB_NAME.fullmatch(path):
        raise UserError(
            f"model.path: {tried(Path(path))} is neither a folder, nor a URL such as s3://bucket/prefix, nor a Hugging "
            "Face name (organisation/model)"
        )
