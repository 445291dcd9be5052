"""Makes rows of the report from what came of plans with limits."""

from collections.abc import Iterator

from drop_ray.planning.plans import DropPlan
from drop_ray.report.budget_rows import KL, SCORE, BudgetRow


def budget_rows(plan: DropPlan) -> Iterator[BudgetRow]:
    """A row for each limit, one for the sum of scores, one for KL; none of a plan without limits."""
    outcome = plan.budget
    if outcome is None:
        return
    for kept in outcome.limits:
        at = outcome.at if kept.name == "speedup" else None
        yield BudgetRow(
            variant=plan.name,
            quantity=kept.name,
            asked=kept.asked,
            limit=kept.limit,
            base=kept.base,
            first=kept.solution,
            plan=kept.plan,
            measured=outcome.file_bytes if kept.name == "bytes" else None,
            quantized=outcome.quantized,
            prompt_tokens=at[0] if at else None,
            output_tokens=at[1] if at else None,
            batch_size=at[2] if at else None,
        )
    yield BudgetRow(plan.name, SCORE, "", None, None, outcome.score_solution, outcome.score_plan)
    yield BudgetRow(plan.name, KL, "", None, 0.0, outcome.kl_solution, outcome.kl_plan)
