"""The identities of the steps of a run. They are put together in this file only.

The `algorithm` of a step is raised by hand when its code would give other numbers for the same inputs.
"""

from collections.abc import Mapping, Sequence

from drop_ray.config import DIVERGENCE, PerplexitySpec, perplexity_field
from drop_ray.evaluation.targets.target import ALGORITHM, Target
from drop_ray.job.found_text import FoundText
from drop_ray.job.job import Job
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant
from drop_ray.scoring.metrics.metric import metric_versions, swept
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
            "versions": public_versions(_text_libraries(text)),
            "model": _tokenized_by(job, text),
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
            "versions": public_versions(_text_libraries(text)),
            "model": _tokenized_by(job, text),
            **content,
            "num_samples": spec.num_samples,
            "seq_len": spec.seq_len or config.seq_len,
        },
    )


def divergence_step(job: Job, variant: Variant, text_identity: str) -> Step:
    """The panel of one variant. text_identity: hash of the token ids."""
    return Step(
        "diverge",
        {
            "algorithm": 1,
            "versions": _versions(variant, "torch", "transformers"),
            "text": text_identity,
            # The base's predictions are those of this model, with all that it has.
            "model": variant.base,
            **variant.identity(),
            **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
            **job.config.scoring.model_dump(include={"micro_batch"}),
        },
    )


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


def export_step(variant: Variant, format: ExportFormat = "dropped") -> Step:
    return Step(
        "export" if format == "dropped" else f"export-{format}",
        {
            "algorithm": 2,
            "versions": _versions(variant, "transformers"),
            "model": variant.base,
            **variant.identity(),
        },
    )


def task_step(job: Job, variant: Variant, task: str) -> Step:
    """One lm-eval task on one variant: equal variants of other names share it.

    With a target, the base is evaluated whole, as without one, and a variant on the documents that the target takes.
    """
    settings = {"seed", "apply_chat_template", "system_instruction", "max_length"}
    evaluation, target = job.config.evaluation, target_of(job, variant, task)
    return Step(
        "evaluate",
        {
            "versions": _versions(variant, *_backend_libraries(job), "lm-eval"),
            "task": job.tasks[task],
            **evaluation.model_dump(include=settings),
            # Other sums in the last bits. Left out where it is off: what lm-eval's own path gave stays as it was.
            **({"share_prefixes": True} if evaluation.share_prefixes else {}),
            **_evaluation_identity(job, variant),
            **(
                {
                    "target": {
                        "algorithm": ALGORITHM,
                        "within": target.within,
                        "confidence": target.confidence,
                        "base": task_step(job, job.base_variant, task).family,
                    }
                }
                if target
                else {}
            ),
        },
    )


def target_of(job: Job, variant: Variant, task: str) -> Target | None:
    """What a task seeks on a variant: the difference to the base, and nothing on the base itself."""
    wanted = next(request.target for request in job.task_requests if request.name == task)
    return None if variant == job.base_variant else wanted


def perplexity_step(job: Job, variant: Variant, text: PerplexitySpec) -> Step:
    found = job.text(perplexity_field(text.name))
    return Step(
        "perplexity",
        {
            "versions": _versions(variant, *_backend_libraries(job), *_text_libraries(found)),
            # A file of text is identified by its hash alone.
            "text": found.content.get("source", found.content),
            **({} if text.shuffle_seed is None else {"shuffle_seed": text.shuffle_seed}),
            **text.model_dump(include={"name", "text_field", "num_samples", "seq_len"}),
            **_evaluation_identity(job, variant),
        },
    )


def gates_step(job: Job, variant: Variant) -> Step:
    """The damage gates of one variant. What is made of the answers, such as the tolerance, decides none of them."""
    evaluation = job.config.evaluation
    assert evaluation.gates is not None
    drawn = {"seed", "num_items", "needle_lengths", "generated_tokens"}
    return Step(
        "gates",
        {
            "versions": _versions(variant, *_backend_libraries(job), "tokenizers"),
            **evaluation.gates.model_dump(mode="json", include=drawn),
            **evaluation.model_dump(include={"max_length"}),
            **({"share_prefixes": True} if evaluation.share_prefixes else {}),
            **_evaluation_identity(job, variant),
        },
    )


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
            "versions": _versions(variant, "torch", "transformers", *(["vllm"] if serving.engine == "vllm" else [])),
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


def evaluation_steps(job: Job, variant: Variant) -> dict[str, Step]:
    """Every evaluation unit of a variant, by the name of its task or text."""
    tasks = {request.name: task_step(job, variant, request.name) for request in job.task_requests}
    texts = {text.name: perplexity_step(job, variant, text) for text in job.config.evaluation.perplexity}
    return {**tasks, **texts}


def _draft_identity(job: Job, variant: Variant, tokens: int, temperature: float) -> dict[str, object]:
    serving, execution = job.config.serving, job.config.execution
    assert serving is not None
    assert serving.drafts is not None
    return {
        "versions": _versions(variant, "torch", "transformers", "vllm"),
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


def _evaluation_identity(job: Job, variant: Variant) -> dict[str, object]:
    model, evaluation = job.config.model, job.config.evaluation
    if evaluation.backend == "vllm":
        # It has an attention of its own, and puts batches together itself.
        decides = {"length": job.evaluated_length, "tensor_parallel": job.config.execution.tensor_parallel}
        computed: dict[str, object] = {**model.model_dump(include={"dtype"}), **decides}
    else:
        computed = {
            **model.model_dump(include={"dtype", "attn_implementation"}),
            **evaluation.model_dump(include={"batch_size"}),
        }
    return {
        "algorithm": 1,
        "model": variant.base,
        **variant.identity(),
        **computed,
        "backend": evaluation.backend,
    }


def _text_libraries(text: FoundText) -> tuple[str, ...]:
    """Libraries that make samples of a text. That for data sets decides the order of a shuffled stream."""
    return ("transformers", "tokenizers", *(["datasets"] if text.spec.reads_datasets else []))


def _tokenized_by(job: Job, text: FoundText) -> str | None:
    """A text becomes other tokens with another tokenizer; ready token ids depend on no model."""
    return job.checkpoint.identity if text.spec.reads_text else None


def _backend_libraries(job: Job) -> tuple[str, ...]:
    return ("torch", "transformers", *(["vllm"] if job.config.evaluation.backend == "vllm" else []))


def _versions(variant: Variant, *libraries: str) -> dict[str, str]:
    return public_versions([*libraries, *variant.libraries])
