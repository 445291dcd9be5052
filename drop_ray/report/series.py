"""How variants look in charts: one colour per family of strategies, one dash per manner, one mark shape per line.

A family is what is dropped (attention, mlp, joint, block, ...); a manner is how (scores, iterative, ...).
Shapes and dashes repeat what the colours say, for readers and printers without colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drop_ray.report.charts.svg import SHAPES, Shape
from drop_ray.report.rows import VariantRow

FAMILIES = ("block_consecutive", "block", "attention", "mlp", "joint", "file")
"""Longest name first, because a family is found by its name within the strategy's."""
MANNERS = ("iterative", "random", "reverse", "greedy", "consensus")
OTHER, PLAIN = "other", "plain"
HAND_MADE = "file"
BASE_SHAPE, *OTHER_SHAPES = SHAPES


@dataclass(frozen=True)
class Series:
    """Variants that are drawn alike."""

    label: str
    """What the legend calls them."""
    css: str
    """Classes of style.css."""
    shape: Shape
    """Mark of a point."""
    connected: bool = True
    """Whether a line joins the points; plans by hand have no order that it could show."""
    variants: tuple[VariantRow, ...] = ()
    """What it holds."""


def strategy_series(variants: Sequence[VariantRow]) -> list[Series]:
    """One per strategy, metric and refit, in order of appearance, without the base.

    The label names the metric only where variants of one run follow different ones.
    """
    keys = list(dict.fromkeys((row.strategy, row.metric, row.refit) for row in variants if row.strategy != "base"))
    metrics = list(dict.fromkeys(metric for _, metric, _ in keys if metric is not None))
    refits = list(dict.fromkeys(refit for _, _, refit in keys))
    series = []
    for strategy, metric, refit in keys:
        family = next((family for family in FAMILIES if family in strategy), OTHER)
        manner = next((manner for manner in MANNERS if manner in strategy), PLAIN)
        shape = (*FAMILIES, OTHER).index(family) + (PLAIN, *MANNERS).index(manner)
        if metric is not None:
            shape += metrics.index(metric)
        shape += refits.index(refit)
        label = strategy if metric is None or len(metrics) < 2 else f"{strategy} ({metric})"
        series.append(
            Series(
                label=label if refit is None else f"{label}, {refit}",
                css=f"series family-{family} manner-{manner}",
                shape=SHAPES[shape % len(SHAPES)],
                connected=strategy != HAND_MADE,
                variants=tuple(
                    row for row in variants if (row.strategy, row.metric, row.refit) == (strategy, metric, refit)
                ),
            )
        )
    return series


def variant_series(variants: Sequence[VariantRow]) -> dict[str, Series]:
    """One for each variant alone, by name, the base's first: its strategy's colour and dashes, but a mark of its own;
    of quantized ones that of the variant they were made from, hollow."""
    plain = [row for row in variants if row.quantization is None]
    alone = [(entry, row) for entry in strategy_series(plain) for row in entry.variants]
    found = {row.name: Series(row.name, "series reference", BASE_SHAPE) for row in plain if row.strategy == "base"}
    for index, (entry, row) in enumerate(alone):
        shape = OTHER_SHAPES[index % len(OTHER_SHAPES)]
        found[row.name] = replace(entry, label=row.name, shape=shape, variants=(row,))
    for row in variants:
        if row.quantization:
            own = found[row.quantization.of]
            found[row.name] = replace(own, label=row.name, css=f"{own.css} quantized", variants=(row,))
    return found
