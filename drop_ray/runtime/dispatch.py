"""The cluster as a run sees it: sends shares of a stage to a pool of workers, and yields their commits as they come."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from drop_ray.config import ExecutionConfig
from drop_ray.errors import CorruptArtifactError, WorkerFailedError
from drop_ray.extensions import CHANGES, METRICS
from drop_ray.job.change_sections import change_sections
from drop_ray.job.drivers import Presence
from drop_ray.job.job import Job
from drop_ray.job.stage import Stage
from drop_ray.job.units import Share, UnitFailure, WorkerRequest
from drop_ray.job.worker import LIBRARIES, WorkerSetup
from drop_ray.models.files.remote_folder import S3_SCHEME
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.watch import StageWatch
from drop_ray.store import Commit, Store

logger = logging.getLogger(__name__)


class RayCluster(Cluster):
    """The Ray cluster that a run works on; a context manager, connected when the first work is found."""

    def __init__(self, execution: ExecutionConfig, presence: Presence):
        super().__init__(execution)
        self._presence = presence

    def fitted(self, job: Job) -> Job:
        """The job with the number of workers that `execution.num_workers: auto` is on this cluster."""
        execution = self.fit()
        if execution is job.config.execution:
            return job
        return replace(job, config=job.config.model_copy(update={"execution": execution}))

    def worker_bytes(self, job: Job) -> int:
        self.connect(worker_setup(job))
        return self.bytes_per_worker

    def prepare(self, job: Job, stage: Stage, workers: WorkerRequest) -> None:
        """Connect, and start the workers' pool. UserError if the cluster cannot have such workers."""
        self.pool(worker_setup(job), workers, stage.goes_on)

    def send(self, job: Job, stage: Stage, shares: Sequence[Share], workers: WorkerRequest) -> Iterator[Commit]:
        """Raises WorkerFailedError if a share failed; of a stage that goes on, at the end, with all that failed."""
        if self._presence.came_later:
            shares = shares[::-1]  # the other driver began at the beginning
        title = shares[0].title or stage.name
        pool = self.pool(worker_setup(job), workers, stage.goes_on)
        failures: dict[str, str] = {}
        with StageWatch(self._presence, job.config.name, stage.name, title, stage.noun, shares) as watch:
            for share, result in pool.run(title, shares, watch, partial(self._done_by_others, job.store)):
                if isinstance(result, UnitFailure):
                    failures[share.name] = result.message
                    logger.error("%s of %s failed: %s", stage.name, share.name, result.message.splitlines()[0])
                else:
                    yield from result
        if failures:
            raise WorkerFailedError(
                "\n".join(f"{stage.name} of {name} failed: {message}" for name, message in failures.items())
            )

    def _done_by_others(self, store: Store, share: Share) -> list[Commit] | None:
        """The commits of a share that another driver has had done meanwhile."""
        if not self._presence.others:
            return None
        commits = []
        for step in share.steps:
            try:
                commit = store.find(step)
            except CorruptArtifactError:
                return None
            if commit is None:
                return None
            commits.append(commit)
        logger.info("%s was done by another driver", share.name)
        return commits


def worker_setup(job: Job) -> WorkerSetup:
    execution = job.config.execution
    earlier = {revision: checkpoint.identity for revision, checkpoint in job.earlier.items()}
    return WorkerSetup(
        model=job.config.model,
        model_identity=job.checkpoint.identity,
        model_outline=job.checkpoint.outline,
        model_hashes=job.checkpoint.hashes.of_scheme(S3_SCHEME),
        store=job.store,
        scoring=job.config.scoring,
        evaluation=job.config.evaluation,
        include_path=job.include_path,
        threads=execution.threads_per_worker if execution.device == "cpu" else None,
        wave_bytes=execution.wave_bytes,
        earlier_identities=earlier,
        model_options=job.config.s3_options(job.config.model.path),
        cache_dir=execution.cache_dir,
        cache_bytes=execution.cache_bytes,
        libraries=(*LIBRARIES, *_further_libraries(job)),
        run=job.config.name,
    )


def _further_libraries(job: Job) -> Iterator[str]:
    for section in change_sections():
        yield from section.libraries(job.config)
    packages = [METRICS.package(name) for name in job.config.scoring.metrics]
    packages += [CHANGES.package(change.kind) for plan in job.given_plans for change in plan.changes]
    yield from sorted({package for package in packages if package is not None})
    serves = job.config.serving is not None and job.config.serving.engine == "vllm"
    if serves or job.config.evaluation.backend == "vllm":
        yield "vllm"
