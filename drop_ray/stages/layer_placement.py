"""Whether a worker holds all layers of a model, or streams them from the checkpoint."""

from drop_ray.job.run_state import RunState

# The part of a device's memory that resident layers may take; the rest is for states, masks and the library.
RESIDENT_FRACTION = 0.6


def is_streamed(run: RunState, needed: int) -> bool:
    """Whether layers are streamed. needed: bytes of all that would be resident."""
    job, wanted = run.job, run.job.config.execution.layers
    if wanted != "auto":
        return wanted == "streamed"
    return needed > run.cluster.worker_bytes(job) * RESIDENT_FRACTION
