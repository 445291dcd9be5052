"""A config file with a comment on every field, as `drop-ray init` writes it: values in, YAML text out.

The comments are the fields' own descriptions. A value that is `Off` is commented out.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from drop_ray.config.reference import descriptions

WIDTH = 100


@dataclass(frozen=True)
class Off:
    """Marks a field that is commented out, with a value that it could have."""

    value: Any
    """The value it would have."""


def commented_yaml(values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """The text of the file. values: nested as in the file, sections as mappings, lists of sections as lists; notes:
    remarks on fields besides their descriptions, by path, such as `calibration.source`."""
    explained = descriptions()
    comments = {path: [explained[path], *([notes[path]] if path in notes else [])] for path in explained}
    sections = ["\n".join(_field_lines("", key, value, comments)) for key, value in values.items()]
    return "\n\n".join(sections) + "\n"


def _field_lines(section: str, key: str, value: Any, comments: Mapping[str, list[str]]) -> Iterator[str]:
    path = f"{section}.{key}" if section else key
    for comment in comments[path]:
        yield from textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
    if isinstance(value, Off):
        yield from (f"# {line}" for line in _value_lines(path, key, value.value, comments))
    else:
        yield from _value_lines(path, key, value, comments)


def _value_lines(path: str, key: str, value: Any, comments: Mapping[str, list[str]]) -> Iterator[str]:
    """`key: value`, or the key of a section and its lines below."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield f"{key}:"
        yield from (f"  - {_flow(entry)}" for entry in value)
    elif isinstance(value, Mapping) and any(f"{path}.{name}" in comments for name in value):
        yield f"{key}:"
        for name, inner in value.items():
            yield from (f"  {line}" for line in _field_lines(path, name, inner, comments))
    else:
        yield f"{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    """YAML on one line: `0`, `[1, 8]`, `{method: awq}`."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
