"""How long a sequence a model takes in the evaluation."""

from typing import Any

from transformers import PreTrainedTokenizerBase


def evaluated_length(config: Any, tokenizer: PreTrainedTokenizerBase | None, max_length: int | None) -> int:
    """Tokens of a sequence at most: `evaluation.max_length`, or else what lm-eval takes as the model's own limit."""
    from lm_eval.models.utils import resolve_max_length  # takes a second

    return max_length or int(resolve_max_length(config, tokenizer))
