"""Searches of a run: the models that they ask for are measured by workers, those of all searches side by side."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.job.stage import Stage
from drop_ray.planning.modules import without
from drop_ray.planning.requests import PlanRequest
from drop_ray.planning.search.objectives import OBJECTIVES, measured
from drop_ray.planning.search.side_by_side import follow
from drop_ray.planning.strategies.search import Found, Modules, Round, Steps
from drop_ray.planning.variants import Variant
from drop_ray.stages.budgets import budget_of
from drop_ray.stages.measured import measure
from drop_ray.stages.rounds import SoFar, less, models


def search(run: RunState, stage: Stage, requests: Sequence[PlanRequest]) -> dict[PlanRequest, Modules]:
    """What each search drops, in its order. Every model is a unit of `stage`, shared by all plans and runs.

    A dry run finds what its store has; for the other searches it counts the models, those of rounds to come at most.
    """
    if run.only_counts:
        found = {request: _count(run, stage, request) for request in requests}
        return {request: modules for request, modules in found.items() if modules is not None}
    searches = {request: _begun(run, request) for request in requests}
    return follow(searches, lambda asked: _measure(run, stage, asked))


def _measure(
    run: RunState, stage: Stage, asked: Mapping[PlanRequest, Round], undecided: str = ""
) -> dict[PlanRequest, Found]:
    """Measure the models of one round of each search. NotDoneError in a dry run that finds no numbers for one.

    undecided: in a dry run, what is not known yet, where the rounds are made up.
    """
    job = run.job
    rounds = [SoFar(without(job.base_drops, each.dropped), request.on, undecided) for request, each in asked.items()]
    variants: dict[PlanRequest, dict[Modules, Variant]] = {
        # A model that is not refitted was measured in the round before: none is made up for it.
        request: {more: less(model, more) for more in each.additions if more or request.on or not undecided}
        for (request, each), model in zip(asked.items(), models(run, rounds), strict=True)
    }
    losses = measure(run, stage, [variant for each in variants.values() for variant in each.values()])
    base = job.size.kept_parameters(job.base_drops)

    def value(request: PlanRequest, variant: Variant) -> float:
        assert request.objective is not None, "a search has one"
        return OBJECTIVES[request.objective](measured(losses[variant], job.size.kept_parameters(variant.drops) / base))

    return {
        request: {more: value(request, variant) for more, variant in each.items()} for request, each in variants.items()
    }


def _count(run: RunState, stage: Stage, request: PlanRequest) -> Modules | None:
    """What a search drops, or None if it is not all measured yet: then its models are counted.

    Rounds to come are those of made-up values by which early layers are dropped first, so that no models would share
    less of their forward passes.
    """
    done, rounds = True, 0

    def measure_or_count(asked: Mapping[PlanRequest, Round]) -> dict[PlanRequest, Found]:
        nonlocal done, rounds
        rounds += 1
        with suppress(NotDoneError):
            undecided = "" if done else f"{request.label}, round {rounds}"
            found = _measure(run, stage, asked, undecided)
            if done:
                return found
        done = False
        return {key: _early_first(each) for key, each in asked.items()}

    try:
        begun = _begun(run, request)
    except NotDoneError:  # which models are measured depends on scores to come
        return None
    chosen = follow({request: begun}, measure_or_count)[request]
    return chosen if done else None


def _begun(run: RunState, request: PlanRequest) -> Steps:
    """A search. NotDoneError in a dry run of one that depends on scores to come."""
    return request.search(run.job.size.layers, run.job.base_drops, budget_of(run, request))


def _early_first(asked: Round) -> Found:
    return {more: float(sum(module.layer for module in more)) for more in asked.additions}
