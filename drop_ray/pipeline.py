"""A run from a model and a text to a report, stage by stage. Units that the store already has are not done again.

score -> plan -> refit -> export -> diverge -> evaluate -> gates -> quantize (and these three again) -> bench -> report

`drop_ray.stages.catalog` lists the stages. Each lists its units; `RunState.complete` does those that are not done.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from drop_ray.config import RunConfig
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.evaluation.gates.cliff import Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.job.drivers import Presence
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.opening import open_job
from drop_ray.job.run_log import RunLog
from drop_ray.job.run_state import RunState
from drop_ray.job.run_warnings import RunWarnings
from drop_ray.job.task_data import open_task_data
from drop_ray.job.texts import Texts
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTables
from drop_ray.runtime.dispatch import RayCluster
from drop_ray.sharing.tracking import Logged, check_installed, track_after_run
from drop_ray.stages.catalog import LAST, stages_until
from drop_ray.stages.report import Published


@dataclass(frozen=True)
class Outcome:
    """The results of a run."""

    computed: int
    """Number of units that were done now."""
    found: int
    """Number of units that were done before."""
    base: DropPlan
    """The base as a plan: the sub-layers that it lacks already."""
    plans: tuple[DropPlan, ...]
    """Drop plans, in the order of the config."""
    checkpoints: Mapping[str, str]
    """Locations of exported and quantized checkpoints, by variant and format."""
    folder: str
    """Location of the run's folder."""
    published: Published | None
    """The report, if the run came to it."""
    num_layers: int
    """Number of layers of the base."""
    scores: ScoreTables
    """Score tables of the base, by metric."""
    training: Mapping[str, ScoreTables]
    """Score tables of every training checkpoint by revision, oldest first; empty without `model.revisions`."""
    serving: Mapping[str, list[dict[str, Any]]]
    """Rows of serving.parquet by variant; those of the base come first and are the control."""
    drafts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Contents of draft.json by draft, one for each number of drafted tokens; that of the base is the control."""
    panels: Mapping[str, Panel] = field(default_factory=dict)
    """Divergence panels by variant."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """What the damage gates say of each variant; empty without `evaluation.gates`."""
    cliffs: tuple[Cliff, ...] = ()
    """How much strategies can drop until a gate stops them, as `evaluation.gates.cliffs` names them."""
    tracked: tuple[str, ...] = ()
    """What became of logging the run, a line for each place that `tracking` names."""


def run(config: RunConfig, until: str = LAST, reuse: bool = False) -> Outcome:
    """Do the stages up to `until`, without units that are done. UserError, before any work, if the config does not fit.

    reuse: take results made with other library versions, if they cover a whole stage.
    """
    stages = [entry.load() for entry in stages_until(until)]
    if stages[-1].check_last is not None:
        stages[-1].check_last(config)
    is_reported = stages[-1].name == LAST
    if is_reported:
        check_installed(config.tracking)
    names = {stage.name for stage in stages}
    with RunWarnings() as warned:
        job, ledger = _opened(config, names, reuse)
        texts = Texts(job) if "refit" in names else {}
        with (
            RunLog(job.store, job.run_folder, config.execution.store_options) as log,
            Presence(job.store, job.run_folder) as presence,
            RayCluster(config.execution, presence) as cluster,
        ):
            state = RunState(cluster.fitted(job), ledger, cluster, texts, log=log, warned=warned)
            try:
                for stage in stages:
                    stage.run(state)
                state.finish()
            except BaseException as error:
                if kept := ledger.kept:
                    error.add_note(kept)
                raise
    return outcome_of(state, track_after_run(config) if is_reported else ())


def check(config: RunConfig) -> None:
    """UserError for what a whole run would refuse before any work. Fetches the model and the data of the tasks."""
    check_installed(config.tracking)
    _opened(config, {entry.name for entry in stages_until(LAST)})


def _opened(config: RunConfig, names: Set[str], reuse: bool = False) -> tuple[Job, Ledger]:
    """The job, with everything checked that can be before any work of the stages of these names."""
    job = open_job(config)
    ledger = Ledger(job.store, job.run_folder, reuse)
    if "evaluate" in names:
        # Before any work, although evaluation comes last: data that cannot be read must not cost a night of scoring.
        open_task_data(job, ledger)
    return job, ledger


def outcome_of(state: RunState, logged: Sequence[Logged] = ()) -> Outcome:
    job = state.job
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
        scores=state.scores[job.base_drops],
        training=state.training,
        verdicts=state.verdicts,
        cliffs=tuple(state.cliffs),
        serving=state.serving,
        drafts=state.drafts,
        panels=state.panels,
        tracked=tuple(one.line for one in logged),
    )
