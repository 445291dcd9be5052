"""Dropping and quantizing in Markdown: what the HTML page has, without the charts."""

from drop_ray.report.markdown_table import escaped, text_table
from drop_ray.report.quantization import (
    both_effects,
    log_perplexities,
    perplexity_tasks,
    quantization_grid,
    reconstructions,
)
from drop_ray.report.quantization_tables import (
    quality_tables,
    reconstruction_table,
    settings_table,
    size_table,
    speed_tables,
)
from drop_ray.report.quantization_texts import (
    RECONSTRUCTION_TEXT,
    effects_table,
    effects_text,
    grid_text,
    reconstruction_sentences,
)
from drop_ray.report.results import Results


def quantization_parts(results: Results) -> list[str]:
    """Paragraphs and tables; none where nothing was quantized."""
    grid = quantization_grid(results)
    if grid is None:
        return []
    parts = ["## Dropping and quantizing", escaped(grid_text(results, grid))]
    tasks = perplexity_tasks(results)
    for content in (
        *quality_tables(results, grid, tasks),
        size_table(results, grid),
        *speed_tables(results, grid),
    ):
        parts += [f"### {escaped(content.title)}", text_table(content)]
    effects = [(task, rows) for task in tasks if (rows := both_effects(log_perplexities(results, task), grid))]
    if effects:
        parts.append("### Is the sum of the effects the effect of both?")
    for task, rows in effects:
        content = effects_table(task, rows)
        parts += [escaped(f"{content.title}. {effects_text(rows)}"), text_table(content)]
    errors = reconstructions(grid)
    if errors:
        sentences = " ".join(reconstruction_sentences(grid, errors))
        parts += ["### Reconstruction", escaped(f"{RECONSTRUCTION_TEXT} {sentences}")]
        parts.append(text_table(reconstruction_table(errors)))
    checkpoints = settings_table(grid)
    return [*parts, f"### {checkpoints.title}", text_table(checkpoints)]
