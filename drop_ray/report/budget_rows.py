"""Plans with limits in a report: what was asked, what was reckoned, and what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drop_ray.report.results import Results

SPEEDUP = "output_tokens_per_s"
SCORE, KL = "score", "kl"
"""The quantities of a plan that are no limits: the sum of its scores, and its divergence from the base."""


@dataclass(frozen=True)
class BudgetRow:
    """One quantity of a plan with limits: one that is limited, the sum of scores, or the divergence from the base."""

    variant: str
    """Name of the plan."""
    quantity: str
    """`bytes`, `kv_bytes_per_token`, `speedup`, `sub_layers`; `score`; `kl`, on the calibration samples."""
    asked: str
    """The limit as the config gives it; empty where nothing is limited."""
    limit: float | None
    """The limit as a number: what may be left at most, or the least speedup."""
    base: float | None
    """That of the model as given."""
    first: float
    """That of the drop with the smallest sum of scores: reckoned, and of `kl` measured."""
    plan: float
    """That of the plan, after swaps: reckoned, and of `kl` measured."""
    measured: float | None = None
    """Of `bytes` the size of the weight files; of KV cache and speedup what the serving benchmark found."""
    prompt_tokens: int | None = None
    """Prompt tokens of the requests that a speedup is of."""
    output_tokens: int | None = None
    """Tokens that are generated for each."""
    batch_size: int | None = None
    """Requests at a time."""
    quantized: str | None = None
    """Label of the quantization after which the limit is to hold; none for weights as they are."""

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds by what was measured, or else by what was reckoned; none where nothing is limited."""
        if self.limit is None:
            return None
        value = self.plan if self.measured is None else self.measured
        return value >= self.limit if self.quantity == "speedup" else value <= self.limit


def budgets_measured(results: "Results") -> Iterator[BudgetRow]:
    """The rows, with what the serving benchmark of this run found of the same variant and the same requests."""
    sizes = {
        (how.of, how.label): float(row.weight_bytes)
        for row in results.variants
        if (how := row.quantization) is not None
    }
    kv = {row.variant: float(row.kv_bytes_per_token_variant) for row in results.engines}
    speedups = {
        (row.variant, row.prompt_tokens, row.output_tokens, row.batch_size): row.ratio
        for row in results.serving
        if row.metric == SPEEDUP and row.comparison == "equal_batch" and not row.control
    }
    for row in results.budgets:
        variant = f"{row.variant}-{row.quantized}" if row.quantized else row.variant
        if row.quantity == "bytes" and row.quantized:
            yield replace(row, measured=sizes.get((row.variant, row.quantized)))
        elif row.quantity == "kv_bytes_per_token":
            yield replace(row, measured=kv.get(variant))
        elif row.quantity == "speedup":
            key = (variant, row.prompt_tokens, row.output_tokens, row.batch_size)
            yield replace(row, measured=speedups.get(key))  # type: ignore[arg-type]  # none of them is None
        else:
            yield row
