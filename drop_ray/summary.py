"""What the terminal says at the end of a run: what was done, the plans, where everything is."""

from collections.abc import Iterator, Sequence

from drop_ray.pipeline import Outcome
from drop_ray.planning.plans import DropPlan


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    if outcome.plans:
        yield from plan_table(outcome.base, outcome.plans)
        yield ""
    for name, path in outcome.checkpoints.items():
        yield f"checkpoint {name}: {path}"
    total = outcome.computed + outcome.found
    if outcome.computed == 0:
        yield f"Nothing to do: all {total} units were done before."
    else:
        yield f"Done: {outcome.computed} units computed, {outcome.found} were done before."
    yield f"plans:  {outcome.folder}/plans/" if outcome.plans else f"run:    {outcome.folder}"
    if outcome.published:
        yield f"report: {outcome.published.report}"
        yield ""
        yield outcome.published.answer


def plan_table(base: DropPlan, plans: Sequence[DropPlan]) -> Iterator[str]:
    """One line a plan: what it drops, and what part of the parameters and of the KV cache that saves."""
    width = max(len("plan"), *(len(plan.name) for plan in plans))
    yield f"{'plan':{width}}  params saved  KV saved  drops"
    for plan in plans:
        parameters = _saved(plan.parameters, base.parameters)
        kv = _saved(plan.kv_bytes_per_token, base.kv_bytes_per_token)
        yield f"{plan.name:{width}}  {parameters:>12}  {kv:>8}  {describe_drops(plan)}"


def describe_drops(plan: DropPlan) -> str:
    """`attn 11,9  mlp 4`, in the order of choice; layers that lose both are `block`."""
    both = [layer for layer in plan.drop_attn if layer in plan.drop_mlp]
    groups = {
        "block": both,
        "attn": [layer for layer in plan.drop_attn if layer not in both],
        "mlp": [layer for layer in plan.drop_mlp if layer not in both],
    }
    return "  ".join(f"{kind} {','.join(map(str, layers))}" for kind, layers in groups.items() if layers)


def _saved(left: int | None, whole: int | None) -> str:
    return f"{1 - left / whole:.1%}" if left is not None and whole else "-"
