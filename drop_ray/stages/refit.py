"""The stage refit: fits what is left of the plans anew, by each line of the config, and gives further variants."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.job.job import Job
from drop_ray.job.refit_section import REFIT as SECTION
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Share, Unit
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant, distinct
from drop_ray.stages.refit_units import RefitShare, RefitUnit
from drop_ray.store import Commit, Step


def _run(run: RunState) -> None:
    variants = list(SECTION.variants(run.job, run.base, run.variants))
    _tell_what_drops_nothing(run, variants)
    run.variants += refitted(run, variants)


def refitted(run: RunState, variants: Sequence[Variant]) -> list[Variant]:
    """Variants whose last change is a refit, with what it makes of them. Equal ones are refitted once.

    In a dry run without what is still to be made.
    """
    units = [
        RefitUnit(variant.name, step, "refit", variant, change)
        for variant in distinct(variants)
        if (change := refit_of(variant)) and (step := refit_step(variant))
    ]
    commits = dict(zip([unit.variant for unit in units], run.complete(STAGE, units), strict=True))
    return [_made(variant, commits) for variant in variants]


def refit_of(variant: Variant) -> Refit | None:
    """The refit that is among a variant's changes."""
    return next((change for change in variant.changes if isinstance(change, Refit)), None)


def refit_step(variant: Variant) -> Step | None:
    """The step of that refit."""
    changes = variant.changes
    for index, change in enumerate(changes):
        if isinstance(change, Refit):
            return change.step(variant.base, replace(variant, changes=changes[:index]).identity())
    return None


def _made(variant: Variant, commits: Mapping[Variant, Commit | None]) -> Variant:
    """The variant with what its refit has made, which later stages read."""
    *before, last = variant.changes
    assert isinstance(last, Refit)
    return replace(variant, changes=(*before, replace(last, made=commits[variant])))


def _tell_what_drops_nothing(run: RunState, variants: Sequence[Variant]) -> None:
    made = {variant.name for variant in variants}
    names = SECTION.names(run.job.config, [variant.name for variant in run.variants])
    if left := [name for name in names if name not in made]:
        run.tell("not refitted, because their plans drop nothing: %s", ", ".join(left))


def _shares(run: RunState, todo: Sequence[Unit]) -> Sequence[Share]:
    """Plans by one line of the config share the base's forward pass: each worker gets one share of them.

    As many as their states and the base's fit `execution.wave_bytes`. Variants that were changed before they are
    refitted stay alone.
    """
    job, together = run.job, dict[object, list[RefitUnit]]()
    for unit in todo:
        assert isinstance(unit, RefitUnit)
        before = unit.variant.before
        together.setdefault((unit.change, before if before.edits else None), []).append(unit)
    shares: list[Share] = []
    for units in together.values():
        most = max(1, job.config.execution.wave_bytes // _bytes_of_states(job, units[0]) - 1)
        size = min(most, -(-len(units) // job.config.execution.num_devices))
        shares += [RefitShare(tuple(units[start : start + size])) for start in range(0, len(units), size)]
    return shares


def _tokens(job: Job, unit: RefitUnit) -> tuple[int, int]:
    """(tokens that it is fitted to and measured on, tokens of each sample)."""
    spec = unit.change.spec
    text = spec.text or job.config.calibration
    return sum(map(len, spec.split(text.num_samples))) * text.seq_len, text.seq_len


def _bytes_of_states(job: Job, unit: RefitUnit) -> int:
    return _tokens(job, unit)[0] * job.size.hidden_size * job.size.bytes_per_parameter


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """Three forward passes for each share of one plan: the base's, and each kept layer's before and after it is solved.

    Sums of products take as long as another one or two, and are not counted. Weights of all models are read.
    """
    del line
    size, num_bytes, flops = run.job.size, 0, 0
    base = size.kept_parameters(run.job.base_drops) * size.bytes_per_parameter
    shares = _shares(run, [unit for unit in todo if isinstance(unit, RefitUnit)])
    for share in shares:
        assert isinstance(share, RefitShare)
        tokens, seq_len = _tokens(run.job, share.units[0])
        num_bytes += base
        flops += size.forward_flops(run.job.base_drops, tokens, seq_len)
        for unit in share.units:
            num_bytes += size.kept_parameters(unit.variant.drops) * size.bytes_per_parameter
            flops += 2 * size.forward_flops(unit.variant.drops, tokens, seq_len)
    return Cost(num_bytes, flops, at_once=len(shares))


def _check(config: RunConfig) -> None:
    if not config.refit:
        raise UserError("refit: the config has no such section; say how to refit")


STAGE = Stage("refit", "plans", _run, shares=_shares, cost=_cost, check_last=_check)
