"""Few-shot examples drawn per document, so that a document's prompt never depends on which others are evaluated.

lm-eval draws the examples of all documents from one random generator, in document order, so that a split, a limit or
another order would change the prompts. Here the generator is seeded anew before each document. Samplers without
randomness (`first_n`) are not affected.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lm_eval.utils import handle_non_serializable


def document_seed(seed: int, task: str, document: Mapping[str, Any]) -> int:
    """A 64-bit seed made of the run's seed, the task's name and the document's content."""
    content = json.dumps([seed, task, document], sort_keys=True, default=handle_non_serializable)
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")


def seed_by_document(task: Any, seed: int) -> None:
    """Make a loaded lm-eval task reseed its few-shot sampler before it builds the prompt of a document."""
    build_prompt = task.fewshot_context

    def seeded_prompt(document: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        task.set_fewshot_seed(document_seed(seed, task.task_name, document))
        return build_prompt(document, *args, **kwargs)

    task.fewshot_context = seeded_prompt
