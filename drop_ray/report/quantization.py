"""Dropping and quantizing as one grid: plans by row, their forms (as they are, and by each method) by column.

In: `Results`. Out: the grid, what a form loses against its own plan as it is, and whether the effects of dropping and
of quantizing add up. Perplexities are compared by their logarithms, in nats per token: effects multiply perplexity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drop_ray.report.plan_table import TableTask, table_tasks
from drop_ray.report.results import PlanRow, Results
from drop_ray.report.statistics import Estimate, paired_difference

LOG_PERPLEXITY = "nll"
"""Metric of the documents that pair perplexities: mean nats per token of one sample."""


@dataclass(frozen=True)
class Grid:
    """plans: the base, and those that are quantized at least once; labels: of the columns beside the plans as they are;
    forms: by name of plan and label; left_out: names of the other plans."""

    plans: tuple[PlanRow, ...]
    labels: tuple[str, ...]
    forms: Mapping[tuple[str, str], PlanRow]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class LogPerplexities:
    """Nats per token of plans and forms, by name: values, without those that have no finite logarithm, and by sample,
    none where samples are not known."""

    values: Mapping[str, float]
    samples: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class BothEffects:
    """What dropping, quantizing and both do to the base's log-perplexity, in nats per token; above 0 is worse.

    stderr: of `excess`, paired by sample; None where samples are not known.
    """

    plan: str
    label: str
    dropping: float
    quantizing: float
    both: float
    stderr: float | None

    @property
    def excess(self) -> float:
        """How much more both lose than the sum of what each loses."""
        return self.both - (self.dropping + self.quantizing)


@dataclass(frozen=True)
class Reconstruction:
    """Squared errors of the outputs of one form's modules, summed, and of rounding to nearest."""

    plan: PlanRow
    num_modules: int
    error: float
    round_to_nearest: float

    @property
    def ratio(self) -> float | None:
        """None where rounding to nearest makes no error."""
        return self.error / self.round_to_nearest if self.round_to_nearest else None


def quantization_grid(results: Results) -> Grid | None:
    """None where nothing is quantized."""
    forms = {
        (plan.quantization.of, plan.quantization.label): plan for plan in results.plans if plan.quantization is not None
    }
    if not forms:
        return None
    quantized = {results.plans[0].name, *(of for of, _ in forms)}
    plans = results.unquantized().plans
    return Grid(
        plans=tuple(plan for plan in plans if plan.name in quantized),
        labels=tuple(dict.fromkeys(label for _, label in forms)),
        forms=forms,
        left_out=tuple(plan.name for plan in plans if plan.name not in quantized),
    )


def perplexity_tasks(results: Results) -> list[TableTask]:
    """The tasks whose primary metric is a perplexity, in order of evaluation."""
    return [task for task in table_tasks(results) if "perplexity" in task.metric and not task.higher_is_better]


def primary_values(results: Results, task: TableTask) -> dict[str, Estimate]:
    """A task's primary metric, by name of plan or form."""
    return {
        row.plan: Estimate(row.value, row.stderr)
        for row in results.evaluations
        if row.primary and (row.task, row.metric, row.num_fewshot) == (task.task, task.metric, task.num_fewshot)
    }


def log_perplexities(results: Results, task: TableTask) -> LogPerplexities:
    """Those of one task."""
    values = primary_values(results, task)
    samples: dict[str, dict[int, float]] = {plan: {} for plan in values}
    for row in results.documents:
        if (row.task, row.metric) == (task.task, LOG_PERPLEXITY) and row.plan in samples:
            samples[row.plan][row.doc_id] = row.value
    return LogPerplexities(
        {name: math.log(value.value) for name, value in values.items() if 0 < value.value < math.inf}, samples
    )


def log_difference(known: LogPerplexities, form: str, plan: str) -> Estimate | None:
    """Log-perplexity of a form less that of its plan, paired by sample where both have samples; None where one of the
    perplexities is missing or not finite."""
    if form not in known.values or plan not in known.values:
        return None
    pair = paired_difference(known.samples[form], known.samples[plan])
    return Estimate(known.values[form] - known.values[plan], pair.stderr if pair else None)


def both_effects(known: LogPerplexities, grid: Grid) -> list[BothEffects]:
    """By plan, then by label; only where all four perplexities are known and finite."""
    logs, base = known.values, grid.plans[0].name
    rows = []
    for plan in grid.plans[1:]:
        for label in grid.labels:
            form, base_form = grid.forms.get((plan.name, label)), grid.forms.get((base, label))
            if form is None or base_form is None or not {base, plan.name, form.name, base_form.name} <= logs.keys():
                continue
            samples = [known.samples[name] for name in (form.name, plan.name, base_form.name, base)]
            excess = paired_difference(_differences(*samples[:2]), _differences(*samples[2:]))
            rows.append(
                BothEffects(
                    plan=plan.name,
                    label=label,
                    dropping=logs[plan.name] - logs[base],
                    quantizing=logs[base_form.name] - logs[base],
                    both=logs[form.name] - logs[base],
                    stderr=excess.stderr if excess else None,
                )
            )
    return rows


def reconstructions(grid: Grid) -> list[Reconstruction]:
    """By label, then by plan; forms without measured errors have none."""
    rows = []
    for label in grid.labels:
        for plan in grid.plans:
            form = grid.forms.get((plan.name, label))
            if form is None or form.quantization is None or not form.quantization.errors:
                continue
            errors = form.quantization.errors
            total = math.fsum(row.error_sum for row in errors)
            nearest = math.fsum(row.round_to_nearest_sum for row in errors)
            rows.append(Reconstruction(form, len(errors), total, nearest))
    return rows


def _differences(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {sample: one[sample] - other[sample] for sample in one.keys() & other.keys()}
