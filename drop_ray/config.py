"""A run as its user writes it: RunConfig (what changes numbers) and ExecutionConfig (how to run, never in an identity).

`load_config` reads YAML, applies `--set a.b=value` overrides and raises UserError that names the field. Paths that
begin with `demo:` lie in the package's embedded demo folder; other relative paths start at the working directory.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from drop_ray.errors import UserError

DEMO_PREFIX = "demo:"
DEMO_FOLDER = Path(__file__).parent / "demo"
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Placement = Literal["auto", "resident", "streamed"]
Ranked = Literal["attention", "mlp", "joint", "block"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelConfig(_Section):
    path: str = Field(description="folder of a transformers checkpoint, or a Hugging Face name")
    revision: str | None = Field(None, description="branch, tag or commit of a Hugging Face name")
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"


class CalibrationConfig(_Section):
    source: str | None = Field(None, description="text: .txt, .json, .jsonl or .parquet")
    token_ids: str | None = Field(None, description="instead of text: .json or .parquet with lists of ints")
    text_field: str = Field("text", description="field or column that holds the text")
    num_samples: int = Field(256, ge=2, description="two at least: scores come with a standard error")
    seq_len: int = Field(2048, ge=2)
    shuffle_seed: int | None = Field(None, description="shuffle the documents first; null keeps their order")

    @model_validator(mode="after")
    def _one_source(self) -> "CalibrationConfig":
        if (self.source is None) == (self.token_ids is None):
            raise ValueError("give either `source` (text) or `token_ids`")
        return self


class ScoringConfig(_Section):
    metrics: tuple[Literal["cosine"], ...] = ("cosine",)
    micro_batch: int = Field(4, ge=1, description="samples per forward pass")
    range_size: int = Field(16, ge=1, description="samples per unit of work")


class PlanSpec(_Section):
    """One line of `plans`: a strategy and how many to drop, or a plan file."""

    strategy: Literal["attention", "mlp", "joint", "block", "block_consecutive", "random", "reverse"] | None = None
    drop: tuple[int, ...] = Field((), description="how many layers, MLPs or blocks; a list makes many plans")
    iterative: int | None = Field(None, ge=1, description="drop this many, score again, repeat")
    of: Ranked | None = Field(None, description="what random and reverse drop")
    seed: int = Field(0, description="of random")
    file: str | None = Field(None, description="a plan as JSON, instead of a strategy")

    @field_validator("drop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _complete(self) -> "PlanSpec":
        if (self.strategy is None) == (self.file is None):
            raise ValueError("give either `strategy` or `file`")
        if self.strategy and not self.drop:
            raise ValueError("`drop` says how many to drop, e.g. drop: [2, 4]")
        if any(count < 1 for count in self.drop):
            raise ValueError("`drop` takes numbers from 1")
        if (self.strategy in ("random", "reverse")) != (self.of is not None):
            raise ValueError(
                "`of` (attention, mlp, joint or block) goes with strategies random and reverse, and only them"
            )
        if self.iterative and self.strategy not in ("attention", "mlp", "joint", "block"):
            raise ValueError("`iterative` goes with strategies attention, mlp, joint and block")
        return self


class TaskSpec(_Section):
    name: str
    num_fewshot: int | None = Field(None, ge=0, description="null keeps the task's own number")
    limit: int | None = Field(None, ge=1, description="first documents only")


class PerplexitySpec(_Section):
    """Perplexity on a text of the user's, cut into samples as calibration text is."""

    name: str = Field("perplexity", pattern=RUN_NAME)
    source: str
    text_field: str = "text"
    num_samples: int = Field(64, ge=1)
    seq_len: int = Field(2048, ge=2)


class EvaluationConfig(_Section):
    backend: Literal["hf"] = "hf"
    batch_size: int = Field(8, ge=1, description="fixed: a batch size found by trial would change numbers")
    tasks: tuple[TaskSpec, ...] = ()
    perplexity: tuple[PerplexitySpec, ...] = ()
    include_path: str | None = Field(None, description="folder of lm-eval task YAML files")
    limit: int | None = Field(None, ge=1, description="for tasks that state none")
    seed: int = Field(1234, description="of the few-shot examples")
    apply_chat_template: bool = False
    system_instruction: str | None = None
    max_length: int | None = Field(None, ge=1, description="tokens; null is the model's own")

    @field_validator("batch_size", mode="before")
    @classmethod
    def _no_auto(cls, value: Any) -> Any:
        if value == "auto":
            raise ValueError("`auto` is refused: it depends on the machine and would change numbers")
        return value

    @field_validator("tasks", mode="before")
    @classmethod
    def _names_are_tasks(cls, value: Any) -> Any:
        return [{"name": task} if isinstance(task, str) else task for task in value]

    @model_validator(mode="after")
    def _distinct(self) -> "EvaluationConfig":
        names = [task.name for task in self.tasks] + [text.name for text in self.perplexity]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`{twice[0]}` is named twice")
        return self


class ExecutionConfig(_Section):
    """How to run. None of it changes a number, so none of it is ever part of an identity."""

    num_workers: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0)
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int = Field(1, ge=1, description="torch threads of a CPU worker")
    max_attempts: int = Field(3, ge=1, description="of a unit whose worker was lost")
    start_timeout_s: float = Field(1800, gt=0, description="to wait for a first worker")
    layers: Placement = Field("auto", description="resident in memory, or streamed from the checkpoint")
    wave_bytes: int = Field(4 << 30, ge=1, description="host memory for residual states when layers are streamed")
    store_options: dict[str, Any] = Field(default_factory=dict, description="s3fs options, e.g. endpoint_url")


class RunConfig(_Section):
    name: str = Field(pattern=RUN_NAME, description="of the run; the file's name if not given")
    model: ModelConfig
    calibration: CalibrationConfig
    scoring: ScoringConfig = ScoringConfig()
    plans: tuple[PlanSpec, ...] = ()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: Literal["all", "none"] | tuple[str, ...] = "none"
    store: str = "drop-ray-store"
    execution: ExecutionConfig = ExecutionConfig()

    def to_yaml(self) -> str:
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a RunConfig; `overrides` are `a.b=value`, the value being YAML. UserError names the field and the remedy."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such config file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
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


def resolve_path(path: str) -> Path:
    """The file or folder that a config's path names."""
    if path.startswith(DEMO_PREFIX):
        return DEMO_FOLDER / path.removeprefix(DEMO_PREFIX)
    return Path(path).expanduser()


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set {override}: write a.b=value")
    *sections, field = key.split(".")
    target: Any = values
    for section in sections:
        target = _enter(target, section, key)
    if isinstance(target, list):
        target[_position(target, field, key)] = yaml.safe_load(text)
        return
    target[field] = yaml.safe_load(text)


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
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation
    return annotation.__args__[0]
