"""Identities of what is made of one variant and measured on it: its export, panel, tasks, perplexities, gates."""

from drop_ray.config import PerplexitySpec, perplexity_field
from drop_ray.evaluation.targets.target import ALGORITHM, Target
from drop_ray.job.job import Job
from drop_ray.job.steps.shared import backend_libraries, text_libraries, versions_of
from drop_ray.models.export_formats import ExportFormat
from drop_ray.planning.variants import Variant
from drop_ray.store import Step


def export_step(variant: Variant, format: ExportFormat = "dropped") -> Step:
    return Step(
        "export" if format == "dropped" else f"export-{format}",
        {
            "algorithm": 2,
            "versions": versions_of(variant, "transformers"),
            "model": variant.base,
            **variant.identity(),
        },
    )


def divergence_step(job: Job, variant: Variant, text_identity: str) -> Step:
    """The panel of one variant. text_identity: hash of the token ids."""
    return Step(
        "diverge",
        {
            "algorithm": 1,
            "versions": versions_of(variant, "torch", "transformers"),
            "text": text_identity,
            # The base's predictions are those of this model, with all that it has.
            "model": variant.base,
            **variant.identity(),
            **job.config.model.model_dump(include={"dtype", "attn_implementation"}),
            **job.config.scoring.model_dump(include={"micro_batch"}),
        },
    )


def evaluation_steps(job: Job, variant: Variant) -> dict[str, Step]:
    """Every evaluation unit of a variant, by the name of its task or text."""
    tasks = {request.name: task_step(job, variant, request.name) for request in job.task_requests}
    texts = {text.name: perplexity_step(job, variant, text) for text in job.config.evaluation.perplexity}
    return {**tasks, **texts}


def task_step(job: Job, variant: Variant, task: str) -> Step:
    """One lm-eval task on one variant: equal variants of other names share it.

    With a target, the base is evaluated whole, as without one, and a variant on the documents that the target takes.
    """
    settings = {"seed", "apply_chat_template", "system_instruction", "max_length"}
    evaluation, target = job.config.evaluation, target_of(job, variant, task)
    return Step(
        "evaluate",
        {
            "versions": versions_of(variant, *backend_libraries(job), "lm-eval"),
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
            "versions": versions_of(variant, *backend_libraries(job), *text_libraries(found)),
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
            "versions": versions_of(variant, *backend_libraries(job), "tokenizers"),
            **evaluation.gates.model_dump(mode="json", include=drawn),
            **evaluation.model_dump(include={"max_length"}),
            **({"share_prefixes": True} if evaluation.share_prefixes else {}),
            **_evaluation_identity(job, variant),
        },
    )


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
