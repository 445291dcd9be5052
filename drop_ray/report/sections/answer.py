"""The head of the report: how much can be dropped, the figures of that variant, and the evidence."""

from drop_ray.report import formatting
from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.blocks import Block, Figure, Figures, Paragraph, Section, Strong
from drop_ray.report.results import Results
from drop_ray.report.statistics import standings


def answer_sections(results: Results) -> list[Section]:
    """Always one."""
    run, answer = results.run, find_answer(results)
    blocks: list[Block] = [_figures(results, answer)] if answer.standing else []
    if answer.evidence:
        blocks.append(Paragraph(" ".join(answer.evidence)))
    layers = formatting.count(run.num_layers, "layer")
    facts = ("Run ", Strong(run.name), " of ", Strong(run.model), f", {layers}, {run.dtype}, started {run.started}")
    return [Section(answer.sentence, "answer", [*blocks, Paragraph(facts, note=True)])]


def _figures(results: Results, answer: Answer) -> Figures:
    assert answer.standing is not None
    assert answer.standing.average is not None
    variant, paired = answer.standing.variant, answer.standing.paired
    base = standings(results)[0].average
    kv_bytes = variant.kv_bytes_per_token + variant.kv_bytes_saved_per_token
    parameters = variant.parameters + variant.parameters_saved
    figures = [
        Figure("sub-layers dropped", str(variant.sublayers_dropped), f"of {2 * results.run.num_layers}"),
        Figure("parameters saved", formatting.percent(variant.parameters_saved, parameters)),
        Figure("KV cache saved", formatting.percent(variant.kv_bytes_saved_per_token, kv_bytes)),
    ]
    if row := answer.speedup:
        interval = f"{formatting.ratio(row.low)} to {formatting.ratio(row.high)}"
        figures.append(Figure("tokens/s, variant to base", formatting.ratio(row.ratio), interval))
    reference = f"base {formatting.estimate(base.value, base.stderr)}" if base else ""
    figures.append(Figure("average", formatting.number(answer.standing.average.value), reference))
    difference = formatting.signed(paired.value, None) if paired else formatting.NOT_AVAILABLE
    known = paired is not None and paired.stderr is not None
    error = f"{formatting.PLUS_MINUS} {formatting.number(paired.stderr)}" if known else ""  # type: ignore[union-attr,arg-type]
    return Figures([*figures, Figure("paired difference", difference, error)])
