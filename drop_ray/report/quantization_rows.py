"""The rows of results.parquet on quantized forms: settings, differences to the plan as it is, and output errors."""

from collections.abc import Iterator
from typing import Any

from drop_ray.report.quantization import (
    Grid,
    both_effects,
    log_difference,
    log_perplexities,
    perplexity_tasks,
    quantization_grid,
)
from drop_ray.report.results import PlanRow, Results

Row = dict[str, Any]
SETTINGS = ("bits", "group_size", "symmetric", "desc_act")
ERRORS = ("error", "round_to_nearest", "error_sum", "round_to_nearest_sum")
EFFECTS = ("dropping", "quantizing", "both")


def quantization_rows(results: Results) -> Iterator[Row]:
    """By kind, then by form; none where nothing was quantized."""
    grid = quantization_grid(results)
    if grid is None:
        return
    for form in grid.forms.values():
        assert form.quantization is not None
        for name in SETTINGS:
            value = float(getattr(form.quantization, name))
            yield {
                **_common(form),
                "kind": "quantized",
                "method": form.quantization.method,
                "name": name,
                "value": value,
            }
    yield from _difference_rows(results, grid)
    for form in grid.forms.values():
        assert form.quantization is not None
        for row in form.quantization.errors:
            place = {**_common(form), "kind": "layer_error", "module": row.module, "layer": row.layer}
            for name in ERRORS:
                yield {**place, "name": name, "value": getattr(row, name)}


def _common(form: PlanRow) -> Row:
    assert form.quantization is not None
    how = form.quantization
    return {"plan": form.name, "strategy": form.strategy, "quantized_from": how.of, "label": how.label}


def _difference_rows(results: Results, grid: Grid) -> Iterator[Row]:
    for task in perplexity_tasks(results):
        known = log_perplexities(results, task)
        place = {"task": task.task, "metric": task.metric}
        for (plan, _), form in grid.forms.items():
            difference = log_difference(known, form.name, plan)
            if difference is not None:
                common = {**_common(form), **place, "kind": "difference", "name": "log_perplexity"}
                yield {**common, "value": difference.value, "stderr": difference.stderr}
        for row in both_effects(known, grid):
            common = {**_common(grid.forms[row.plan, row.label]), **place, "kind": "effects"}
            for name in EFFECTS:
                yield {**common, "name": name, "value": getattr(row, name)}
            yield {**common, "name": "excess", "value": row.excess, "stderr": row.stderr}
