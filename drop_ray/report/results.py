"""What a report is made from: the tables of one run as plain rows, without Ray, torch or files.

The pipeline fills `Results` from its artifacts; `render_html`, `render_markdown` and `write_results_parquet` read it.
Any table may be empty: a run without an evaluation still reports its scores and plans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class ScoreRow:
    """Importance S = 1 - cosine similarity of one module, as mean over calibration samples; low means redundant."""

    drop_state: str  # "base", or the name of the iteration's state, such as "attention-2"
    module: Literal["attention", "mlp", "block"]
    layer: int
    gap: int  # 1; larger only for block windows, which span layers layer .. layer + gap - 1
    metric: str
    mean: float
    stderr: float


@dataclass(frozen=True)
class LayerErrorRow:
    """How far one module's output is from the 16-bit one's on held-out samples, after quantizing its weights.

    error: squared difference relative to the squared 16-bit output; error_sum: the squared difference itself. Both
    again for rounding to nearest with the same bits and groups.
    """

    layer: int
    module: Literal["attention", "mlp"]
    error: float
    round_to_nearest: float
    error_sum: float
    round_to_nearest_sum: float


@dataclass(frozen=True)
class Quantization:
    """How a plan's weights were quantized, and from which 16-bit plan (its name) they were."""

    of: str
    method: str
    label: str  # of the column: the method, or another name where a run has it twice
    bits: int
    group_size: int
    symmetric: bool
    desc_act: bool
    errors: tuple[LayerErrorRow, ...]


@dataclass(frozen=True)
class PlanRow:
    """One drop plan and its size; the first plan of a run is the base (strategy "base", nothing dropped).

    weight_bytes: as stored. A quantized form of a plan is a row of its own, which differs in nothing else of the size.
    """

    name: str
    strategy: str
    metric: str | None
    num_dropped: int  # as the strategy counts: a block is one
    drop_attn: tuple[int, ...]
    drop_mlp: tuple[int, ...]
    parameters: int  # kept
    parameters_saved: int
    kv_bytes_per_token: int  # kept
    kv_bytes_saved_per_token: int
    checkpoint: str | None
    weight_bytes: int
    quantization: Quantization | None = None

    @property
    def sublayers_dropped(self) -> int:
        """Attention layers plus MLPs, so that a dropped block counts two."""
        return len(self.drop_attn) + len(self.drop_mlp)


@dataclass(frozen=True)
class EvaluationRow:
    """One metric of one plan on one task; `primary` marks the metric that counts for the task."""

    plan: str
    task: str
    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool
    num_documents: int
    num_fewshot: int | None
    primary: bool


@dataclass(frozen=True)
class DocumentRow:
    """A plan's primary metric on one document, to pair plans by; of a text's perplexity `nll`, nats per token."""

    plan: str
    task: str
    metric: str
    doc_id: int
    value: float


@dataclass(frozen=True)
class ServingRow:
    """One measurement of a plan against the base, made in pairs on one engine.

    comparison: at an equal batch, or at equal memory, where the plan has the larger batch that its freed KV cache
    allows. base_value, plan_value: medians over the pairs, in tokens per second or in seconds. ratio: median of the
    pairs' ratios with its 95 % interval; above 1 the plan is faster, whatever the metric. predicted: by a roofline
    estimate, None where there is none. control: the base against itself, under the base's name.
    """

    plan: str
    workload: str
    prompt_tokens: int
    output_tokens: int
    engine: str
    mode: str  # resident or reload
    control: bool
    comparison: Literal["equal_batch", "equal_memory"]
    batch_size: int  # the base's
    plan_batch_size: int
    metric: str  # output_tokens_per_s, ..., ttft_p50_s, ...
    base_value: float
    plan_value: float
    ratio: float
    low: float
    high: float
    pairs: int
    predicted: float | None


@dataclass(frozen=True)
class ServingFacts:
    """What a serving engine holds of the base and of a plan, and how near it is to the model's own forward pass.

    kv_tokens: those that one KV budget has room for; None for engines without a budget. peak_bytes: of memory, None
    where an engine does not know it. gate: mean and 99th percentile of the absolute difference of log-probabilities,
    over gate_tokens; gate_greedy is None where greedy tokens were not compared.
    """

    plan: str
    engine: str
    engine_version: str
    device: str
    kv_tokens_base: int | None
    kv_tokens_plan: int | None
    kv_predicted_ratio: float | None
    kv_bytes_per_token_base: int
    kv_bytes_per_token_plan: int
    weights_bytes_base: int
    weights_bytes_plan: int
    peak_bytes_base: int | None
    peak_bytes_plan: int | None
    gate_dtype: str
    gate_mean: float
    gate_p99: float
    gate_top1_agreement: float
    gate_tokens: int
    gate_greedy: bool | None


@dataclass(frozen=True)
class ArtifactRow:
    """One artifact the run made or reused."""

    step: str
    path: str
    bytes: int
    identity: Mapping[str, Any]
    created: str


@dataclass(frozen=True)
class RunFacts:
    """What was run, for the record."""

    name: str
    model: str
    model_identity: str
    num_layers: int
    dtype: str
    calibration: str
    started: str
    versions: Mapping[str, str]
    config_yaml: str


@dataclass(frozen=True)
class Results:
    """Everything a report shows. Raises ValueError where rows contradict each other.

    training: the base scores of every training checkpoint by revision, oldest first; the last is the run's model, and
    its rows are among `scores` too. All have the same modules and layers.
    """

    run: RunFacts
    scores: Sequence[ScoreRow]
    plans: Sequence[PlanRow]
    evaluations: Sequence[EvaluationRow]
    documents: Sequence[DocumentRow]
    artifacts: Sequence[ArtifactRow]
    training: Mapping[str, Sequence[ScoreRow]] = field(default_factory=dict)
    serving: Sequence[ServingRow] = ()
    serving_facts: Sequence[ServingFacts] = ()

    def __post_init__(self) -> None:
        names = [plan.name for plan in self.plans]
        if len(set(names)) < len(names):
            raise ValueError(f"plan names are not unique: {sorted({name for name in names if names.count(name) > 1})}")
        if self.plans and self.plans[0].strategy != "base":
            raise ValueError(f"the first plan must be the base, not {self.plans[0].name!r}")
        self._check_quantized()
        unknown = {row.plan for row in self.evaluations}.union(row.plan for row in self.documents) - set(names)
        if unknown:
            raise ValueError(f"evaluations of unknown plans: {sorted(unknown)}")
        unknown = {row.plan for row in self.serving}.union(row.plan for row in self.serving_facts) - set(names)
        if unknown:
            raise ValueError(f"serving measurements of unknown plans: {sorted(unknown)}")
        primary = [(row.plan, row.task) for row in self.evaluations if row.primary]
        if len(set(primary)) < len(primary):
            plan, task = next(key for key in primary if primary.count(key) > 1)
            raise ValueError(f"plan {plan!r} has more than one primary metric on task {task!r}")

    def unquantized(self) -> "Results":
        """Without the quantized forms and what was measured of them."""
        plans = [plan for plan in self.plans if plan.quantization is None]
        names = {plan.name for plan in plans}
        return replace(
            self,
            plans=plans,
            evaluations=[row for row in self.evaluations if row.plan in names],
            documents=[row for row in self.documents if row.plan in names],
            serving=[row for row in self.serving if row.plan in names],
            serving_facts=[row for row in self.serving_facts if row.plan in names],
        )

    def _check_quantized(self) -> None:
        forms = [(plan.quantization.of, plan.quantization.label) for plan in self.plans if plan.quantization]
        unknown = {of for of, _ in forms} - {plan.name for plan in self.plans if plan.quantization is None}
        if unknown:
            raise ValueError(f"quantized forms of unknown plans: {sorted(unknown)}")
        if len(set(forms)) < len(forms):
            of, label = next(form for form in forms if forms.count(form) > 1)
            raise ValueError(f"plan {of!r} has more than one form called {label!r}")
