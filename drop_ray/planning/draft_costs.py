"""What a step with a draft costs by the sizes of both models: the draft's steps, and the base's on all its tokens.

A step takes the longer of moving its bytes and doing its operations (Williams et al., "Roofline", CACM 2009). Without
stated hardware it is taken to wait for its bytes, which holds for small batches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drop_ray.config.drafts import MOST_DRAFTED
from drop_ray.config.hardware import HardwareSpec
from drop_ray.models.families import DropLists
from drop_ray.models.forward_pass import Step, decode_step

if TYPE_CHECKING:
    from drop_ray.models.accounting import ModelSize


@dataclass(frozen=True)
class Requests:
    """What is being decoded."""

    batch: int
    """Sequences at a time."""
    context: int
    """Tokens that each of them has."""


@dataclass(frozen=True)
class DraftCost:
    """Times over that of the base's decoding step."""

    step: float
    """Of a decoding step of the draft."""
    verification: tuple[float, ...] = (1.0,) * MOST_DRAFTED
    """Of the base's step on one token more than are drafted, by the number of drafted tokens from 1 on."""


def draft_cost(
    size: "ModelSize",
    vocab_size: int,
    base: DropLists,
    draft: DropLists,
    requests: Requests,
    *,
    layer_bytes: float | None = None,
    hardware: HardwareSpec | None = None,
) -> DraftCost:
    """size: of the base. layer_bytes: of a weight in the draft's decoder layers, if they are quantized."""
    batch, context = requests.batch, requests.context
    of_base = _seconds(decode_step(size, vocab_size, base, batch, context), hardware)
    of_draft = _seconds(decode_step(size, vocab_size, draft, batch, context, layer_bytes), hardware)
    verified = (_verification(size, vocab_size, base, requests, tokens) for tokens in range(1, MOST_DRAFTED + 1))
    return DraftCost(of_draft / of_base, tuple(_seconds(step, hardware) / of_base for step in verified))


def _verification(size: "ModelSize", vocab_size: int, base: DropLists, requests: Requests, tokens: int) -> Step:
    """The base's step on `tokens` more than one of each sequence, whose KV cache it reads once."""
    batch, context = requests.batch, requests.context
    step = decode_step(size, vocab_size, base, batch * (tokens + 1), context)
    return Step(step.num_bytes - tokens * batch * size.kv_bytes(base, context), step.flops)


def _seconds(step: Step, hardware: HardwareSpec | None) -> float:
    """Without hardware in bytes, of which only ratios are taken."""
    return step.num_bytes if hardware is None else hardware.seconds(step.flops, step.num_bytes)
