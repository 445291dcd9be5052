"""The sections of a run's config, with what they refuse. Everything but ExecutionConfig changes numbers.

Paths that begin with `demo:` lie in the package's embedded demo folder; others start at the working directory.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEMO_PREFIX = "demo:"
DEMO_FOLDER = Path(__file__).parent / "demo"
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Placement = Literal["auto", "resident", "streamed"]
Ranked = Literal["attention", "mlp", "joint", "block"]
Metric = Literal["cosine", "angular"]
# Fewer pairs than this have no useful interval; a prompt to check an engine on, and its continuation, take this length.
MIN_RESIDENT_PAIRS = 5
MIN_MODEL_LEN = 32


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ModelConfig(Section):
    path: str = Field(description="folder of a transformers checkpoint, s3://bucket/prefix, or a Hugging Face name")
    revision: str | None = Field(
        None, min_length=1, description="branch, tag or commit of a Hugging Face name; subfolder of a folder or URL"
    )
    revisions: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="training checkpoints to score, oldest first; the last is the model that plans are made for"
    )
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    allow_unlisted: bool = Field(
        False, description="take an architecture that no test covers, if a small model of it stands a probe first"
    )

    @model_validator(mode="after")
    def _one_model(self) -> "ModelConfig":
        if self.revision is not None and self.revisions:
            raise ValueError("give either `revision` or `revisions`, whose last is the run's model")
        if len(self.revisions) == 1:
            raise ValueError("`revisions` compares two or more training checkpoints; for a single one give `revision`")
        twice = [name for name in self.revisions if self.revisions.count(name) > 1]
        if twice:
            raise ValueError(f"`revisions` names {twice[0]} twice")
        return self

    @property
    def name(self) -> str:
        """The run's model, for people."""
        return f"{self.path} at {self.main_revision}" if self.main_revision else self.path

    @property
    def location(self) -> str:
        """The path for `locate_model`: a URL as it is, of a folder what `resolve_path` says."""
        return self.path if "://" in self.path else str(resolve_path(self.path))

    @property
    def main_revision(self) -> str | None:
        """The revision that plans, exports and evaluations are of."""
        return self.revisions[-1] if self.revisions else self.revision


class CalibrationConfig(Section):
    source: str | None = Field(None, description="text: .txt, .json, .jsonl or .parquet")
    token_ids: str | None = Field(None, description="instead of text: .json or .parquet with lists of ints")
    dataset: str | None = Field(None, description="Hugging Face dataset, or a folder of data files; read as a stream")
    dataset_config: str | None = Field(None, description="configuration of the dataset, such as `en` of C4")
    dataset_split: str = Field("train", description="split of the dataset")
    dataset_revision: str | None = Field(None, description="branch, tag or commit; null is the newest commit")
    text_field: str = Field("text", description="field or column that holds the text")
    num_samples: int = Field(256, ge=2, description="two at least: scores come with a standard error")
    seq_len: int = Field(2048, ge=2)
    shuffle_seed: int | None = Field(None, description="shuffle the documents first; null keeps their order")

    @model_validator(mode="after")
    def _one_source(self) -> "CalibrationConfig":
        if [self.source, self.token_ids, self.dataset].count(None) != 2:
            raise ValueError("give either `source` (a text file), `token_ids` or `dataset`, and only one of them")
        fields = [(name, field) for name, field in type(self).model_fields.items() if name.startswith("dataset_")]
        stray = [name for name, field in fields if getattr(self, name) != field.default]
        if self.dataset is None and stray:
            raise ValueError(f"`{stray[0]}` goes with `dataset`")
        return self


class ScoringConfig(Section):
    metrics: tuple[Metric, ...] = Field(("cosine",), min_length=1, description="plans rank by the first by default")
    micro_batch: int = Field(4, ge=1, description="samples per forward pass")
    range_size: int = Field(16, ge=1, description="samples per unit of work")

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each metric once")
        return value


class PlanSpec(Section):
    """One line of `plans`: a strategy and how many to drop, or a plan file."""

    strategy: Literal["attention", "mlp", "joint", "block", "block_consecutive", "random", "reverse"] | None = None
    drop: tuple[int, ...] = Field((), description="how many layers, MLPs or blocks; a list makes many plans")
    iterative: int | None = Field(None, ge=1, description="drop this many, score again, repeat")
    of: Ranked | None = Field(None, description="what random and reverse drop")
    seed: int = Field(0, description="of random")
    metric: Metric | None = Field(None, description="one of scoring.metrics to rank by; null is the first of them")
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
        if self.metric and self.strategy in (None, "random", "reverse"):
            raise ValueError("`metric` goes with strategies that rank by scores")
        return self


class TaskSpec(Section):
    name: str
    num_fewshot: int | None = Field(None, ge=0, description="null keeps the task's own number")
    limit: int | None = Field(None, ge=1, description="first documents only")


class PerplexitySpec(Section):
    """Perplexity on a text of the user's, cut into samples as calibration text is."""

    name: str = Field("perplexity", pattern=RUN_NAME)
    source: str
    text_field: str = "text"
    num_samples: int = Field(64, ge=1)
    seq_len: int = Field(2048, ge=2)


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
        names = [task.name for task in self.tasks] + [text.name for text in self.perplexity]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`{twice[0]}` is named twice")
        return self


class WorkloadSpec(Section):
    """Requests of one kind: so many tokens in, so many out, whatever they are."""

    prompt: int = Field(ge=1, description="tokens of each prompt")
    output: int = Field(ge=1, description="tokens that are generated for each")
    name: str | None = Field(None, min_length=1, description="for the report; PROMPT+OUTPUT if not given")

    @property
    def label(self) -> str:
        return self.name or f"{self.prompt}+{self.output}"


class ServingConfig(Section):
    """How to measure serving speed: base and plan in pairs on one device."""

    engine: Literal["vllm", "transformers"] = Field("vllm", description="transformers is for families that vLLM lacks")
    mode: Literal["resident", "reload"] = Field(
        "resident", description="both engines loaded at a time, or one after the other, in rounds"
    )
    # The paper's own, then one that mostly prefills and one that mostly decodes.
    workloads: tuple[WorkloadSpec, ...] = Field(
        (
            WorkloadSpec(prompt=2048, output=2048),
            WorkloadSpec(prompt=2048, output=128),
            WorkloadSpec(prompt=128, output=2048),
        ),
        min_length=1,
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 8, 32), min_length=1, description="tried in order, until a larger one gives no more tokens per second"
    )
    pairs: int = Field(5, ge=3, description="of each measurement, 5 at least if resident; rounds of reload")
    plans: Literal["all"] | tuple[str, ...] = Field("all", description="names of plans; the base is always measured")
    dtype: Literal["bfloat16", "float16", "float32"] | None = Field(None, description="null is model.dtype")
    max_model_len: int | None = Field(None, ge=1, description="tokens of a request; null is the longest workload")
    kv_cache_bytes: int | None = Field(
        None, ge=1, description="of each engine on each device; null is 1 GiB on a CPU, vLLM's own choice on a GPU"
    )
    enforce_eager: bool = Field(False, description="vLLM without compilation and CUDA graphs")
    seed: int = Field(0, description="of the prompts")

    @property
    def model_len(self) -> int:
        """Tokens of a request that the engines are built for."""
        longest = max(workload.prompt + workload.output for workload in self.workloads)
        return self.max_model_len or max(longest, MIN_MODEL_LEN)

    @model_validator(mode="after")
    def _consistent(self) -> "ServingConfig":
        labels = [workload.label for workload in self.workloads]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two workloads are called {twice[0]}; give one a `name`")
        if list(self.batch_sizes) != sorted({*self.batch_sizes}):
            raise ValueError("`batch_sizes` must grow: they are tried until throughput does so no more")
        if self.mode == "resident" and self.pairs < MIN_RESIDENT_PAIRS:
            raise ValueError(f"`pairs` must be {MIN_RESIDENT_PAIRS} at least if resident; of reload, 3 are enough")
        too_long = [workload for workload in self.workloads if workload.prompt + workload.output > self.model_len]
        if too_long:
            raise ValueError(f"workload {too_long[0].label} is longer than `max_model_len`, {self.max_model_len}")
        if self.model_len < MIN_MODEL_LEN:
            raise ValueError(f"`max_model_len` must be {MIN_MODEL_LEN} at least: engines are checked on prompts")
        return self


class ExecutionConfig(Section):
    """How to run. None of it changes a result, so none of it is ever part of an identity; but for the benchmark's
    device, threads and `tensor_parallel`, since what is timed is timed there."""

    num_workers: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0)
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int = Field(1, ge=1, description="of a CPU worker, and of a serving engine on a CPU")
    max_attempts: int = Field(3, ge=1, description="of a unit whose worker was lost")
    start_timeout_s: float = Field(1800, gt=0, description="to wait for a first worker")
    tensor_parallel: int = Field(1, ge=1, description="GPUs of one engine in the serving benchmark")
    layers: Placement = Field("auto", description="resident in memory, or streamed from the checkpoint")
    wave_bytes: int = Field(4 << 30, ge=1, description="host memory for residual states when layers are streamed")
    store_options: dict[str, Any] = Field(
        default_factory=dict, description="s3fs options, e.g. endpoint_url, for a store or a model on s3://"
    )


def resolve_path(path: str) -> Path:
    """The file or folder that a config's path names."""
    if path.startswith(DEMO_PREFIX):
        return DEMO_FOLDER / path.removeprefix(DEMO_PREFIX)
    return Path(path).expanduser()
