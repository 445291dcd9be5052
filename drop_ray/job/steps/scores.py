"""Identities of score tables and of the sample ranges that they are made of."""

from collections.abc import Mapping, Sequence

from drop_ray.job.job import Job
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant
from drop_ray.scoring.metrics.metric import metric_versions, swept
from drop_ray.store import Step
from drop_ray.store.versions import public_versions


def score_step(
    job: Job,
    calibration_identity: str,
    drops: DropLists,
    gap: int,
    revision: str | None = None,
    outputs: Sequence[str] = (),
    edited: Variant | None = None,
) -> Step:
    """The score table of one set of drop lists and one gap, over all samples.

    Runs that have `revision` as their model share it. outputs: metrics of the output that it has beside the others.
    edited: the model with these drops, if its weights are not the run's model's.
    """
    names = [*swept(job.config.scoring.metrics), *outputs]
    state = drops.as_identity() if edited is None else edited.identity()
    return Step("score", _score_identity(job, calibration_identity, state, gap, revision, names))


def score_unit(table: Step, samples: range) -> Step:
    """A sample range of a score table without metrics of the output."""
    return Step("score-range", {**table.identity, "samples": [samples.start, samples.stop]})


def sample_ranges(job: Job, num_samples: int | None = None) -> list[range]:
    """The sample ranges, which only the config decides: the number of workers must not change a byte.

    num_samples: of another calibration text than the run's.
    """
    total, size = num_samples or job.config.calibration.num_samples, job.config.scoring.range_size
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def _score_identity(
    job: Job,
    calibration_identity: str,
    state: Mapping[str, object],
    gap: int,
    revision: str | None,
    metrics: Sequence[str],
) -> dict[str, object]:
    versions = metric_versions(metrics)
    return {
        "algorithm": 1,
        "versions": public_versions(["torch", "transformers"]),
        "model": job.checkpoint_of(revision).identity,
        "calibration": calibration_identity,
        "gap": gap,
        **state,
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        # Sorted, since their order only says which of them plans rank by.
        "metrics": sorted(metrics),
        **({"metric_versions": versions} if versions else {}),
        **job.config.scoring.model_dump(include={"micro_batch", "range_size"}),
    }
