"""Text that the demo's model was not trained on, as token ids."""

import json

from drop_ray.calibration import packing
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.location import load_tokenizer


def heldout_pieces(count: int, length: int) -> list[list[int]]:
    documents = [json.loads(line)["text"] for line in (DEMO_FOLDER / "heldout.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(DEMO_FOLDER / "model")
    tokenize = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
    return packing.pack(documents, tokenize, tokenizer.eos_token_id, count, length, field="heldout").tolist()
