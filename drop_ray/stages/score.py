"""The stage score: score tables of every state of the model that a run asks for."""

from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa

from drop_ray.job import steps
from drop_ray.job.artifacts import SCORES
from drop_ray.job.expected import Phase
from drop_ray.job.job import Job
from drop_ray.job.run_state import Calibration, NotDoneError, RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import LocalUnit, Share, Unit
from drop_ray.models.families import DropLists
from drop_ray.planning.requests import gaps_of
from drop_ray.planning.scores import ScoreTables, aggregate
from drop_ray.planning.variants import Variant
from drop_ray.scoring.metrics.metric import OutputMetric, metrics_of, swept
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.driver_tables import commit_table
from drop_ray.stages.layer_placement import is_streamed
from drop_ray.stages.measured import committed, losses_of
from drop_ray.stages.score_outputs import Outputs, left_out, output_rows
from drop_ray.stages.score_units import ScoreUnit, shares_of
from drop_ray.store import Commit, Step


def table(
    run: RunState,
    drops: DropLists,
    gaps: tuple[int, ...] = (1,),
    metric: str | None = None,
    edited: Variant | None = None,
) -> ScoreTables:
    """The importance of what the model without `drops` still has; scored when it is first asked for.

    metric: the one that is asked for. Metrics of the output take many forward passes: those of the config are all
    computed for the base, and elsewhere where one of them is asked for. edited: the model, if its weights are not the
    run's model's. NotDoneError in a dry run that finds no scores.
    """
    outputs = [*metrics_of(run.job.config.scoring.metrics, OutputMetric)]
    if drops != run.job.base_drops and metric not in outputs:
        outputs = []
    if edited is not None:
        if not {*outputs} <= run.edited_scores.get(edited, {}).keys() or edited not in run.edited_scores:
            run.edited_scores[edited] = _score(run, drops, gaps, outputs, edited=edited)
        return run.edited_scores[edited]
    if not {*outputs} <= run.scores.get(drops, {}).keys() or drops not in run.scores:
        run.scores[drops] = _score(run, drops, gaps, outputs)
    return run.scores[drops]


def _score(
    run: RunState,
    drops: DropLists,
    gaps: tuple[int, ...],
    outputs: Sequence[str],
    revision: str | None = None,
    edited: Variant | None = None,
) -> ScoreTables:
    """Score what is missing, then make each gap's table of all of it: of sample ranges, and of what is left out."""
    job, calibration = run.job, run.calibrated.identity
    names = [name for name in job.config.scoring.metrics if name in (*swept(job.config.scoring.metrics), *outputs)]
    state = _state_name(job, drops, revision, edited)
    units = range_units(run, run.calibrated, state, drops, gaps, revision, edited) if swept(names) else []
    commits = run.complete(STAGE, units)
    windows = {1, *gaps_of(request for request in job.requests if request.metric in outputs)}
    entries = left_out(job, drops, [gap for gap in gaps if gap in windows], edited) if outputs else []
    measured = committed(run, STAGE, [entry.variant for entry in entries]) if entries else {}
    rows: list[pa.Table] = []
    for gap in gaps:
        parts = [commit for unit, commit in zip(units, commits, strict=True) if unit.gap == gap]
        here = [entry for entry in entries if entry.gap == gap]
        if parts or here:
            of_outputs = outputs if here else ()
            step = steps.score_step(job, calibration, drops, gap, revision, of_outputs, edited)
            left = Outputs(here, {entry.variant: measured[entry.variant] for entry in here}, of_outputs)
            rows.append(_join(run, step, f"scores {state}, gap {gap}", parts, left))
    made = aggregate(pa.concat_tables(rows))
    return {metric: made[metric] for metric in names}


def range_units(
    run: RunState,
    samples: Calibration,
    state: str,
    drops: DropLists,
    gaps: Sequence[int],
    revision: str | None = None,
    edited: Variant | None = None,
) -> list[ScoreUnit]:
    """The sample ranges of a calibration text, by gap. state: what is scored, and on which text if not the run's."""
    ranges = {gap: steps.score_step(run.job, samples.identity, drops, gap, revision, edited=edited) for gap in gaps}
    return [
        ScoreUnit(
            label=f"{state}, samples {part.start} to {part.stop - 1}{f', windows of {gap}' if gap > 1 else ''}",
            step=steps.score_unit(step, part),
            line=f"score {state}",
            calibration=samples.commit,
            samples=part,
            gap=gap,
            drops=drops,
            revision=revision,
            edited=edited,
        )
        for gap, step in ranges.items()
        for part in steps.sample_ranges(run.job, samples.num_samples)
    ]


def _state_name(job: Job, drops: DropLists, revision: str | None, edited: Variant | None) -> str:
    return job.state_name(drops, revision) + (", refitted" if edited else "")


def _join(run: RunState, step: Step, label: str, parts: Sequence[Commit | None], outputs: Outputs) -> pa.Table:
    """Commit the table of all ranges in sample order, and behind them what metrics of the output say.

    Unless it is there and made of these very units.
    """
    done = [commit for commit in parts if commit is not None]
    if len(done) < len(parts):
        raise NotDoneError
    job = run.job
    checksums = {commit.step.path: commit.checksum for commit in (*done, *outputs.commits.values())}

    def make() -> Commit:
        tables = [run.read_table(commit, SCORES) for commit in done]
        if outputs.entries:
            tables.append(output_rows(outputs.entries, losses_of(run, outputs.commits), outputs.metrics))
        return commit_table(job, step, SCORES, pa.concat_tables(tables), checksums)

    (joined,) = run.complete(STAGE, [LocalUnit(label, step, "", make, checksums)])
    if joined is None:
        raise NotDoneError
    return run.read_table(joined, SCORES)


def _run(run: RunState) -> None:
    """Score every earlier training checkpoint, without block windows; then the run's model."""
    job = run.job
    run.calibration = calibrate(run)
    for revision in job.earlier:
        with suppress(NotDoneError):  # a dry run goes on to list the others
            run.earlier_scores[revision] = _score(run, job.base_drops, (1,), (), revision)
    table(run, job.base_drops, gaps_of(job.requests))


def _shares(run: RunState, todo: Sequence[Unit]) -> Sequence[Share]:
    units = [unit for unit in todo if isinstance(unit, ScoreUnit)]
    return shares_of(units, _is_streamed(run, units[0].drops), run.job.config)


def _is_streamed(run: RunState, drops: DropLists) -> bool:
    size = run.job.size
    return is_streamed(run, size.kept_parameters(drops) * size.bytes_per_parameter)


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """Weights are read once, and there is one forward pass over every range, whatever the number of its gaps."""
    del line
    job, seq_len = run.job, run.job.config.calibration.seq_len
    units = [unit for unit in todo if isinstance(unit, ScoreUnit)]
    if not units:
        return Cost()
    parts = {(unit.samples.start, unit.samples.stop): unit for unit in units}
    flops = sum(job.size.forward_flops(unit.drops, len(unit.samples) * seq_len, seq_len) for unit in parts.values())
    weights = job.size.kept_parameters(units[0].drops) * job.size.bytes_per_parameter
    gaps = sorted({unit.gap for unit in units if unit.gap > 1})
    note = f"block windows of {', '.join(map(str, gaps))}" if gaps else ""
    workers = min(job.config.execution.num_devices, len(parts))
    phases: tuple[Phase, ...] = ()
    if job.config.hardware is not None:
        if _is_streamed(run, units[0].drops):  # layers come while others compute, once for each wave
            waves = _waves(run, -(-sum(len(unit.samples) for unit in parts.values()) // workers), max([1, *gaps]))
            phases = (Phase(flops, loaded=weights * workers * waves),)
        else:
            phases = (Phase(loaded=weights * workers), Phase(flops))
    return Cost(weights, flops, note, phases, workers)


def _waves(run: RunState, num_samples: int, gap: int) -> int:
    """How often a streamed sweep over that many samples reads the weights: as often as its states fill their memory."""
    config, size = run.job.config, run.job.size
    state = config.scoring.micro_batch * config.calibration.seq_len * size.hidden_size * size.bytes_per_parameter
    at_once = max(1, config.execution.wave_bytes // (state * (1 + gap)))
    return -(-num_samples // (at_once * config.scoring.micro_batch))


STAGE = Stage("score", "sample ranges", _run, shares=_shares, cost=_cost)
