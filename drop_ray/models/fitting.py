"""Whether the parts of a model's folder fit together: tokenizer and embedding, chat template, generation config.

It is asked once, when a job is opened, and only of what the job uses.
"""

import logging
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from drop_ray.errors import UserError
from drop_ray.reading.json_text import read_json_object
from drop_ray.text.faults import in_a_line

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
GENERATION = "generation_config.json"

logger = logging.getLogger(__name__)


def check_tokenizer(tokenizer: Any, rows: int, location: str) -> None:
    """UserError if the tokenizer gives ids that the embedding, of that many rows, does not have.

    Added tokens beyond it that stand for nothing are let be, such as Gemma 3's for images: a text that has one is
    refused when it is tokenized.
    """
    added = tokenizer.get_added_vocab()
    own = {token: number for token, number in tokenizer.get_vocab().items() if token not in added}
    used = own | {name: number for name in SPECIAL if (number := getattr(tokenizer, f"{name}_id", None)) is not None}
    token = max(used, key=lambda name: used[name], default=None)
    if token is not None and used[token] >= rows:
        raise UserError(
            f"model.path: {location}: the tokenizer has ids up to {used[token]} ({token!a}), the model's embedding has "
            f"{rows} rows; give the model the tokenizer that it was trained with, or give it rows "
            "(model.resize_token_embeddings) and train them"
        )
    beyond = [name for name, number in added.items() if number >= rows]
    if beyond:
        logger.warning("%s: the model has no embedding for the token %s; no text may hold it", location, beyond[0])


def check_chat_template(tokenizer: Any, location: str) -> None:
    """UserError unless the tokenizer can write a conversation."""
    if not tokenizer.chat_template:
        raise UserError(
            f"evaluation.apply_chat_template: the tokenizer of {location} has no chat template; add "
            "chat_template.jinja to the model's folder, or leave it out"
        )
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "Hello."}], tokenize=False)
    except Exception as error:  # a template is a program, which may fail in any way
        raise UserError(
            f"evaluation.apply_chat_template: the chat template of {location} fails ({in_a_line(error)}); correct it"
        ) from error


def check_generation_config(folder: Path, location: str) -> None:
    """UserError for a generation_config.json that transformers cannot read; a warning if it would not save it again."""
    if not (folder / GENERATION).exists():
        return
    what = f"model.path: {location}/{GENERATION}"
    fields = read_json_object(folder / GENERATION, what)
    try:
        config = GenerationConfig.from_dict(fields)
    except Exception as error:  # every field has a check of its own
        raise UserError(f"{what}: {in_a_line(error)}; correct the field") from error
    try:
        config.validate(strict=True)
    except ValueError as error:
        logger.warning(
            "%s/%s is exported as it is, and transformers will not save a model with it (save_pretrained): %s",
            location,
            GENERATION,
            in_a_line(error),
        )
