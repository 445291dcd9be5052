"""A run on a tiny model, as its user would write it: inputs as files, and a config that names them."""

import json
import random
from pathlib import Path

import tiny_models
import yaml

from drop_ray.config import RunConfig, parse_config


def write_inputs(folder: Path) -> Path:
    """A model, a calibration text, an offline task with few-shot examples, one that fails at its second document."""
    tiny_models.write_checkpoint(folder / "model", num_layers=4)
    words = random.Random(0).choices(["red", "green", "seven", "two", "walks", "sings", "the", "a"], k=4000)
    (folder / "text.txt").write_text(" ".join(words))
    tasks = folder / "tasks"
    tasks.mkdir()
    rows = [{"question": f"{words[i]} {words[i + 1]}", "choices": ["yes", "no"], "answer": i % 2} for i in range(24)]
    for split, part in (("test", rows[:12]), ("train", rows[12:])):
        (tasks / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
    (tasks / "choose.yaml").write_text(
        """
task: choose
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl, train: train.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
    )
    broken = (tasks / "choose.yaml").read_text().replace("choose", "broken", 1)
    broken = broken.replace("{{question}}", "{{question.nonexistent.field if answer else question}}")
    (tasks / "broken.yaml").write_text(broken)
    return folder


def config_values(inputs: Path, store, **fields):
    """A run on the tiny model: 10 sample ranges, two attention plans, a task with two examples and a text.

    divergence: `evaluation.divergence`; where it is not the point, predictions are not compared.
    """
    return {
        "name": "run",
        "model": {"path": str(inputs / "model"), "dtype": "float32"},
        "calibration": {"source": str(inputs / "text.txt"), "num_samples": 20, "seq_len": 32},
        "scoring": {"micro_batch": 2, "range_size": 2},
        "plans": [{"strategy": "attention", "drop": [1, 2]}],
        "evaluation": {
            "batch_size": 4,
            "tasks": [{"name": name, "num_fewshot": 2} for name in fields.pop("tasks", ["choose"])],
            "include_path": str(inputs / "tasks"),
            "perplexity": [{"name": "text", "source": str(inputs / "text.txt"), "num_samples": 4, "seq_len": 32}],
            "divergence": fields.pop("divergence", None),
        },
        "store": str(store),
        **fields,
    }


def config_of(inputs: Path, store, **fields) -> RunConfig:
    return parse_config(config_values(inputs, store, **fields), "test")


def write_config(path: Path, inputs: Path, store, **fields) -> str:
    path.write_text(yaml.safe_dump(config_values(inputs, store, **fields)))
    return str(path)
