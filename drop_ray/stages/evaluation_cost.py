"""What evaluating costs: the tokens of its tasks and texts through the layers, and what is generated one by one."""

from collections.abc import Sequence

from drop_ray.config import EvaluationConfig
from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.job.expected import Phase
from drop_ray.job.job import Job
from drop_ray.job.stage import Cost
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.models.forward_pass import decode_step
from drop_ray.planning.variants import Variant

# Sequences that vLLM generates at once unless it is told otherwise (max_num_seqs).
ENGINE_SEQUENCES = 256


def evaluation_cost(job: Job, name: str, variants: Sequence[Variant], *, loads: bool) -> Cost:
    """Cost of a task or text on the variants. loads: whether it is what the variants are loaded for."""
    if not variants:
        return Cost()
    evaluation = job.config.evaluation
    text = next((text for text in evaluation.perplexity if text.name == name), None)
    volume = None if text else job.volumes[name]
    if text is None and volume is None:
        return Cost(note="compute depends on the task's documents, which are not here")
    phases: list[Phase] = []
    for variant in variants:
        width = variant.remake.bytes_per_weight if variant.remake else None
        if text:
            tokens = text.num_samples * text.seq_len
            phases.append(Phase(flops=forward(job.size, job.vocab_size, variant.drops, tokens, text.seq_len)))
        elif volume:
            phases += task_phases(job.size, job.vocab_size, variant.drops, volume, evaluation, width)
        if loads:
            phases.append(loading(job, variant))
    return Cost(flops=round(sum(phase.flops for phase in phases)), phases=tuple(phases))


def loading(job: Job, variant: Variant) -> Phase:
    """The variant brought into a worker, by the backend of the evaluation."""
    width = variant.remake.bytes_per_weight if variant.remake else job.size.bytes_per_parameter
    weights = job.size.kept_parameters(variant.drops) * width
    return Phase(loaded=weights, starts=job.config.evaluation.backend == "vllm")


def task_phases(
    size: ModelSize,
    vocab_size: int,
    drops: DropLists,
    volume: TaskVolume,
    evaluation: EvaluationConfig,
    layer_bytes: float | None = None,
) -> list[Phase]:
    """Of one task on one variant: its prompts, bound by operations; then what it generates, bound by bytes.

    layer_bytes: size of one weight of the layers, if they are quantized.
    """
    computed = volume.computed(evaluation.backend, evaluation.share_prefixes)
    length = round(volume.mean_length)
    phases = [Phase(flops=forward(size, vocab_size, drops, computed, length))]
    if volume.generated:
        at_once = ENGINE_SEQUENCES if evaluation.backend == "vllm" else evaluation.batch_size
        batch = min(at_once, volume.documents)
        step, count = decode_step(size, vocab_size, drops, batch, length, layer_bytes), volume.generated / batch
        phases.append(Phase(flops=step.flops * count, moved=step.num_bytes * count))
    return phases


def forward(size: ModelSize, vocab_size: int, drops: DropLists, tokens: int, seq_len: int) -> int:
    """Operations of `tokens` tokens in sequences of `seq_len`, with the output layer at each of them."""
    return size.forward_flops(drops, tokens, seq_len) + 2 * tokens * vocab_size * size.hidden_size
