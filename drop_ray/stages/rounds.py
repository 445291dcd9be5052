"""The models that the rounds of an iterative plan or a search look at: the plan so far, refitted where it says so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drop_ray.job.job import Job
from drop_ray.job.refit_section import REFIT
from drop_ray.job.run_state import RunState
from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Drop, Undecided
from drop_ray.planning.modules import Module, drops_name, without
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.stages.refit import refit_of, refitted


@dataclass(frozen=True)
class SoFar:
    """What a plan has dropped when a round begins."""

    drops: DropLists
    """Its drop lists, with what the model as given lacks."""
    on: str | None
    """The line of `refit` by which the model is refitted before the round; None for none."""
    undecided: str = ""
    """In a dry run, what the drop depends on, where it is made up to count the rounds to come."""


def models(run: RunState, rounds: Sequence[SoFar]) -> list[Variant]:
    """The model of each round. Those to be refitted are refitted together; equal ones once, for all plans.

    They are what the stage refit makes of a plan with these drops. In a dry run without tensors still to be made.
    """
    found = [_model(run.job, each) for each in rounds]
    todo = [model for model in found if refit_of(model)]
    made = iter(refitted(run, todo) if todo else [])
    return [next(made) if refit_of(model) else model for model in found]


def less(model: Variant, more: Sequence[Module]) -> Variant:
    """The model without some more modules. One that is not refitted is that of an ordinary plan."""
    drops = without(model.drops, more)
    if drops == model.drops:
        return model
    if all(isinstance(change, Drop) for change in model.changes):
        return _plain(model.base, drops)
    further = DropLists(
        tuple({*drops.attn} - {*model.drops.attn}),
        tuple({*drops.mlp} - {*model.drops.mlp}),
    )
    return model.then(Drop(further, drops_name(further)))


def _model(job: Job, so_far: SoFar) -> Variant:
    model = _plain(job.checkpoint.identity, so_far.drops)
    if so_far.undecided:
        model = replace(model, changes=(*model.changes, Undecided(so_far.undecided, whole_blocks=False)))
    # What lacks no more than the model as given has nothing to make up for.
    return model.then(REFIT.line(job, so_far.on)) if so_far.on and so_far.drops != job.base_drops else model


def _plain(base: str, drops: DropLists) -> Variant:
    return variant_of(base, DropPlan(drops_name(drops), drops.attn, drops.mlp))
