"""Plans with limits in a run: the budget that they are made from, and what came of it."""

from collections.abc import Collection
from dataclasses import replace

from drop_ray.job.budget_limits import request_limits
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Stage
from drop_ray.models.dropped import parse_dtype
from drop_ray.models.export import weight_file_bytes
from drop_ray.planning.budgets.budget import Budget
from drop_ray.planning.budgets.outcome import Outcome, kept_limits
from drop_ray.planning.modules import Module
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import SWAP_ROUNDS, PlanRequest, gaps_of
from drop_ray.planning.search.objectives import measured
from drop_ray.planning.variants import Variant
from drop_ray.stages.measured import measure
from drop_ray.stages.rounds import SoFar, less, models
from drop_ray.stages.score import table


def budget_of(run: RunState, request: PlanRequest) -> Budget | None:
    """The budget of a plan with limits; None for one without. NotDoneError in a dry run that finds no scores."""
    if request.limit is None:
        return None
    job = run.job
    scores = table(run, job.base_drops, gaps_of(job.requests), request.metric)[request.metric]
    choosable = request.candidates(job.size.layers, job.base_drops)
    return Budget(
        scores={module: scores.mean(module.kind, module.layer) for module in choosable},
        limits=request_limits(request, job.config, job.checkpoint, job.size, job.base_drops),
        rounds=SWAP_ROUNDS if request.swap_rounds is None else request.swap_rounds,
    )


def _file_bytes(job: Job, plan: DropPlan) -> int:
    return weight_file_bytes(job.checkpoint, plan.drops, parse_dtype(job.config.model.dtype))


def with_outcome(
    run: RunState, stage: Stage, request: PlanRequest, plan: DropPlan, dropped: Collection[Module]
) -> DropPlan:
    """The plan with what came of its limits, which it has been found to keep; a plan without limits as it is.

    dropped: what it drops. NotDoneError in a dry run in which something is still to be measured.
    """
    budget = budget_of(run, request)
    if budget is None:
        return plan
    job, solution = run.job, budget.solve()
    (base,) = models(run, [SoFar(job.base_drops, None)])
    variants = [less(base, solution), less(base, tuple(dropped))]
    losses = measure(run, stage, variants)

    def kl(variant: Variant) -> float:
        return measured(losses[variant], job.size.kept_parameters(variant.drops) / job.size.parameters).kl

    at = request.limit.at if request.limit else None
    outcome = Outcome(
        limits=kept_limits(budget, solution, dropped),
        at=(at.prompt, at.output, at.batch) if at else None,
        quantized=request.quantized,
        file_bytes=None if request.quantized else _file_bytes(job, plan),
        solution=tuple((module.kind, module.layer) for module in solution),
        score_solution=budget.score(solution),
        score_plan=budget.score(dropped),
        kl_solution=kl(variants[0]),
        kl_plan=kl(variants[1]),
    )
    return replace(plan, budget=outcome)
