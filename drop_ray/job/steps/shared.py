"""What the identities of several steps have in common."""

from drop_ray.job.found_text import FoundText
from drop_ray.job.job import Job
from drop_ray.planning.variants import Variant
from drop_ray.store.versions import public_versions


def versions_of(variant: Variant, *libraries: str) -> dict[str, str]:
    return public_versions([*libraries, *variant.libraries])


def backend_libraries(job: Job) -> tuple[str, ...]:
    return ("torch", "transformers", *(["vllm"] if job.config.evaluation.backend == "vllm" else []))


def text_libraries(text: FoundText) -> tuple[str, ...]:
    """Libraries that make samples of a text. That for data sets decides the order of a shuffled stream."""
    return ("transformers", "tokenizers", *(["datasets"] if text.spec.reads_datasets else []))


def tokenized_by(job: Job, text: FoundText) -> str | None:
    """A text becomes other tokens with another tokenizer; ready token ids depend on no model."""
    return job.checkpoint.identity if text.spec.reads_text else None
