"""The identities of the steps of a run. They are put together in this package only.

The `algorithm` of a step is raised by hand when its code would give other numbers for the same inputs.
"""

from drop_ray.job.steps.evaluations import (
    divergence_step,
    evaluation_steps,
    export_step,
    gates_step,
    perplexity_step,
    target_of,
    task_step,
)
from drop_ray.job.steps.scores import sample_ranges, score_step, score_unit
from drop_ray.job.steps.serving import bench_step, draft_step, sampling_step
from drop_ray.job.steps.texts import calibration_step, divergence_text_step, samples_step

__all__ = [
    "bench_step",
    "calibration_step",
    "divergence_step",
    "divergence_text_step",
    "draft_step",
    "evaluation_steps",
    "export_step",
    "gates_step",
    "perplexity_step",
    "sample_ranges",
    "samples_step",
    "sampling_step",
    "score_step",
    "score_unit",
    "target_of",
    "task_step",
]
