"""`serving`: how to measure serving speed."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from drop_ray.config.drafts import DraftsConfig
from drop_ray.config.section import Section
from drop_ray.text.naming import first_twice

# Fewer pairs than this have no useful interval. The gate's prompts with their continuations need this length.
MIN_RESIDENT_PAIRS = 5
MIN_MODEL_LEN = 32
AT_LOAD = "fp8-at-load"
"""End of the name of a variant that vLLM quantizes while it loads it."""


class WorkloadSpec(Section):
    """Requests of one kind, with a fixed number of tokens in and out, whatever the tokens are."""

    prompt: int = Field(ge=1, description="tokens of each prompt")
    output: int = Field(ge=1, description="tokens that are generated for each")
    name: str | None = Field(None, min_length=1, description="what the report calls it; PROMPT+OUTPUT if not given")

    @property
    def label(self) -> str:
        return self.name or f"{self.prompt}+{self.output}"


class ServingConfig(Section):
    """How to measure serving speed: base and variant in pairs on one device."""

    engine: Literal["vllm", "transformers"] = Field(
        "vllm", description="what serves; transformers is for families that vLLM lacks"
    )
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
        description="kinds of requests that are timed",
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 8, 32), min_length=1, description="tried in order, until a larger one gives no more tokens per second"
    )
    pairs: int = Field(5, ge=3, description="pairs of each measurement, 5 at least if resident; rounds of reload")
    plans: Literal["all"] | tuple[str, ...] = Field("all", description="variants that are measured; the base always is")
    dtype: Literal["bfloat16", "float16", "float32"] | None = Field(
        None, description="dtype to serve in; null is model.dtype"
    )
    max_model_len: int | None = Field(None, ge=1, description="tokens of a request; null is the longest workload")
    kv_cache_bytes: int | None = Field(
        None,
        ge=1,
        description="KV cache of each engine on each device; null is 1 GiB on a CPU, vLLM's own choice on a GPU",
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto", description="dtype of vLLM's KV cache; auto is the one served in, fp8 is fp8_e4m3"
    )
    fp8_at_load: Literal["all"] | tuple[str, ...] = Field(
        (),
        description="variants in 16 bits that are also measured in vLLM's own FP8 by channel, which it makes of them "
        "while it loads, as NAME-fp8-at-load",
    )
    enforce_eager: bool = Field(False, description="vLLM without compilation and CUDA graphs")
    seed: int = Field(0, description="seed by which prompts are drawn")
    drafts: DraftsConfig | None = Field(None, description="variants as drafts of the base; null measures none")

    @property
    def model_len(self) -> int:
        """Tokens of a request that the engines are built for."""
        longest = max(workload.prompt + workload.output for workload in self.workloads)
        return self.max_model_len or max(longest, MIN_MODEL_LEN)

    @field_validator("kv_cache_dtype")
    @classmethod
    def _spelled_out(cls, value: str) -> str:
        return "fp8_e4m3" if value == "fp8" else value

    @model_validator(mode="after")
    def _consistent(self) -> "ServingConfig":
        twice = first_twice(workload.label for workload in self.workloads)
        if twice is not None:
            raise ValueError(f"two workloads are called {twice}; give one a `name`")
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
