"""Importance through training: a heat strip per module with a row per checkpoint, what is redundant since when."""

from collections.abc import Iterator, Mapping

from drop_ray.report import blocks, formatting
from drop_ray.report.results import Results
from drop_ray.report.rows import TrainingRow
from drop_ray.report.sections.scores import MODULES, heat_row
from drop_ray.report.training import CheckpointLine, checkpoint_lines, redundant_since

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
    rows = [row for row in results.training if row.metric == metric]
    modules = [module for module in MODULES if any(row.module == module for row in rows)]
    return {
        revision: {
            module: [row for row in rows if (row.revision, row.module) == (revision, module)] for module in modules
        }
        for revision in dict.fromkeys(row.revision for row in rows)
    }


def lines_of(known: Checkpoints) -> list[CheckpointLine]:
    return checkpoint_lines(
        {revision: {module: _profile(rows) for module, rows in modules.items()} for revision, modules in known.items()}
    )


def _metric(name: str, metric: str, results: Results) -> Iterator[blocks.Block]:
    known = checkpoints(results, metric)
    lines, modules = lines_of(known), [*known[results.training[-1].revision]]
    yield blocks.Paragraph("The most redundant quarter of the last checkpoint, by how long it has been so:")
    yield blocks.Bullets([_finding(module, known) for module in modules])
    for module in modules:
        rows = [
            heat_row(line.revision, known[line.revision][module], line.redundant[module], _note(line, module, lines))
            for line in lines
        ]
        title = f"{module}: importance through training ({metric})"
        yield blocks.HeatStrip(f"training-{name}-{module}", title, results.run.num_layers, rows)
    columns = [blocks.Column(heading) for module in modules for heading in (f"mean {module}", f"\u03c1 {module}")]
    yield blocks.Table(
        [blocks.Column("revision", "name"), *columns, blocks.Column("most redundant attention layers", "text")],
        [_row(line, modules) for line in lines],
        note=f"Metric {metric}. The mean is over layers; redundant layers stand lowest first.",
    )


def _row(line: CheckpointLine, modules: list[str]) -> list[blocks.Cell]:
    row = [blocks.Cell(line.revision)]
    for module in modules:
        correlation = line.correlations[module]
        row.append(blocks.Cell(formatting.score(line.means[module])))
        row.append(blocks.NOTHING if correlation is None else blocks.Cell(formatting.number(correlation, 2)))
    return [*row, blocks.Cell(", ".join(map(str, line.redundant.get("attention", ()))))]


def _note(line: CheckpointLine, module: str, lines: list[CheckpointLine]) -> str:
    mean, correlation = f"mean {formatting.score(line.means[module])}", line.correlations[module]
    if line is lines[-1]:
        return mean
    return f"{mean}, \u03c1 {formatting.NOT_AVAILABLE if correlation is None else formatting.number(correlation, 2)}"


def _finding(module: str, known: Checkpoints) -> str:
    """`attention: layers 28-31 since step1000; 27 since step4000.`"""
    since = redundant_since({revision: _profile(modules[module]) for revision, modules in known.items()})
    parts = [f"{formatting.layer_ranges(layers)} since {revision}" for revision, layers in since.items()]
    return f"{module}: layers {'; '.join(parts)}."


def _profile(rows: list[TrainingRow]) -> dict[int, float]:
    return {row.layer: row.mean for row in rows}
