"""Variants measured by their predictions on the calibration samples: for scores, searches and budgets."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from drop_ray.job import steps
from drop_ray.job.artifacts import DIVERGENCE
from drop_ray.job.expected import Phase
from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Share, Unit
from drop_ray.planning.losses import Loss, Losses
from drop_ray.planning.variants import Variant, distinct
from drop_ray.stages.diverge_shares import costs_of, groups_of, shares_of, workers_of
from drop_ray.stages.diverge_units import DivergenceUnit
from drop_ray.store import Commit
from drop_ray.store.filesystem import READS_AT_ONCE

KEPT = 0.25
"""The part of `execution.wave_bytes` that a worker takes besides, to keep the base's states from round to round."""


def measure(run: RunState, stage: Stage, variants: Sequence[Variant]) -> dict[Variant, Losses]:
    """How far the predictions of every variant are from the base's, by calibration sample. In the order of `variants`.

    Every variant is a unit of `stage`, committed by itself under the step of the stage diverge: a panel on the same
    token ids is the same artifact, and all plans and runs share it. Variants that only lack sub-layers of the base go
    through the layers together, and each costs what comes after its first difference (`diverge_shares.groups_of` says
    how they are dealt out, and what a small memory costs). So do those of one refitted model, beside the base.

    NotDoneError in a dry run that finds no numbers for one. NotFiniteError for logits that are not finite. ValueError
    if two different variants have one name, by which their units are told apart.
    """
    return losses_of(run, committed(run, stage, variants))


def committed(run: RunState, stage: Stage, variants: Sequence[Variant]) -> dict[Variant, Commit]:
    """What `measure` does before it reads any numbers: the commit of every variant."""
    samples = run.calibrated
    found = {variant: steps.divergence_step(run.job, variant, samples.identity) for variant in distinct(variants)}
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise ValueError(f"different variants have one name: {sorted(names)}")
    line = f"{stage.name} by predictions"
    units = [DivergenceUnit(variant.name, step, line, variant, samples.commit) for variant, step in found.items()]
    commits = run.complete(_measuring(stage), units)
    done = {variant: commit for variant, commit in zip(found, commits, strict=True) if commit is not None}
    if len(done) < len(found):
        raise NotDoneError
    return done


def losses_of(run: RunState, commits: Mapping[Variant, Commit]) -> dict[Variant, Losses]:
    """The losses of variants that were measured."""
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="losses") as readers:
        return dict(zip(commits, readers.map(lambda commit: _losses(run, commit), commits.values()), strict=True))


def _measuring(stage: Stage) -> Stage:
    """The stage as it is for these units: its name, with the shares, workers and costs of a comparison."""
    return replace(stage, noun="variants", workers=workers_of, shares=_shares, cost=_cost)


def _losses(run: RunState, commit: Commit) -> Losses:
    rows = run.read_table(commit, DIVERGENCE).to_pylist()
    return {
        row["sample"]: Loss(row["kl"], row["variant_nll"] - row["base_nll"], row["tokens"], row["acceptance"])
        for row in rows
    }


def _shares(run: RunState, todo: Sequence[Unit]) -> Sequence[Share]:
    config = run.job.config
    shares = shares_of(run, _units(todo), config.calibration.num_samples, config.calibration.seq_len)
    return [replace(share, kept_bytes=int(config.execution.wave_bytes * KEPT)) for share in shares]


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """The weights are read once a share; what its variants have in common is computed once."""
    del line
    job, config, units = run.job, run.job.config.calibration, _units(todo)
    if not units:
        return Cost()
    tokens = config.num_samples * config.seq_len
    costs, base = costs_of(job, config.seq_len), job.base_drops
    groups = groups_of(job, units, config.seq_len)
    flops = 0.0
    for group in groups:
        drops = [unit.variant.drops.union(base) for unit in group]
        if group[0].is_apart:  # a pass of the base, and one of their own model
            flops += costs.work([], base) + costs.work(drops[1:], drops[0])
        else:
            flops += costs.work(drops, base)
    shares = len(groups)
    weights = shares * job.size.kept_parameters(base) * job.size.bytes_per_parameter
    return Cost(weights, int(flops * tokens), phases=(Phase(int(flops * tokens), loaded=weights),), at_once=shares)


def _units(todo: Sequence[Unit]) -> list[DivergenceUnit]:
    return [unit for unit in todo if isinstance(unit, DivergenceUnit)]
