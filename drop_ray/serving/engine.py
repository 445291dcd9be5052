"""The interface of a serving engine: settings in, timings, log-probabilities and facts out.

Only plain values, since they travel between the benchmark and the process that an engine runs in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from drop_ray.errors import DropRayError
from drop_ray.models.families import DropLists

Prompts = Sequence[Sequence[int]]
EightBits = Literal["cache", "inputs"]
"""What an engine rounds to 8-bit floats while it computes: keys and values, or what linears are given, too."""


class EngineError(DropRayError):
    """An engine did not start, or died while it worked. The message ends with its own last lines."""


@dataclass(frozen=True)
class DraftSettings:
    """A draft model, whose tokens the engine's own model verifies: its output stays its own."""

    folder: str
    """The draft's checkpoint, whose config.json has its drop lists."""
    tokens: int
    """Tokens that it drafts before each step of the model."""
    samples: bool = False
    """Whether it draws them, for requests that sample; otherwise it drafts its most probable ones."""


@dataclass(frozen=True)
class EngineSettings:
    """How to build an engine."""

    kind: Literal["vllm", "transformers", "reference"]
    """Name of the engine. `reference` is the project's own forward pass, which the others are checked against."""
    folder: str
    """The checkpoint's folder."""
    drops: DropLists
    """All sub-layers that are to be absent."""
    own_drops: DropLists
    """The sub-layers that the checkpoint's config.json says are dropped."""
    dtype: str
    """Dtype of weights and computation, such as `bfloat16`."""
    device: Literal["cpu", "cuda"]
    """Kind of device that it runs on."""
    max_model_len: int
    """The longest sequence, prompt and output, in tokens."""
    max_batch: int
    """The most sequences that generate at the same time."""
    kv_cache_bytes: int | None
    """KV-cache budget of each device in bytes; None leaves it to the engine."""
    threads: int | None
    """CPU threads; None, on a GPU, leaves them to the libraries."""
    attn_implementation: str = "sdpa"
    """Attention of transformers, for the engines that use it."""
    tensor_parallel: int = 1
    """Devices that share each layer."""
    enforce_eager: bool = False
    """Whether vLLM runs without compiling the model."""
    seed: int = 0
    """Seed of vLLM's random generators."""
    quantized: bool = False
    """Whether the checkpoint is quantized."""
    evaluates: bool = False
    """Whether it answers the evaluation: vLLM has a place for a token after `max_model_len`, and stop strings."""
    prefix_caching: bool = False
    """Whether vLLM keeps what prompts begin with for the next ones."""
    draft: DraftSettings | None = None
    """The draft model, if there is one; vLLM only."""
    kv_cache_dtype: str = "auto"
    """Dtype of the KV cache, such as `fp8_e4m3`; `auto` is that of the weights; vLLM only."""
    fp8_at_load: bool = False
    """Whether vLLM makes 8-bit floats of the weights while it loads them."""


@dataclass(frozen=True)
class RequestTiming:
    """When one request got its tokens, counted from the submission of its batch."""

    ttft: float
    """Seconds to the first token."""
    tpot: float | None
    """Mean seconds between tokens; None if there is only one token."""
    e2e: float
    """Seconds to the last token."""


@dataclass(frozen=True)
class Generation:
    """The result of one batch, whose requests were submitted at once."""

    wall: float
    """Seconds until the whole batch was done."""
    requests: tuple[RequestTiming, ...]
    """Timing of each request."""
    tokens: tuple[tuple[int, ...], ...]
    """Generated token ids of each request."""


@dataclass(frozen=True)
class PromptScores:
    """Teacher-forced predictions of prompts' tokens.

    The positions of all prompts are in a row, without the first of each prompt, which nothing predicts.
    """

    logprobs: NDArray[np.float64]
    """Log-probability of each token that is in the prompt, float64 [positions]."""
    top: NDArray[np.int64]
    """The most probable token, int64 [positions]."""
    margins: NDArray[np.float64] | None = None
    """By how much it is more probable than the second, in log-probability, float64 [positions]; None if not known."""
    in_8_bits: EightBits | None = None
    """What the engine of which these are the reference's rounds to 8-bit floats, if anything."""


def first_scores(scores: PromptScores, positions: int) -> PromptScores:
    """The scores of the first positions alone."""
    margins = None if scores.margins is None else scores.margins[:positions]
    return PromptScores(scores.logprobs[:positions], scores.top[:positions], margins, scores.in_8_bits)


@dataclass(frozen=True)
class Score:
    """How likely a continuation is after its context."""

    total: float
    """Sum of the log-probabilities of its tokens."""
    is_greedy: bool
    """Whether each of its tokens is the most probable one at its place."""


@dataclass(frozen=True)
class Scores:
    """Scores of continuations, and what they took."""

    scores: tuple[Score, ...]
    """One for each, in their order."""
    computed: int
    """Tokens that were computed: without those from the cache, with those of requests that were asked again."""
    asked_again: int = 0
    """Requests whose first answer began after its context in the cache."""


@dataclass(frozen=True)
class Completion:
    """How texts are to be completed."""

    max_tokens: tuple[int, ...]
    """Most tokens of each."""
    stop_tokens: tuple[int, ...] = ()
    """Token ids that end one, and are part of it. There are no others: an end of text is one only if it is here."""
    stop: tuple[str, ...] = ()
    """Strings that end one, and are part of it."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Settings of vLLM's SamplingParams; greedy if empty."""


@dataclass(frozen=True)
class Completed:
    """Completed texts, and what they took."""

    tokens: tuple[tuple[int, ...], ...]
    """Generated token ids of each."""
    finite: tuple[bool, ...]
    """Whether all log-probabilities of its tokens are finite."""
    computed: int
    """Tokens that were computed, in prompts and texts."""


@dataclass(frozen=True)
class EngineFacts:
    """What a loaded engine says about its device and memory."""

    version: str
    """Version of the engine."""
    device: str
    """Name of the device."""
    kv_tokens: int | None
    """Tokens that the KV cache holds; None if it has no limit."""
    kv_blocks: int | None
    """Blocks of the KV cache; None if it has no limit."""
    block_size: int
    """Tokens in a block."""
    kv_layers: tuple[int, ...]
    """Layers that have a KV cache."""
    kv_bytes_per_token: int
    """KV-cache bytes of one token, in all layers, on one device."""
    weights_bytes: int
    """Bytes of the weights on all devices."""
    state_bytes: int | None = None
    """Bytes of one sequence in the cache that do not grow with it; None where the engine does not say."""
    draft_weights_bytes: int = 0
    """Bytes of the draft's weights on all devices; none of them are the model's own."""
    draft_kv_bytes_per_token: int = 0
    """KV-cache bytes of one token in the draft's layers, on one device."""


@dataclass(frozen=True)
class Drafted:
    """What became of drafted tokens, over the steps of all sequences."""

    steps: int
    """Steps that verified drafted tokens."""
    accepted: tuple[int, ...]
    """By position: in how many of the steps the drafted tokens up to this one were kept."""

    def __sub__(self, earlier: "Drafted") -> "Drafted":
        """What came since."""
        accepted = (now - then for now, then in zip(self.accepted, earlier.accepted, strict=True))
        return Drafted(self.steps - earlier.steps, tuple(accepted))

    @property
    def acceptance(self) -> tuple[float, ...]:
        """By position, the share of steps in which the drafted tokens up to this one were kept."""
        return tuple(count / self.steps for count in self.accepted)

    @property
    def tokens_per_step(self) -> float:
        """Mean number of tokens of a step: those that were kept, and the model's own."""
        return 1 + sum(self.accepted) / self.steps


@dataclass(frozen=True)
class EngineFailure:
    """Sent in place of a result: what an engine raised in its process."""

    message: str
    """Type and text of the error."""


class Engine(Protocol):
    """A loaded model that generates. Every method raises EngineError if the engine has died."""

    @property
    def alive(self) -> bool: ...

    def facts(self) -> EngineFacts: ...

    def generate(self, prompts: Prompts, output_length: int) -> Generation:
        """Generate exactly `output_length` greedy tokens, whatever they are, for all prompts as one batch."""

    def sample(self, prompts: Prompts, output_length: int, temperature: float) -> Generation:
        """As `generate`, with tokens that are drawn. Only vLLM does it."""

    def score_prompts(self, prompts: Prompts) -> PromptScores: ...

    def score(self, contexts: Prompts, targets: Prompts) -> Scores:
        """Score each target after its context. What requests begin with alike is computed once, if it is kept."""

    def complete(self, prompts: Prompts, completion: Completion) -> Completed:
        """Complete each prompt."""

    def drafted(self) -> Drafted:
        """What has become of drafted tokens since the engine started. Only of an engine with a draft."""

    def peak_memory_bytes(self) -> int:
        """Peak memory since the engine started: of the device, or of the engine's process on a CPU."""

    def close(self) -> None: ...
