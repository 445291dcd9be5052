"""What one forward pass of a model takes by its sizes alone: bytes that are read, and operations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drop_ray.models.families import DropLists

if TYPE_CHECKING:
    from drop_ray.models.accounting import ModelSize


@dataclass(frozen=True)
class Step:
    """The work of one forward pass."""

    num_bytes: float
    """Bytes of weights and KV cache that are read."""
    flops: float
    """Floating point operations."""


def decode_step(
    size: "ModelSize", vocab_size: int, drops: DropLists, batch: int, context: int, layer_bytes: float | None = None
) -> Step:
    """One new token for each of `batch` sequences that have `context` tokens.

    `layer_bytes` is the size of one weight in the decoder layers, if they are quantized.

    An expert of a mixture is read if some token of the batch is routed to it, where routing is taken to be even and
    independent. Embeddings are looked up, not read. The output layer is both read and computed.
    """
    head = vocab_size * size.hidden_size
    weights: float = sum(count for layer, count in enumerate(size.attention_parameters) if layer not in drops.attn)
    for layer, (count, active) in enumerate(zip(size.mlp_parameters, size.active_mlp_parameters, strict=True)):
        if layer not in drops.mlp and count:
            weights += count * (1 - (1 - active / count) ** batch)
    # A token sees `context` others. `forward_flops` counts half of its seq_len, the mean of a causal forward pass.
    flops = batch * (size.forward_flops(drops, 1, 2 * context) + 2 * head)
    num_bytes = _weight_bytes(size, head, weights, layer_bytes) + batch * size.kv_bytes(drops, context)
    return Step(num_bytes, flops)


def prefill_step(
    size: "ModelSize", vocab_size: int, drops: DropLists, batch: int, prompt: int, layer_bytes: float | None = None
) -> Step:
    """The prompts of `batch` sequences. The output layer sees the last token of each."""
    head, weights = vocab_size * size.hidden_size, size.kept_parameters(drops) - size.outside_parameters
    flops = batch * (size.forward_flops(drops, prompt, prompt) + 2 * head)
    return Step(_weight_bytes(size, head, weights, layer_bytes), flops)


def _weight_bytes(size: "ModelSize", head: int, weights: float, layer_bytes: float | None) -> float:
    """Bytes of weights that a step reads. The output layer is never quantized."""
    return head * size.bytes_per_parameter + weights * (layer_bytes or size.bytes_per_parameter)
