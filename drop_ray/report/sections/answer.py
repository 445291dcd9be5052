"""The head of the report: how much can be dropped, the figures of that variant, and the evidence."""

from drop_ray.report import blocks, formatting
from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.results import Results
from drop_ray.report.statistics import standings


def answer_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    run, answer = results.run, find_answer(results)
    found: list[blocks.Block] = [_figures(results, answer)] if answer.standing else []
    if answer.evidence:
        found.append(blocks.Paragraph(" ".join(answer.evidence)))
    layers = formatting.count(run.num_layers, "layer")
    facts = f", {layers}, {run.dtype}, started {run.started}"
    pieces = ("Run ", blocks.Strong(run.name), " of ", blocks.Strong(run.model), facts)
    return [blocks.Section(answer.sentence, "answer", [*found, blocks.Paragraph(pieces, note=True)])]


def _figures(results: Results, answer: Answer) -> blocks.Figures:
    assert answer.standing is not None
    assert answer.standing.average is not None
    variant, paired = answer.standing.variant, answer.standing.paired
    base = standings(results)[0].average
    kv_bytes = variant.kv_bytes_per_token + variant.kv_bytes_saved_per_token
    parameters = variant.parameters + variant.parameters_saved
    figures = [
        blocks.Figure("sub-layers dropped", str(variant.sublayers_dropped), f"of {2 * results.run.num_layers}"),
        blocks.Figure("parameters saved", formatting.percent(variant.parameters_saved, parameters)),
        blocks.Figure("KV cache saved", formatting.percent(variant.kv_bytes_saved_per_token, kv_bytes)),
    ]
    if row := answer.speedup:
        interval = f"{formatting.ratio(row.low)} to {formatting.ratio(row.high)}"
        figures.append(blocks.Figure("tokens/s, variant to base", formatting.ratio(row.ratio), interval))
    reference = f"base {formatting.estimate(base.value, base.stderr)}" if base else ""
    figures.append(blocks.Figure("average", formatting.number(answer.standing.average.value), reference))
    difference = formatting.signed(paired.value, None) if paired else formatting.NOT_AVAILABLE
    known = paired is not None and paired.stderr is not None
    error = f"{formatting.PLUS_MINUS} {formatting.number(paired.stderr)}" if known else ""  # type: ignore[union-attr,arg-type]
    return blocks.Figures([*figures, blocks.Figure("paired difference", difference, error)])
