"""What the serving benchmark costs: every pair prefills and generates, at equal batch and at equal memory."""

from collections.abc import Iterator

from drop_ray.config import ServingConfig
from drop_ray.job.expected import Phase
from drop_ray.models.accounting import ModelSize
from drop_ray.models.forward_pass import decode_step, prefill_step
from drop_ray.planning.variants import Variant


def bench_phases(
    serving: ServingConfig, size: ModelSize, vocab_size: int, base: Variant, variant: Variant
) -> Iterator[Phase]:
    """Of the benchmark of one variant against the base, for every batch size: it may end with a smaller one.

    `size` is that of the base in the dtype that it is served in.
    """
    for side in (base, variant):
        width = side.remake.bytes_per_weight if side.remake else None
        weights = size.kept_parameters(side.drops) * (width or size.bytes_per_parameter)
        starts = serving.pairs if serving.mode == "reload" else 1
        yield Phase(loaded=weights * starts, starts=starts)
        for workload in serving.workloads:
            context = workload.prompt + workload.output // 2
            # The last one also at equal memory, where the variant's batch is about as large.
            for batch in (*serving.batch_sizes, serving.batch_sizes[-1]):
                prefill = prefill_step(size, vocab_size, side.drops, batch, workload.prompt, width)
                decode = decode_step(size, vocab_size, side.drops, batch, context, width)
                yield Phase(prefill.flops * serving.pairs, prefill.num_bytes * serving.pairs)
                steps = serving.pairs * workload.output
                yield Phase(decode.flops * steps, decode.num_bytes * steps)
