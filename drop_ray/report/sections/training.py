"""Importance through training: a heat strip per module with a row per checkpoint, what is redundant since when."""

from collections.abc import Iterator, Mapping

from drop_ray.report import blocks, formatting
from drop_ray.report.results import Results, grouped
from drop_ray.report.rows import TrainingRow
from drop_ray.report.sections.scores import MODULES, heat_row
from drop_ray.report.training import CheckpointLine, checkpoint_lines, redundant_since
from drop_ray.text.layer_ranges import layer_ranges

Checkpoints = Mapping[str, Mapping[str, list[TrainingRow]]]
"""Rows by revision and module."""
TEXT = (
    "A row is a training checkpoint, oldest first. \u03c1 is Spearman's rank correlation of a checkpoint's layers with "
    "those of the last: 1 is the same ranking, 0 none in common."
)
DRAWN_TEXT = (
    "Framed is the quarter of a checkpoint's layers that change the least. A column that stays framed was redundant "
    "all along."
)


def training_sections(results: Results) -> list[blocks.Section]:
    """None where the run has no training checkpoints to compare."""
    metrics = dict.fromkeys(row.metric for row in results.training)
    if not metrics:
        return []
    found: list[blocks.Block] = [blocks.Paragraph(TEXT), blocks.Paragraph(DRAWN_TEXT, of_drawings=True)]
    for index, metric in enumerate(metrics):
        found += _metric(str(index), metric, results)
    return [blocks.Section("Importance through training", "training", found)]


def checkpoints(results: Results, metric: str) -> Checkpoints:
    """The training checkpoints in one metric, with the modules that they have."""
    revisions = grouped((row for row in results.training if row.metric == metric), lambda row: row.revision)
    found = {revision: grouped(rows, lambda row: row.module) for revision, rows in revisions.items()}
    return {
        revision: {module: modules[module] for module in MODULES if module in modules}
        for revision, modules in found.items()
    }


def lines_of(known: Checkpoints) -> list[CheckpointLine]:
    profiles = {
        revision: {module: {row.layer: row.mean for row in rows} for module, rows in modules.items()}
        for revision, modules in known.items()
    }
    return checkpoint_lines(profiles)


def _metric(name: str, metric: str, results: Results) -> Iterator[blocks.Block]:
    known = checkpoints(results, metric)
    lines, modules = lines_of(known), [*known[results.training[-1].revision]]
    yield blocks.Paragraph("The most redundant quarter of the last checkpoint, by how long it has been so:")
    yield blocks.Bullets([_finding(module, lines) for module in modules])
    for module in modules:
        rows = [
            heat_row(line.revision, known[line.revision][module], line.redundant[module], _note(line, module, lines))
            for line in lines
        ]
        title = f"{module}: importance through training ({metric})"
        yield blocks.HeatStrip(f"training-{name}-{module}", title, results.run.num_layers, rows)
    columns = [heading for module in modules for heading in (f"mean {module}", f"\u03c1 {module}")]
    yield blocks.table(
        ["revision", *columns, blocks.Column("most redundant attention layers", "text")],
        [_row(line, modules) for line in lines],
        note=f"Metric {metric}. The mean is over layers; redundant layers stand lowest first.",
    )


def _row(line: CheckpointLine, modules: list[str]) -> list[str]:
    numbers = [text for module in modules for text in (formatting.score(line.means[module]), _spelled(line, module))]
    return [line.revision, *numbers, ", ".join(map(str, line.redundant.get("attention", ())))]


def _note(line: CheckpointLine, module: str, lines: list[CheckpointLine]) -> str:
    mean = f"mean {formatting.score(line.means[module])}"
    return mean if line is lines[-1] else f"{mean}, \u03c1 {_spelled(line, module)}"


def _spelled(line: CheckpointLine, module: str) -> str:
    correlation = line.correlations[module]
    return formatting.NOT_AVAILABLE if correlation is None else formatting.number(correlation, 2)


def _finding(module: str, lines: list[CheckpointLine]) -> str:
    """`attention: layers 28-31 since step1000; 27 since step4000.`"""
    since = redundant_since(lines, module).items()
    parts = [f"{layer_ranges(layers)} since {revision}" for revision, layers in since]
    return f"{module}: layers {'; '.join(parts)}."
