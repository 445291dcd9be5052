"""The shares and workers of variants that are compared with the base, on whichever text."""

from collections.abc import Sequence

from drop_ray.evaluation.divergence.dealing import PassCosts, deal
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.planning.variants import Variant
from drop_ray.stages.diverge_units import DivergenceShare, DivergenceUnit
from drop_ray.stages.layer_placement import is_streamed


def shares_of(run: RunState, units: Sequence[DivergenceUnit], num_samples: int, seq_len: int) -> list[DivergenceShare]:
    """Variants of one model share its forward pass and the base's, as `groups_of` says."""
    tokens = num_samples * seq_len
    return [
        DivergenceShare(tuple(group), is_streamed(run, _needed(run.job, group[0].variant)), tokens)
        for group in groups_of(run.job, units, seq_len)
    ]


def groups_of(job: Job, units: Sequence[DivergenceUnit], seq_len: int) -> list[list[DivergenceUnit]]:
    """The units of each share: equal work for all workers, neighbours that share prefixes together.

    Variants that only lack sub-layers of the base are of one model, and those of one refitted model too, whatever else
    they lack.
    A share holds one state of the base and one of each variant, for at least one micro-batch at a time. No more
    variants are put into it than have room in `execution.wave_bytes`, where two states have. What is traded: each
    share computes the base's forward pass for itself, and reads all weights once for every wave, so that a model of
    L sub-layers whose memory holds n states takes up to L / (n - 1) base passes beside the L / 2 of its candidates.
    """
    config, size = job.config, job.size
    state = config.scoring.micro_batch * seq_len * size.hidden_size * size.bytes_per_parameter
    most = max(1, config.execution.wave_bytes // state - 1)
    models: dict[object, list[DivergenceUnit]] = {}
    for unit in units:
        models.setdefault(unit.model_key, []).append(unit)
    groups = []
    for members in models.values():
        drops = [unit.variant.drops.union(job.base_drops) for unit in members]
        dealt = deal(drops, job.base_drops, costs_of(job, seq_len), config.execution.num_devices, most)
        groups += [[members[place] for place in group] for group in dealt]
    return groups


def costs_of(job: Job, seq_len: int) -> PassCosts:
    """Operations of one token in each part of a forward pass, as `ModelSize.forward_flops` counts them."""
    size = job.size
    attending = 2 * seq_len * size.hidden_size
    return PassCosts(
        tuple(2 * count + attending for count in size.attention_parameters),
        tuple(2 * count for count in size.active_mlp_parameters),
        2 * size.hidden_size * job.vocab_size,
    )


def workers_of(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    """Variants with a checkpoint of their own need processes of their own. All variants of one call do, or none."""
    unit = todo[0]
    assert isinstance(unit, DivergenceUnit)
    if remake := unit.variant.remake:
        return WorkerRequest(remake.kind, environment=remake.environment(run.job.config.execution.device))
    return WorkerRequest()


def _needed(job: Job, variant: Variant) -> int:
    """Bytes of all weights that a share of the variant takes: the base's, and those of a model of its own."""
    size = job.size
    base = size.kept_parameters(job.base_drops) * size.bytes_per_parameter
    if variant.remake is not None:
        decoder = size.kept_parameters(variant.drops) - size.outside_parameters
        own = size.outside_parameters * size.bytes_per_parameter + int(decoder * variant.remake.bytes_per_weight)
        return base + own
    return 2 * base if variant.edits else base
