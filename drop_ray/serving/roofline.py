"""What a variant can gain by its sizes alone: a step takes the longer of moving its bytes and doing its operations.

Only ratios are predicted, so neither the bandwidth nor the peak rate of a device has to be known. Decoding is taken as
bound by bytes, prefilling by operations (Williams et al., "Roofline", CACM 2009).
"""

from dataclasses import dataclass

from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.models.forward_pass import decode_step, prefill_step


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
