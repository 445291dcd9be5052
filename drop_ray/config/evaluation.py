"""`evaluation`: the tasks and texts that judge a model."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.divergence import DivergenceSpec
from drop_ray.config.gates import GatesConfig
from drop_ray.config.screening import Limit, ScreenSpec
from drop_ray.config.section import FileName, Location, Section
from drop_ray.config.texts import TextSection
from drop_ray.text.naming import first_twice


class TaskSpec(Section):
    """One lm-eval task; its name alone is enough."""

    name: FileName = Field(description="name of the task in lm-eval or in a file in `include_path`")
    num_fewshot: int | None = Field(
        None, ge=0, description="examples before each question; null keeps the task's own number"
    )
    limit: Limit | None = Field(
        None, description="first documents only; or a target, at which the task ends: {within: 0.01}"
    )


class PerplexitySpec(TextSection):
    """Perplexity on a text."""

    name: FileName = Field("perplexity", description="what the text is called in tables and charts")


class EvaluationConfig(Section):
    """What judges a model: lm-eval tasks, and perplexity on texts."""

    backend: Literal["hf", "vllm"] = Field(
        "hf", description="what computes log-likelihoods and generates: hf is transformers, vllm the serving engine"
    )
    share_prefixes: bool = Field(
        True, description="compute what the requests of a document have in common once; false is the path of lm-eval"
    )
    batch_size: int = Field(
        8, ge=1, description="documents at once; fixed, since a size found by trial would change numbers"
    )
    tasks: tuple[TaskSpec, ...] = Field((), description="lm-eval tasks, by name or with settings")
    perplexity: tuple[PerplexitySpec, ...] = Field((), description="texts whose perplexity is taken")
    divergence: DivergenceSpec | None = Field(
        DivergenceSpec(), description="text on which predictions are compared with the base's; null compares none"
    )
    screen: ScreenSpec | None = Field(None, description="which plans get the tasks; null gives them to all")
    gates: GatesConfig | None = Field(None, description="what a plan must still be able to do; null tests nothing")
    include_path: Location | None = Field(None, description="folder of lm-eval task YAML files")
    allow_task_code: bool = Field(
        False, description="run Python code (`!function`) of tasks from outside of the working directory"
    )
    limit: Limit | None = Field(None, description="limit of the tasks that state none, as theirs")
    seed: int = Field(1234, description="seed by which few-shot examples are drawn")
    apply_chat_template: bool = Field(False, description="put prompts into the tokenizer's chat template")
    system_instruction: str | None = Field(None, description="text that stands before every prompt")
    max_length: int | None = Field(None, ge=1, description="tokens of a prompt at most; null is the model's own limit")
    kv_cache_bytes: int | None = Field(
        None,
        ge=1,
        description="KV cache of each engine of backend vllm on each device; null is 1 GiB on a CPU, vLLM's own choice "
        "on a GPU",
    )

    log_samples: bool = Field(
        True,
        description="keep prompts and responses, and write lm-eval's samples_*.jsonl of every plan; no number changes",
    )

    @field_validator("batch_size", mode="before")
    @classmethod
    def _no_auto(cls, value: Any) -> Any:
        if value == "auto":
            raise ValueError("`auto` is refused: it depends on the machine and would change numbers")
        return value

    @field_validator("tasks", mode="before", json_schema_input_type=tuple[str | TaskSpec, ...])
    @classmethod
    def _names_are_tasks(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value  # and refused as it is
        return [{"name": task} if isinstance(task, str) else task for task in value]

    @model_validator(mode="after")
    def _distinct(self) -> "EvaluationConfig":
        twice = first_twice([task.name for task in self.tasks] + [text.name for text in self.perplexity])
        if twice is not None:
            raise ValueError(f"`{twice}` is named twice")
        if self.screen is not None and self.divergence is None:
            raise ValueError("screen needs the divergence by which it chooses; state `divergence`, or omit `screen`")
        return self
