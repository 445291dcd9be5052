"""Every field of a run's config with its type, default and meaning, read from the schema.

docs/configuration.md and the comments of the file that `drop-ray init` writes are made from these.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drop_ray.config.schema import run_schema

Schema = Mapping[str, Any]
REF = "#/$defs/"
QUOTE = '"'


@dataclass(frozen=True)
class ConfigField:
    """One field, described for people."""

    section: str
    """Path of its section: empty for fields of the file itself, `model`, `evaluation.tasks[]` for entries of a list."""
    name: str
    """Its key."""
    type: str
    """Its type in words: `integer from 1`, `awq or gptq`, `list of section`."""
    default: str
    """Its default as YAML; `required` if there is none."""
    description: str
    """What it means."""
    subsection: str
    """Path of its subsection, if it is a section or a list of sections; empty otherwise."""

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name


@dataclass(frozen=True)
class ConfigSection:
    """A section of the file with its fields."""

    path: str
    """Path of the section, as in `ConfigField.section`."""
    description: str
    """Subject of the section."""
    fields: tuple[ConfigField, ...]
    """Its fields, in the order in which they are declared."""


def config_sections() -> list[ConfigSection]:
    """All sections, the file itself first, each before those inside it."""
    schema = run_schema()
    return list(_sections(schema, schema, ""))


def descriptions() -> dict[str, str]:
    """What every field means, by its path, such as `evaluation.tasks[].name`."""
    return {field.path: field.description for section in config_sections() for field in section.fields}


def reference_markdown() -> str:
    """A table for each section."""
    return "\n".join(line for section in config_sections() for line in _section_lines(section)) + "\n"


def _sections(root: Schema, section: Schema, path: str) -> Iterator[ConfigSection]:
    required = section.get("required", ())
    inner: dict[str, Schema] = {}
    fields = []
    for name, node in section["properties"].items():
        place = f"{path}.{name}" if path else name
        found = list(_definitions(node, place))
        for inside, definition in found:
            described = root["$defs"][definition]
            inner[inside if inside not in inner else _kind_path(inside, described)] = described
        default = "required" if name in required else _default(node, bool(found))
        fields.append(ConfigField(path, name, _type(node), default, node["description"], found[0][0] if found else ""))
    yield ConfigSection(path, " ".join(section.get("description", "").split()), tuple(fields))
    for inside, described in inner.items():
        sections = _sections(root, described, inside)
        if inside.endswith("]") and not inside.endswith("[]"):
            yield _like_the_first(next(sections))
        else:
            yield from sections


def _kind_path(path: str, section: Schema) -> str:
    """The path of a further kind of section in the same place, by its method: `quantization[fp8]`."""
    return path.replace("[]", f"[{section['properties']['method']['const']}]")


def _like_the_first(section: ConfigSection) -> ConfigSection:
    """A further kind of section, whose subsections are those of the first kind."""
    first = f"{section.path.partition('[')[0]}[]"
    fields = (replace(field, subsection=field.subsection.replace(section.path, first, 1)) for field in section.fields)
    return replace(section, fields=tuple(fields))


def _definitions(node: Schema, path: str) -> Iterator[tuple[str, str]]:
    """(path, name of the definition) of every section that is nested in a field."""
    if "$ref" in node:
        yield path, node["$ref"].removeprefix(REF)
    for option in node.get("anyOf", ()):
        yield from _definitions(option, path)
    if "items" in node:
        yield from _definitions(node["items"], f"{path}[]")


def _type(node: Schema) -> str:
    """The type of a field in words."""
    if "anyOf" in node:
        options = [_type(option) for option in node["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "$ref" in node:
        return "section"
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        return f"list of {_type(node['items'])}"
    least = f" from {node['minimum']}" if "minimum" in node else ""
    least = f" above {node['exclusiveMinimum']}" if "exclusiveMinimum" in node else least
    return ("mapping" if node["type"] == "object" else node["type"]) + least


def _default(node: Schema, is_section: bool) -> str:
    """The default as YAML; empty if there is none, and for a section, since its fields have their own."""
    value = node.get("default", {})
    if isinstance(value, Mapping):
        return ""
    if is_section and value is not None:
        value = [{key: inner for key, inner in entry.items() if inner is not None} for entry in value]
    return f"`{json.dumps(value).replace(QUOTE, '')}`"


def _section_lines(section: ConfigSection) -> Iterator[str]:
    yield f"## {f'`{section.path}`' if section.path else 'The file'}"
    yield ""
    if section.description:
        yield f"{section.description}\n"
    yield "| field | takes | default | meaning |"
    yield "|---|---|---|---|"
    for field in section.fields:
        name = f"[`{field.name}`](#{_anchor(field.subsection)})" if field.subsection else f"`{field.name}`"
        yield f"| {name} | {field.type} | {field.default} | {field.description} |"
    yield ""


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: without punctuation."""
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "_-")
