"""What a variant can gain by its sizes alone: a step takes the longer of moving its bytes and doing its operations.

Only ratios are predicted, so neither the bandwidth nor the peak rate of a device has to be known. Decoding is taken as
bound by bytes, prefilling by operations (Williams et al., "Roofline", CACM 2009).
"""

from dataclasses import dataclass

from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists


@dataclass(frozen=True)
class Step:
    """The work of one forward pass."""

    num_bytes: float
    """Bytes of weights and KV cache that are read."""
    flops: float
    """Floating point operations."""


def decode_step(
    size: ModelSize, vocab_size: int, drops: DropLists, batch: int, context: int, layer_bytes: float | None = None
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
    size: ModelSize, vocab_size: int, drops: DropLists, batch: int, prompt: int, layer_bytes: float | None = None
) -> Step:
    """The prompts of `batch` sequences. The output layer sees the last token of each."""
    head, weights = vocab_size * size.hidden_size, size.kept_parameters(drops) - size.outside_parameters
    flops = batch * (size.forward_flops(drops, prompt, prompt) + 2 * head)
    return Step(_weight_bytes(size, head, weights, layer_bytes), flops)


@dataclass(frozen=True)
class Prediction:
    """Times of the base over times of the variant, so that a value above 1 means that the variant is faster."""

    decode: float
    """Speedup of decoding, taken as bound by bytes."""
    prefill: float
    """Speedup of prefilling, taken as bound by operations."""
    decode_flops: float
    """Speedup of decoding if it were bound by operations, for comparison."""
    prefill_bytes: float
    """Speedup of prefilling if it were bound by bytes, for comparison."""
    batch_ratio: float
    """The variant's batch size over the base's."""

    def of(self, metric: str, prefill_share: float) -> float:
        """The predicted speedup of a metric of `measures`.

        `prefill_share` is the part of the base's measured time that prefill takes, which metrics of whole requests
        depend on.
        """
        rate = self.batch_ratio if metric.endswith("_per_s") else 1.0
        kind = metric.split("_")[0]
        if kind in ("prefill", "ttft"):
            return self.prefill * rate
        if kind in ("decode", "tpot"):
            return self.decode * rate
        return rate / (prefill_share / self.prefill + (1 - prefill_share) / self.decode)


def predict(
    size: ModelSize,
    vocab_size: int,
    base: DropLists,
    variant: DropLists,
    batches: tuple[int, int],
    prompt: int,
    output: int,
    variant_layer_bytes: float | None = None,
) -> Prediction:
    """The speedup of `variant` over `base` for one workload. Decoding is taken at its mean context.

    `batches` are the batch sizes of base and variant. `variant_layer_bytes` is the size of one weight in the variant's
    layers, if they are quantized.
    """
    context = prompt + output // 2
    sides = list(zip((base, variant), batches, (None, variant_layer_bytes), strict=True))
    decode = [decode_step(size, vocab_size, drops, batch, context, width) for drops, batch, width in sides]
    prefill = [prefill_step(size, vocab_size, drops, batch, prompt, width) for drops, batch, width in sides]
    return Prediction(
        decode=decode[0].num_bytes / decode[1].num_bytes,
        prefill=prefill[0].flops / prefill[1].flops,
        decode_flops=decode[0].flops / decode[1].flops,
        prefill_bytes=prefill[0].num_bytes / prefill[1].num_bytes,
        batch_ratio=batches[1] / batches[0],
    )


def _weight_bytes(size: ModelSize, head: int, weights: float, layer_bytes: float | None) -> float:
    """Bytes of weights that a step reads. The output layer is never quantized."""
    return head * size.bytes_per_parameter + weights * (layer_bytes or size.bytes_per_parameter)
