"""The head of the report: how much can be dropped, the figures of that variant, and the evidence."""

from drop_ray.report import blocks, formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow
from drop_ray.report.statistics import Standing


def answer_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    run, answer = results.run, find_answer(results)
    found: list[blocks.Block] = [_figures(results, answer.standing, answer.speedup)] if answer.standing else []
    if answer.evidence:
        found.append(blocks.Paragraph(" ".join(answer.evidence)))
    layers = formatting.count(run.num_layers, "layer")
    facts = f", {layers}, {run.dtype}, started {run.started}"
    pieces = ("Run ", blocks.Strong(run.name), " of ", blocks.Strong(run.model), facts)
    return [blocks.Section(answer.sentence, "answer", [*found, blocks.Paragraph(pieces, note=True)])]


def _figures(results: Results, found: Standing, speedup: ServingRow | None) -> blocks.Figures:
    variant, paired, average, base = found.variant, found.paired, found.average, found.base_average
    assert average is not None, "a winner was compared"
    assert base is not None, "and the base on the same tasks"
    parameters = formatting.share(variant.parameters_saved, variant.parameters)
    kv_cache = formatting.share(variant.kv_bytes_saved_per_token, variant.kv_bytes_per_token)
    figures = [
        blocks.Figure("sub-layers dropped", str(variant.sublayers_dropped), f"of {2 * results.run.num_layers}"),
        blocks.Figure("parameters saved", parameters),
        blocks.Figure("KV cache saved", kv_cache),
    ]
    if speedup:
        interval = f"{formatting.ratio(speedup.low)} to {formatting.ratio(speedup.high)}"
        figures.append(blocks.Figure("tokens/s, variant to base", formatting.ratio(speedup.ratio), interval))
    reference = f"base {formatting.estimate(base.value, base.stderr)}"
    figures.append(blocks.Figure("average", formatting.number(average.value), reference))
    difference = formatting.signed(paired.value, None) if paired else formatting.NOT_AVAILABLE
    stderr = paired.stderr if paired else None
    error = "" if stderr is None else f"{formatting.PLUS_MINUS} {formatting.number(stderr)}"
    return blocks.Figures([*figures, blocks.Figure("paired difference", difference, error)])
