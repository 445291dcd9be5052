"""The rows of a report's tables, each field documented: what sections show, and what tables/*.parquet hold.

A row says what it is of by name (`variant`), so that tables of one run can be joined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ScoreRow:
    """The importance of one sub-layer, block or window of blocks, from the calibration samples."""

    drop_state: str
    """`base`, or what an iteration had dropped when it scored again: `without attn 5,7`."""
    module: Literal["attention", "mlp", "block"]
    """What was scored."""
    layer: int
    """Index of the layer; of a window, that of its first."""
    gap: int
    """Layers that are spanned: 1, more for windows of blocks only."""
    metric: str
    """The metric: `cosine`, `kl`, ...; scores of different ones have nothing in common."""
    mean: float
    """Mean importance over the samples; low is redundant."""
    stderr: float
    """Standard error of the mean."""


@dataclass(frozen=True)
class TrainingRow(ScoreRow):
    """The importance of one sub-layer or block in one training checkpoint."""

    revision: str
    """The checkpoint's revision; the last in the table is the run's model."""


@dataclass(frozen=True)
class Quantization:
    """How a variant's weights were quantized."""

    of: str
    """Name of the variant whose weights were quantized."""
    method: str
    """`awq`, `gptq`, `fp8`."""
    label: str
    """The method, or another name where a run has it twice."""
    bits: int
    """Per weight."""
    group_size: int
    """Weights that share a scale; -1 for a whole row."""
    symmetric: bool
    """Whether there are no zero points."""
    desc_act: bool
    """Whether columns were quantized in order of their activations."""
    experts: int = 0
    """Routed experts in its layers."""
    rounded_experts: int = 0
    """Those that no calibration token met: their weights are rounded to nearest."""
    rounded: str = ""
    """Which they are, `layer 3: 1, 5; layer 7: 0`."""


@dataclass(frozen=True)
class VariantRow:
    """The base with its changes, and its size. The base itself comes first, with strategy `base`."""

    name: str
    """As other tables call it: `attention-8`, `attention-8-awq`."""
    strategy: str
    """Rule by which its drop plan chose; `file` for one by hand."""
    metric: str | None
    """Metric of the scores that the strategy followed."""
    num_dropped: int
    """As the strategy counts: a block is one."""
    drop_attn: tuple[int, ...]
    """Layers without their attention."""
    drop_mlp: tuple[int, ...]
    """Layers without their MLP."""
    parameters: int
    """Parameters kept."""
    parameters_saved: int
    """Parameters of the base less those kept."""
    kv_bytes_per_token: int
    """Bytes of KV cache that one token needs."""
    kv_bytes_saved_per_token: int
    """The base's less these."""
    checkpoint: str | None
    """Where the variant was written to, if it was."""
    weight_bytes: int
    """Bytes of the weights as stored; the other sizes are as without quantization."""
    quantization: Quantization | None = None
    """How the weights were quantized, if they were."""
    changes: tuple[str, ...] = ()
    """Labels of the changes after the drop, in their order: `refit`, `awq`."""
    refit: str | None = None
    """Label of its refit, if what is left was fitted anew."""

    @property
    def sublayers_dropped(self) -> int:
        """Attention layers plus MLPs that are dropped: a block counts two."""
        return len(self.drop_attn) + len(self.drop_mlp)


@dataclass(frozen=True)
class EvaluationRow:
    """One metric of one variant on one task."""

    variant: str
    """Name of the variant."""
    task: str
    """Name of the task or text."""
    metric: str
    """What the task is judged by, with its filter if it has one."""
    value: float
    """The metric's value."""
    stderr: float | None
    """Its standard error, where it is known."""
    higher_is_better: bool
    """False for perplexities."""
    num_documents: int
    """Documents evaluated."""
    num_fewshot: int | None
    """Examples before each question."""
    primary: bool
    """Whether the metric counts for the task: averages are of primary metrics."""


@dataclass(frozen=True)
class DocumentRow:
    """A variant's primary metric on one document, by which variants are paired; of texts also each sample's loss."""

    variant: str
    """Name of the variant."""
    task: str
    """Name of the task or text."""
    metric: str
    """The primary metric, or `nll`: nats per token."""
    doc_id: int
    """Number of the document within its task, the same for all variants."""
    value: float
    """The metric on this document."""


@dataclass(frozen=True)
class QuantizationErrorRow:
    """How far one sub-layer's output is from the unquantized one's, on samples that the method did not see."""

    variant: str
    """Name of the quantized variant."""
    layer: int
    """Index of the layer."""
    module: Literal["attention", "mlp"]
    """The sub-layer."""
    error: float
    """Squared difference relative to the squared unquantized output."""
    round_to_nearest: float
    """The same of rounding to nearest, with the same bits and groups."""
    error_sum: float
    """Squared difference itself, summed."""
    round_to_nearest_sum: float
    """The same of rounding to nearest."""


@dataclass(frozen=True)
class ServingRow:
    """One measurement of a variant against the base, made in pairs on one engine."""

    variant: str
    """Name of the variant; the base's own name for the control, the base against itself."""
    workload: str
    """`2048+128`: prompt and output tokens of a request."""
    prompt_tokens: int
    """Tokens of a prompt."""
    output_tokens: int
    """Tokens generated for each."""
    engine: str
    """`vllm`, or the project's own reference."""
    mode: str
    """`resident`: both sides at once, one generating; `reload`: one engine after the other."""
    control: bool
    """Whether the base was measured against itself."""
    comparison: Literal["equal_batch", "equal_memory"]
    """At one batch size, or each side with the batch that its KV cache leaves room for."""
    batch_size: int
    """The base's requests at a time."""
    variant_batch_size: int
    """The variant's; larger at equal memory."""
    metric: str
    """`output_tokens_per_s`, `ttft_p50_s`, ...: rates and latencies."""
    base_value: float
    """The base's median over the pairs, in tokens per second or in seconds."""
    variant_value: float
    """The variant's."""
    ratio: float
    """Median of the pairs' ratios; above 1 the variant is faster, whatever the metric."""
    low: float
    """Lower end of the ratio's 95 % interval."""
    high: float
    """Its upper end."""
    pairs: int
    """Pairs measured."""
    predicted: float | None
    """What a roofline predicts, where it predicts anything."""


@dataclass(frozen=True)
class EngineRow:
    """What a serving engine holds of base and variant, and how near it is to the model's own forward pass."""

    variant: str
    """Name of the variant."""
    engine: str
    """`vllm`, or the project's own reference."""
    engine_version: str
    """Its version."""
    device: str
    """What it ran on."""
    kv_tokens_base: int | None
    """Tokens that one KV budget holds of the base; none for engines without a budget."""
    kv_tokens_variant: int | None
    """The same of the variant."""
    kv_predicted_ratio: float | None
    """Their ratio by arithmetic."""
    kv_bytes_per_token_base: int
    """Bytes of KV cache a token of the base needs."""
    kv_bytes_per_token_variant: int
    """The same of the variant."""
    weights_bytes_base: int
    """Bytes of the base's weights in memory."""
    weights_bytes_variant: int
    """The same of the variant."""
    peak_bytes_base: int | None
    """Most memory that the base took, where the engine knows it."""
    peak_bytes_variant: int | None
    """The same of the variant."""
    gate_dtype: str
    """What the acceptance gate computed in."""
    gate_mean: float
    """Mean absolute difference of log-probabilities to the model's own forward pass."""
    gate_p99: float
    """The 99th percentile of these differences."""
    gate_top1_agreement: float
    """Share of tokens with the same first choice, where that is clear."""
    gate_tokens: int
    """Tokens compared."""
    gate_greedy: bool | None
    """Whether greedily generated tokens are equal; none where they were not compared."""
    kv_cache_dtype: str = "auto"
    """Dtype of the KV cache; `auto` is that of the gate."""


@dataclass(frozen=True)
class ArtifactRow:
    """One artifact that the run made or found."""

    step: str
    """Name of the step that made it."""
    path: str
    """Its folder in the store."""
    bytes: int
    """Size of its files."""
    identity: Mapping[str, Any]
    """Everything that decides its content, as JSON."""
    created: str
    """When it was committed."""
