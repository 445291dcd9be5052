"""The run's calibration samples: tokenized once, committed, and identified by the token ids alone."""

from drop_ray.calibration import packing
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES
from drop_ray.job.job import Job
from drop_ray.job.run_state import Calibration, RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.texts import load_calibration
from drop_ray.job.units import LocalUnit
from drop_ray.stages.driver_tables import commit_table


def calibrate(run: RunState) -> Calibration:
    """The run's token samples. UserError if the text is too short for them."""
    job = run.job
    step = steps.calibration_step(job)
    unit = LocalUnit(
        "calibration samples",
        step,
        "calibrate",
        lambda: commit_table(job, step, SAMPLES, packing.to_table(load_calibration(job))),
    )
    (commit,) = run.complete(STAGE, [unit])
    samples = packing.from_table(run.read_table(commit, SAMPLES)) if commit else load_calibration(job)
    return Calibration(commit, packing.token_identity(samples))


def _run(run: RunState) -> None:
    calibrate(run)


def _cost(run: RunState, line: str, todo: object) -> Cost:
    del line, todo
    config = run.job.config.calibration
    return Cost(_size(run.job), note=run.job.calibration_label if config.dataset or config.sources else "")


def _size(job: Job) -> int:
    """Bytes of the samples, which are int32 token ids."""
    return 4 * job.config.calibration.num_samples * job.config.calibration.seq_len


STAGE = Stage("calibrate", "texts", _run, cost=_cost)
