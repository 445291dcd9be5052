"""A run from a model and a text to a report, stage by stage. Whatever the store already has is not done again.

score -> plan -> export -> evaluate -> quantize (and evaluate that) -> bench -> report

`drop_ray.stages.catalog` lists the stages. Each lists its units; `RunState.complete` does those that are not done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drop_ray.config import RunConfig
from drop_ray.job.ledger import Ledger
from drop_ray.job.opening import open_job
from drop_ray.job.run_state import RunState
from drop_ray.job.texts import load_texts
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTables
from drop_ray.runtime.dispatch import RayCluster
from drop_ray.stages.catalog import LAST, stages_until
from drop_ray.stages.report import Published


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    computed: int
    """Units that were done now."""
    found: int
    """Units that were done before."""
    base: DropPlan
    """The plan of the base."""
    plans: tuple[DropPlan, ...]
    """In the order of the config."""
    checkpoints: Mapping[str, str]
    """Where exported and quantized checkpoints are, by variant and format."""
    folder: str
    """Of the run."""
    published: Published | None
    """The report, if the run came to it."""
    num_layers: int
    """Of the model."""
    scores: ScoreTables
    """Of the base, by metric."""
    training: Mapping[str, ScoreTables]
    """Of every training checkpoint by revision, oldest first; empty without `model.revisions`."""
    serving: Mapping[str, list[dict[str, Any]]]
    """Rows of serving.parquet by variant, the base's own first, which are its control."""


def run(config: RunConfig, until: str = LAST, reuse: bool = False) -> Outcome:
    """Do every stage up to `until`, resuming what was done. UserError before any work if the config does not fit.

    reuse: take what was done with other library versions, if it covers a whole stage.
    """
    stages = [entry.load() for entry in stages_until(until)]
    if stages[-1].check_last is not None:
        stages[-1].check_last(config)
    job = open_job(config)
    # Before any work, although evaluation comes last: a text that is too short must not cost a night of scoring.
    texts = load_texts(job) if "evaluate" in [stage.name for stage in stages] else {}
    job.store.write_file(f"{job.run_folder}/config.yaml", config.to_yaml().encode())
    with RayCluster(config.execution) as cluster:
        state = RunState(job, Ledger(job.store, job.run_folder, reuse), cluster, texts)
        for stage in stages:
            stage.run(state)
    return outcome_of(state)


def outcome_of(state: RunState) -> Outcome:
    job, scores = state.job, state.scored
    computed = sum(entry.computed for entry in state.ledger.entries)
    return Outcome(
        computed=computed,
        found=len(state.ledger.entries) - computed,
        base=job.base_plan,
        plans=state.plans,
        checkpoints=state.checkpoints,
        folder=job.store.location(job.run_folder),
        published=state.published,
        num_layers=job.size.num_layers,
        scores=scores.tables[job.base_drops],
        training=scores.training,
        serving=state.serving,
    )
