"""Gathers what a run's artifacts say into the tables of its report, and writes the report into the run's folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from drop_ray.config.serving import AT_LOAD
from drop_ray.job import steps
from drop_ray.job.artifacts import SERVING, SERVING_FACTS
from drop_ray.job.job import Job
from drop_ray.job.run_files import RunFiles
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Stage
from drop_ray.models.families import DropLists
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.variants import Variant
from drop_ray.report.answer import find_answer
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.results import RUN_FACTS, Results, RunFacts
from drop_ray.report.rows import ArtifactRow, ScoreRow, TrainingRow
from drop_ray.report.spreadsheet import results_csv
from drop_ray.report.tables import TOPICS, parquet_files
from drop_ray.stages.lm_eval_files import write_lm_eval_files
from drop_ray.stages.report_budgets import budget_rows
from drop_ray.stages.report_costs import cost_rows
from drop_ray.stages.report_divergence import divergence_results
from drop_ray.stages.report_drafts import draft_plan_rows, draft_rows, sampling_rows
from drop_ray.stages.report_evaluations import Named, read_evaluations
from drop_ray.stages.report_gates import cliff_rows, gate_rows, verdict_rows
from drop_ray.stages.report_judgement import calibration_rows, screen_rows
from drop_ray.stages.report_refits import refit_error_rows, refit_rows
from drop_ray.stages.report_rows import (
    engine_row,
    quantization_error_rows,
    serving_rows,
    text_rows,
    variant_row,
)
from drop_ray.stages.report_sensitivity import agreement_rows, sensitivity_rows
from drop_ray.store import Commit
from drop_ray.store.tables import read_table
from drop_ray.store.versions import full_versions

REPORT_HTML, REPORT_MARKDOWN, SPREADSHEET, TABLES = "report.html", "report.md", "results.csv", "tables"


@dataclass(frozen=True)
class Published:
    """A report that was written."""

    report: str
    """Location of report.html."""
    answer: str
    """The report's first sentence."""


def _run(run: RunState) -> None:
    """Write report.html, report.md, results.csv, run.json and tables/*.parquet into the run's folder."""
    evaluated = evaluations_of(run)
    results = collect(run, evaluated)
    run.write(REPORT_HTML, render_html(results).encode())
    run.write(REPORT_MARKDOWN, render_markdown(results).encode())
    run.write(SPREADSHEET, results_csv(results).encode())
    run.write(RUN_FACTS, json.dumps(asdict(results.run), indent=1, ensure_ascii=False).encode())
    write_tables(run.files, results)
    write_lm_eval_files(run.job, run.files, evaluated)
    report = run.job.store.location(f"{run.job.run_folder}/{REPORT_HTML}")
    run.published = Published(report, find_answer(results).sentence)


def write_tables(run_files: RunFiles, results: Results) -> None:
    """Write one file per topic that has rows, and remove the files of other topics that an earlier report wrote."""
    files = dict(parquet_files(results))
    for topic in TOPICS:
        name = f"{TABLES}/{topic}.parquet"
        if topic in files:
            run_files.write(name, files[topic])
        else:
            run_files.remove(name)


def collect(run: RunState, evaluated: Sequence[Named]) -> Results:
    """The report's tables. An evaluation or benchmark that equal variants share appears under each of their names."""
    job = run.job
    done = _done(run)
    everything = [run.base, *run.variants]
    of_base = {one.of: one.result for one in evaluated if one.variant == run.base.name}
    served = _served(job, everything, done)
    serving = [
        row for name, commit in served for row in serving_rows(name, read_table(job.store, commit, SERVING).to_pylist())
    ]
    return Results(
        run=_run_facts(run, done),
        scores=[row for drops, table in run.scores.items() for row in _score_rows(job, drops, table)],
        variants=[variant_row(job, variant, done) for variant in everything],
        evaluations=[row for one in evaluated for row in one.result.evaluation_rows(one.variant)],
        documents=[row for one in evaluated for row in one.result.document_rows(one.variant, one.numbers)],
        artifacts=[_artifact_row(commit) for commit in done.values()],
        training=[
            TrainingRow(**vars(row), revision=revision)
            for revision, tables_then in run.training.items()
            for row in _score_rows(job, job.base_drops, tables_then)
            if row.gap == 1
        ],
        serving=serving,
        engines=[engine_row(name, json.loads(job.store.read_bytes(commit, SERVING_FACTS))) for name, commit in served],
        drafts=list(draft_rows(run, done)),
        sampling=list(sampling_rows(run)),
        draft_plans=list(draft_plan_rows(run, run.variants, serving)),
        budgets=[row for plan in run.plans for row in budget_rows(plan)],
        refits=[row for variant in everything for row in refit_rows(job, variant)],
        refit_errors=[row for variant in everything for row in refit_error_rows(job, variant)],
        verdicts=[*verdict_rows(run)],
        gates=[*gate_rows(run)],
        cliffs=[*cliff_rows(run)],
        quantization_errors=[row for variant in everything for row in quantization_error_rows(job, variant, done)],
        calibrations=[
            row
            for one in evaluated
            if one.of in of_base
            for row in calibration_rows(one.variant, one.result, of_base[one.of])
        ],
        targets=[row for one in evaluated for row in one.result.target_rows(one.variant)],
        screening=screen_rows(run),
        costs=list(cost_rows(run)),
        texts=text_rows(job),
        sensitivity=sensitivity_rows(run, done),
        agreements=agreement_rows(run),
        accept=job.config.accept,
        **divergence_results(run, everything, done),
    )


def evaluations_of(run: RunState) -> list[Named]:
    """Every evaluation of the run."""
    return read_evaluations(run.job, [run.base, *run.variants], _done(run))


def _done(run: RunState) -> dict[str, Commit]:
    """Commits by the paths of their steps."""
    return {entry.step.path: entry.commit for entry in run.ledger.entries if entry.commit is not None}


def _served(job: Job, variants: Sequence[Variant], done: Mapping[str, Commit]) -> list[tuple[str, Commit]]:
    """(variant's name, benchmark's commit). Equal variants share one; the base's, the control, is not shared."""
    if job.config.serving is None:
        return []
    control = steps.bench_step(job, variants[0]).path
    paths = {variant.name: steps.bench_step(job, variant).path for variant in variants}
    paths |= {f"{variant.name}-{AT_LOAD}": steps.bench_step(job, variant, at_load=True).path for variant in variants}
    return [
        (name, done[path])
        for name, path in paths.items()
        if path in done and (path != control or name == variants[0].name)
    ]


def _run_facts(run: RunState, done: Mapping[str, Commit]) -> RunFacts:
    job, settings = run.job, run.job.config.calibration
    return RunFacts(
        name=job.config.name,
        model=job.config.model.name,
        model_identity=job.checkpoint.identity,
        num_layers=job.size.num_layers,
        dtype=job.config.model.dtype,
        calibration=f"{job.calibration.label}: {settings.num_samples} samples of {settings.seq_len} tokens",
        started=min(commit.created for commit in done.values()),
        versions=full_versions(),
        config_yaml=job.config.to_yaml(),
        mixers=job.size.layers.mixers,
        stays=tuple(job.size.layers.stays),
        settings=_settings(job),
        warnings=run.warnings(),
    )


def _settings(job: Job) -> dict[str, str]:
    """How few-shot examples are put, and the file of each task of the user: two files may have one task's name."""
    found = {f"task {name}": file for name, file in job.task_files.items()}
    if job.config.evaluation.apply_chat_template:
        found["few-shot examples"] = "each a turn of the chat (multi-turn)"
    return found


def _score_rows(job: Job, drops: DropLists, tables: ScoreTables) -> Iterator[ScoreRow]:
    state = "base" if drops == job.base_drops else _state_name(job, drops)
    for metric in filter(tables.__contains__, job.config.scoring.metrics):
        for (module, layer, gap), importance in sorted(tables[metric].importance.items()):
            yield ScoreRow(state, module, layer, gap, metric, importance.mean, importance.stderr)  # type: ignore[arg-type]


def _state_name(job: Job, drops: DropLists) -> str:
    """Name of a drop state: `without attn 5,7 mlp 6`."""
    lacking = {
        "attn": sorted({*drops.attn} - {*job.base_drops.attn}),
        "mlp": sorted({*drops.mlp} - {*job.base_drops.mlp}),
    }
    return "without " + " ".join(f"{kind} {','.join(map(str, layers))}" for kind, layers in lacking.items() if layers)


def _artifact_row(commit: Commit) -> ArtifactRow:
    size = sum(output.size for output in commit.outputs.values())
    return ArtifactRow(commit.step.name, commit.step.path, size, commit.step.identity, commit.created)


STAGE = Stage("report", "pages", _run)
