"""Gathers what a run's artifacts say into the tables of its report, and writes the report into the run's folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drop_ray.job import steps
from drop_ray.job.artifacts import DOCUMENTS, METRICS, SERVING, SERVING_FACTS
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.versions import full_versions
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.variants import Variant, quantized_variants
from drop_ray.report.answer import find_answer
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.quantization import LOG_PERPLEXITY
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import ArtifactRow, DocumentRow, EvaluationRow, ScoreRow, TrainingRow
from drop_ray.report.tables import TOPICS, parquet_files
from drop_ray.stages.report_rows import (
    engine_row,
    quantization_error_rows,
    quantized_commit_of,
    serving_rows,
    variant_row,
)
from drop_ray.store import Commit, Store
from drop_ray.store.tables import read_table

REPORT_HTML, REPORT_MARKDOWN, TABLES = "report.html", "report.md", "tables"


@dataclass(frozen=True)
class Published:
    """What is said of a report when it is written."""

    report: str
    """Where the page is."""
    answer: str
    """Its first sentence."""


def publish(
    job: Job,
    ledger: Ledger,
    tables: Mapping[DropLists, ScoreTables],
    training: Mapping[str, ScoreTables],
    plans: tuple[DropPlan, ...],
) -> Published:
    """Write report.html, report.md and tables/*.parquet into the run's folder. training: base tables by revision."""
    results = collect(job, ledger, tables, training, plans)
    folder = job.run_folder
    job.store.write_file(f"{folder}/{REPORT_HTML}", render_html(results).encode())
    job.store.write_file(f"{folder}/{REPORT_MARKDOWN}", render_markdown(results).encode())
    write_tables(job.store, f"{folder}/{TABLES}", results)
    return Published(job.store.location(f"{folder}/{REPORT_HTML}"), find_answer(results).sentence)


def write_tables(store: Store, folder: str, results: Results) -> None:
    """One file per topic that has rows; what an earlier report of the run said of the others is removed."""
    files = dict(parquet_files(results))
    for topic in TOPICS:
        path = f"{folder}/{topic}.parquet"
        if topic in files:
            store.write_file(path, files[topic])
        else:
            store.files.remove(path)


def collect(
    job: Job,
    ledger: Ledger,
    tables: Mapping[DropLists, ScoreTables],
    training: Mapping[str, ScoreTables],
    plans: tuple[DropPlan, ...],
) -> Results:
    """The report's tables. An evaluation or benchmark that equal variants share appears under each of their names."""
    done = {entry.step.path: entry.commit for entry in ledger.entries if entry.commit is not None}
    quantized = quantized_variants(job.base_plan, plans, job.config.quantization)
    everything = [Variant(plan) for plan in (job.base_plan, *plans)]
    everything += [variant for variant in quantized if quantized_commit_of(job, variant, done)]
    evaluated = [
        (variant.name, done[step.path])
        for variant in everything
        for step in steps.evaluation_steps(job, variant).values()
        if step.path in done
    ]
    served = _served(job, everything, done)
    return Results(
        run=_run_facts(job, done),
        scores=[row for drops, table in tables.items() for row in _score_rows(job, drops, table)],
        variants=[variant_row(job, variant, done) for variant in everything],
        evaluations=[row for name, commit in evaluated for row in _evaluation_rows(job.store, name, commit)],
        documents=[row for name, commit in evaluated for row in _document_rows(job.store, name, commit)],
        artifacts=[_artifact_row(commit) for commit in done.values()],
        training=[
            TrainingRow(**vars(row), revision=revision)
            for revision, tables_then in training.items()
            for row in _score_rows(job, job.base_drops, tables_then)
            if row.gap == 1
        ],
        serving=[
            row
            for name, commit in served
            for row in serving_rows(name, read_table(job.store, commit, SERVING).to_pylist())
        ],
        engines=[engine_row(name, json.loads(job.store.read_bytes(commit, SERVING_FACTS))) for name, commit in served],
        quantization_errors=[row for variant in everything for row in quantization_error_rows(job, variant, done)],
    )


def _served(job: Job, variants: Sequence[Variant], done: Mapping[str, Commit]) -> list[tuple[str, Commit]]:
    """Benchmarks by name of variant. The base's own is the control, and no other's: equal variants share one."""
    if job.config.serving is None:
        return []
    control = steps.bench_step(job, variants[0]).path
    paths = {variant.name: steps.bench_step(job, variant).path for variant in variants}
    return [
        (name, done[path])
        for name, path in paths.items()
        if path in done and (path != control or name == variants[0].name)
    ]


def _run_facts(job: Job, done: Mapping[str, Commit]) -> RunFacts:
    settings = job.config.calibration
    text = job.dataset.label if settings.dataset else settings.source or settings.token_ids
    return RunFacts(
        name=job.config.name,
        model=job.config.model.name,
        model_identity=job.checkpoint.identity,
        num_layers=job.size.num_layers,
        dtype=job.config.model.dtype,
        calibration=f"{text}: {settings.num_samples} samples of {settings.seq_len} tokens",
        started=min(commit.created for commit in done.values()),
        versions=full_versions(),
        config_yaml=job.config.to_yaml(),
    )


def _score_rows(job: Job, drops: DropLists, tables: ScoreTables) -> Iterator[ScoreRow]:
    state = "base" if drops == job.base_drops else _state_name(job, drops)
    for metric in job.config.scoring.metrics:
        for (module, layer, gap), importance in sorted(tables[metric].importance.items()):
            yield ScoreRow(state, module, layer, gap, metric, importance.mean, importance.stderr)  # type: ignore[arg-type]


def _state_name(job: Job, drops: DropLists) -> str:
    """A drop state of an iteration, by what it lacks: `without attn 5,7 mlp 6`."""
    lacking = {
        "attn": sorted({*drops.attn} - {*job.base_drops.attn}),
        "mlp": sorted({*drops.mlp} - {*job.base_drops.mlp}),
    }
    return "without " + " ".join(f"{kind} {','.join(map(str, layers))}" for kind, layers in lacking.items() if layers)


def _evaluation_rows(store: Store, variant: str, commit: Commit) -> Iterator[EvaluationRow]:
    for metric in json.loads(store.read_bytes(commit, METRICS))["metrics"]:
        if metric["higher_is_better"] is None:
            continue  # neither the task nor lm-eval says how to read it; it stays in the artifact
        yield EvaluationRow(
            variant=variant,
            task=metric["task"],
            metric=_metric_name(metric),
            value=metric["value"],
            stderr=metric["stderr"],
            higher_is_better=metric["higher_is_better"],
            num_documents=metric["num_documents"],
            num_fewshot=metric["num_fewshot"],
            primary=metric["primary"],
        )


def _document_rows(store: Store, variant: str, commit: Commit) -> Iterator[DocumentRow]:
    """Values of the primary metrics by document, and of texts each sample's loss, by which perplexities are paired; a
    group's are those of its tasks, numbered through."""
    rows = [row for row in read_table(store, commit, DOCUMENTS).to_pylist() if row["value"] is not None]
    tasks = {row["task"] for row in rows}
    for metric in json.loads(store.read_bytes(commit, METRICS))["metrics"]:
        if not metric["primary"] and metric["metric"] != LOG_PERPLEXITY:
            continue
        same = [row for row in rows if (row["metric"], row["filter"]) == (metric["metric"], metric["filter"])]
        if metric["task"] in tasks:
            same = [row for row in same if row["task"] == metric["task"]]
        for number, row in enumerate(same):
            doc_id = row["doc_id"] if metric["task"] in tasks else number
            yield DocumentRow(variant, metric["task"], _metric_name(metric), doc_id, row["value"])


def _metric_name(metric: Mapping[str, str]) -> str:
    return metric["metric"] if metric["filter"] == "none" else f"{metric['metric']} ({metric['filter']})"


def _artifact_row(commit: Commit) -> ArtifactRow:
    size = sum(output.size for output in commit.outputs.values())
    return ArtifactRow(commit.step.name, commit.step.path, size, commit.step.identity, commit.created)
