"""RunConfig, a run as its user writes it. `load_config` reads it from YAML, with overrides `--set a.b=value`.

A value that does not fit raises UserError, which names the field.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from drop_ray.config.evaluation import EvaluationConfig
from drop_ray.config.execution import ExecutionConfig
from drop_ray.config.model import ModelConfig
from drop_ray.config.plans import PlanSpec
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.config.scoring import CalibrationConfig, ScoringConfig
from drop_ray.config.section import FileName, Location, Section, TextSection
from drop_ray.config.serving import ServingConfig
from drop_ray.errors import UserError
from drop_ray.models.export_formats import ExportFormat
from drop_ray.text.naming import first_twice


class RunConfig(Section):
    """A run: one model, what to drop from it, and how to judge and measure what is left."""

    name: FileName = Field(description="what the run is called; the file's name if not given")
    model: ModelConfig = Field(description="which weights the run is about")
    calibration: CalibrationConfig = Field(description="the text on which importance is measured")
    scoring: ScoringConfig = Field(ScoringConfig(), description="what is measured on the calibration text")
    plans: tuple[PlanSpec, ...] = Field((), description="what to drop: strategies with numbers, or plan files")
    evaluation: EvaluationConfig = Field(
        EvaluationConfig(), description="the tasks and texts that judge the base and every plan"
    )
    quantization: tuple[QuantizationSpec, ...] = Field(
        (), description="methods by which the base and every plan are quantized, after dropping"
    )
    serving: ServingConfig | None = Field(None, description="how to measure serving speed; null measures none")
    export: Literal["all", "none"] | tuple[str, ...] = Field(
        "none", description="which plans become checkpoints in the store: all, none, or their names"
    )
    export_formats: tuple[ExportFormat, ...] = Field(
        ("dropped", "plain"),
        min_length=1,
        description="formats of every exported plan; plain only for plans that drop whole blocks",
    )
    store: Location = Field("drop-ray-store", description="folder or s3://bucket/prefix that keeps everything done")
    execution: ExecutionConfig = Field(ExecutionConfig(), description="how to run; never changes a number")

    @field_validator("export_formats")
    @classmethod
    def _each_format_once(cls, value: tuple[ExportFormat, ...]) -> tuple[ExportFormat, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each format once")
        return value

    @field_validator("quantization")
    @classmethod
    def _labels_differ(cls, value: tuple[QuantizationSpec, ...]) -> tuple[QuantizationSpec, ...]:
        twice = first_twice(spec.label for spec in value)
        if twice is not None:
            raise ValueError(f"two lines are called {twice}; give one a `name`")
        return value

    @model_validator(mode="after")
    def _metrics_are_scored(self) -> "RunConfig":
        for position, spec in enumerate(self.plans):
            if spec.metric is not None and spec.metric not in self.scoring.metrics:
                raise ValueError(
                    f"plans[{position}].metric: {spec.metric} is not scored; add it to scoring.metrics "
                    f"([{', '.join(self.scoring.metrics)}])"
                )
        return self

    @model_validator(mode="after")
    def _quantization_has_samples(self) -> "RunConfig":
        for position, spec in enumerate(self.quantization):
            try:
                spec.split(spec.text.num_samples if spec.text else self.calibration.num_samples)
            except ValueError as error:
                raise ValueError(f"quantization[{position}].num_samples: {error}") from error
        return self

    @model_validator(mode="after")
    def _options_have_a_use(self) -> "RunConfig":
        if self.execution.store_options and not any(map(_is_on_s3, (self.store, self.model.path))):
            raise ValueError("execution.store_options are for s3:// only, and neither store nor model.path is there")
        return self

    def s3_options(self, location: str) -> dict[str, Any]:
        """Arguments of `S3Connection` for a location on S3, and none for any other location."""
        if not _is_on_s3(location):
            return {}
        return {"outage_s": self.execution.store_outage_s, **self.execution.store_options}

    @property
    def serving_dtype(self) -> str:
        """The dtype that models are served in."""
        return (self.serving and self.serving.dtype) or self.model.dtype

    def to_yaml(self) -> str:
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a RunConfig.

    Each of `overrides` is `a.b=value` with a YAML value. UserError names the field and the remedy.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such config file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {_yaml_fault(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping with model, calibration, plans, ...")
    for override in overrides:
        _override(values, override)
    return parse_config({"name": path.stem, **values}, str(path))


def parse_config(values: Mapping[str, Any], source: str) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(f"{source}: {_explain(detail)}" for detail in error.errors())) from error


def text_sections(config: RunConfig) -> dict[str, TextSection]:
    """Every text but that of calibration, by the field that names it."""
    texts: dict[str, TextSection] = {perplexity_field(text.name): text for text in config.evaluation.perplexity}
    return texts | {quantization_field(spec.label): spec.text for spec in config.quantization if spec.text}


def perplexity_field(name: str) -> str:
    return f"evaluation.perplexity ({name})"


def quantization_field(label: str) -> str:
    return f"quantization ({label}).text"


def _is_on_s3(location: str) -> bool:
    return location.startswith("s3://")


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set {override}: write a.b=value")
    *sections, field = key.split(".")
    target: Any = values
    for section in sections:
        target = _enter(target, section, key)
    if isinstance(target, list):
        target[_position(target, field, key)] = _value(text, key)
        return
    target[field] = _value(text, key)


def _value(text: str, key: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {key}: the value is not YAML: {_yaml_fault(error)}") from error


def _yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself, which may hold a password."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"


def _enter(target: Any, section: str, key: str) -> Any:
    if isinstance(target, list):
        return target[_position(target, section, key)]
    inner = target.setdefault(section, {})
    if not isinstance(inner, dict | list):
        raise UserError(f"--set {key}: {section} is a value, not a section")
    return inner


def _position(values: list[Any], text: str, key: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) >= len(values):
        raise UserError(f"--set {key}: {text} is not a position in a list of {len(values)}")
    return int(text)


def _explain(detail: Mapping[str, Any]) -> str:
    location = [
        part for part in detail["loc"] if not (isinstance(part, str) and part.startswith(("tuple[", "literal[")))
    ]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if detail["type"] == "extra_forbidden":
        valid = _valid_names(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), valid, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"valid: {', '.join(valid)}"
        return f"{field}: unknown key; {remedy}"
    if detail["type"] == "missing":
        return f"{field}: missing"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _valid_names(location: list[Any]) -> list[str]:
    section: Any = RunConfig
    for part in location:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation)
    return list(section.model_fields)


def _section_of(annotation: Any) -> Any:
    """The config section in an annotation such as `ModelConfig` or `tuple[TaskSpec, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return annotation.__args__[0]
