"""The stage diverge: how far the predictions of every variant are from the base's, on one text."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from drop_ray.calibration import packing
from drop_ray.config import DIVERGENCE, RunConfig
from drop_ray.errors import UserError
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.job import steps, texts
from drop_ray.job.artifacts import PANEL, SAMPLES
from drop_ray.job.expected import Phase
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import LocalUnit, Share, Unit
from drop_ray.planning.variants import Variant, distinct
from drop_ray.stages.diverge_shares import shares_of, workers_of
from drop_ray.stages.diverge_units import DivergenceUnit
from drop_ray.stages.driver_tables import commit_table
from drop_ray.store import Commit
from drop_ray.store.filesystem import READS_AT_ONCE


def diverge(run: RunState, variants: Sequence[Variant]) -> None:
    """Compare variants with the base, and take up their panels. Equal variants are compared once.

    Nothing is compared without a text, or on fewer than two samples of it.
    """
    if run.job.config.evaluation.divergence is not None and variants:
        _compare(run, variants, *_samples(run))


def _compare(
    run: RunState,
    variants: Sequence[Variant],
    committed: Commit | None,
    samples: packing.Samples,
    others: Sequence[Variant] = (),
) -> None:
    """committed: where the samples are; None in a dry run that found none. others: compared, and not taken up."""
    job = run.job
    if len(samples) < texts.LEAST_SAMPLES:
        return
    identity = packing.token_identity(samples)
    found = {variant: steps.divergence_step(job, variant, identity) for variant in distinct([*variants, *others])}
    units = [DivergenceUnit(variant.name, step, "diverge", variant, committed) for variant, step in found.items()]
    commits = dict(zip(found, run.complete(STAGE, units), strict=True))
    done = {variant: commit for variant, commit in commits.items() if commit is not None}
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="panels") as readers:
        panels = dict(zip(done, readers.map(lambda commit: read_panel(job, commit), done.values()), strict=True))
    run.panels |= {variant.name: panels[variant] for variant in variants if variant in panels}


def shortage(job: Job, count: int) -> str | None:
    """What is to be said where the text has only that many samples, with the remedy; None where it has enough."""
    wanted = texts.divergence_spec(job).num_samples
    if count >= wanted:
        return None
    what = (
        f"{texts.divergence_source(job)} has {count} of the {wanted} samples of {texts.divergence_length(job)} tokens "
        "on which predictions are compared with the base's"
    )
    if count >= texts.LEAST_SAMPLES:
        return f"{what}; the panels are of these {count}"
    return (
        f"{what}, so no variant has a panel; name a text in {DIVERGENCE}.source, give more calibration text, or "
        "lower calibration.num_samples"
    )


def _run(run: RunState) -> None:
    if run.job.config.evaluation.divergence is not None and run.variants:
        committed, samples = _samples(run)
        if said := shortage(run.job, len(samples)):
            run.tell("divergence: %s", said)
        _compare(run, run.variants, committed, samples, [one.variant for one in run.compared])


def _samples(run: RunState) -> tuple[Commit | None, packing.Samples]:
    """The samples that variants are compared on, and their commit; None in a dry run that found none."""
    job, step = run.job, steps.divergence_text_step(run.job)

    def make() -> Commit:
        samples = run.texts[DIVERGENCE].int().numpy()
        return commit_table(job, step, SAMPLES, packing.to_table(samples))

    (commit,) = run.complete(STAGE, [LocalUnit("divergence samples", step, "", make)])
    if commit is None:
        return None, texts.load_divergence(job)
    samples = packing.from_table(run.read_table(commit, SAMPLES))
    texts.check_divergence(job, len(samples))
    return commit, samples


def read_panel(job: Job, commit: Commit) -> Panel:
    """What a comparison has committed of a variant."""
    with job.store.discarded_if_corrupt(commit):
        return Panel(**json.loads(job.store.read_bytes(commit, PANEL)))


def _shares(run: RunState, todo: Sequence[Unit]) -> Sequence[Share]:
    units = [unit for unit in todo if isinstance(unit, DivergenceUnit)]
    return shares_of(run, units, texts.divergence_spec(run.job).num_samples, texts.divergence_length(run.job))


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """The weights of a share are read once. At most: what variants have in common with the base is computed once."""
    del line
    job = run.job
    units = [unit for unit in todo if isinstance(unit, DivergenceUnit)]
    seq_len = texts.divergence_length(job)
    tokens = texts.divergence_spec(job).num_samples * seq_len
    shares = min(len(units), job.config.execution.num_devices)
    forwards = [job.base_drops] * shares + [unit.variant.drops for unit in units]
    flops = sum(job.size.forward_flops(drops, tokens, seq_len) for drops in forwards)
    weights = job.size.kept_parameters(job.base_drops) * job.size.bytes_per_parameter
    phases = (Phase(flops, loaded=shares * weights),)
    return Cost(shares * weights, flops, "at most" if units else "", phases, shares)


def _check(config: RunConfig) -> None:
    if config.evaluation.divergence is None:
        raise UserError(f"{DIVERGENCE}: is null; say on which text to compare predictions")


STAGE = Stage("diverge", "variants", _run, workers=workers_of, shares=_shares, cost=_cost, check_last=_check)
