"""Identities of samples of text."""

from drop_ray.config import DIVERGENCE
from drop_ray.job.found_text import FoundText
from drop_ray.job.job import Job
from drop_ray.job.steps.shared import text_libraries, tokenized_by
from drop_ray.store import Step
from drop_ray.store.versions import public_versions


def calibration_step(job: Job) -> Step:
    """The calibration samples of the run."""
    return samples_step(job, job.calibration)


def samples_step(job: Job, text: FoundText) -> Step:
    """The samples of a calibration text. Runs that have it as their own share them."""
    return Step(
        "calibrate",
        {
            "algorithm": 1,
            "versions": public_versions(text_libraries(text)),
            "model": tokenized_by(job, text),
            **text.content,
            **text.spec.model_dump(include={"text_field", "shuffle_seed"}),
            "num_samples": text.sized.num_samples,
            "seq_len": text.sized.seq_len,
        },
    )


def divergence_text_step(job: Job) -> Step:
    """The samples on which variants are compared with the base."""
    config, spec = job.config.calibration, job.config.evaluation.divergence
    assert spec is not None
    text = job.text(DIVERGENCE) if spec.origin else job.calibration
    if spec.origin:
        content = text.identity
    else:
        # What follows the calibration samples depends on how many they are, and of which length.
        settings = {"text_field", "num_samples", "seq_len", "shuffle_seed"}
        content = {"behind": {**text.content, **config.model_dump(include=settings)}}
    return Step(
        "divergence-text",
        {
            "algorithm": 1,
            "versions": public_versions(text_libraries(text)),
            "model": tokenized_by(job, text),
            **content,
            "num_samples": spec.num_samples,
            "seq_len": spec.seq_len or config.seq_len,
        },
    )
