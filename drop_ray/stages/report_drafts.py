"""Makes rows of the report from what drafts are predicted to gain, and from what was measured of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from drop_ray.config.drafts import DraftsConfig
from drop_ray.job import steps
from drop_ray.job.artifacts import DRAFT
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.planning.draft_costs import DraftCost, Requests, draft_cost
from drop_ray.planning.draft_plans import Candidate, ranked
from drop_ray.planning.variants import Variant
from drop_ray.report.draft_rows import DraftPlanRow, DraftRow, DraftSpeedup, SamplingRow
from drop_ray.report.rows import ServingRow
from drop_ray.serving.preflight import serving_size
from drop_ray.stages.drafts import chosen_drafts
from drop_ray.store import Commit

TIME_PER_TOKEN = "tpot_p50_s"


def draft_rows(run: RunState, done: Mapping[str, Commit]) -> Iterator[DraftRow]:
    """Of every draft, number of drafted tokens and temperature that was measured, the control first."""
    job, serving = run.job, run.job.config.serving
    if serving is None or serving.drafts is None:
        return
    measured = [
        (run.base, 0, 0.0),
        *(
            (one, tokens, temperature)
            for temperature in (0.0, *serving.drafts.temperatures)
            for one in chosen_drafts(run)
            for tokens in serving.drafts.tokens
        ),
    ]
    for variant, tokens, temperature in measured:
        commit = done.get(steps.draft_step(job, variant, tokens, temperature).path)
        if commit is not None:
            yield _row(variant.name, json.loads(job.store.read_bytes(commit, DRAFT)))


def sampling_rows(run: RunState) -> Iterator[SamplingRow]:
    """What the gate of sampling found, by temperature."""
    for found in run.sampling.values():
        yield SamplingRow(holds=found.holds, reason="; ".join(found.reasons), **asdict(found))


def draft_plan_rows(
    run: RunState, variants: Sequence[Variant], measured: Sequence[ServingRow]
) -> Iterator[DraftPlanRow]:
    """Of every variant that has a panel, the best first; of a run with drafts, at whose requests they are.

    variants: all but the base. measured: rows of the serving benchmark.
    """
    serving = run.job.config.serving
    if serving is None or serving.drafts is None:
        return
    requests = requests_of(serving.drafts)
    known = [variant for variant in variants if variant.name in run.panels]
    costs = {variant.name: _cost(run.job, variant, requests, measured) for variant in known}
    for decoding in ("greedy", "sampling"):
        candidates = []
        for name, (cost, _) in costs.items():
            panel = run.panels[name]
            candidates.append(Candidate(name, panel.top1_agreement if decoding == "greedy" else panel.acceptance, cost))
        for plan in ranked(candidates):
            yield DraftPlanRow(
                variant=plan.name,
                decoding=decoding,
                batch_size=requests.batch,
                context=requests.context,
                acceptance=plan.acceptance,
                cost=plan.cost,
                cost_from=costs[plan.name][1],
                tokens=plan.tokens,
                verification=plan.verification,
                speedup=plan.speedup,
                pays=plan.pays,
                reason=plan.reason,
            )


def requests_of(drafts: DraftsConfig) -> Requests:
    """What the drafts of a run are for: the batch, at the mean context of decoding."""
    return Requests(drafts.batch_size, drafts.prompt + drafts.output // 2)


def _cost(job: Job, variant: Variant, requests: Requests, measured: Sequence[ServingRow]) -> tuple[DraftCost, str]:
    """What a draft's steps cost, and where that is from: the benchmark at this batch, at the nearest context."""
    found = draft_cost(
        serving_size(job.config, job.size),
        job.vocab_size,
        job.base_drops,
        variant.drops,
        requests,
        layer_bytes=variant.remake.bytes_per_weight if variant.remake else None,
        hardware=job.config.hardware,
    )
    rows = [
        row
        for row in measured
        if (row.variant, row.metric, row.comparison) == (variant.name, TIME_PER_TOKEN, "equal_batch")
        and row.batch_size == requests.batch
    ]
    if not rows:
        return found, "roofline"
    nearest = min(rows, key=lambda row: abs(row.prompt_tokens + row.output_tokens // 2 - requests.context))
    return DraftCost(1 / nearest.ratio, found.verification), f"benchmark of {nearest.workload}"


def _row(variant: str, stored: Mapping[str, Any]) -> DraftRow:
    """stored: the content of draft.json."""
    speedups = {name: DraftSpeedup(**stored[name]) if stored[name] else None for name in ("speedup", "decode_speedup")}
    return DraftRow(**{**stored, **speedups, "acceptance": tuple(stored["acceptance"]), "variant": variant})
