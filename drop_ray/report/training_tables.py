"""What both renderers show of a run's training checkpoints: heat maps, a line a checkpoint, and what follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.report import formatting
from drop_ray.report.results import Results, ScoreRow
from drop_ray.report.score_charts import HeatRow
from drop_ray.report.score_tables import MODULES
from drop_ray.report.training import CheckpointLine, checkpoint_lines, redundant_since


@dataclass(frozen=True)
class TrainingTables:
    """The training checkpoints in one metric.

    maps: (module, title, a row per checkpoint); findings: one sentence a module.
    """

    metric: str
    modules: tuple[str, ...]
    maps: Sequence[tuple[str, str, Sequence[HeatRow]]]
    lines: Sequence[CheckpointLine]
    findings: Sequence[str]


def training_tables(results: Results) -> list[TrainingTables]:
    """One for each metric; none where the run has no training checkpoints to compare."""
    rows = [row for scores in results.training.values() for row in scores]
    return [_tables(results.training, metric) for metric in dict.fromkeys(row.metric for row in rows)]


def correlation(value: float | None) -> str:
    return formatting.NOT_AVAILABLE if value is None else formatting.number(value, 2)


def _tables(training: Mapping[str, Sequence[ScoreRow]], metric: str) -> TrainingTables:
    scores = {
        (revision, module): {row.layer: row for row in rows if (row.module, row.metric) == (module, metric)}
        for revision, rows in training.items()
        for module in MODULES
    }
    modules = tuple(module for module in MODULES if any(scores[revision, module] for revision in training))
    profiles = {
        revision: {module: {layer: row.mean for layer, row in scores[revision, module].items()} for module in modules}
        for revision in training
    }
    lines = checkpoint_lines(profiles)
    maps = [
        (
            module,
            f"{module}: importance through training ({metric})",
            [_heat_row(line, module, scores[line.revision, module], line is lines[-1]) for line in lines],
        )
        for module in modules
    ]
    findings = [_finding(module, {revision: profiles[revision][module] for revision in training}) for module in modules]
    return TrainingTables(metric, modules, maps, lines, findings)


def _heat_row(line: CheckpointLine, module: str, scores: Mapping[int, ScoreRow], last: bool) -> HeatRow:
    note = f"mean {formatting.score(line.means[module])}"
    if not last:
        note += f", \u03c1 {correlation(line.correlations[module])}"
    return HeatRow(line.revision, scores, framed=line.redundant[module], note=note)


def _finding(module: str, profiles: Mapping[str, Mapping[int, float]]) -> str:
    """`attention: layers 28-31 since step1000; 27 since step4000.`"""
    since = redundant_since(profiles)
    parts = [f"{formatting.layer_ranges(layers)} since {revision}" for revision, layers in since.items()]
    return f"{module}: layers {'; '.join(parts)}."
