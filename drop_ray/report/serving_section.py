"""What the serving section of the HTML page shows: sentences, tables and drawings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drop_ray.report import serving_tables as tables
from drop_ray.report.answer import Answer
from drop_ray.report.engine_tables import GATE_TEXT, MEMORY_TEXT, gate_table, memory_table
from drop_ray.report.quality_charts import legend_mark
from drop_ray.report.results import Results
from drop_ray.report.series import Series
from drop_ray.report.serving import gamma_rows, references, trade_offs
from drop_ray.report.serving_charts import base_mark, form_marks, latency_charts, plan_marks, speedup_chart
from drop_ray.report.statistics import Standing
from drop_ray.report.text_table import TextTable
from drop_ray.report.trade_off_chart import trade_off_chart

MIDDLE_SIZE, SMALL_SIZE = (550.0, 330.0), (366.0, 250.0)
TEXTS = {
    "ratio": tables.RATIO_TEXT,
    "gamma": tables.GAMMA_TEXT,
    "latency": tables.LATENCY_TEXT,
    "memory": MEMORY_TEXT,
    "gate": GATE_TEXT,
}


@dataclass(frozen=True)
class ServingSection:
    """legend: of the latency charts. The template spells it all out."""

    engine: str
    control: str
    texts: Mapping[str, str]
    speedups: Sequence[Markup]
    trade_offs: Sequence[Markup]
    latencies: Sequence[Markup]
    legend: Sequence[tuple[str, Markup]]
    has_quantized: bool
    ratios: TextTable
    gammas: TextTable
    latency_table: TextTable
    memory: TextTable
    gate: TextTable
    numbers: TextTable


def serving_section(
    results: Results, standings: Sequence[Standing], series: Sequence[Series], answer: Answer
) -> ServingSection | None:
    """None where nothing was measured. series: of the plans as they are.

    Quantized forms stand in the tables and, hollow, among the trade-offs; lines by batch size would be too many.
    """
    if not results.serving:
        return None
    measured = references(results)
    unquantized = results.unquantized()
    served = {row.plan for row in unquantized.serving}
    marks = {plan: mark for plan, mark in plan_marks(series).items() if plan in served}
    workloads = list(enumerate(dict.fromkeys(row.workload for row in results.serving)))
    base = base_mark(results.plans[0])
    forms = form_marks(results.plans, {base.label: base, **plan_marks(series)})
    speedups = [speedup_chart(f"speedup-{index}", unquantized, name, marks, MIDDLE_SIZE) for index, name in workloads]
    winner = answer.standing.plan.name if answer.standing else None
    trades = [
        trade_off_chart(
            *(f"trade-off-{index}", reference, trade_offs(standings, reference)),
            *({base.label: base, **marks, **forms}, winner, MIDDLE_SIZE),
        )
        for index, reference in enumerate(measured)
    ]
    return ServingSection(
        engine=tables.engine_sentence(results),
        control=tables.control_sentence(results),
        texts=TEXTS,
        speedups=[chart for chart in speedups if chart is not None],
        trade_offs=[chart for chart in trades if chart is not None],
        latencies=[
            chart
            for index, name in workloads
            for chart in latency_charts(f"latency-{index}", unquantized, name, marks, SMALL_SIZE)
        ],
        legend=[
            (mark.label, legend_mark(f"serving-legend-{index}", mark))
            for index, mark in enumerate((base, *marks.values()))
        ],
        has_quantized=bool(forms),
        ratios=tables.ratio_table(results),
        gammas=tables.gamma_table(gamma_rows(standings, measured)),
        latency_table=tables.latency_table(results),
        memory=memory_table(results.serving_facts),
        gate=gate_table(results.serving_facts),
        numbers=tables.numbers_table(results),
    )
