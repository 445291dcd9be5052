"""The lines of the plan table, the same for HTML and Markdown, and the strip that draws what a plan drops."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.results import EvaluationRow, PlanRow, Results
from drop_ray.report.statistics import Estimate, Standing
from drop_ray.report.svg import figure, markup, rectangle


@dataclass(frozen=True)
class PlanLine:
    """One row of the table, with the sizes spelled out."""

    standing: Standing
    mark: str  # "answer", "within" (one standard error of the base) or ""
    dropped: str
    parameters_kept: str
    parameters_saved: str
    kv_saved: str  # bytes per token
    kv_saved_percent: str
    tasks: tuple[Estimate | None, ...]  # in the order of `table_tasks`; None: not evaluated

    @property
    def plan(self) -> PlanRow:
        """The plan of this row."""
        return self.standing.plan


@dataclass(frozen=True)
class TableTask:
    """A column of the table: a task, and what its primary metric is."""

    task: str
    metric: str
    higher_is_better: bool
    num_fewshot: int | None

    @property
    def detail(self) -> str:
        """`acc, 25-shot`, and a warning where lower is better."""
        fewshot = "" if self.num_fewshot is None else f", {self.num_fewshot}-shot"
        return f"{self.metric}{fewshot}{'' if self.higher_is_better else ', lower is better'}"


def table_tasks(results: Results) -> list[TableTask]:
    """The tasks with a primary metric, in order of first appearance in the evaluations."""
    rows = (row for row in results.evaluations if row.primary)
    tasks = (TableTask(row.task, row.metric, row.higher_is_better, row.num_fewshot) for row in rows)
    return list(dict.fromkeys(tasks))


def plan_lines(results: Results, standings: Sequence[Standing], winner: Standing | None) -> list[PlanLine]:
    """One line per plan, in the order of the plans."""
    tasks = table_tasks(results)
    primary = {_key(row): row for row in results.evaluations if row.primary}
    return [_plan_line(standing, tasks, primary, winner) for standing in standings]


def drop_strip(name: str, plan: PlanRow, num_layers: int, width: float) -> Markup:
    """Two rows of cells, attention above MLP, one per layer from the first on the left; dropped ones are filled."""
    cell = width / num_layers
    title = formatting.dropped_layers(plan.drop_attn, plan.drop_mlp)
    root = figure(name, f"Dropped: {title}", f"{plan.name} drops {title} of {num_layers} layers", width, 17)
    for top, module, dropped in ((0, "attention", plan.drop_attn), (9, "mlp", plan.drop_mlp)):
        rectangle(root, (0, top), (width, 8), "kept")
        for run in formatting.runs(dropped):
            left = run.start * cell
            rectangle(root, (left, top), (len(run) * cell, 8), f"dropped module-{module}")
    return markup(root)


def _key(row: EvaluationRow) -> tuple[str, str, str, int | None]:
    return row.plan, row.task, row.metric, row.num_fewshot


def _plan_line(
    standing: Standing,
    tasks: Sequence[TableTask],
    primary: dict[tuple[str, str, str, int | None], EvaluationRow],
    winner: Standing | None,
) -> PlanLine:
    plan = standing.plan
    parameters = plan.parameters + plan.parameters_saved
    kv_bytes = plan.kv_bytes_per_token + plan.kv_bytes_saved_per_token
    is_base = plan.strategy == "base"
    mark = "answer" if standing is winner else "within" if standing.within_one_stderr and not is_base else ""
    values = [primary.get((plan.name, task.task, task.metric, task.num_fewshot)) for task in tasks]
    return PlanLine(
        standing=standing,
        mark=mark,
        dropped=formatting.dropped_layers(plan.drop_attn, plan.drop_mlp),
        parameters_kept=formatting.percent(plan.parameters, parameters),
        parameters_saved=formatting.percent(plan.parameters_saved, parameters),
        kv_saved=formatting.binary_bytes(plan.kv_bytes_saved_per_token),
        kv_saved_percent=formatting.percent(plan.kv_bytes_saved_per_token, kv_bytes),
        tasks=tuple(Estimate(row.value, row.stderr) if row else None for row in values),
    )
