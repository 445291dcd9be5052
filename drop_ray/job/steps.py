"""The identities of the steps of a run. They are put together in this file only.

The `algorithm` of a step is raised by hand when its code would give other numbers for the same inputs.
"""

from drop_ray.config import PerplexitySpec, resolve_path
from drop_ray.job.file_hash import file_sha256
from drop_ray.job.job import Job
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant
from drop_ray.scoring.metrics.metric import metric_versions
from drop_ray.store import Step
from drop_ray.store.versions import public_versions


def calibration_step(job: Job) -> Step:
    config = job.config.calibration
    # The library decides the order of a shuffled stream.
    libraries = ["transformers", "tokenizers", *(["datasets"] if config.dataset else [])]
    return Step(
        "calibrate",
        {
            "algorithm": 1,
            "versions": public_versions(libraries),
            # A text becomes other tokens with another tokenizer; ready token ids depend on no model.
            "model": None if config.token_ids else job.checkpoint.identity,
            **job.calibration_content,
            **config.model_dump(include={"text_field", "num_samples", "seq_len", "shuffle_seed"}),
        },
    )


def score_step(job: Job, calibration_identity: str, drops: DropLists, gap: int, revision: str | None = None) -> Step:
    """The score table of one set of drop lists and one gap, over all samples.

    Runs that have `revision` as their model share it.
    """
    return Step("score", _score_identity(job, calibration_identity, drops, gap, revision))


def score_unit(table: Step, samples: range) -> Step:
    """A sample range of a score table."""
    return Step("score-range", {**table.identity, "samples": [samples.start, samples.stop]})


def sample_ranges(job: Job) -> list[range]:
    """The sample ranges, which only the config decides: the number of workers must not change a byte."""
    total, size = job.config.calibration.num_samples, job.config.scoring.range_size
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def export_step(variant: Variant, format: ExportFormat = "dropped") -> Step:
    return Step(
        "export" if format == "dropped" else f"export-{format}",
        {
            "algorithm": 1,
            "versions": _versions(variant, "transformers"),
            "model": variant.base,
            **variant.identity(),
        },
    )


def task_step(job: Job, variant: Variant, task: str) -> Step:
    """One lm-eval task on one variant: equal variants of other names share it."""
    settings = {"seed", "apply_chat_template", "system_instruction", "max_length"}
    return Step(
        "evaluate",
        {
            "versions": _versions(variant, "torch", "transformers", "lm-eval"),
            "task": job.tasks[task],
            **job.config.evaluation.model_dump(include=settings),
            **_evaluation_identity(job, variant),
        },
    )


def perplexity_step(job: Job, variant: Variant, text: PerplexitySpec) -> Step:
    return Step(
        "perplexity",
        {
            "versions": _versions(variant, "torch", "transformers", "tokenizers"),
            "text": file_sha256(resolve_path(text.source), f"evaluation.perplexity ({text.name})"),
            **text.model_dump(include={"name", "text_field", "num_samples", "seq_len"}),
            **_evaluation_identity(job, variant),
        },
    )


def bench_step(job: Job, variant: Variant) -> Step:
    """The serving benchmark of one variant against the base; of the base itself, the base against itself."""
    serving, execution = job.config.serving, job.config.execution
    assert serving is not None
    settings = job.config.calibration.model_dump(include={"text_field", "seq_len", "shuffle_seed"})
    return Step(
        "bench",
        {
            "algorithm": 1,
            "versions": _versions(variant, "torch", "transformers", *(["vllm"] if serving.engine == "vllm" else [])),
            "model": variant.base,
            **variant.identity(),
            **job.config.model.model_dump(include={"attn_implementation"}),
            **serving.model_dump(mode="json", exclude={"plans"}),
            # The values that null stands for in the config.
            "dtype": job.config.serving_dtype,
            "max_model_len": serving.model_len,
            "kv_cache_bytes": job.kv_cache_bytes,
            # Timings depend on where they are taken.
            "device": execution.device,
            "threads": execution.threads_per_worker if execution.device == "cpu" else None,
            "tensor_parallel": execution.tensor_parallel,
            # The first samples are compared on; they do not depend on how many follow.
            "text": {**job.calibration_content, **settings},
        },
    )


def evaluation_steps(job: Job, variant: Variant) -> dict[str, Step]:
    """Every evaluation unit of a variant, by the name of its task or text."""
    tasks = {request.name: task_step(job, variant, request.name) for request in job.task_requests}
    texts = {text.name: perplexity_step(job, variant, text) for text in job.config.evaluation.perplexity}
    return {**tasks, **texts}


def _score_identity(
    job: Job, calibration_identity: str, drops: DropLists, gap: int, revision: str | None
) -> dict[str, object]:
    versions = metric_versions(job.config.scoring.metrics)
    return {
        "algorithm": 1,
        "versions": public_versions(["torch", "transformers"]),
        "model": job.checkpoint_of(revision).identity,
        "calibration": calibration_identity,
        "gap": gap,
        **drops.as_identity(),
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        # Sorted, since their order only says which of them plans rank by.
        "metrics": sorted(job.config.scoring.metrics),
        **({"metric_versions": versions} if versions else {}),
        **job.config.scoring.model_dump(include={"micro_batch", "range_size"}),
    }


def _evaluation_identity(job: Job, variant: Variant) -> dict[str, object]:
    return {
        "algorithm": 1,
        "model": variant.base,
        **variant.identity(),
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        **job.config.evaluation.model_dump(include={"backend", "batch_size"}),
    }


def _versions(variant: Variant, *libraries: str) -> dict[str, str]:
    return public_versions([*libraries, *variant.libraries])
