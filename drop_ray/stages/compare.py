"""How far the calibration text decides the plans: scores on the texts of `calibration.compare`, and what follows.

The stage `plan` calls it. What a plan would be by another text is compared with the base by the stage `diverge`, as all
variants are; plans that drop the same cost nothing twice. The plan by all texts is a plan of the run as any other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from drop_ray.config import CALIBRATION, compare_field
from drop_ray.config.compared_text import OWN
from drop_ray.job.artifacts import SCORES
from drop_ray.job.run_state import Calibration, NotDoneError, RunState, TextPlan
from drop_ray.planning.modules import BLOCK
from drop_ray.planning.requests import PlanRequest, gaps_of
from drop_ray.planning.scores import aggregate
from drop_ray.planning.sensitivity import (
    CONSENSUS,
    TextScores,
    agreement,
    consensus_name,
    consensus_tables,
    one_shot,
    plan_by,
)
from drop_ray.planning.variants import Variant, undecided, variant_of
from drop_ray.scoring.metrics.metric import swept
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.score import STAGE, range_units
from drop_ray.store.identity import json_sha256


def compare(run: RunState) -> None:
    """Score the base on every text, take up what each plan would be by it, and add the plans by all texts."""
    job, requests = run.job, one_shot(run.job.requests, swept(run.job.config.scoring.metrics))
    texts = list(_texts(run)) if requests and job.config.calibration.compare else []
    known = [scored for _, _, scored in texts if scored is not None]
    for request in requests if texts else ():
        for name, num_samples, scored in texts:
            label = f"{request.name} by {name}, {num_samples} samples"
            run.compared.append(TextPlan(request.name, name, num_samples, _variant(run, request, scored, label)))
        run.agreements += [
            agreement(request, *pair, job.size.layers, job.base_drops) for pair in combinations(known, 2)
        ]
        if job.config.calibration.has_consensus:
            _add_consensus(run, request, known, complete=len(known) == len(texts))


def _texts(run: RunState) -> Iterator[tuple[str, int, TextScores | None]]:
    """Each text with each number of samples, and its scores, which are None in a dry run that finds none.

    The run's own text comes first.
    """
    calibration = run.job.config.calibration
    everything = (calibration.num_samples,)
    yield from _scored(run, OWN, CALIBRATION, everything, votes=True)
    for text in calibration.compare:
        field = compare_field(text.name) if text.origin else CALIBRATION
        # The run's own text has one vote, with all of its samples.
        yield from _scored(run, text.name, field, text.num_samples or everything, votes=field != CALIBRATION)


def _scored(
    run: RunState, name: str, field: str, numbers: Sequence[int], *, votes: bool
) -> Iterator[tuple[str, int, TextScores | None]]:
    """Of one text. Rows are of one sample each, so that fewer samples are scored with the most."""
    try:
        samples = run.calibrated if field == CALIBRATION else calibrate(run, field)
        rows = _rows(run, samples, "" if field == CALIBRATION else f" on {name}")
    except NotDoneError:
        yield from ((name, number, None) for number in numbers)
        return
    for number in numbers:
        tables = aggregate(rows.filter(pc.less(rows["sample"], number)))
        yield name, number, TextScores(name, samples.identity, number, tables, votes and number == numbers[-1])


def _rows(run: RunState, samples: Calibration, where: str) -> pa.Table:
    """The score rows of the base on all samples of a text. Those of the run's own text are there already.

    where: the text, for people. NotDoneError in a dry run that does not find all of them.
    """
    job = run.job
    state = f"{job.state_name(job.base_drops)}{where}"
    units = range_units(run, samples, state, job.base_drops, gaps_of(job.requests))
    done = [commit for commit in run.complete(STAGE, units) if commit is not None]
    if len(done) < len(units):
        raise NotDoneError
    return pa.concat_tables([run.read_table(commit, SCORES) for commit in done])


def _variant(run: RunState, request: PlanRequest, scored: TextScores | None, label: str) -> Variant:
    job = run.job
    if scored is None:
        return undecided(job.base_variant, label, whole_blocks=request.of == BLOCK)
    plan = plan_by(request, scored.tables, job.size.layers, job.base_drops, label)
    return variant_of(job.checkpoint.identity, plan)


def _add_consensus(run: RunState, request: PlanRequest, texts: Sequence[TextScores], *, complete: bool) -> None:
    """Add the plan by all texts. complete: whether all of them are scored."""
    job, name = run.job, consensus_name(request.name)
    if complete:
        tables = consensus_tables(request, texts, job.size.layers, job.base_drops)
        plan = plan_by(request, tables, job.size.layers, job.base_drops, name)
        identity = json_sha256([[text.identity, text.num_samples] for text in texts if text.votes])
        run.add_plan(job.complete(replace(plan, strategy=consensus_name(plan.strategy)), identity))
    else:
        run.variants.append(undecided(job.base_variant, name, whole_blocks=request.of == BLOCK))
    run.compared.append(TextPlan(request.name, CONSENSUS, None, run.variants[-1]))
