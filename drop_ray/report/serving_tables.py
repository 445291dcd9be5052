"""The serving section's tables as text, the same for HTML and Markdown."""

import math
import statistics
from collections.abc import Sequence

from drop_ray.report import formatting
from drop_ray.report.results import Results, ServingRow
from drop_ray.report.serving import GammaRow, controls
from drop_ray.report.text_table import NOTHING, Cell, TextTable
from drop_ray.serving.ratios import INTERVAL_TEXT

RATES = {
    "output_tokens_per_s": "output tokens/s",
    "prefill_tokens_per_s": "prefill tokens/s",
    "decode_tokens_per_s": "decode tokens/s",
}
LATENCIES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
PERCENTILES = ("p50", "p95", "p99")

RATIO_TEXT = (
    f"Above 1 the plan is faster. {INTERVAL_TEXT}. At equal memory the plan has the larger batch that its freed KV "
    "cache allows. Predicted ratios are a roofline estimate, from bytes and floating point operations of a step."
)
GAMMA_TEXT = (
    "Gamma is the average quality lost, in points of 100, per 1 % more output tokens per second, at the largest batch "
    "size that all plans were measured at; below 0 nothing is lost. Its 95 % interval comes from the standard error of "
    "the difference paired by document and from the interval of the speedup; without a speedup it is undefined."
)
LATENCY_TEXT = "At equal batches, over the requests of a batch; medians over pairs."


def ratio_table(results: Results) -> TextTable:
    """Paired ratios of the rates, the control first; a row per plan, workload, batch size and comparison."""
    rows = sorted(results.serving, key=lambda row: not row.control)
    metrics = [metric for metric in RATES if any(row.metric == metric for row in rows)]
    keys = dict.fromkeys(_place(row) for row in rows if row.metric in metrics)
    by_key = {(*_place(row), row.metric): row for row in rows}
    predicted = {row.metric for row in rows if row.predicted is not None}
    headings = ["plan", "workload", "batch"]
    for metric in metrics:
        headings += [RATES[metric], "predicted"] if metric in predicted else [RATES[metric]]
    lines = []
    for key in keys:
        cells = list(_names(key))
        for metric in metrics:
            row = by_key.get((*key, metric))
            cells += [_ratio_cell(row), _predicted_cell(row)] if metric in predicted else [_ratio_cell(row)]
        lines.append(tuple(cells))
    return TextTable("Paired ratios, plan to base", tuple(headings), lines, 3)


def latency_table(results: Results) -> TextTable:
    """Percentiles of the latencies at equal batches; the base's are medians over all that it was paired with."""
    rows = [row for row in results.serving if row.comparison == "equal_batch" and not row.control]
    values = {(row.workload, row.batch_size, row.metric, row.plan): row.plan_value for row in rows}
    values |= {(*key, ""): value for key, value in base_medians(results).items()}
    names = {"": results.plans[0].name, **{row.plan: row.plan for row in rows}}
    lines = [
        ((names[plan],), (workload,), (str(batch_size),), *cells)
        for workload, batch_size in dict.fromkeys((row.workload, row.batch_size) for row in rows)
        for plan in names
        if (cells := _latency_cells(values, workload, batch_size, plan))
    ]
    headings = ("plan", "workload", "batch", *(f"{title}, {' / '.join(PERCENTILES)}" for title in LATENCIES.values()))
    return TextTable("Latency", headings, lines, 3)


def gamma_table(rows: Sequence[GammaRow]) -> TextTable:
    headings = ("plan", "workload", "batch", "speedup", "points lost", "gamma")
    return TextTable("Gamma, points lost per 1 % of speedup", headings, [_gamma_cells(row) for row in rows], 3)


def numbers_table(results: Results) -> TextTable:
    """Every measurement."""
    headings = ("plan", "workload", "batch", "metric", "base", "plan", "ratio", "predicted", "pairs")
    lines = [
        (
            *_names(_place(row)),
            (row.metric,),
            (f"{row.base_value:.4g}",),
            (f"{row.plan_value:.4g}",),
            (spelled_ratio(row.ratio), _interval(row.low, row.high)),
            _predicted_cell(row),
            (str(row.pairs),),
        )
        for row in sorted(results.serving, key=lambda row: not row.control)
    ]
    return TextTable("All measurements", headings, lines, 4)


def control_sentence(results: Results) -> str:
    """How many of the control's intervals contain 1."""
    rows = controls(results)
    if not rows:
        return "There is no control in this run: the base was not measured against itself."
    inside = sum(row.low <= 1 <= row.high for row in rows)
    return (
        f"Control: the base against itself, measured in the same way. Its 95 % intervals contain 1 in {inside} of "
        f"{len(rows)} measurements; about one in twenty may miss it by chance, those of one batch together."
    )


def engine_sentence(results: Results) -> str:
    """`vllm 0.32.0 on cpu, engines resident, 5 pairs each.`"""
    engines = dict.fromkeys(f"{row.engine} {row.engine_version} on {row.device}" for row in results.serving_facts)
    modes = dict.fromkeys(row.mode for row in results.serving)
    pairs = sorted({row.pairs for row in results.serving})
    amount = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    return f"{', '.join(engines)}; engines {' and '.join(modes)}, {amount} pairs of measurements each."


def base_medians(results: Results) -> dict[tuple[str, int, str], float]:
    """The base's value by (workload, batch size, metric): the median over everything that it was paired with."""
    found: dict[tuple[str, int, str], list[float]] = {}
    for row in results.serving:
        found.setdefault((row.workload, row.batch_size, row.metric), []).append(row.base_value)
    return {key: statistics.median(values) for key, values in found.items()}


def spelled_ratio(value: float) -> str:
    """Three decimals: spreads of a few thousandths are what intervals are about."""
    return f"{value:.3f}"


def _place(row: ServingRow) -> tuple[str, bool, str, str, int, int]:
    return row.plan, row.control, row.workload, row.comparison, row.batch_size, row.plan_batch_size


def _names(place: tuple[str, bool, str, str, int, int]) -> tuple[Cell, Cell, Cell]:
    plan, control, workload, comparison, batch_size, plan_batch_size = place
    name = (plan, "against itself") if control else (plan,)
    if comparison == "equal_memory":
        return name, (workload,), (f"{batch_size} \u2192 {plan_batch_size}", "equal memory")
    return name, (workload,), (str(batch_size),)


def _ratio_cell(row: ServingRow | None) -> Cell:
    if row is None:
        return NOTHING
    return spelled_ratio(row.ratio), _interval(row.low, row.high)


def _predicted_cell(row: ServingRow | None) -> Cell:
    return NOTHING if row is None or row.predicted is None else (spelled_ratio(row.predicted),)


def _interval(low: float, high: float) -> str:
    return f"[{spelled_ratio(low)}, {spelled_ratio(high)}]"


def _latency_cells(
    values: dict[tuple[str, int, str, str], float], workload: str, batch_size: int, plan: str
) -> list[Cell]:
    """Empty where the plan was not measured at this batch size."""
    cells = []
    for latency in LATENCIES:
        keys = [(workload, batch_size, f"{latency}_{percentile}_s", plan) for percentile in PERCENTILES]
        known = [values[key] for key in keys if key in values]
        cells.append((_seconds(known),) if len(known) == len(keys) else NOTHING)
    return cells if any(cell is not NOTHING for cell in cells) else []


def _seconds(values: Sequence[float]) -> str:
    """Three significant digits, all in one unit, so that they can be compared at a glance."""
    unit, factor = ("s", 1) if max(values) >= 1 else ("ms", 1000)
    scaled = [value * factor for value in values]
    spelled = (f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" for value in scaled)
    return f"{' / '.join(spelled)} {unit}"


def _gamma_cells(row: GammaRow) -> tuple[Cell, ...]:
    gamma = row.gamma
    lost = NOTHING if row.points_lost is None else (formatting.number(row.points_lost, 2),)
    if row.stderr is not None:
        lost = (*lost, f"{formatting.PLUS_MINUS} {row.stderr:.2f}")
    cell: Cell = (gamma.why,) if gamma.value is None else (formatting.number(gamma.value, 3),)
    if gamma.low is not None and gamma.high is not None:
        cell = (*cell, f"[{formatting.number(gamma.low, 3)}, {formatting.number(gamma.high, 3)}]")
    speedup = (spelled_ratio(row.speedup.value), _interval(row.speedup.low, row.speedup.high))
    return (row.plan,), (row.workload,), (str(row.batch_size),), speedup, lost, cell
