"""How a strategy looks: one colour per family of plans, one dash per variant, one mark shape per line.

A family is what is dropped (attention, mlp, joint, block, ...); a variant is how (scores, iterative, random, reverse).
Shapes and dashes repeat what the colours say, for readers and printers without colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.report.results import PlanRow
from drop_ray.report.svg import SHAPES, Shape

FAMILIES = ("block_consecutive", "block", "attention", "mlp", "joint", "file")
"""Longest name first, because a family is found by its name within the strategy's."""
VARIANTS = ("iterative", "random", "reverse")
OTHER, PLAIN = "other", "plain"
HAND_MADE = "file"


@dataclass(frozen=True)
class Series:
    """The plans of one strategy and metric, and the classes (style.css) and mark that they are drawn with."""

    label: str
    css: str
    shape: Shape
    connected: bool  # plans by hand have no order that a line could show
    plans: tuple[PlanRow, ...]


def plan_series(plans: Sequence[PlanRow]) -> list[Series]:
    """One series per strategy and metric, in order of appearance, without the base.

    The label names the metric only where plans of one run follow different ones.
    """
    keys = list(dict.fromkeys((plan.strategy, plan.metric) for plan in plans if plan.strategy != "base"))
    metrics = list(dict.fromkeys(metric for _, metric in keys if metric is not None))
    series = []
    for strategy, metric in keys:
        family = next((family for family in FAMILIES if family in strategy), OTHER)
        variant = next((variant for variant in VARIANTS if variant in strategy), PLAIN)
        shape = (*FAMILIES, OTHER).index(family) + (PLAIN, *VARIANTS).index(variant)
        if metric is not None:
            shape += metrics.index(metric)
        series.append(
            Series(
                label=strategy if metric is None or len(metrics) < 2 else f"{strategy} ({metric})",
                css=f"series family-{family} variant-{variant}",
                shape=SHAPES[shape % len(SHAPES)],
                connected=strategy != HAND_MADE,
                plans=tuple(plan for plan in plans if (plan.strategy, plan.metric) == (strategy, metric)),
            )
        )
    return series
