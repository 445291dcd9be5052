"""Finds the cliffs of strategies: plans are made from the scores, and their gates asked, by bisection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drop_ray.config import PlanSpec
from drop_ray.evaluation.gates.cliff import Bisection, Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.extensions import STRATEGIES
from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.planning.changes import Undecided
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import plan_requests
from drop_ray.planning.strategies.strategy import Strategy
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.stages.plan import make_plan

Judge = Callable[[Sequence[Variant]], Sequence[Verdict | None]]
"""The verdicts on variants; None, in a dry run, where the answers are still to come."""


@dataclass
class Search:
    """The search for one strategy's cliff."""

    strategy: str
    """Name of the strategy."""
    bisection: Bisection
    """Which counts are known to pass."""
    plans: dict[int, DropPlan] = field(default_factory=dict)
    """Plans that were made, by count, in the order in which they were asked for."""
    reasons: dict[int, str] = field(default_factory=dict)
    """What the gates say of them."""


def find_cliffs(run: RunState, strategies: Sequence[str], judge: Judge) -> None:
    """Find them all side by side, so that several workers have something to do, and write the plans as files."""
    searches = [Search(name, Bisection(_num_counts(run, name))) for name in strategies]
    while asking := [search for search in searches if search.bisection.asks is not None]:
        try:
            variants = [_next(run, search) for search in asking]
            found = judge(variants)
            if None in found:
                raise NotDoneError
        except NotDoneError:  # a dry run counts those that are still to come
            judge([variant for search in asking for variant in _still_to_come(run, search)])
            return
        for search, verdict in zip(asking, found, strict=True):
            assert verdict is not None, "those are not done"
            count = search.bisection.asks
            assert count is not None, "those do not ask"
            search.reasons[count] = verdict.reason
            search.bisection.answer(verdict.passes)
    for search in searches:
        _take_up(run, search)


def plan_file(name: str) -> str:
    """Path of the plan at a cliff, in the run's folder."""
    return f"cliffs/{name}.json"


def _take_up(run: RunState, search: Search) -> None:
    found = search.bisection
    plan = search.plans.get(found.largest)
    of_run = {*run.variants}
    cliff = Cliff(
        strategy=search.strategy,
        num_counts=found.num_counts,
        largest=found.largest,
        fails=found.fails,
        reason=search.reasons[found.fails] if found.fails else "",
        asked=tuple(search.plans),
        known=tuple(count for count, made in search.plans.items() if _variant(run, made) in of_run),
        plan=plan.name if plan else None,
        drop_attn=plan.drop_attn if plan else (),
        drop_mlp=plan.drop_mlp if plan else (),
    )
    run.cliffs.append(cliff)
    if plan is not None:
        run.write(plan_file(plan.name), plan.to_json().encode())
    up_to = f"{cliff.largest} of {cliff.num_counts} pass" if plan else "not even 1 passes"
    next_one = f", {cliff.fails} do not ({cliff.reason})" if cliff.fails else ""
    run.tell("cliff of %s after %d evaluations: %s%s", search.strategy, len(cliff.asked), up_to, next_one)


def _num_counts(run: RunState, strategy: str) -> int:
    rule: Strategy = STRATEGIES.load(strategy)
    assert rule.of is not None, "the config was refused otherwise"
    return len(rule.candidates(rule.of, run.job.size.layers, run.job.base_drops))


def _next(run: RunState, search: Search) -> Variant:
    """The variant whose count is asked for. NotDoneError in a dry run without scores."""
    job, count = run.job, search.bisection.asks
    assert count is not None, "the others do not ask"
    spec = PlanSpec(strategy=search.strategy, drop=(count,))
    (request,) = plan_requests([spec], job.size.layers, job.base_drops, job.config.scoring.metrics[0])
    search.plans[count] = job.complete(make_plan(run, request), run.calibrated.identity)
    return _variant(run, search.plans[count])


def _variant(run: RunState, plan: DropPlan) -> Variant:
    return variant_of(run.job.checkpoint.identity, plan)


def _still_to_come(run: RunState, search: Search) -> list[Variant]:
    """Stand-ins for the plans that the search asks for at most."""
    names = [f"{search.strategy}-cliff-{number}" for number in range(search.bisection.remaining)]
    whole = STRATEGIES.load(search.strategy).of == "block"
    base = run.base
    return [Variant(base.base, (*base.changes, Undecided(name, whole)), name, base.plan) for name in names]
