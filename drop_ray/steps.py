"""What identifies each step of a run. The one place where identities are put together.

A step's `algorithm` is raised by hand when its code would give other numbers for the same inputs.
"""

from drop_ray.config import PerplexitySpec, resolve_path
from drop_ray.job import Job, file_sha256
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.store import Step
from drop_ray.versions import public_versions


def calibration_step(job: Job) -> Step:
    config = job.config.calibration
    field, path = ("token_ids", config.token_ids) if config.token_ids else ("source", config.source)
    assert path is not None
    return Step(
        "calibrate",
        {
            "algorithm": 1,
            "versions": public_versions(["transformers", "tokenizers"]),
            # A text becomes other tokens with another tokenizer; ready token ids depend on no model.
            "model": job.checkpoint.identity if config.source else None,
            field: file_sha256(resolve_path(path), f"calibration.{field}"),
            **config.model_dump(include={"text_field", "num_samples", "seq_len", "shuffle_seed"}),
        },
    )


def score_step(job: Job, calibration_identity: str, drops: DropLists, gap: int) -> Step:
    """The score table of one drop state and gap, over all samples."""
    return Step("score", _score_identity(job, calibration_identity, drops, gap))


def score_unit(table: Step, samples: range) -> Step:
    """A sample range of a score table."""
    return Step("score-range", {**table.identity, "samples": [samples.start, samples.stop]})


def sample_ranges(job: Job) -> list[range]:
    """Fixed by the config, never by the number of workers; sharding must not change a byte."""
    total, size = job.config.calibration.num_samples, job.config.scoring.range_size
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def export_step(job: Job, drops: DropLists) -> Step:
    return Step(
        "export",
        {
            "algorithm": 1,
            "versions": public_versions(["transformers"]),
            "model": job.checkpoint.identity,
            **drops.as_identity(),
        },
    )


def task_step(job: Job, drops: DropLists, task: str) -> Step:
    """One lm-eval task on one plan, keyed by its drop lists: plans with other names and equal lists share it."""
    settings = {"seed", "apply_chat_template", "system_instruction", "max_length"}
    return Step(
        "evaluate",
        {
            "versions": public_versions(["torch", "transformers", "lm-eval"]),
            "task": job.tasks[task],
            **job.config.evaluation.model_dump(include=settings),
            **_evaluation_identity(job, drops),
        },
    )


def perplexity_step(job: Job, drops: DropLists, text: PerplexitySpec) -> Step:
    return Step(
        "perplexity",
        {
            "versions": public_versions(["torch", "transformers", "tokenizers"]),
            "text": file_sha256(resolve_path(text.source), f"evaluation.perplexity ({text.name})"),
            **text.model_dump(include={"name", "text_field", "num_samples", "seq_len"}),
            **_evaluation_identity(job, drops),
        },
    )


def evaluation_steps(job: Job, plan: DropPlan) -> dict[str, Step]:
    """Every evaluation unit of a plan, by the name of its task or text."""
    tasks = {request.name: task_step(job, plan.drops, request.name) for request in job.task_requests}
    texts = {text.name: perplexity_step(job, plan.drops, text) for text in job.config.evaluation.perplexity}
    return {**tasks, **texts}


def _score_identity(job: Job, calibration_identity: str, drops: DropLists, gap: int) -> dict[str, object]:
    return {
        "algorithm": 1,
        "versions": public_versions(["torch", "transformers"]),
        "model": job.checkpoint.identity,
        "calibration": calibration_identity,
        "gap": gap,
        **drops.as_identity(),
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        **job.config.scoring.model_dump(include={"metrics", "micro_batch", "range_size"}),
    }


def _evaluation_identity(job: Job, drops: DropLists) -> dict[str, object]:
    return {
        "algorithm": 1,
        "model": job.checkpoint.identity,
        **drops.as_identity(),
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        **job.config.evaluation.model_dump(include={"backend", "batch_size"}),
    }
