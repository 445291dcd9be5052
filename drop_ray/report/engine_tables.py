"""The serving section's tables of what the engines hold, and how they were checked before any timing."""

from collections.abc import Sequence

from drop_ray.report import formatting
from drop_ray.report.results import ServingFacts
from drop_ray.report.serving_tables import spelled_ratio
from drop_ray.report.text_table import NOTHING, Cell, TextTable

MEMORY_TEXT = (
    "From base to plan. KV tokens are those that one memory budget has room for; dropped attention needs none."
)
GATE_TEXT = (
    "No engine is timed before this: its log-probabilities of given texts against those of the model's own forward "
    "pass in the same dtype, and its KV cache against the plan. First choices are compared where they are clear."
)


def memory_table(facts: Sequence[ServingFacts]) -> TextTable:
    """What the engines hold, from base to plan."""
    headings = ("plan", "weights", "KV tokens", "KV ratio", "KV per token", "peak memory")
    return TextTable("Memory", headings, [_memory_cells(row) for row in facts], 1)


def gate_table(facts: Sequence[ServingFacts]) -> TextTable:
    """The acceptance gate: how near the engine's log-probabilities are to those of drop_ray's own forward pass."""
    headings = ("plan", "dtype", "mean difference", "99th percentile", "same first choice", "tokens", "greedy tokens")
    return TextTable("Acceptance gate", headings, [_gate_cells(row) for row in facts], 2)


def _memory_cells(row: ServingFacts) -> tuple[Cell, ...]:
    return (
        (row.plan,),
        _change(row.weights_bytes_base, row.weights_bytes_plan),
        _kv_tokens(row),
        _kv_ratio(row),
        _change(row.kv_bytes_per_token_base, row.kv_bytes_per_token_plan),
        NOTHING
        if row.peak_bytes_base is None or row.peak_bytes_plan is None
        else _change(row.peak_bytes_base, row.peak_bytes_plan),
    )


def _change(base: int, plan: int) -> Cell:
    saved = formatting.percent(base - plan, base)
    return f"{formatting.binary_bytes(base)} \u2192 {formatting.binary_bytes(plan)}", f"{saved} saved"


def _kv_tokens(row: ServingFacts) -> Cell:
    if row.kv_tokens_base is None or row.kv_tokens_plan is None:
        return NOTHING
    return (f"{row.kv_tokens_base:,} \u2192 {row.kv_tokens_plan:,}",)


def _kv_ratio(row: ServingFacts) -> Cell:
    if row.kv_tokens_base is None or row.kv_tokens_plan is None:
        return NOTHING
    measured = spelled_ratio(row.kv_tokens_plan / row.kv_tokens_base)
    if row.kv_predicted_ratio is None:
        return (measured,)
    return measured, f"predicted {spelled_ratio(row.kv_predicted_ratio)}"


def _gate_cells(row: ServingFacts) -> tuple[Cell, ...]:
    greedy = {None: formatting.NOT_AVAILABLE, True: "equal", False: "different"}[row.gate_greedy]
    return (
        (row.plan,),
        (row.gate_dtype,),
        (f"{row.gate_mean:.2g}",),
        (f"{row.gate_p99:.2g}",),
        (f"{100 * row.gate_top1_agreement:.1f} %",),
        (f"{row.gate_tokens:,}",),
        (greedy,),
    )
