"""Chooses, by the divergence panels, which variants get tasks and texts (`evaluation.screen`).

The base always gets them. Plans compete among themselves. A quantized variant follows the plan that it is made of,
since the report compares the two on the same tasks.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from drop_ray.errors import UserError
from drop_ray.evaluation.screening import Candidate, Screened, screen
from drop_ray.job.run_state import RunState
from drop_ray.planning.variants import Variant, distinct


def kept(run: RunState, variants: Sequence[Variant]) -> list[Variant]:
    """Those of the variants that are to be evaluated, in their order. UserError if no plan is kept.

    Called with the plans first, then with the quantized variants; says why a plan is left out in `run.screened`.
    """
    spec = run.job.config.evaluation.screen
    if spec is None:
        return list(variants)
    plans = [variant for variant in variants if variant.remake is None and variant != run.base]
    if plans:
        found = _screened(run, distinct(plans))
        reasons = {variant: found.reasons[variant.name] for variant in distinct(plans)}
        names = {variant for variant in distinct(plans) if variant.name in found.kept}
        run.screened |= {variant.name: (variant in names, reasons[variant]) for variant in plans}
        for variant in plans:
            if variant not in names:
                run.tell("%s is left out of the evaluation: %s", variant.name, reasons[variant])
    return [variant for variant in variants if _is_kept(run, variant)]


def _is_kept(run: RunState, variant: Variant) -> bool:
    """The base always is; a plan by its own divergence, and what a remake made of it as the plan is."""
    plan = variant.before if variant.remake else variant
    if plan == run.base:
        return True
    is_kept, reason = run.screened[variant.plan.name]
    if variant.remake is not None:
        run.screened[variant.name] = is_kept, f"as {variant.plan.name}, of which it is made"
        if not is_kept:
            run.tell("%s is left out of the evaluation, as %s: %s", variant.name, variant.plan.name, reason)
    return is_kept


def _screened(run: RunState, plans: Sequence[Variant]) -> Screened:
    spec = run.job.config.evaluation.screen
    assert spec is not None
    panels = run.panels
    if run.only_counts and any(plan.name not in panels for plan in plans):
        # Their panels are still to be computed: as many as will be kept, or all that could be.
        count = len(plans) if spec.keep == "pareto" else spec.keep
        return Screened(
            tuple(plan.name for plan in plans[:count]), dict.fromkeys((plan.name for plan in plans), "not yet known")
        )
    candidates = [
        Candidate(
            plan.name,
            panels[plan.name].kl if plan.name in panels else None,
            run.job.size.kept_parameters(plan.drops),
        )
        for plan in plans
    ]
    found = screen(candidates, spec.keep)
    if not found.kept:
        raise UserError(f"evaluation.screen: keeps no plan ({_first(found.reasons)}); mend the plans, or omit `screen`")
    return found


def _first(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in islice(reasons.items(), 3))
