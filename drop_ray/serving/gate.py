"""What is checked before an engine's speed is believed: that it computes this model and keeps this KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drop_ray.errors import DropRayError
from drop_ray.serving.engine import EightBits, EngineFacts, PromptScores


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


# Mean and 99th percentile, measured of the demo on a CPU, whose random prompts have log-probabilities of -17. Keys and
# values, which the reference rounds too, differ where 16 bits leave them beyond a boundary: 0.0004 and 0.008 in
# float32, 0.05 and 0.3 in bfloat16. Inputs of linears, which it does not round: 0.15 and 0.9; of a text 0.006 and 0.06.
TOLERANCES_IN_8_BITS = {
    "cache": {
        "float32": Tolerance(mean=2e-3, p99=0.03, top=0.99),
        "bfloat16": Tolerance(mean=0.1, p99=0.6, top=0.98),
        "float16": Tolerance(mean=0.1, p99=0.6, top=0.98),
    },
    "inputs": dict.fromkeys(TOLERANCES, Tolerance(mean=0.3, p99=1.8, top=0.98)),
}


def tolerance_of(dtype: str, in_8_bits: EightBits | None) -> Tolerance:
    """in_8_bits: what is rounded to 8-bit floats on the way, where it is computed in `dtype`."""
    return TOLERANCES_IN_8_BITS[in_8_bits][dtype] if in_8_bits else TOLERANCES[dtype]


def check_scores(who: str, dtype: str, engine: PromptScores, reference: PromptScores) -> dict[str, float]:
    """The measured differences. GateError names `who` and what is beyond the tolerance of `dtype`."""
    assert reference.margins is not None
    tolerance = tolerance_of(dtype, reference.in_8_bits)
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


def check_likelihood(
    who: str, dtype: str, engine: float, reference: float, tokens: int, in_8_bits: EightBits | None = None
) -> None:
    """GateError unless both find a continuation of that many tokens equally likely, by nats per token."""
    difference, allowed = abs(engine - reference) / tokens, tolerance_of(dtype, in_8_bits).mean
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
    state_bytes: int = 0
    """Bytes of one sequence that do not grow with it, on one device: states of linear attention and the like."""

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
    if facts.state_bytes is not None:
        within[f"{facts.state_bytes} bytes of states per sequence, expected {expected.state_bytes}"] = (
            facts.state_bytes == expected.state_bytes
        )
    if blocks is not None and facts.kv_blocks is not None:
        within[f"{facts.kv_blocks} blocks of {facts.block_size} tokens, expected {blocks}"] = (
            abs(facts.kv_blocks - blocks) <= 1
        )
    _refuse(who, "has another KV cache than predicted", within)


def _refuse(who: str, what: str, within: Mapping[str, bool]) -> None:
    failed = [finding for finding, holds in within.items() if not holds]
    if failed:
        raise GateError(f"{who} {what}: {'; '.join(failed)}. Nothing of it is published.")
