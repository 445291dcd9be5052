"""How the report says the rule `accept`, and losses beside it."""

from drop_ray.config.accept import AVERAGE, KL, POINTS, AcceptSpec
from drop_ray.report.acceptance import AcceptanceRow
from drop_ray.report.formatting import number, score


def rule_text(rule: AcceptSpec) -> str:
    """`loses at most 1 point of the average (95 % confidence)`: what an acceptable variant does."""
    sure = f"({100 * rule.confidence:g} % confidence)"
    if rule.metric == KL:
        return f"has a KL to the base of at most {rule.loss} per token {sure}"
    each = "" if rule.each_task is None else f" and {rule.each_task} of each task"
    return f"loses at most {rule.loss} of {'the average' if rule.metric == AVERAGE else rule.metric}{each} {sure}"


def amount(rule: AcceptSpec, value: float) -> str:
    """A loss in the unit of the rule, without its name: `1.93`, `0.0123`."""
    return score(value) if rule.metric == KL else number(POINTS * value, 2)


def unit(rule: AcceptSpec) -> str:
    """What losses are measured in."""
    return "nats per token" if rule.metric == KL else "points"


def bounds_text(rule: AcceptSpec, row: AcceptanceRow) -> str:
    """`1.21 to 2.64`; empty where there is no loss."""
    if row.low is None or row.high is None:
        return ""
    return f"{amount(rule, row.low)} to {amount(rule, row.high)}"


def seen_loss(rule: AcceptSpec, row: AcceptanceRow) -> str:
    """`loses 1.93 points (1.21 to 2.64)`, of a row with a loss."""
    assert row.loss is not None
    verb = "has a KL of" if rule.metric == KL else "loses"
    over = f", and more than {rule.each_task} of {', '.join(row.over)}" if row.over else ""
    return f"{verb} {amount(rule, row.loss)} {unit(rule)} ({bounds_text(rule, row)}){over}"


def needed_text(rule: AcceptSpec, needed: int, tasks: int) -> str:
    """`1,400 documents a task`. tasks: number of those that the rule is about."""
    noun = "samples" if rule.metric == KL else "documents a task" if tasks > 1 else "documents"
    return f"{needed:,} {noun}"
