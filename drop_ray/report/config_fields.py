"""A run's resolved configuration as fields with their paths, for people and for programs that take names and texts."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml


def config_fields(config_yaml: str) -> dict[str, str]:
    """`plans[0].strategy: attention`; a list of plain values is one field."""
    return dict(_fields(yaml.safe_load(config_yaml) or {}))


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _fields(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from _fields(inner, f"{path}[{index}]")
    else:
        yield path, str(value)
