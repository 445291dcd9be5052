"""A run of a model of the paper beside the paper's figures: which model it is, and what is compared, row by row.

Intervals are of 95 %. Averages are in points of 100, over those tasks of the run that are tasks of the paper.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from drop_ray.errors import UserError
from drop_ray.evaluation.estimates import Estimate, PairedDifference
from drop_ray.report.paper_figures import MODELS, TASKS, PaperFigures, PaperModel
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.serving import POINTS, gamma_rows, references
from drop_ray.report.statistics import Standing, standings
from drop_ray.serving.sdr import NORMAL_975

TUNED = {"chat", "instruct", "it"}
"""Words in the name of a model that was trained further: the paper's models are the pretrained ones."""


@dataclass(frozen=True)
class PaperRow:
    """One figure of a plan, the paper's and ours; either may be missing."""

    plan: str
    """Name of the run's variant, or of the paper's plan where the run has none."""
    figure: str
    """`average`, `change` (of the average, to the base), `speedup` or `gamma`."""
    place: str = ""
    """Of a speedup or gamma of ours, workload and batch size."""
    paper: float | None = None
    """The paper's value."""
    num_tasks: int | None = None
    """Tasks of the paper's average, where it is stated."""
    ours: float | None = None
    """Our value."""
    low: float | None = None
    """Lower end of its 95 % interval."""
    high: float | None = None
    """Its upper end."""
    why: str = ""
    """Why there is no value of ours."""

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.paper is None or self.ours is None else self.ours - self.paper

    @property
    def inside(self) -> bool | None:
        """Whether the paper's value lies in our interval; none where one of them is missing."""
        if self.paper is None or self.low is None or self.high is None:
            return None
        return self.low <= self.paper <= self.high


@dataclass(frozen=True)
class DropListRow:
    """The layers that a plan of ours drops, and those that the paper publishes."""

    plan: str
    """Name of the run's variant, or of the paper's plan where the run has none."""
    paper: tuple[int, ...]
    """The paper's layers, in its order."""
    ours: tuple[int, ...] | None
    """Ours, by index; none where the run has no such plan."""

    @property
    def shared(self) -> int:
        """Layers that both drop."""
        return len({*self.paper} & {*(self.ours or ())})


def model_of(name: str, num_layers: int | None, wanted: str | None = None) -> PaperModel:
    """The model of the paper that a run is of. UserError, with the known ones, where it is none.

    name: the run's model, a path or a name. num_layers: of the run's model, None if unknown. wanted: what the user
    says that it is; then neither name nor layers are looked at.
    """
    known = ", ".join(model.name for model in MODELS)
    if wanted is not None:
        for one in MODELS:
            if one.name.lower() == wanted.lower():
                return one
        raise UserError(f"--model {wanted}: not a model whose published figures are known; these are: {known}")
    model = next((one for part in reversed(name.split("/")) for one in MODELS if _is_named(part, one)), None)
    if model is None:
        raise UserError(f"the run's model {name} is not one of the paper's, by its name; --model says which: {known}")
    if num_layers is not None and num_layers != model.num_layers:
        raise UserError(
            f"the run's model {name} has {num_layers} layers, {model.name} has {model.num_layers}; "
            f"--model says which it is to be compared with: {known}"
        )
    return model


def of_paper_tasks(results: Results) -> Results:
    """With the evaluations and documents of the paper's tasks only."""
    names = {task.name for task in TASKS}
    return replace(
        results,
        evaluations=[row for row in results.evaluations if row.task in names],
        documents=[row for row in results.documents if row.task in names],
    )


def figure_rows(results: Results, model: PaperModel) -> list[PaperRow]:
    """The paper's plans in its order, each with the variants of the run that are such plans; then the run's others.

    A plan that is in one of both only has its figures, too.
    """
    own = of_paper_tasks(results)
    rows: list[PaperRow] = []
    compared: set[str] = set()
    found = {standing.variant.name: standing for standing in standings(own)}
    for figures in model.figures:
        base = _base_average(model, figures)
        variants = [variant for variant in results.variants if is_plan(variant, figures)]
        for variant in variants:
            rows += _quality(figures, base, found[variant.name])
            if variant.name not in compared:  # of averages over other tasks the speed is the same
                rows += _speed(own, figures, found[variant.name])
        compared.update(variant.name for variant in variants)
        if not variants:
            rows += _unmatched(figures, base)
    for variant in results.variants:
        if variant.name not in compared:
            rows += [*_quality(None, None, found[variant.name]), *_speed(own, None, found[variant.name])]
    return rows


def drop_list_rows(results: Results, model: PaperModel) -> Iterator[DropListRow]:
    """One per published list, and per variant of the run that is such a plan."""
    for strategy, layers in model.drop_lists:
        plan = PaperFigures(strategy, len(layers), 0.0)
        variants = [variant for variant in results.variants if is_plan(variant, plan)]
        for variant in variants:
            yield DropListRow(variant.name, layers, variant.drop_mlp if strategy == "mlp" else variant.drop_attn)
        if not variants:
            yield DropListRow(plan.plan, layers, None)


def task_notes(results: Results) -> Iterator[str]:
    """How the tasks of the run differ from the paper's: metrics, examples, and tasks that one of both lacks."""
    primary = [row for row in results.evaluations if row.primary and row.variant == results.variants[0].name]
    ours = {row.task: row for row in primary}
    for task in TASKS:
        row = ours.get(task.name)
        if row is None:
            continue
        if task.metric is not None and row.metric.partition(",")[0] != task.metric:
            yield f"{task.name}: judged by {row.metric} here, by {task.metric} in the paper"
        if row.num_fewshot != task.num_fewshot:
            yield f"{task.name}: {row.num_fewshot} examples before a question here, {task.num_fewshot} in the paper"
    names = [task.name for task in TASKS]
    yield from _listed("not evaluated here, of the paper's tasks", (name for name in names if name not in ours))
    others = dict.fromkeys(row.task for row in results.evaluations if row.task not in names)
    yield from _listed("not in the paper, so in no average here", others)


def is_plan(variant: VariantRow, figures: PaperFigures) -> bool:
    """Whether a variant drops as many by the same strategy, and is quantized by the same method, with 4 bits."""
    how = variant.quantization
    same = (variant.strategy, variant.num_dropped) == (figures.strategy, figures.dropped)
    if how is None:
        return same and figures.quantization is None and not variant.changes
    return same and how.method == figures.quantization and how.bits == 4


def _is_named(part: str, model: PaperModel) -> bool:
    words = re.sub("[^a-z0-9]+", "-", part.lower()).strip("-")
    wanted = f"(^|-){re.escape(model.name.lower())}(-|$)"
    return re.search(wanted, words) is not None and not TUNED & {*words.split("-")}


def _base_average(model: PaperModel, figures: PaperFigures) -> float | None:
    """Of the base in 16 bits, over the same tasks; of a quantized base too, whose change is by quantization."""
    if figures.plan == "base":
        return None
    of_base = (one for one in model.figures if one.plan == "base" and one.num_tasks == figures.num_tasks)
    return next(one.average for one in of_base)


def _unmatched(figures: PaperFigures, base: float | None) -> Iterator[PaperRow]:
    why = "not in the run"
    values = {"average": figures.average, "change": None if base is None else figures.average - base}
    for figure, value in values.items():
        if value is not None:
            yield PaperRow(figures.plan, figure, paper=value, num_tasks=figures.num_tasks, why=why)
    for figure, value in {"speedup": figures.speedup, "gamma": figures.gamma}.items():
        if value is not None:
            yield PaperRow(figures.plan, figure, paper=value, why=why)


def _quality(figures: PaperFigures | None, base: float | None, standing: Standing) -> Iterator[PaperRow]:
    """The average and its change to the base, paired by document."""
    name, average, paired = standing.variant.name, standing.average, standing.paired
    row = PaperRow(name, "average", paper=figures.average if figures else None)
    row = replace(row, num_tasks=figures.num_tasks if figures else None)
    yield _in_points(row, average) if average else replace(row, why="no number on all tasks")
    if standing.variant.strategy == "base" and standing.variant.quantization is None:
        return
    row = replace(row, figure="change", paper=None if row.paper is None or base is None else row.paper - base)
    yield _in_points(row, paired) if paired else replace(row, why="no documents shared")


def _in_points(row: PaperRow, ours: Estimate | PairedDifference) -> PaperRow:
    row = replace(row, ours=POINTS * ours.value)
    if ours.stderr is None:
        return row
    half = NORMAL_975 * ours.stderr
    return replace(row, low=POINTS * (ours.value - half), high=POINTS * (ours.value + half))


def _speed(own: Results, figures: PaperFigures | None, standing: Standing) -> Iterator[PaperRow]:
    """Speedup and gamma in every workload; what the paper has and was not measured is said."""
    name, measured = standing.variant.name, references(own)
    speedup, gamma = (figures.speedup, figures.gamma) if figures else (None, None)
    for one in measured:
        if name in one.rows:
            row, place = one.rows[name], f"{one.workload} x{one.batch_size}"
            yield PaperRow(name, "speedup", place, speedup, ours=row.ratio, low=row.low, high=row.high)
    for of_gamma in gamma_rows([standing], measured):
        place = f"{of_gamma.workload} x{of_gamma.batch_size}"
        low, high = of_gamma.gamma_low, of_gamma.gamma_high
        yield PaperRow(name, "gamma", place, gamma, None, of_gamma.gamma, low, high, of_gamma.why)
    served = any(name in one.rows for one in measured)
    if not served and speedup is not None:
        yield PaperRow(name, "speedup", paper=speedup, why="not benchmarked")
    if gamma is not None and (not served or standing.paired is None):
        yield PaperRow(name, "gamma", paper=gamma, why="no paired quality" if served else "not benchmarked")


def _listed(what: str, names: Iterable[str]) -> Iterator[str]:
    if listed := ", ".join(names):
        yield f"{what}: {listed}"
