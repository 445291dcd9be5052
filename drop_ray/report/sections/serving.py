"""Serving: what variants gain in speed and memory, against the base, and whether the engine can be trusted."""

import math
from collections.abc import Mapping, Sequence

from drop_ray.report import blocks
from drop_ray.report.answer import find_answer
from drop_ray.report.blocks import NOTHING, Cell, Column, Table, ratio_cell, table
from drop_ray.report.charts.xy import charts
from drop_ray.report.formatting import NOT_AVAILABLE, PLUS_MINUS, binary_bytes, count, number, percent, ratio
from drop_ray.report.results import Results, grouped
from drop_ray.report.rows import EngineRow, ServingRow
from drop_ray.report.sections.quality import legend
from drop_ray.report.sections.serving_charts import front_text, latency_charts, speedup_chart, trade_off_chart
from drop_ray.report.series import variant_series
from drop_ray.report.serving import (
    LATENCIES,
    PERCENTILES,
    GammaRow,
    gamma_rows,
    latencies,
    references,
    trade_offs,
)
from drop_ray.report.statistics import standings
from drop_ray.serving.ratios import INTERVAL_TEXT

RATES = {
    "output_tokens_per_s": "output tokens/s",
    "prefill_tokens_per_s": "prefill tokens/s",
    "decode_tokens_per_s": "decode tokens/s",
}
PLACE = ("variant", "workload", "batch")
RATIO_TEXT = (
    f"Above 1 the variant is faster. {INTERVAL_TEXT}. At equal memory the variant has the larger batch that its freed "
    "KV cache allows. Predicted ratios are a roofline estimate, from bytes and floating point operations of a step."
)
SPEEDUP_TEXT = "Hollow marks on dashed lines are at equal memory, at the variant's own batch. Bars are 95 % intervals."
GAMMA_TEXT = (
    "Gamma is the average quality lost, in points of 100, per 1 % more output tokens per second, at the largest batch "
    "size that all variants were measured at; below 0 nothing is lost. Its 95 % interval comes from the standard error "
    "of the difference paired by document and from the interval of the speedup; without a speedup it is undefined."
)
FRONT_TEXT = (
    "The line is the Pareto front: of the variants in bold, none is as good as another in both and better in one, by "
    "the measured values, whose intervals may overlap. Bars are one standard error of the quality and the 95 % "
    "interval of the speedup."
)
LATENCY_TEXT = "At equal batches, over the requests of a batch; medians over pairs."
MEMORY_TEXT = (
    "From base to variant. KV tokens are those that one memory budget has room for; dropped attention needs none."
)
GATE_TEXT = (
    "No engine is timed before this: its log-probabilities of given texts against those of the model's own forward "
    "pass in the same dtype, and its KV cache against the variant. First choices are compared where they are clear."
)


def serving_sections(results: Results) -> list[blocks.Section]:
    """None where nothing was measured. Quantized variants stand in the tables and, hollow, among the trade-offs; lines
    by batch size would be too many."""
    if not results.serving:
        return []
    plain, series = results.unquantized(), variant_series(results.variants)
    workloads = list(enumerate(dict.fromkeys(row.workload for row in results.serving)))
    speedups = [speedup_chart(f"speedup-{index}", plain, workload, series) for index, workload in workloads]
    found: list[blocks.Block] = [
        blocks.Paragraph(f"{engine_sentence(results)} {control_sentence(results)}"),
        blocks.Paragraph(RATIO_TEXT, note=True),
        blocks.Columns(charts(speedups), "Speedup by batch size", [SPEEDUP_TEXT]),
        ratio_table(results),
        *_trade_off_blocks(results),
    ]
    if gammas := gamma_rows(standings(results), references(results)):
        title = blocks.Heading("Gamma, points lost per 1 % of speedup")
        found += [title, blocks.Paragraph(GAMMA_TEXT), gamma_table(gammas)]
    drawn = [chart for index, name in workloads for chart in latency_charts(f"latency-{index}", plain, name, series)]
    if drawn:
        served = {results.variants[0].name, *(row.variant for row in plain.serving)}
        marks = legend((one for name, one in series.items() if name in served), "serving-legend")
        text = ["Bars reach from the median to the 99th percentile."]
        found += [
            *(blocks.Heading("Latency"), blocks.Paragraph(LATENCY_TEXT)),
            blocks.Columns(charts(drawn), "", text, "small", marks),
            blocks.Details("Latencies as numbers", [latency_table(results)]),
        ]
    if results.engines:
        gate: list[blocks.Block] = [blocks.Paragraph(GATE_TEXT, note=True), gate_table(results.engines)]
        summary = "Acceptance gate: how near the engine is to the model's own forward pass"
        found += [blocks.Heading("Memory"), blocks.Paragraph(MEMORY_TEXT), memory_table(results.engines)]
        found.append(blocks.Details(summary, gate))
    summary = f"All serving measurements ({count(len(results.serving), 'row')})"
    found.append(blocks.Details(summary, [numbers_table(results)], in_markdown=False))
    return [blocks.Section("Serving", "serving", found)]


def ratio_table(results: Results) -> Table:
    """Paired ratios of the rates, the control first; a row per variant, workload, batch size and comparison."""
    rates = (row for row in _control_first(results) if row.metric in RATES)
    lines = []
    for place, rows in grouped(rates, _place).items():
        found = {row.metric: row for row in rows}
        lines.append((*place, *(cell for metric in RATES for cell in _ratio_cells(found.get(metric)))))
    columns = [*PLACE, *(heading for rate in RATES.values() for heading in (rate, "predicted"))]
    known = [
        index for index in range(len(columns)) if index < len(PLACE) or any(line[index] != NOTHING for line in lines)
    ]
    return table([columns[index] for index in known], [[line[index] for index in known] for line in lines], names=3)


def latency_table(results: Results) -> Table:
    """Percentiles of the latencies at equal batches."""
    rows = [row for row in results.serving if row.comparison == "equal_batch" and not row.control]
    variants = dict.fromkeys((results.variants[0].name, *(row.variant for row in rows)))
    found, lines = latencies(results), []
    for place in dict.fromkeys((row.workload, row.batch_size) for row in rows):
        for variant in variants:
            spelled = [_latency(found.get((variant, *place, latency), {})) for latency in LATENCIES]
            if any(latency != NOT_AVAILABLE for latency in spelled):
                lines.append((variant, *map(str, place), *spelled))
    return table(
        [*PLACE, *(Column(title, note=" / ".join(PERCENTILES)) for title in LATENCIES.values())], lines, names=3
    )


def gamma_table(rows: Sequence[GammaRow]) -> Table:
    lines = []
    for row in rows:
        lost, gamma = NOTHING, Cell(row.why)
        if row.points_lost is not None:
            error = row.points_lost_stderr
            lost = Cell(number(row.points_lost, 2), () if error is None else (f"{PLUS_MINUS} {error:.2f}",))
        if row.gamma is not None:
            limits = [number(limit, 3) for limit in (row.gamma_low, row.gamma_high) if limit is not None]
            gamma = Cell(number(row.gamma, 3), (f"[{', '.join(limits)}]",) if limits else ())
        speedup = ratio_cell(row.speedup, row.speedup_low, row.speedup_high)
        lines.append((row.variant, row.workload, str(row.batch_size), speedup, lost, gamma))
    return table([*PLACE, "speedup", "points lost", "gamma"], lines, names=3)


def memory_table(rows: Sequence[EngineRow]) -> Table:
    """What the engines hold, from base to variant."""
    lines = []
    for row in rows:
        tokens = measured = NOTHING
        if row.kv_tokens_base is not None and row.kv_tokens_variant is not None:
            predicted = row.kv_predicted_ratio
            notes = () if predicted is None else (f"predicted {ratio(predicted)}",)
            tokens = Cell(f"{row.kv_tokens_base:,} \u2192 {row.kv_tokens_variant:,}")
            measured = Cell(ratio(row.kv_tokens_variant / row.kv_tokens_base), notes)
        per_token = _change(row.kv_bytes_per_token_base, row.kv_bytes_per_token_variant)
        peak = _change(row.peak_bytes_base, row.peak_bytes_variant)
        weights = _change(row.weights_bytes_base, row.weights_bytes_variant)
        lines.append((row.variant, weights, tokens, measured, per_token, peak))
    return table(("variant", "weights", "KV tokens", "KV ratio", "KV per token", "peak memory"), lines)


def gate_table(rows: Sequence[EngineRow]) -> Table:
    """How near the engine's log-probabilities are to those of drop_ray's own forward pass."""
    numbers = ("mean difference", "99th percentile", "same first choice", "tokens", "greedy tokens")
    greedy = {None: NOT_AVAILABLE, True: "equal", False: "different"}
    lines = [
        (
            *(row.variant, row.gate_dtype, f"{row.gate_mean:.2g}", f"{row.gate_p99:.2g}"),
            *(f"{100 * row.gate_top1_agreement:.1f} %", f"{row.gate_tokens:,}", greedy[row.gate_greedy]),
        )
        for row in rows
    ]
    return table(("variant", "dtype", *numbers), lines, names=2)


def numbers_table(results: Results) -> Table:
    """Every measurement."""
    lines = [
        (
            *(*_place(row), row.metric, f"{row.base_value:.4g}", f"{row.variant_value:.4g}"),
            *(*_ratio_cells(row), str(row.pairs)),
        )
        for row in _control_first(results)
    ]
    return table([*PLACE, "metric", "base", "variant", "ratio", "predicted", "pairs"], lines, names=4)


def control_sentence(results: Results) -> str:
    """How many of the control's intervals contain 1."""
    rows = [row for row in results.serving if row.control]
    if not rows:
        return "There is no control in this run: the base was not measured against itself."
    inside = sum(row.low <= 1 <= row.high for row in rows)
    return (
        f"Control: the base against itself, measured in the same way. Its 95 % intervals contain 1 in {inside} of "
        f"{len(rows)} measurements; about one in twenty may miss it by chance, those of one batch together."
    )


def engine_sentence(results: Results) -> str:
    """`vllm 0.32.0 on cpu; engines resident, 5 pairs of measurements each.`"""
    engines = dict.fromkeys(f"{row.engine} {row.engine_version} on {row.device}" for row in results.engines)
    modes = dict.fromkeys(row.mode for row in results.serving)
    pairs = sorted({row.pairs for row in results.serving})
    amount = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    caches = dict.fromkeys(row.kv_cache_dtype for row in results.engines if row.kv_cache_dtype != "auto")
    cache = f", KV cache in {', '.join(caches)}" if caches else ""
    return f"{', '.join(engines)}{cache}; engines {' and '.join(modes)}, {amount} pairs of measurements each."


def _trade_off_blocks(results: Results) -> list[blocks.Block]:
    series, named, found = variant_series(results.variants), find_answer(results).names, []
    for index, reference in enumerate(references(results)):
        points = trade_offs(standings(results), reference)
        if len(points) > 1:
            place = f"{reference.workload}, batch {reference.batch_size}"
            chart = trade_off_chart(f"trade-off-{index}", reference, points, series, named)
            found += charts([chart], [blocks.Bullets([f"on the Pareto front of {place}: {front_text(points)}"])])
    text = [FRONT_TEXT, *((" Rings mark the variants that the first line names.",) if named else ())]
    if any(row.quantization for row in results.variants):
        text.append(" Hollow marks are quantized.")
    return [blocks.Columns(found, "Quality against speedup", text)] if found else []


def _control_first(results: Results) -> list[ServingRow]:
    return sorted(results.serving, key=lambda row: not row.control)


def _place(row: ServingRow) -> tuple[Cell, Cell, Cell]:
    name = Cell(row.variant, ("against itself",) if row.control else ())
    batch = Cell(str(row.batch_size))
    if row.comparison == "equal_memory":
        batch = Cell(f"{row.batch_size} \u2192 {row.variant_batch_size}", ("equal memory",))
    return name, Cell(row.workload), batch


def _ratio_cells(row: ServingRow | None) -> tuple[Cell, Cell]:
    """Measured and predicted."""
    if row is None:
        return NOTHING, NOTHING
    predicted = NOTHING if row.predicted is None else Cell(ratio(row.predicted))
    return ratio_cell(row.ratio, row.low, row.high), predicted


def _latency(seconds: Mapping[str, float]) -> str:
    """seconds: by percentile. Three significant digits, all in one unit, so that they can be compared at a glance."""
    if not set(PERCENTILES) <= seconds.keys():
        return NOT_AVAILABLE
    unit, factor = ("s", 1) if max(seconds.values()) >= 1 else ("ms", 1000)
    values = [factor * seconds[percentile] for percentile in PERCENTILES]
    spelled = (f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" for value in values)
    return f"{' / '.join(spelled)} {unit}"


def _change(base: int | None, variant: int | None) -> Cell:
    if base is None or variant is None:
        return NOTHING
    saved = f"{percent(base - variant, base)} saved"
    return Cell(f"{binary_bytes(base)} \u2192 {binary_bytes(variant)}", (saved,))
