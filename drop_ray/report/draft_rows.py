"""Rows about variants as drafts of the base: what was predicted of them, what was measured, and both side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drop_ray.planning.search.drafts import speedup, tokens_per_step

if TYPE_CHECKING:
    from drop_ray.report.results import Results


@dataclass(frozen=True)
class DraftPlanRow:
    """What a variant is predicted to gain as a draft of the base, at its best number of drafted tokens."""

    variant: str
    """Name of the variant."""
    decoding: Literal["greedy", "sampling"]
    """How the base generates."""
    batch_size: int
    """Sequences at a time."""
    context: int
    """Tokens that each of them has."""
    acceptance: float
    """Part of its tokens that the base keeps: top-1 agreement of the panel; of sampling, 1 - total variation."""
    cost: float
    """Time of its decoding step over the base's."""
    cost_from: str
    """Where the cost is from: the serving benchmark at some requests, or a roofline."""
    tokens: int
    """Drafted tokens before a step."""
    verification: float
    """Time of the base's step on one token more than that, over its step on one, by a roofline."""
    speedup: float
    """Predicted, over the base without a draft."""
    pays: bool
    """Whether that is above 1."""
    reason: str
    """What is predicted, or why it cannot pay."""


@dataclass(frozen=True)
class DraftSpeedup:
    """A speedup of the base by a draft, measured in pairs."""

    ratio: float
    """Median of the pairs' ratios; above 1 the base is faster with the draft."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Its upper end."""
    pairs: int
    """Pairs measured."""
    base: float
    """The base's median, in tokens per second."""
    drafted: float
    """The median with the draft."""


@dataclass(frozen=True)
class DraftRow:
    """A draft of the base with a number of drafted tokens, as measured; the base against itself is the control."""

    variant: str
    """Name of the draft; the base's own name for the control."""
    tokens: int
    """Drafted tokens before each step; 0 for the control."""
    control: bool
    """Whether the base was measured against itself, without a draft."""
    engine: str
    """`vllm`."""
    engine_version: str
    """Its version."""
    device: str
    """What it ran on."""
    dtype: str
    """What it computed in."""
    mode: str
    """`resident`: both engines at once, one generating; `reload`: one after the other."""
    batch_size: int
    """Prompts at a time."""
    prompt_tokens: int
    """Tokens of a prompt."""
    output_tokens: int
    """Tokens generated for each."""
    prompts: int
    """Prompts of all pairs."""
    identical: int | None
    """Prompts of which all generated tokens are those of the base without a draft; none where tokens are drawn."""
    margin: float | None
    """Of the others, the largest log-probability of the base's own token over the other one; none if all are equal."""
    allowed_margin: float | None
    """Largest margin that rounding may explain; 0 where every token must be the base's own."""
    holds: bool
    """Whether the base's output stayed its own; otherwise there is no speedup."""
    agreement: float | None
    """Share of the base's greedy tokens that are the draft's first choice in a forward pass; else none."""
    steps: int | None
    """Steps that verified drafted tokens."""
    acceptance: tuple[float, ...]
    """By position, the share of steps in which the drafted tokens up to this one were kept."""
    tokens_per_step: float | None
    """Mean number of tokens of a step."""
    speedup: DraftSpeedup | None
    """Of output tokens per second, prompts included."""
    decode_speedup: DraftSpeedup | None
    """Of the tokens after the first."""
    base_weights_bytes: int
    """Bytes of the base's weights in memory."""
    draft_weights_bytes: int
    """Bytes that the draft's weights take besides; the engine shares none of the base's with it."""
    base_kv_bytes_per_token: int
    """Bytes of KV cache that a token needs in the base."""
    draft_kv_bytes_per_token: int
    """Bytes that it needs in the draft besides."""
    temperature: float = 0.0
    """At which tokens are drawn; 0 is greedy decoding."""
    kv_cache_dtype: str = "auto"
    """Dtype of both KV caches; `auto` is what it computed in."""


@dataclass(frozen=True)
class SamplingRow:
    """The gate of drafts at a temperature: the base drafts for itself, and samples as without a draft."""

    temperature: float
    """At which tokens are drawn."""
    tokens: int
    """Drafted tokens before each step."""
    holds: bool
    """Whether drafts may be used at this temperature; otherwise they were not measured."""
    reason: str
    """Why not."""
    kept: tuple[float, ...]
    """By position, the share of drafted tokens that were kept where all before them were; about 1 is right."""
    least_kept: float
    """What must be kept at least."""
    samples: int
    """Continuations of each prompt, with a draft and without."""
    tests: int
    """Two-sample tests of the tokens, one for each prompt and position."""
    smallest_p: float
    """The smallest p-value of them."""
    level: float
    """What the smallest p-value, times the number of tests, must be at least."""


@dataclass(frozen=True)
class DraftPrediction:
    """A measured draft beside what was predicted of it."""

    variant: str
    """Name of the draft."""
    tokens: int
    """Drafted tokens before each step."""
    temperature: float
    """At which tokens are drawn; 0 is greedy decoding."""
    acceptance_of_panel: float | None
    """Acceptance by the panel: top-1 agreement on its text; of sampling, 1 - total variation; none without one."""
    agreement: float | None
    """Acceptance by a forward pass over the base's own greedy text; none of sampling."""
    first_acceptance: float
    """Measured at the first drafted position."""
    predicted_tokens_per_step: float | None
    """By the agreement on the base's own text, of sampling by the panel, taken as independent of the position."""
    tokens_per_step: float
    """Measured."""
    cost: float | None
    """Time of the draft's decoding step over the base's, as the ranking has it; none without a panel."""
    predicted_speedup: float | None
    """Of decoding, by that acceptance and this cost."""
    decode_speedup: float | None
    """Measured; none where the base's output did not stay its own."""


def draft_predictions(results: "Results") -> Iterator[DraftPrediction]:
    """Of every measured draft but the control."""
    plans = {(row.variant, row.decoding): row for row in results.draft_plans}
    for row in results.drafts:
        if row.control or row.tokens_per_step is None:
            continue
        plan = plans.get((row.variant, "sampling" if row.temperature else "greedy"))
        of_panel = plan.acceptance if plan else None
        expected = of_panel if row.temperature else row.agreement
        yield DraftPrediction(
            variant=row.variant,
            tokens=row.tokens,
            temperature=row.temperature,
            acceptance_of_panel=of_panel,
            agreement=row.agreement,
            first_acceptance=row.acceptance[0],
            predicted_tokens_per_step=None if expected is None else tokens_per_step(expected, row.tokens),
            tokens_per_step=row.tokens_per_step,
            cost=plan.cost if plan else None,
            predicted_speedup=speedup(expected, plan.cost, row.tokens) if plan and expected is not None else None,
            decode_speedup=row.decode_speedup.ratio if row.decode_speedup else None,
        )


def failed_drafts(rows: Sequence[DraftRow]) -> list[DraftRow]:
    """Those with which the base's output did not stay its own."""
    return [row for row in rows if not row.holds]
