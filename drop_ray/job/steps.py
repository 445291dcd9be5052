"""What identifies each step of a run. The one place where identities are put together.

A step's `algorithm` is raised by hand when its code would give other numbers for the same inputs.
"""

from collections.abc import Sequence

from drop_ray.config import PerplexitySpec, QuantizationSpec, resolve_path
from drop_ray.job.job import Job, file_sha256
from drop_ray.job.versions import public_versions
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant, distinct
from drop_ray.scoring.metrics.metric import metric_versions
from drop_ray.store import Step


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
            **_calibration_content(job),
            **config.model_dump(include={"text_field", "num_samples", "seq_len", "shuffle_seed"}),
        },
    )


def score_step(job: Job, calibration_identity: str, drops: DropLists, gap: int, revision: str | None = None) -> Step:
    """The score table of one drop state and gap, over all samples; shared with runs that have `revision` as theirs."""
    return Step("score", _score_identity(job, calibration_identity, drops, gap, revision))


def score_unit(table: Step, samples: range) -> Step:
    """A sample range of a score table."""
    return Step("score-range", {**table.identity, "samples": [samples.start, samples.stop]})


def sample_ranges(job: Job) -> list[range]:
    """Fixed by the config, never by the number of workers; sharding must not change a byte."""
    total, size = job.config.calibration.num_samples, job.config.scoring.range_size
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def export_step(job: Job, drops: DropLists, format: ExportFormat = "dropped") -> Step:
    return Step(
        "export" if format == "dropped" else f"export-{format}",
        {
            "algorithm": 1,
            "versions": public_versions(["transformers"]),
            "model": job.checkpoint.identity,
            **drops.as_identity(),
        },
    )


def quantize_step(job: Job, drops: DropLists, spec: QuantizationSpec) -> Step:
    """A quantized checkpoint, with the errors of its layers on the samples held out."""
    if spec.text is None:
        samples = _calibration_content(job) | job.config.calibration.model_dump(
            include={"text_field", "num_samples", "seq_len", "shuffle_seed"}
        )
    else:
        source = file_sha256(resolve_path(spec.text.source), f"quantization ({spec.label}).text.source")
        samples = {"source": source, **spec.text.model_dump(exclude={"source"})}
    return Step(
        "quantize",
        {
            "algorithm": 1,
            "versions": public_versions(["torch", "transformers", "gptqmodel"]),
            "model": job.checkpoint.identity,
            **drops.as_identity(),
            "dtype": job.config.model.dtype,
            **spec.model_dump(include={"method", "bits", "group_size", "desc_act", "num_samples", "held_out"}),
            "symmetric": spec.is_symmetric,
            "samples": samples,
        },
    )


def task_step(job: Job, variant: Variant, task: str) -> Step:
    """One lm-eval task on one plan, keyed by its drop lists: plans with other names and equal lists share it."""
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
    """The serving benchmark of one plan against the base; of the base itself, the base against itself."""
    serving, execution = job.config.serving, job.config.execution
    assert serving is not None
    settings = job.config.calibration.model_dump(include={"text_field", "seq_len", "shuffle_seed"})
    return Step(
        "bench",
        {
            "algorithm": 1,
            "versions": _versions(variant, "torch", "transformers", *(["vllm"] if serving.engine == "vllm" else [])),
            "model": job.checkpoint.identity,
            **_variant_identity(job, variant),
            **job.config.model.model_dump(include={"attn_implementation"}),
            **serving.model_dump(mode="json", exclude={"plans"}),
            # What the nulls of the config stand for.
            "dtype": serving.dtype or job.config.model.dtype,
            "max_model_len": serving.model_len,
            "kv_cache_bytes": job.kv_cache_bytes,
            # What is timed is timed there.
            "device": execution.device,
            "threads": execution.threads_per_worker if execution.device == "cpu" else None,
            "tensor_parallel": execution.tensor_parallel,
            # The first samples are compared on; they do not depend on how many follow.
            "text": {**_calibration_content(job), **settings},
        },
    )


def bench_steps(job: Job, variants: Sequence[Variant]) -> dict[str, tuple[Variant, Step]]:
    """The units of the serving benchmark, by a label for people; plans with equal drop lists are measured once.

    variants: without the base, which is always measured, against itself.
    """
    serving, base = job.config.serving, Variant(job.base_plan)
    if serving is None:
        return {}
    chosen = [variant for variant in variants if serving.plans == "all" or variant.name in serving.plans]
    units = {f"{variant.name} against the base": variant for variant in distinct([base, *chosen])[1:]}
    units = {"the base against itself": base, **units}
    return {label: (variant, bench_step(job, variant)) for label, variant in units.items()}


def evaluation_steps(job: Job, variant: Variant) -> dict[str, Step]:
    """Every evaluation unit of a plan, by the name of its task or text."""
    tasks = {request.name: task_step(job, variant, request.name) for request in job.task_requests}
    texts = {text.name: perplexity_step(job, variant, text) for text in job.config.evaluation.perplexity}
    return {**tasks, **texts}


def _calibration_content(job: Job) -> dict[str, object]:
    config = job.config.calibration
    if config.dataset is not None:
        return {"dataset": job.dataset.identity}
    field, path = ("source", config.source) if config.source else ("token_ids", config.token_ids)
    assert path is not None
    return {field: file_sha256(resolve_path(path), f"calibration.{field}")}


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
        # Their order says by which one plans rank, and changes no score.
        "metrics": sorted(job.config.scoring.metrics),
        **({"metric_versions": versions} if versions else {}),
        **job.config.scoring.model_dump(include={"micro_batch", "range_size"}),
    }


def _evaluation_identity(job: Job, variant: Variant) -> dict[str, object]:
    return {
        "algorithm": 1,
        "model": job.checkpoint.identity,
        **_variant_identity(job, variant),
        **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
        **job.config.evaluation.model_dump(include={"backend", "batch_size"}),
    }


def _variant_identity(job: Job, variant: Variant) -> dict[str, object]:
    """What is left of the model, and how it was quantized."""
    if variant.spec is None:
        return {**variant.drops.as_identity()}
    return {**variant.drops.as_identity(), "quantized": quantize_step(job, variant.drops, variant.spec).family}


def _versions(variant: Variant, *libraries: str) -> dict[str, str]:
    return public_versions([*libraries, *(["gptqmodel"] if variant.spec else [])])
