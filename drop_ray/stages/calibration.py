"""The run's calibration samples: tokenized once, committed, and identified by the token ids alone."""

from drop_ray.calibration import packing
from drop_ray.config import CALIBRATION
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES
from drop_ray.job.job import Job
from drop_ray.job.run_state import Calibration, RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.texts import load_samples
from drop_ray.job.units import LocalUnit
from drop_ray.stages.driver_tables import commit_table
from drop_ray.store import Commit


def calibrate(run: RunState, field: str = CALIBRATION) -> Calibration:
    """The token samples of a calibration text, by its field in the config. UserError if it is too short for them."""
    job = run.job
    step = steps.samples_step(job, job.text(field))

    def make() -> Commit:
        read = run.texts.get(field)  # all texts of the run are read before its first work
        samples = load_samples(job, field) if read is None else read.int().numpy()
        return commit_table(job, step, SAMPLES, packing.to_table(samples))

    label = "calibration samples" if field == CALIBRATION else f"samples of {field}"
    (commit,) = run.complete(STAGE, [LocalUnit(label, step, "calibrate", make)])
    samples = packing.from_table(run.read_table(commit, SAMPLES)) if commit else load_samples(job, field)
    return Calibration(commit, packing.token_identity(samples), len(samples))


def _run(run: RunState) -> None:
    calibrate(run)


def _cost(run: RunState, line: str, todo: object) -> Cost:
    del line, todo
    config = run.job.config.calibration
    return Cost(_size(run.job), note=run.job.calibration.label if config.dataset or config.sources else "")


def _size(job: Job) -> int:
    """Bytes of the samples, which are int32 token ids."""
    return 4 * job.config.calibration.num_samples * job.config.calibration.seq_len


STAGE = Stage("calibrate", "texts", _run, cost=_cost)
