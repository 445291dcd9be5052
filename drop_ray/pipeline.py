"""A run from a model and a text to a report, stage by stage. Whatever the store already has is not done again.

calibrate -> score -> plan -> export -> evaluate -> report
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from drop_ray import calibration, steps
from drop_ray.artifacts import CHECKPOINT, SAMPLES, SCORES
from drop_ray.config import RunConfig
from drop_ray.job import Job, load_calibration, load_perplexity_text, open_job
from drop_ray.ledger import Ledger
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.scores import ScoreTable, aggregate
from drop_ray.planning.strategies import layers_of
from drop_ray.publish import Published, publish
from drop_ray.runtime import dispatch
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.units import EvaluationUnit, ExportUnit
from drop_ray.scoring.rows import ScoreRow
from drop_ray.store import Commit, Step
from drop_ray.store.tables import read_table, write_table
from drop_ray.versions import full_versions

logger = logging.getLogger(__name__)

STAGES = ("score", "plan", "export", "evaluate", "report")


@dataclass(frozen=True)
class Calibration:
    commit: Commit
    identity: str


@dataclass(frozen=True)
class Outcome:
    """What a run came to: units computed now and done before, and where its things are; `published` if it reported."""

    computed: int
    found: int
    base: DropPlan
    plans: tuple[DropPlan, ...]
    checkpoints: Mapping[str, str]
    folder: str
    published: Published | None


def run(config: RunConfig, until: str = "report", reuse: bool = False) -> Outcome:
    """Do every stage up to `until`, resuming what was done. UserError before any work if the config does not fit.

    reuse: take what was done with other library versions, if it covers a whole stage.
    """
    job = open_job(config)
    ledger = Ledger(job.store, job.run_folder, reuse)
    wanted = STAGES[: STAGES.index(until) + 1]
    # Before any work, although evaluation comes last: a text that is too short must not cost a night of scoring.
    texts = load_perplexity_texts(job) if "evaluate" in wanted else {}
    job.store.write_file(f"{job.run_folder}/config.yaml", config.to_yaml().encode())
    with Cluster(config.execution) as cluster:
        scorer = Scores(job, cluster, ledger, calibrate(job, ledger))
        scorer.table(job.base_drops, gaps_of(job.requests))
        plans: tuple[DropPlan, ...] = ()
        if "plan" in wanted:
            plans = make_plans(job, scorer)
        checkpoints = export(job, cluster, ledger, plans) if "export" in wanted else {}
        if "evaluate" in wanted:
            evaluate(job, cluster, ledger, plans, texts)
    published = publish(job, ledger, scorer.tables, plans) if "report" in wanted else None
    computed = sum(entry.computed for entry in ledger.entries)
    return Outcome(
        computed=computed,
        found=len(ledger.entries) - computed,
        base=job.base_plan,
        plans=plans,
        checkpoints=checkpoints,
        folder=job.store.location(job.run_folder),
        published=published,
    )


def calibrate(job: Job, ledger: Ledger) -> Calibration:
    """The run's token samples, committed; their identity is a hash of the token ids alone."""
    step = steps.calibration_step(job)
    if ledger.pending("calibrate", {"calibration samples": step}):
        ledger.add(commit_table(job, step, SAMPLES, calibration.to_table(load_calibration(job))))
    commit = ledger.commit_of(step)
    samples = calibration.from_table(read_table(job.store, commit, SAMPLES))
    return Calibration(commit, calibration.token_identity(samples))


class Scores:
    """Score tables of the base model and of every drop state that iterative plans pass through."""

    def __init__(self, job: Job, cluster: Cluster, ledger: Ledger, samples: Calibration):
        self._job, self._cluster, self._ledger = job, cluster, ledger
        self.calibration = samples
        self.tables: dict[DropLists, ScoreTable] = {}

    def table(self, drops: DropLists, gaps: tuple[int, ...] = (1,)) -> ScoreTable:
        """The importance of what the model without `drops` still has; scored if the store does not have it."""
        if drops not in self.tables:
            rows = [row for gap, step in self._score(drops, gaps).items() for row in self._rows(step)]
            self.tables[drops] = aggregate(rows)
        return self.tables[drops]

    def _score(self, drops: DropLists, gaps: tuple[int, ...]) -> dict[int, Step]:
        """Score the ranges that are missing, then make each gap's table of all its ranges."""
        tables = {gap: steps.score_step(self._job, self.calibration.identity, drops, gap) for gap in gaps}
        ranges = steps.sample_ranges(self._job)
        units = {(part, gap): steps.score_unit(table, part) for gap, table in tables.items() for part in ranges}
        state = f"without {drops.count} sub-layers" if drops.count else "base"
        missing = self._ledger.pending("score", {_label(state, *key): step for key, step in units.items()})
        pending: dict[range, dict[int, Step]] = {}
        for part, gap in units:
            if _label(state, part, gap) in missing:
                pending.setdefault(part, {})[gap] = units[part, gap]
        if pending:
            for commit in dispatch.score(self._cluster, self._job, self.calibration.commit, drops, pending):
                self._ledger.add(commit)
        for gap, table in tables.items():
            self._join(table, f"scores {state}, gap {gap}", [units[part, gap] for part in ranges])
        return tables

    def _join(self, table: Step, label: str, units: list[Step]) -> None:
        """Commit the table of all ranges in sample order, unless it is there and made of these very units."""
        commits = [self._ledger.commit_of(unit) for unit in units]
        checksums = {commit.step.path: commit.checksum for commit in commits}
        if not self._ledger.pending("score", {label: table}):
            if self._ledger.commit_of(table).units == checksums:
                return
            self._ledger.redo(table)
        rows = pa.concat_tables([read_table(self._job.store, commit, SCORES) for commit in commits])
        self._ledger.add(commit_table(self._job, table, SCORES, rows, checksums))

    def _rows(self, step: Step) -> list[ScoreRow]:
        table = read_table(self._job.store, self._ledger.commit_of(step), SCORES)
        return [ScoreRow(**row) for row in table.to_pylist()]


def make_plans(job: Job, scorer: Scores) -> tuple[DropPlan, ...]:
    """The plans of the config, in its order, those from files last; written to the run's folder as JSON."""
    plans = [make_plan(job, request, scorer.table) for request in job.requests]
    made = tuple(job.complete(plan, scorer.calibration.identity) for plan in plans)
    made += tuple(job.complete(plan) for plan in job.given_plans)
    for plan in made:
        job.store.write_file(f"{job.run_folder}/plans/{plan.name}.json", plan.to_json().encode())
    return made


def make_plan(job: Job, request: PlanRequest, table: Callable[[DropLists, tuple[int, ...]], ScoreTable]) -> DropPlan:
    """Drop, score what is left, drop again: as many rounds as the request has, one if it is not iterative."""
    attn, mlp = job.base_drops.attn, job.base_drops.mlp
    for count in request.rounds():
        dropped = DropLists(attn, mlp)
        scores = table(dropped, gaps_of(job.requests) if dropped == job.base_drops else (1,))
        chosen = request.choose(scores, job.size.num_layers, dropped, count)
        attn += layers_of("attention", chosen, attn)
        mlp += layers_of("mlp", chosen, mlp)
    return DropPlan(request.name, attn, mlp, request.label, "cosine" if request.uses_scores else None)


def export(job: Job, cluster: Cluster, ledger: Ledger, plans: tuple[DropPlan, ...]) -> dict[str, str]:
    """Checkpoints of the plans that the config exports; returns where they are, by plan."""
    wanted = [plan for plan in plans if job.config.export == "all" or plan.name in job.config.export]
    units = {plan.name: steps.export_step(job, plan.drops) for plan in wanted}
    pending = ledger.pending("export", units)
    if pending:
        by_name = {plan.name: plan for plan in wanted}
        work = {
            name: ExportUnit(step, by_name[name].drops, export_provenance(job, by_name[name]))
            for name, step in pending.items()
        }
        for commit in dispatch.export(cluster, job, work):
            ledger.add(commit)
    return {name: job.store.path_of(ledger.commit_of(step), CHECKPOINT) for name, step in units.items()}


def evaluate(
    job: Job, cluster: Cluster, ledger: Ledger, plans: tuple[DropPlan, ...], texts: Mapping[str, torch.Tensor]
) -> None:
    """Every task and text on the base and on every plan; plans with equal drop lists are evaluated once."""
    by_drops = {plan.drops: plan for plan in (job.base_plan, *plans)}
    units: dict[str, tuple[DropPlan, str, Step]] = {}
    for plan in by_drops.values():
        for name, step in steps.evaluation_steps(job, plan).items():
            units[f"{plan.name} on {name}"] = (plan, name, step)
    pending = ledger.pending("evaluate", {label: step for label, (_, _, step) in units.items()})
    if not pending:
        return
    requests = {request.name: request for request in job.task_requests}
    work = {
        label: EvaluationUnit(step, plan.drops, name, requests.get(name), texts.get(name))
        for label, (plan, name, step) in units.items()
        if label in pending
    }
    for commit in dispatch.evaluate(cluster, job, work):
        ledger.add(commit)


def load_perplexity_texts(job: Job) -> dict[str, torch.Tensor]:
    """Token samples of each text, int64 [num_samples, seq_len]. UserError if one is too short."""
    specs = job.config.evaluation.perplexity
    return {spec.name: torch.from_numpy(load_perplexity_text(job, spec)).long() for spec in specs}


def export_provenance(job: Job, plan: DropPlan) -> dict[str, str]:
    """What a checkpoint's config.json says of its origin."""
    return {"strategy": plan.strategy, "base": job.checkpoint.identity}


def commit_table(job: Job, step: Step, name: str, table: pa.Table, units: Mapping[str, str] | None = None) -> Commit:
    """Commit a table that the driver made itself; `units` are the checksums of what it was made of."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_table(table, path)
        return job.store.commit(step, {name: path}, units=units or {}, provenance={"versions": full_versions()})


def _label(state: str, part: range, gap: int) -> str:
    windows = f", windows of {gap}" if gap > 1 else ""
    return f"{state}, samples {part.start} to {part.stop - 1}{windows}"
