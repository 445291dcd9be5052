"""What the run took: time and GPU-hours by stage, against the forecast, and what reuse saved."""

from collections.abc import Iterator, Sequence

from drop_ray.report import blocks
from drop_ray.report.blocks import NOTHING, Cell, Column, table
from drop_ray.report.costs import HOUR_S, CostRow, total_costs
from drop_ray.report.formatting import count, percent, ratio
from drop_ray.report.results import Results
from drop_ray.text.units import human_count, human_duration, human_hours


def costs_sections(results: Results) -> list[blocks.Section]:
    """None of a run whose units recorded no time."""
    rows = [row for row in results.costs if row.units > row.unmeasured_units]
    if not rows:
        return []
    total = total_costs(rows)
    found: list[blocks.Block] = [blocks.Figures(list(_figures(rows, total))), _table(rows, total)]
    return [blocks.Section("What it took", "costs", [*found, blocks.Paragraph(_how(total), note=True)])]


def _figures(rows: Sequence[CostRow], total: CostRow) -> Iterator[blocks.Figure]:
    done = count(total.units - total.reused_units - total.unmeasured_units, "unit")
    if total.gpu_seconds or total.reused_gpu_seconds:
        yield blocks.Figure("GPU-hours", human_hours(total.gpu_seconds / HOUR_S), done)
    else:
        yield blocks.Figure("Time of workers", human_duration(total.worker_seconds), done)
    if total.expected_gpu_seconds and not total.unmeasured_units:
        # Of the stages that have a forecast.
        known = sum(row.measured_gpu_seconds for row in rows if row.expected_gpu_seconds is not None)
        measured = known / total.expected_gpu_seconds
        expected = f"of {human_hours(total.expected_gpu_seconds / HOUR_S)} GPU-hours"
        yield blocks.Figure("Measured over expected", ratio(measured), expected)
    if total.reused_units:
        others = f"{count(total.reused_units, 'unit')} of other runs"
        if total.reused_gpu_seconds:
            yield blocks.Figure("GPU-hours not spent", human_hours(total.reused_gpu_seconds / HOUR_S), others)
        else:
            yield blocks.Figure("Time not spent", human_duration(total.reused_worker_seconds), others)
    if total.asked_tokens:
        saved = percent(total.saved_tokens, total.asked_tokens)
        of = f"of {human_count(total.asked_tokens)} asked"
        yield blocks.Figure("Tokens not computed", saved, of)


def _table(rows: Sequence[CostRow], total: CostRow) -> blocks.Table:
    """A column that has nothing in any row is left out."""
    on_gpus, reused = bool(total.measured_gpu_seconds), bool(total.reused_units)
    columns: list[str | Column] = ["stage", "units"]
    columns += ["of other runs"] if reused else []
    columns += ["time of workers"]
    columns += ["GPU-hours"] if on_gpus else []
    columns += [Column("expected", note="all units")] if total.expected_gpu_seconds else []
    columns += ["tokens asked", "computed"] if total.asked_tokens else []
    lines = []
    for row in [*rows, total] if len(rows) > 1 else rows:
        cells = [Cell(row.stage), Cell(f"{row.units:,}")]
        if reused:
            then = f"in {human_duration(row.reused_worker_seconds)}"
            cells.append(Cell(f"{row.reused_units:,}", (then,)) if row.reused_units else NOTHING)
        computed_here = row.units > row.reused_units + row.unmeasured_units
        cells.append(Cell(human_duration(row.worker_seconds)) if computed_here else NOTHING)
        if on_gpus:
            cells.append(Cell(human_hours(row.gpu_seconds / HOUR_S)) if computed_here else NOTHING)
        if total.expected_gpu_seconds:
            expected = row.expected_gpu_seconds
            cells.append(NOTHING if expected is None else Cell(human_hours(expected / HOUR_S)))
        if total.asked_tokens:
            saved = (f"{percent(row.saved_tokens, row.asked_tokens)} saved",)
            cells += (
                [Cell(human_count(row.asked_tokens)), Cell(human_count(row.computed_tokens), saved)]
                if row.asked_tokens
                else [NOTHING, NOTHING]
            )
        lines.append(cells)
    return table(columns, lines)


def _how(total: CostRow) -> str:
    text = (
        "The time of a worker is that of its units, from its share to their results, models and engines loaded in it; "
    )
    text += "units that were lost or failed, and the work of the driver, are not in it."
    if total.unmeasured_units:
        text += f" Of {count(total.unmeasured_units, 'unit')} no time was recorded."
    return text
