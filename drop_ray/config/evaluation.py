"""`evaluation`: the tasks and texts that judge a model."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.section import RUN_NAME, Section, TextSection
from drop_ray.text.naming import first_twice


class TaskSpec(Section):
    name: str
    num_fewshot: int | None = Field(None, ge=0, description="null keeps the task's own number")
    limit: int | None = Field(None, ge=1, description="first documents only")


class PerplexitySpec(TextSection):
    """Perplexity on a text."""

    name: str = Field("perplexity", pattern=RUN_NAME)


class EvaluationConfig(Section):
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
        twice = first_twice([task.name for task in self.tasks] + [text.name for text in self.perplexity])
        if twice is not None:
            raise ValueError(f"`{twice}` is named twice")
        return self
