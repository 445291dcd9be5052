"""The stage plan: makes the drop plans that the config asks for. Each plan gives one variant."""

from drop_ray.job.job import Job
from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.job.stage import Cost, Stage, Work
from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Undecided
from drop_ray.planning.modules import layers_of
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.stages.score import table


def _run(run: RunState) -> None:
    """Make the plans in the order of the config, those from files last, and write them to the run's folder."""
    job = run.job
    for request in job.requests:
        try:
            plan = make_plan(run, request)
        except NotDoneError:
            run.variants.append(_undecided(job, request))
        else:
            run.add_plan(job.complete(plan, run.calibrated.identity))
    for given in job.given_plans:
        run.add_plan(job.complete(given))


def make_plan(run: RunState, request: PlanRequest) -> DropPlan:
    """Drop, score what is left, drop again: as many rounds as the request has, one if it is not iterative."""
    job = run.job
    attn, mlp = job.base_drops.attn, job.base_drops.mlp
    for count in request.rounds():
        dropped = DropLists(attn, mlp)
        tables = table(run, dropped, gaps_of(job.requests) if dropped == job.base_drops else (1,))
        chosen = request.choose(tables, job.size.num_layers, dropped, count)
        attn += layers_of("attention", chosen, attn)
        mlp += layers_of("mlp", chosen, mlp)
    return DropPlan(request.name, attn, mlp, request.label, request.metric if request.uses_scores else None)


def _undecided(job: Job, request: PlanRequest) -> Variant:
    base = variant_of(job.checkpoint.identity, DropPlan(request.name, job.base_drops.attn, job.base_drops.mlp))
    return Variant(base.base, (*base.changes, Undecided(request.name, request.of == "block")), request.name, base.plan)


def _own_work(run: RunState) -> Work:
    unknown = sum(variant.undecided is not None for variant in run.variants)
    note = f"{unknown} depend on scores to come" if unknown else ""
    return Work("plan", len(run.variants), unknown, Cost(note=note))


STAGE = Stage("plan", "plans", _run, own_work=_own_work)
