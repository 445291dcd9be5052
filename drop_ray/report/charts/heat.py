"""A heat strip as a drawing: rows over layers, and the small strip of what one variant drops."""

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.blocks import HeatStrip
from drop_ray.report.charts.axes import Scale, levels, whole_ticks, x_axis
from drop_ray.report.charts.svg import figure, group, label, markup, rectangle
from drop_ray.report.rows import VariantRow
from drop_ray.text.layer_ranges import runs

WIDTH, TOP, ROW, LEFT, RIGHT = 1120.0, 30.0, 22.0, 150.0, 204.0
LABEL_CHARACTER = 7.0
HEAT_LEVELS = 9
STRIP_WIDTH, STRIP_ROW = 96.0, 8.0
RAMP = 9.0
"""Width of one colour of the scale."""


def heat_map(strip: HeatStrip) -> Markup:
    """Light is redundant; all rows share one colour scale, layers without a score stay empty."""
    values = [value for row in strip.rows for value in row.values.values()]
    level = levels(values, HEAT_LEVELS)
    bottom = TOP + len(strip.rows) * ROW
    description = "; ".join(f"{row.label}: lowest {row.lowest_text}" for row in strip.rows)
    root = figure(strip.name, strip.title, description, WIDTH, bottom + 40)
    label(root, (0, 16), f"{strip.title} (light: redundant)", "chart-title")
    left = max(LEFT, LABEL_CHARACTER * max(len(row.label) for row in strip.rows))
    x = Scale(-0.5, strip.num_layers - 0.5, left, WIDTH - RIGHT)
    size = (x(1) - x(0) - 1, ROW - 2)
    for index, row in enumerate(strip.rows):
        top = TOP + index * ROW
        label(root, (left - 10, top + 15), row.label, "label", "end")
        for layer in range(strip.num_layers):
            corner = (x(layer - 0.5), top)
            if layer not in row.values:
                rectangle(root, corner, size, "empty-cell")
                continue
            frame = " lowest" if layer in row.framed else ""
            tooltip = row.tooltips.get(layer, f"layer {layer}: {formatting.score(row.values[layer])}")
            cell = group(root, "cell", tooltip)
            rectangle(cell, corner, size, f"heat-{int(level(row.values[layer]))}{frame}")
        label(root, (x.stop + 12, top + 15), row.note or f"lowest {row.lowest_text}", "note")
    x_axis(root, x, whole_ticks(strip.num_layers - 1, 26), bottom + 2)
    label(root, (x.stop + 12, bottom + 19), formatting.score(min(values)), "tick")
    for step in range(HEAT_LEVELS):
        rectangle(root, (x.stop + 64 + step * RAMP, bottom + 10), (RAMP, 10), f"heat-{step}")
    label(root, (x.stop + 70 + HEAT_LEVELS * RAMP, bottom + 19), formatting.score(max(values)), "tick")
    return markup(root)


def drop_strip(name: str, variant: VariantRow, num_layers: int) -> Markup:
    """Two rows of cells, attention above MLP, one per layer from the first on the left; dropped ones are filled."""
    title = formatting.dropped_layers(variant.drop_attn, variant.drop_mlp)
    root = figure(name, f"Dropped: {title}", f"{variant.name} drops {title} of {num_layers} layers", STRIP_WIDTH, 17)
    for top, module, layers in ((0.0, "attention", variant.drop_attn), (STRIP_ROW + 1, "mlp", variant.drop_mlp)):
        rectangle(root, (0, top), (STRIP_WIDTH, STRIP_ROW), "kept")
        for run in runs(layers):
            left, width = (count * STRIP_WIDTH / num_layers for count in (run.start, len(run)))
            rectangle(root, (left, top), (width, STRIP_ROW), f"dropped module-{module}")
    return markup(root)
