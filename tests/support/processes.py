"""Processes that a test starts."""

import os
from pathlib import Path

SUPPORT = Path(__file__).parent


def with_folders(*folders: Path | str) -> dict[str, str]:
    """The environment in which Python looks into these folders first, then where this process looks."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])}
