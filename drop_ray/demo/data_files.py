"""The generated data files of this folder: task data, calibration text and held-out text.

Only the seeds below go in. Out comes the text of every file by its path relative to `drop_ray/demo`, so that the
committed files can be compared with what the generator makes.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from drop_ray.demo.corpus import documents, documents_up_to
from drop_ray.demo.lexicon import Split
from drop_ray.demo.task_rows import Row, agreement_row, arithmetic_row, recall_row, rows

# Agreement asks about combinations that training never has. Recall asks about pairs of a name and a value, arithmetic
# about pairs of numbers, that training does have, in passages and sentences that it has not: a pair that never occurs
# would itself look wrong to the model, however well it reads, and so small a model learns sums only one by one.
TASKS: tuple[tuple[str, Callable[[random.Random, Split], Row], Split], ...] = (
    ("recall", recall_row, "train"),
    ("agreement", agreement_row, "heldout"),
    ("arithmetic", arithmetic_row, "train"),
)
ROWS_PER_TASK = 400
FEWSHOT_ROWS = 100
PERPLEXITY_DOCUMENTS = 60
CALIBRATION_CHARACTERS = 300_000
HELDOUT_CHARACTERS = 40_000

# Training reads fewer documents than these; no question has a context that stands in any of them.
TRAINING_SEED = 0
TRAINING_DOCUMENTS = 30_000
CALIBRATION_SEED = 1
HELDOUT_SEED = 2
TASK_SEED = 3
FEWSHOT_SEED = 4


def data_files() -> dict[str, str]:
    """The text of each generated file by its path relative to the demo folder."""
    files = {
        "calibration.jsonl": _texts(documents_up_to(CALIBRATION_SEED, "train", CALIBRATION_CHARACTERS)),
        "heldout.jsonl": _texts(documents_up_to(HELDOUT_SEED, "heldout", HELDOUT_CHARACTERS)),
        "tasks/perplexity.jsonl": _texts(itertools.islice(documents(TASK_SEED, "heldout"), PERPLEXITY_DOCUMENTS)),
    }
    training_text = "\n".join(itertools.islice(documents(TRAINING_SEED, "train"), TRAINING_DOCUMENTS))
    for name, maker, split in TASKS:
        questions = rows(maker, TASK_SEED, split, ROWS_PER_TASK, known=training_text.__contains__)
        asked = frozenset(question["context"] for question in questions)
        examples = rows(maker, FEWSHOT_SEED, "train", FEWSHOT_ROWS, known=asked.__contains__)
        files[f"tasks/{name}.jsonl"] = _json_lines(questions)
        files[f"tasks/{name}_fewshot.jsonl"] = _json_lines(examples)
    return files


def write_data_files(folder: Path) -> None:
    """Writes every generated file below `folder`, with the line ends of the generator on any system."""
    for name, text in data_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("ascii"))


def _texts(texts: Iterable[str]) -> str:
    return _json_lines({"text": text} for text in texts)


def _json_lines(values: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)
