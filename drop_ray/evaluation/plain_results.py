"""lm-eval's results as plain JSON values that are equal on every machine."""

from pathlib import Path
from typing import Any

import numpy as np


def without_folders(value: Any) -> Any:
    """Data files on this machine by name only, since where they lie differs from machine to machine."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def json_value(value: Any) -> Any:
    """A JSON value for an object in lm-eval's results that JSON has no type for.

    A function becomes its name, as its repr has an address in it.
    """
    if isinstance(value, np.generic):
        return value.item()
    return value.__qualname__ if callable(value) else str(value)
