"""The report as Markdown that also reads well in a terminal: padded tables, and strips of block characters.

In: `Results`. Out: text with the same answer, tables and facts as the HTML page. Texts from the run are escaped where
Markdown would read them as table cells or HTML.
"""

import re
from collections.abc import Sequence

from drop_ray.report import formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.axes import levels
from drop_ray.report.markdown_quantization import quantization_parts
from drop_ray.report.markdown_serving import serving_parts
from drop_ray.report.markdown_table import LEFT, RIGHT, escaped, table
from drop_ray.report.plan_table import PlanLine, plan_lines, table_tasks
from drop_ray.report.results import Results, ScoreRow
from drop_ray.report.score_tables import (
    BASE_STATE,
    METRICS_TEXT,
    MODULES,
    by_metric,
    heat_rows,
    layer_scores,
    score_table,
)
from drop_ray.report.statistics import Estimate, PairedDifference, standings
from drop_ray.report.training import CheckpointLine
from drop_ray.report.training_tables import correlation, training_tables
from drop_ray.store.identity import fingerprint

LEVELS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # one eighth block to full block
NO_SCORE = "\u00d7"


def render_markdown(everything: Results) -> str:
    """The whole report; the first line is the answer. Equal results give equal text."""
    results = everything.unquantized()
    rows = standings(results)
    answer = find_answer(results, rows)
    lines = plan_lines(results, rows, answer.standing)
    run = results.run
    facts = f"Run {run.name} of {run.model}: {run.num_layers} layers, {run.dtype}, started {run.started}."
    parts = [escaped(answer.sentence), escaped(" ".join(answer.evidence)), escaped(facts)]
    parts += _scores(results)
    parts += _training(results)
    parts += ["## Plans", *_plans(results, lines)]
    parts += quantization_parts(everything)
    parts += serving_parts(everything, standings(everything))
    parts += ["## What was run", *_facts(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def strip(scores: Sequence[ScoreRow], num_layers: int) -> str:
    """One character per layer: the higher the block, the higher the score; a cross where there is none."""
    by_layer = {row.layer: row.mean for row in scores}
    level = levels(by_layer.values(), len(LEVELS))
    return "".join(
        LEVELS[int(level(by_layer[layer]))] if layer in by_layer else NO_SCORE for layer in range(num_layers)
    )


def _scores(results: Results) -> list[str]:
    if not results.scores:
        return ["## Which layers matter", "No scores were computed in this run."]
    parts = [
        "## Which layers matter",
        f"Importance is the distance between what goes into a module and what comes out ({METRICS_TEXT}). "
        "One character per layer, the higher the more important, scaled within each strip from lowest to highest (by "
        f"logarithm where they differ more than 10x); {NO_SCORE} has no score (dropped, or past the last window).",
    ]
    for metric, scores in by_metric(results.scores).items():
        strips = _strips(scores)
        width = max(len(name) for name, _ in strips)
        body = [_strip_line(name, width, rows, results.run.num_layers) for name, rows in strips]
        parts.append(_fenced("\n".join([f"{metric}, layers 0-{results.run.num_layers - 1}", "", *body])))
        numbers = [
            (str(layer), *(_score_cell(modules.get(module)) for module in MODULES))
            for layer, modules in score_table(scores)
        ]
        if numbers:
            headings = ("layer", *(f"{module} ({metric})" for module in MODULES))
            parts.append(table(headings, numbers, RIGHT * len(headings)))
    return parts


def _training(results: Results) -> list[str]:
    parts = []
    for tables in training_tables(results):
        columns = [heading for module in tables.modules for heading in (f"mean {module}", f"\u03c1 {module}")]
        rows = [
            (
                line.revision,
                *_training_cells(line, tables.modules),
                ", ".join(map(str, line.redundant.get("attention", ()))),
            )
            for line in tables.lines
        ]
        headings = ("revision", *columns, "most redundant attention layers")
        parts += [
            f"## Importance through training ({escaped(tables.metric)})",
            "Training checkpoints, oldest first. \u03c1 is Spearman's rank correlation of a checkpoint's layers with "
            "those of the last; the most redundant layers are a quarter of all, lowest first.",
            table(headings, rows, (*LEFT, *RIGHT * len(columns), *LEFT)),
            "The most redundant quarter of the last checkpoint, by how long it has been so:",
            "\n".join(f"- {escaped(finding)}" for finding in tables.findings),
        ]
        width = max(len(f"{module}, {line.revision}") for module in tables.modules for line in tables.lines)
        strips = [
            _strip_line(f"{module}, {row.label}", width, list(row.scores.values()), results.run.num_layers)
            for module, _, rows in tables.maps
            for row in rows
        ]
        parts.append(_fenced("\n".join(strips)))
    return parts


def _training_cells(line: CheckpointLine, modules: Sequence[str]) -> list[str]:
    cells = [(formatting.score(line.means[module]), correlation(line.correlations[module])) for module in modules]
    return [text for pair in cells for text in pair]


def _strips(scores: Sequence[ScoreRow]) -> list[tuple[str, list[ScoreRow]]]:
    base = layer_scores(scores)
    modules = dict.fromkeys(row.module for row in base)
    strips: list[tuple[str, list[ScoreRow]]] = [
        (module, [row for row in base if row.module == module]) for module in modules
    ]
    for title, rows in heat_rows(scores):
        prefix = title.split(":")[0]
        strips += [(f"{prefix}, {row.label}", list(row.scores.values())) for row in rows if row.label != BASE_STATE]
    return strips


def _strip_line(name: str, width: int, rows: Sequence[ScoreRow], num_layers: int) -> str:
    means = [row.mean for row in rows]
    lowest = min(rows, key=lambda row: (row.mean, row.layer))
    layers = formatting.layer_ranges(range(lowest.layer, lowest.layer + lowest.gap))
    values = f"{formatting.score(min(means))} to {formatting.score(max(means))}, lowest {layers}"
    return f"{name.ljust(width)}  {strip(rows, num_layers)}  {values}"


def _score_cell(row: ScoreRow | None) -> str:
    if row is None:
        return formatting.NOT_AVAILABLE
    return f"{formatting.score(row.mean)} {formatting.PLUS_MINUS} {formatting.score(row.stderr)}"


def _plans(results: Results, lines: Sequence[PlanLine]) -> list[str]:
    if not lines:
        return ["This run made no drop plans."]
    tasks = table_tasks(results)
    arrows = {True: "\u2191", False: "\u2193"}
    sizes = ("strategy", "parameters kept", "saved", "KV/token saved", "KV saved")
    headings: tuple[str, ...] = ("plan", "mark", "dropped", *sizes, "average", "paired difference")
    headings += tuple(f"{task.task} {task.metric} {arrows[task.higher_is_better]}" for task in tasks)
    rows = [
        (
            line.plan.name,
            line.mark,
            line.dropped,
            line.plan.strategy,
            line.parameters_kept,
            line.parameters_saved,
            line.kv_saved,
            line.kv_saved_percent,
            _cell(line.standing.average),
            _cell(line.standing.paired, gain="+"),
            *(_cell(value) for value in line.tasks),
            line.plan.checkpoint or "",
        )
        for line in lines
    ]
    aligns = (*LEFT * 4, *RIGHT * (len(headings) - 4), *LEFT)
    note = (
        "answer: the plan of the first line; within: its average is at most one standard error of the base's "
        f"average below it. Values are {formatting.PLUS_MINUS} one standard error; "
        "the paired difference is plan minus base on the same documents."
    )
    return [note, table((*headings, "checkpoint"), rows, aligns)]


def _cell(estimate: Estimate | PairedDifference | None, gain: str = "") -> str:
    if estimate is None:
        return formatting.NOT_AVAILABLE
    return (gain if estimate.value > 0 else "") + formatting.estimate(estimate.value, estimate.stderr)


def _facts(results: Results) -> list[str]:
    run = results.run
    facts = (
        ("model", run.model),
        ("model identity", run.model_identity),
        ("calibration", run.calibration),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))),
    )
    parts = [table(("fact", "value"), facts, ("left", "left")), _fenced(run.config_yaml.rstrip("\n"), "yaml")]
    artifacts = [
        (row.step, formatting.binary_bytes(row.bytes), row.created, fingerprint(row.identity), row.path)
        for row in results.artifacts
    ]
    if artifacts:
        headings = ("step", "size", "created", "identity", "path")
        parts.append(table(headings, artifacts, ("left", "right", "left", "left", "left")))
    return parts


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
