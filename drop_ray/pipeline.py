"""A run from a model and a text to a report, stage by stage. Whatever the store already has is not done again.

calibrate -> score -> plan -> export -> evaluate -> quantize (and evaluate that) -> bench -> report
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from drop_ray.config import RunConfig, perplexity_field
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.job.job import Job, open_job
from drop_ray.job.ledger import Ledger
from drop_ray.job.texts import load_texts
from drop_ray.models.families import DropLists
from drop_ray.planning.modules import layers_of
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.variants import Variant, distinct, quantized_variants
from drop_ray.runtime import dispatch
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.units import EvaluationUnit, ExportUnit
from drop_ray.stages.bench import bench
from drop_ray.stages.exports import export_provenance, exports_of
from drop_ray.stages.publish import Published, publish
from drop_ray.stages.quantize import quantize, quantized_commit
from drop_ray.stages.score import Scores, calibrate

logger = logging.getLogger(__name__)

STAGES = ("score", "plan", "export", "evaluate", "quantize", "bench", "report")


@dataclass(frozen=True)
class Outcome:
    """What a run came to: units computed now and done before, and where its things are; `published` if it reported.

    scores: of the base, by metric; training: those of every training checkpoint by revision, oldest first; empty
    without model.revisions; serving: rows of serving.parquet by plan, the base's own first, which are its control.
    """

    computed: int
    found: int
    base: DropPlan
    plans: tuple[DropPlan, ...]
    checkpoints: Mapping[str, str]
    folder: str
    published: Published | None
    num_layers: int
    scores: ScoreTables
    training: Mapping[str, ScoreTables]
    serving: Mapping[str, list[dict[str, Any]]]


def run(config: RunConfig, until: str = "report", reuse: bool = False) -> Outcome:
    """Do every stage up to `until`, resuming what was done. UserError before any work if the config does not fit.

    reuse: take what was done with other library versions, if it covers a whole stage.
    """
    if until == "bench" and config.serving is None:
        raise UserError("serving: the config has no such section; say which workloads to measure")
    if until == "quantize" and not config.quantization:
        raise UserError("quantization: the config has no such section; say by which methods to quantize")
    job = open_job(config)
    ledger = Ledger(job.store, job.run_folder, reuse)
    wanted = STAGES[: STAGES.index(until) + 1]
    # Before any work, although evaluation comes last: a text that is too short must not cost a night of scoring.
    texts = load_texts(job) if "evaluate" in wanted else {}
    job.store.write_file(f"{job.run_folder}/config.yaml", config.to_yaml().encode())
    with Cluster(config.execution) as cluster:
        scorer = Scores(job, cluster, ledger, calibrate(job, ledger))
        for revision in job.earlier:
            scorer.score_earlier(revision)
        scores = scorer.table(job.base_drops, gaps_of(job.requests))
        plans: tuple[DropPlan, ...] = ()
        if "plan" in wanted:
            plans = make_plans(job, scorer)
        checkpoints = export(job, cluster, ledger, plans) if "export" in wanted else {}
        variants = [Variant(plan) for plan in plans]
        if "evaluate" in wanted:
            evaluate(job, cluster, ledger, [Variant(job.base_plan), *variants], texts)
        if "quantize" in wanted:
            quantized = list(quantized_variants(job.base_plan, plans, job.config.quantization))
            checkpoints |= quantize(job, cluster, ledger, quantized, scorer.calibration, texts)
            evaluate(job, cluster, ledger, quantized, texts)
            variants += quantized
        serving = bench(job, cluster, ledger, variants, scorer.calibration) if "bench" in wanted else {}
    published = publish(job, ledger, scorer.tables, scorer.training, plans) if "report" in wanted else None
    computed = sum(entry.computed for entry in ledger.entries)
    return Outcome(
        computed=computed,
        found=len(ledger.entries) - computed,
        base=job.base_plan,
        plans=plans,
        checkpoints=checkpoints,
        folder=job.store.location(job.run_folder),
        published=published,
        num_layers=job.size.num_layers,
        scores=scores,
        training=scorer.training,
        serving=serving,
    )


def make_plans(job: Job, scorer: Scores) -> tuple[DropPlan, ...]:
    """The plans of the config, in its order, those from files last; written to the run's folder as JSON."""
    plans = [make_plan(job, request, scorer.table) for request in job.requests]
    made = tuple(job.complete(plan, scorer.calibration.identity) for plan in plans)
    made += tuple(job.complete(plan) for plan in job.given_plans)
    for plan in made:
        job.store.write_file(f"{job.run_folder}/plans/{plan.name}.json", plan.to_json().encode())
    return made


def make_plan(job: Job, request: PlanRequest, table: Callable[[DropLists, tuple[int, ...]], ScoreTables]) -> DropPlan:
    """Drop, score what is left, drop again: as many rounds as the request has, one if it is not iterative."""
    attn, mlp = job.base_drops.attn, job.base_drops.mlp
    for count in request.rounds():
        dropped = DropLists(attn, mlp)
        scores = table(dropped, gaps_of(job.requests) if dropped == job.base_drops else (1,))
        chosen = request.choose(scores, job.size.num_layers, dropped, count)
        attn += layers_of("attention", chosen, attn)
        mlp += layers_of("mlp", chosen, mlp)
    return DropPlan(request.name, attn, mlp, request.label, request.metric if request.uses_scores else None)


def export(job: Job, cluster: Cluster, ledger: Ledger, plans: tuple[DropPlan, ...]) -> dict[str, str]:
    """Checkpoints of the plans that the config exports; returns where they are, by plan and format."""
    exports, refused = exports_of(job, plans)
    for reason, names in refused.items():
        logger.info("export of %s: %s", ", ".join(names), reason)
    units = {export.label: export.step for export in exports}
    pending = ledger.pending("export", units)
    if pending:
        work = {
            export.label: ExportUnit(export.step, export.plan.drops, export.format, export_provenance(job, export.plan))
            for export in exports
            if export.label in pending
        }
        for commit in dispatch.export(cluster, job, work):
            ledger.add(commit)
    return {label: job.store.path_of(ledger.commit_of(step), CHECKPOINT) for label, step in units.items()}


def evaluate(
    job: Job, cluster: Cluster, ledger: Ledger, variants: Sequence[Variant], texts: Mapping[str, torch.Tensor]
) -> None:
    """Every task and text on every variant; equal ones are evaluated once."""
    units = {
        f"{variant.name} on {name}": (variant, name, step)
        for variant in distinct(variants)
        for name, step in steps.evaluation_steps(job, variant).items()
    }
    pending = ledger.pending("evaluate", {label: step for label, (_, _, step) in units.items()})
    if not pending:
        return
    requests = {request.name: request for request in job.task_requests}
    work = {
        label: EvaluationUnit(
            step,
            variant.drops,
            name,
            requests.get(name),
            texts.get(perplexity_field(name)),
            quantized_commit(job, ledger, variant),
        )
        for label, (variant, name, step) in units.items()
        if label in pending
    }
    for commit in dispatch.evaluate(cluster, job, work):
        ledger.add(commit)
