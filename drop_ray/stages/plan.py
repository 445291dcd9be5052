"""The stage plan: makes the drop plans that the config asks for. Each plan gives one variant."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate

from drop_ray.job.job import Job
from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.job.stage import Cost, Stage, Work
from drop_ray.planning.modules import BLOCK, Module, in_order, without
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.strategies.search import Modules
from drop_ray.planning.variants import undecided
from drop_ray.stages.budgets import with_outcome
from drop_ray.stages.compare import compare
from drop_ray.stages.rounds import SoFar, models
from drop_ray.stages.score import table
from drop_ray.stages.searching import search


def _run(run: RunState) -> None:
    """Make the plans in the order of the config and write them to the run's folder.

    Those that several calibration texts have a say in come after those by the run's own, those from files last.
    """
    job = run.job
    found = search(run, STAGE, [request for request in job.requests if request.searches])
    for request in job.requests:
        chosen: list[Module] = []
        try:
            plan = _searched(run, request, found) if request.searches else make_plan(run, request, chosen)
        except NotDoneError:
            run.variants.append(undecided(job.base_variant, request.name, whole_blocks=request.of == BLOCK))
            if request.on and not request.searches:
                _count_rounds(run, request, len(chosen))
        else:
            run.add_plan(job.complete(plan, run.calibrated.identity))
    compare(run)
    for given in job.given_plans:
        run.add_plan(job.complete(given))


def make_plan(run: RunState, request: PlanRequest, chosen: list[Module] | None = None) -> DropPlan:
    """Drop, score what is left, drop again: as many rounds as the request has, one if it is not iterative.

    Before each round but the first, the model is refitted if the request says so. chosen: takes up what each round
    chooses.
    """
    job = run.job
    chosen = [] if chosen is None else chosen
    for count in request.rounds():
        dropped = without(job.base_drops, chosen)
        (model,) = models(run, [SoFar(dropped, request.on)])
        gaps = gaps_of(job.requests) if dropped == job.base_drops else (1,)
        metric, edited = request.metric if request.uses_scores else None, model if model.edits else None
        tables = table(run, dropped, gaps, metric, edited)
        chosen += request.choose(tables, job.size.layers, dropped, count)
    return _plan(job, request, chosen)


def _count_rounds(run: RunState, request: PlanRequest, num_chosen: int) -> None:
    """In a dry run, count the refits and scores of the rounds behind that in which so many are chosen already.

    As if early layers were dropped first, by which a refit takes most.
    """
    job = run.job
    left = sorted(request.candidates(job.size.layers, job.base_drops), key=lambda module: module.layer)
    for number, count in enumerate(accumulate(request.rounds()[:-1]), start=2):
        if count > num_chosen:
            dropped = without(job.base_drops, left[:count])
            (model,) = models(run, [SoFar(dropped, request.on, f"{request.label}, round {number}")])
            with suppress(NotDoneError):
                table(run, dropped, (1,), request.metric, model)


def _searched(run: RunState, request: PlanRequest, found: Mapping[PlanRequest, Modules]) -> DropPlan:
    """The plan that a search has found. NotDoneError in a dry run of one that is not at its end."""
    if request not in found:
        raise NotDoneError
    request.check(found[request], run.job.size.layers, request.count)
    return with_outcome(run, STAGE, request, _plan(run.job, request, found[request]), found[request])


def _plan(job: Job, request: PlanRequest, chosen: Sequence[Module]) -> DropPlan:
    metric = request.metric if request.uses_scores else None
    return DropPlan(request.name, *in_order(job.base_drops, chosen), request.label, metric)


def _own_work(run: RunState) -> Work:
    unknown = [variant.name for variant in run.variants if variant.undecided is not None]
    scored = sum(not request.searches for request in run.job.requests if request.name in unknown)
    searched = [request.name for request in run.job.requests if request.searches and request.name in unknown]
    notes = [f"{scored} depend on scores to come"] if scored else []
    if searched:
        notes.append(f"{' and '.join(searched)} depend on models to be measured, which are counted at most")
    return Work("plan", len(run.variants), len(unknown), Cost(note="; ".join(notes)))


STAGE = Stage("plan", "plans", _run, own_work=_own_work)
