"""The serving section in Markdown: what the HTML page has, without the charts."""

from collections.abc import Sequence

from drop_ray.report.engine_tables import GATE_TEXT, MEMORY_TEXT, gate_table, memory_table
from drop_ray.report.markdown_table import escaped, text_table
from drop_ray.report.results import Results
from drop_ray.report.serving import gamma_rows, references, trade_offs
from drop_ray.report.serving_tables import (
    GAMMA_TEXT,
    LATENCY_TEXT,
    RATIO_TEXT,
    control_sentence,
    engine_sentence,
    gamma_table,
    latency_table,
    ratio_table,
)
from drop_ray.report.statistics import Standing
from drop_ray.report.trade_off_chart import front_text


def serving_parts(results: Results, standings: Sequence[Standing]) -> list[str]:
    """Paragraphs and tables; none where nothing was measured."""
    if not results.serving:
        return []
    measured = references(results)
    parts = ["## Serving", escaped(f"{engine_sentence(results)} {control_sentence(results)} {RATIO_TEXT}")]
    parts.append(text_table(ratio_table(results)))
    fronts = [
        f"- {escaped(f'{reference.workload}, batch {reference.batch_size}: {front_text(points)}')}"
        for reference in measured
        if len(points := trade_offs(standings, reference)) > 1
    ]
    if fronts:
        parts += ["### Quality against speedup", "Plans on the Pareto front, by workload:", "\n".join(fronts)]
    for content, text in (
        (gamma_table(gamma_rows(standings, measured)), GAMMA_TEXT),
        (latency_table(results), LATENCY_TEXT),
        (memory_table(results.serving_facts), MEMORY_TEXT),
        (gate_table(results.serving_facts), GATE_TEXT),
    ):
        if content.rows:
            parts += [f"### {content.title}", text, text_table(content)]
    return parts
