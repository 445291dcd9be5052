"""What a serving engine is to the benchmark: settings in, timings, log-probabilities and facts out.

Plain values only: they travel between the benchmark and the process that an engine runs in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from drop_ray.errors import DropRayError
from drop_ray.models.families import DropLists

Prompts = Sequence[Sequence[int]]


class EngineError(DropRayError):
    """An engine did not start, or died while it worked; the message ends with its own last lines."""


@dataclass(frozen=True)
class EngineSettings:
    """How to build an engine.

    kind: `reference` is the project's own forward, which the others are checked against. folder: of the checkpoint.
    drops: all that is to be absent; own_drops: what the checkpoint's config says already; quantized: whether the
    checkpoint is. max_batch: sequences that generate at the same time. kv_cache_bytes: of each
    device; None leaves it to the engine. threads: of a CPU; None on
    a GPU leaves them to the libraries.
    """

    kind: Literal["vllm", "transformers", "reference"]
    folder: str
    drops: DropLists
    own_drops: DropLists
    dtype: str
    device: Literal["cpu", "cuda"]
    max_model_len: int
    max_batch: int
    kv_cache_bytes: int | None
    threads: int | None
    attn_implementation: str = "sdpa"
    tensor_parallel: int = 1
    enforce_eager: bool = False
    seed: int = 0
    quantized: bool = False


@dataclass(frozen=True)
class RequestTiming:
    """Seconds: to the first token, between tokens (None of one token), to the last token."""

    ttft: float
    tpot: float | None
    e2e: float


@dataclass(frozen=True)
class Generation:
    """One batch, submitted at once. wall: seconds until all of it was done; tokens: generated, by request."""

    wall: float
    requests: tuple[RequestTiming, ...]
    tokens: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PromptScores:
    """Teacher-forced predictions of prompts' tokens, all prompts' positions in a row, the first of each left out.

    logprobs: of the token that is there, float64 [positions]; top: the most probable token, int64 [positions];
    margins: how much more probable it is than the second, in log-probability; None where an engine does not say.
    """

    logprobs: NDArray[np.float64]
    top: NDArray[np.int64]
    margins: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class EngineFacts:
    """What an engine has of memory. kv_tokens: tokens that its KV cache holds, None if it has no such limit;
    kv_layers: those that own a part of it; kv_bytes_per_token: of one device; weights_bytes: of all devices."""

    version: str
    device: str
    kv_tokens: int | None
    kv_blocks: int | None
    block_size: int
    kv_layers: tuple[int, ...]
    kv_bytes_per_token: int
    weights_bytes: int


@dataclass(frozen=True)
class EngineFailure:
    """In place of a result: what an engine raised in its process."""

    message: str


class Engine(Protocol):
    """A loaded model that generates. Every method raises EngineError if the engine has died."""

    @property
    def alive(self) -> bool: ...

    def facts(self) -> EngineFacts: ...

    def generate(self, prompts: Prompts, output_length: int) -> Generation:
        """Greedy tokens of a fixed number, whatever they are, for all prompts as one batch."""

    def score_prompts(self, prompts: Prompts) -> PromptScores: ...

    def peak_memory_bytes(self) -> int:
        """Of the device since the engine started; on a CPU, of the engine's process."""

    def close(self) -> None: ...
