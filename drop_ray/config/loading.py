"""Reads a RunConfig from YAML, with overrides `--set a.b=value`. A value that does not fit raises UserError, which
names the field and the remedy.
"""

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Tag, ValidationError

from drop_ray.config.run import RunConfig
from drop_ray.config.section import Section
from drop_ray.errors import UserError
from drop_ray.reading.files import SETTINGS_LIMIT, read_text
from drop_ray.reading.yaml_text import parse_yaml
from drop_ray.text.path_names import SHOWN, shown

# What pydantic says of a value of another kind, in the words of a YAML file.
KINDS = {
    "tuple_type": "must be a list, such as [a, b]; leave the field out for none",
    "model_type": "must be a section, with fields of its own below it",
    "dict_type": "must be a section, with fields of its own below it",
    "invalid_key": "names of fields are text",
}
# Parts of a place that stand in no file: pydantic's names of what a value was tried as.
UNNAMED = ("tuple[", "literal[", "one of: ")


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a RunConfig. Each of `overrides` is `a.b=value` with a YAML value."""
    path = Path(path)
    values = config_values(read_text(path, str(path), SETTINGS_LIMIT), str(path))
    for override in overrides:
        _override(values, override)
    return parse_config({"name": path.stem, **values}, str(path))


def config_values(text: str, source: str) -> dict[str, Any]:
    """The fields that a config's YAML text states. UserError, which begins with `source`, if it is no mapping."""
    values = parse_yaml(text, source, word_keys=True)
    if not isinstance(values, dict):
        raise UserError(f"{source}: a config is a mapping with model, calibration, plans, ...")
    return values


def parse_config(values: Mapping[str, Any], source: str) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(f"{source}: {_explain(detail)}" for detail in error.errors())) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set {override}: write a.b=value")
    *sections, field = key.split(".")
    target: Any = values
    for section in sections:
        target = _enter(target, section, key)
    value = parse_yaml(text, f"--set {key}: the value", word_keys=True)
    if isinstance(target, list):
        target[_position(target, field, key)] = value
    else:
        target[field] = value


def _enter(target: Any, section: str, key: str) -> Any:
    inner = target[_position(target, section, key)] if isinstance(target, list) else target.setdefault(section, {})
    if not isinstance(inner, dict | list):
        raise UserError(f"--set {key}: {section} is a value, not a section")
    return inner


def _position(values: list[Any], text: str, key: str) -> int:
    position = {str(position): position for position in range(len(values))}.get(text)
    if position is None:
        raise UserError(f"--set {key}: {text} is not a position in a list of {len(values)}")
    return position


def _explain(detail: Mapping[str, Any]) -> str:
    location = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith(UNNAMED))]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in location).lstrip(".")
    if detail["type"] == "extra_forbidden":
        valid = _valid_names(detail["loc"][:-1])
        near = difflib.get_close_matches(str(location[-1]), valid, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"valid: {', '.join(valid)}"
        return f"{field}: unknown key; {remedy}"
    if detail["type"] == "missing":
        return f"{field}: missing"
    message = KINDS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    return f"{field}: {message}" if field else message


def _word(part: str) -> str:
    """A name as it stands in the file; of a hostile one the beginning, with control characters spelled out."""
    return part if part.isidentifier() and len(part) <= SHOWN else shown(part)


def _valid_names(location: Sequence[Any]) -> list[str]:
    section: Any = RunConfig
    within: Any = None
    for part in location:
        if not isinstance(part, str):
            continue
        if part.startswith(UNNAMED):
            section = _section_of(_tagged(within, part)) or section
        else:
            within = section.model_fields[part].annotation
            section = _section_of(within)
    return list(section.model_fields)


def _tagged(annotation: Any, tag: str) -> Any:
    """What stands under a tag in an annotation; None if it has no such tag."""
    parts = typing.get_args(annotation)
    if any(isinstance(part, Tag) and part.tag == tag for part in parts):
        return parts[0]
    return next(filter(None, (_tagged(part, tag) for part in parts)), None)


def _section_of(annotation: Any) -> Any:
    """The config section in an annotation such as `ModelConfig`, `tuple[TaskSpec, ...]` or `int | PrecisionTarget`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_of, typing.get_args(annotation))), None)
