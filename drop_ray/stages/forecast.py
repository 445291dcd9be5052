"""`drop-ray run --dry-run`: the steps to do, with bytes and floating point operations, as far as is known by now.

Plans depend on scores: until those are there, a plan's evaluations are counted, and sized as if nothing were dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import Console

from drop_ray.calibration import packing
from drop_ray.config import RunConfig
from drop_ray.errors import CorruptArtifactError
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES, SCORES
from drop_ray.job.job import Job, open_job
from drop_ray.job.texts import load_calibration
from drop_ray.models.families import DropLists
from drop_ray.pipeline import make_plan
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.scores import ScoreTables, aggregate
from drop_ray.planning.variants import Variant, distinct, quantized_names, quantized_variants
from drop_ray.scoring.rows import ScoreRow
from drop_ray.stages.exports import Export, exports_of, is_exported
from drop_ray.store import Commit, Step
from drop_ray.store.tables import read_table
from drop_ray.text.console import PLAIN
from drop_ray.text.dry_run import dry_run_lines


@dataclass(frozen=True)
class Work:
    """One line: units in all and to do; bytes read (scoring) or written (export); 0 where none or unknown."""

    stage: str
    units: int
    todo: int
    num_bytes: int = 0
    flops: int = 0
    note: str = ""


class _NotScoredError(Exception):
    """A plan needs scores that the store does not have yet."""


def forecast_lines(config: RunConfig, console: Console = PLAIN) -> Iterator[str]:
    job = open_job(config)
    flops = job.size.forward_flops(job.base_drops, 1000, job.config.calibration.seq_len)
    return dry_run_lines(list(forecast(job)), flops, console)


def forecast(job: Job) -> Iterator[Work]:
    """The stages of `pipeline.run`, in its order. Tokenizes the calibration text if that is to do; writes nothing."""
    step = steps.calibration_step(job)
    commit = _find(job, step)
    samples = packing.from_table(read_table(job.store, commit, SAMPLES)) if commit else load_calibration(job)
    note = job.dataset.label if job.config.calibration.dataset else ""
    yield Work("calibrate", 1, 0 if commit else 1, samples.nbytes, note=note)
    identity = packing.token_identity(samples)
    for revision in job.earlier:
        yield _score_work(job, identity, job.base_drops, (1,), revision)
    yield _score_work(job, identity, job.base_drops, gaps_of(job.requests))
    states: dict[DropLists, None] = {}

    def table(drops: DropLists, gaps: tuple[int, ...]) -> ScoreTables:
        if drops != job.base_drops:
            states[drops] = None
        return _table(job, identity, drops, gaps)

    plans: list[DropPlan] = []
    unknown: list[PlanRequest] = []
    for request in job.requests:
        try:
            plans.append(make_plan(job, request, table))
        except _NotScoredError:
            unknown.append(request)
    for drops in states:
        yield _score_work(job, identity, drops, (1,))
    note = f"{len(unknown)} depend on scores to come" if unknown else ""
    yield Work("plan", len(job.requests) + len(job.given_plans), len(unknown), note=note)
    plans += job.given_plans
    quantized = list(quantized_variants(job.base_plan, plans, job.config.quantization))
    variants = [*map(Variant, plans), *quantized]
    plans_later = [request.name for request in unknown]
    quantized_later = quantized_names(plans_later, job.config.quantization)
    later = plans_later + quantized_later
    yield from _export_work(job, plans, unknown)
    yield from _evaluation_work(job, [Variant(job.base_plan), *variants], len(later))
    yield from _quantization_work(job, quantized, len(quantized_later))
    yield from _bench_work(job, variants, later)


def _score_work(job: Job, identity: str, drops: DropLists, gaps: tuple[int, ...], revision: str | None = None) -> Work:
    seq_len = job.config.calibration.seq_len
    ranges = steps.sample_ranges(job)
    tables = [steps.score_step(job, identity, drops, gap, revision) for gap in gaps]
    todo = [part for part in ranges if not all(_done(job, steps.score_unit(table, part)) for table in tables)]
    flops = sum(job.size.forward_flops(drops, len(part) * seq_len, seq_len) for part in todo)
    weights = job.size.kept_parameters(drops) * job.size.bytes_per_parameter if todo else 0
    windows = f"block windows of {', '.join(map(str, gaps[1:]))}" if len(gaps) > 1 else ""
    return Work(f"score {job.state_name(drops, revision)}", len(ranges), len(todo), weights, flops, windows)


def _export_work(job: Job, plans: list[DropPlan], unknown: list[PlanRequest]) -> Iterator[Work]:
    """unknown: plans whose drop lists depend on scores to come; of these, only the blocks are sure to be plain."""
    if job.config.export == "none":
        return
    exports, _ = exports_of(job, plans)
    todo = [export for export in exports if not _done(job, export.step)]
    to_come = sum(
        format != "plain" or request.of == "block"
        for request in unknown
        if is_exported(job, request.name)
        for format in job.config.export_formats
    )
    size = sum(_parameters(job, export) for export in todo) * job.size.bytes_per_parameter
    yield Work("export", len(exports) + to_come, len(todo) + to_come, size)


def _parameters(job: Job, export: Export) -> int:
    """What an exported checkpoint holds."""
    if export.format == "config-only":
        return 0
    return job.size.parameters if export.format == "llm-drop" else job.size.kept_parameters(export.plan.drops)


def _evaluation_work(job: Job, variants: list[Variant], unknown: int) -> Iterator[Work]:
    known = distinct(variants)
    for name in steps.evaluation_steps(job, Variant(job.base_plan)):
        todo = [each.drops for each in known if not _done(job, steps.evaluation_steps(job, each)[name])]
        work = Work(f"evaluate {name}", len(known) + unknown, len(todo) + unknown)
        text = next((text for text in job.config.evaluation.perplexity if text.name == name), None)
        if text is None:
            yield replace(work, note="compute depends on the task's documents")
            continue
        tokens = text.num_samples * text.seq_len
        sized = [*todo, *[job.base_drops] * unknown]
        yield replace(work, flops=sum(job.size.forward_flops(drops, tokens, text.seq_len) for drops in sized))


def _quantization_work(job: Job, variants: list[Variant], unknown: int) -> Iterator[Work]:
    """Bytes are read: a quantized checkpoint's own are known when it is there."""
    if not job.config.quantization:
        return
    known = distinct(variants)
    todo = [each for each in known if each.spec and not _done(job, steps.quantize_step(job, each.drops, each.spec))]
    size = sum(job.size.kept_parameters(each.drops) for each in todo) * job.size.bytes_per_parameter
    yield Work("quantize", len(known) + unknown, len(todo) + unknown, size)


def _bench_work(job: Job, variants: list[Variant], unknown: list[str]) -> Iterator[Work]:
    serving = job.config.serving
    if serving is None:
        return
    units = steps.bench_steps(job, variants)
    todo = sum(not _done(job, step) for _, step in units.values())
    to_come = sum(serving.plans == "all" or name in serving.plans for name in unknown)
    yield Work("bench", len(units) + to_come, todo + to_come, note=f"{serving.engine}, {serving.mode}")


def _table(job: Job, identity: str, drops: DropLists, gaps: tuple[int, ...]) -> ScoreTables:
    rows: list[ScoreRow] = []
    for gap in gaps:
        step = steps.score_step(job, identity, drops, gap)
        commit = _find(job, step)
        if commit is None:
            raise _NotScoredError
        rows += [ScoreRow(**row) for row in read_table(job.store, commit, SCORES).to_pylist()]
    return aggregate(rows)


def _done(job: Job, step: Step) -> bool:
    return _find(job, step) is not None


def _find(job: Job, step: Step) -> Commit | None:
    """A corrupt artifact is one to be done again."""
    try:
        return job.store.find(step)
    except CorruptArtifactError:
        return None
