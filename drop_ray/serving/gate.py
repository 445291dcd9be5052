"""What is checked before an engine's speed is believed: that it computes this model and keeps this KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drop_ray.errors import DropRayError
from drop_ray.serving.engine import EngineFacts, PromptScores


class GateError(DropRayError):
    """An engine's outputs or its KV cache differ from what they must be, so that no speed of it is published."""


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be from the reference.

    Most probable tokens are compared at the positions whose margin is above twice `p99`, where rounding could not have
    let one token pass the other.
    """

    mean: float
    """Largest mean absolute difference of log-probabilities."""
    p99: float
    """Largest 99th percentile of these differences."""
    top: float
    """Smallest share of the compared positions at which both have the same most probable token."""


# In 16 bits a log-probability is rounded to about 2^-8 of logits of some ten: 0.04 at one position is no mistake.
TOLERANCES = {
    "float32": Tolerance(mean=1e-4, p99=1e-3, top=1.0),
    "bfloat16": Tolerance(mean=0.02, p99=0.15, top=0.99),
    "float16": Tolerance(mean=0.02, p99=0.15, top=0.99),
}


def check_scores(who: str, dtype: str, engine: PromptScores, reference: PromptScores) -> dict[str, float]:
    """The measured differences. GateError names `who` and what is beyond the tolerance of `dtype`."""
    assert reference.margins is not None
    tolerance = TOLERANCES[dtype]
    differences = np.abs(engine.logprobs - reference.logprobs)
    decided = reference.margins > 2 * tolerance.p99
    agreement = float((engine.top == reference.top)[decided].mean()) if decided.any() else 1.0
    found = {
        "mean_difference": float(differences.mean()),
        "p99_difference": float(np.quantile(differences, 0.99)),
        "top1_agreement": agreement,
        "top1_positions": int(decided.sum()),
        "compared_tokens": len(differences),
    }
    # Written so that a NaN is refused.
    within = {
        f"mean difference {found['mean_difference']:.2g} of log-probabilities, allowed {tolerance.mean:g}": (
            found["mean_difference"] <= tolerance.mean
        ),
        f"99th percentile {found['p99_difference']:.2g} of their differences, allowed {tolerance.p99:g}": (
            found["p99_difference"] <= tolerance.p99
        ),
        f"most probable tokens agree at {agreement:.2%} of {found['top1_positions']} positions": (
            agreement >= tolerance.top
        ),
    }
    _refuse(who, f"differs from the model's own forward in {dtype}", within)
    return found


def check_greedy(who: str, engine: tuple[tuple[int, ...], ...], reference: tuple[tuple[int, ...], ...]) -> None:
    """GateError unless both generate the same greedy tokens, as they must in float32."""
    pairs = list(zip(engine, reference, strict=True))
    wrong = [f"{list(own)}, expected {list(expected)}" for own, expected in pairs if own != expected]
    what = f"generates other greedy tokens than the model's own forward on {len(wrong)} of {len(pairs)} prompts"
    _refuse(who, what, dict.fromkeys(wrong[:1], False))


def check_likelihood(who: str, dtype: str, engine: float, reference: float, tokens: int) -> None:
    """GateError unless both find a continuation of that many tokens equally likely, by nats per token."""
    difference, allowed = abs(engine - reference) / tokens, TOLERANCES[dtype].mean
    finding = f"difference {difference:.2g} of the mean log-probability of {tokens} tokens, allowed {allowed:g}"
    _refuse(
        who,
        f"scores a continuation otherwise than the model's own forward in {dtype}",
        {finding: difference <= allowed},
    )


@dataclass(frozen=True)
class ExpectedKv:
    """The KV cache that the drop lists predict."""

    layers: tuple[int, ...]
    """Layers that have attention."""
    bytes_per_token: int
    """KV-cache bytes of one token, in all layers, on one device."""
    budget: int | None
    """Bytes of the fixed KV budget; None if there is none, or if layers of several kinds share it."""

    def blocks_of(self, block_size: int) -> int | None:
        if self.budget is None or not self.bytes_per_token:
            return None
        return self.budget // (self.bytes_per_token * block_size)


def check_kv(who: str, facts: EngineFacts, expected: ExpectedKv) -> None:
    """GateError unless the engine's KV cache has the layers and the size that the drop lists predict."""
    blocks = expected.blocks_of(facts.block_size)
    within = {
        f"layers with KV cache {list(facts.kv_layers)}, expected {list(expected.layers)}": (
            facts.kv_layers == expected.layers
        ),
        f"{facts.kv_bytes_per_token} bytes per token, expected {expected.bytes_per_token}": (
            facts.kv_bytes_per_token == expected.bytes_per_token
        ),
    }
    if blocks is not None and facts.kv_blocks is not None:
        within[f"{facts.kv_blocks} blocks of {facts.block_size} tokens, expected {blocks}"] = (
            abs(facts.kv_blocks - blocks) <= 1
        )
    _refuse(who, "has another KV cache than predicted", within)


def _refuse(who: str, what: str, within: Mapping[str, bool]) -> None:
    failed = [finding for finding, holds in within.items() if not holds]
    if failed:
        raise GateError(f"{who} {what}: {'; '.join(failed)}. Nothing of it is published.")
