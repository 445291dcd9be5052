"""Identities of measurements of speed."""

from drop_ray.job.job import Job
from drop_ray.job.steps.shared import versions_of
from drop_ray.job.steps.texts import calibration_step, divergence_text_step
from drop_ray.planning.variants import Variant
from drop_ray.store import Step


def bench_step(job: Job, variant: Variant, at_load: bool = False) -> Step:
    """The serving benchmark of one variant against the base; of the base itself, the base against itself.

    at_load: the variant as vLLM makes 8-bit floats of it.
    """
    serving, execution = job.config.serving, job.config.execution
    assert serving is not None
    calibration = job.config.calibration
    settings = calibration.model_dump(include={"text_field", "seq_len", "shuffle_seed"})
    # How many samples a mix has decides which text each of them is of.
    settings |= {"num_samples": calibration.num_samples} if calibration.sources else {}
    return Step(
        "bench",
        {
            "algorithm": 1,
            "versions": versions_of(variant, "torch", "transformers", *(["vllm"] if serving.engine == "vllm" else [])),
            "model": variant.base,
            **variant.identity(),
            **job.config.model.model_dump(include={"attn_implementation"}),
            **serving.model_dump(mode="json", exclude={"plans", "drafts", "kv_cache_dtype", "fp8_at_load"}),
            **_kv_cache_identity(job),
            **({"fp8_at_load": True} if at_load else {}),
            # The values that null stands for in the config.
            "dtype": job.config.serving_dtype,
            "max_model_len": serving.model_len,
            "kv_cache_bytes": job.kv_cache_bytes,
            # Timings depend on where they are taken.
            "device": execution.device,
            "threads": execution.threads_per_worker if execution.device == "cpu" else None,
            "tensor_parallel": execution.tensor_parallel,
            # The first samples are compared on; they do not depend on how many follow.
            "text": {**job.calibration.content, **settings},
        },
    )


def draft_step(job: Job, variant: Variant, tokens: int, temperature: float = 0) -> Step:
    """A variant as a draft of the base, with that many drafted tokens; of the base, without any, the control."""
    return Step("draft", {"algorithm": 1, **_draft_identity(job, variant, tokens, temperature)})


def sampling_step(job: Job, tokens: int, temperature: float) -> Step:
    """The gate of sampling: the base as its own draft."""
    return Step("draft-sampling", {"algorithm": 1, **_draft_identity(job, job.base_variant, tokens, temperature)})


def _draft_identity(job: Job, variant: Variant, tokens: int, temperature: float) -> dict[str, object]:
    serving, execution = job.config.serving, job.config.execution
    assert serving is not None
    assert serving.drafts is not None
    return {
        "versions": versions_of(variant, "torch", "transformers", "vllm"),
        "model": variant.base,
        **variant.identity(),
        "tokens": tokens,
        "temperature": temperature or 0,  # 0.0 would be another number in JSON
        **serving.drafts.model_dump(mode="json", include={"prompt", "output", "batch_size"}),
        **serving.model_dump(mode="json", include={"mode", "pairs", "enforce_eager", "seed"}),
        **_kv_cache_identity(job),
        **job.config.model.model_dump(include={"attn_implementation"}),
        "dtype": job.config.serving_dtype,
        "kv_cache_bytes": job.kv_cache_bytes,
        # Timings depend on where they are taken.
        "device": execution.device,
        "threads": execution.threads_per_worker if execution.device == "cpu" else None,
        "tensor_parallel": execution.tensor_parallel,
        "text": calibration_step(job).family,
        "prompts": divergence_text_step(job).family if job.config.evaluation.divergence else None,
    }


def _kv_cache_identity(job: Job) -> dict[str, object]:
    """Left out where the cache has the dtype of the model: what was measured so stays as it was."""
    assert job.config.serving is not None
    dtype = job.config.serving.kv_cache_dtype
    return {} if dtype == "auto" else {"kv_cache_dtype": dtype}
