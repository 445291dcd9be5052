"""`drop-ray init MODEL`: a first config for a model, made from its configuration and tokenizer; no weights are read.

It runs as it is: on the texts that come with drop_ray, cut so that they are enough, with plans that fit the layers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drop_ray.calibration.text_files import read_documents
from drop_ray.config import ModelConfig, resolve_path
from drop_ray.config.commented import Off, commented_yaml
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.layers import Layers
from drop_ray.models.location import load_tokenizer, locate_model
from drop_ray.models.place import HUB_NAME
from drop_ray.models.probe import check_architecture, is_listed
from drop_ray.planning.modules import candidates

CALIBRATION_TEXT, HELD_OUT_TEXT = "demo:calibration.jsonl", "demo:heldout.jsonl"
DTYPES = ("bfloat16", "float16", "float32")
# As the paper calibrates: 256 samples of 2048 tokens. A standard error wants some samples, so that a short text is cut
# into shorter ones.
SEQ_LEN, MAX_SAMPLES, MIN_CALIBRATION_SAMPLES, MIN_TEXT_SAMPLES = 2048, 256, 32, 8
# Of the paper's serving measurement: 2048 tokens in, 2048 out.
REQUEST_TOKENS = 4096
# Shares of the layers to drop. Half of the attention layers is as far as the paper's models can go.
ATTENTION_SHARES, OTHER_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2), (1 / 8, 1 / 4)
HEADER = """\
# A first run of drop_ray, made by `drop-ray init`. It works as it is:
#   drop-ray run {file} --dry-run
#   drop-ray run {file}
# Every field stands below what it means; what is commented out can be taken up.

"""
NOTES = {
    "calibration.source": "This one comes with drop_ray, so that a run works at once: give text of the kind that the "
    "model is used for. Instead of a file: dataset, dataset_config, dataset_split, such as allenai/c4, en, validation",
    "evaluation.perplexity": "Another text than the calibration's; this one comes with drop_ray too",
    "evaluation.divergence": "All of the calibration text is scored here; of a longer one leave `source` out, and what "
    "follows the calibration samples is taken",
    "evaluation.tasks": "Their data come from the Hugging Face hub; tasks of your own lie in a folder, `include_path`",
    "refit": "Solves what is left of every plan anew, to make up for what is dropped; wants text of many kinds",
    "accept": "KL needs no tasks; with tasks: {metric: average, loss: 1 point}",
    "quantization": "Needs `pip install 'drop-ray[quantization]'`",
    "serving": "Needs vLLM: `pip install 'drop-ray[gpu]'`",
    "execution.gpus_per_worker": "On a machine or cluster with GPUs: 1, and num_workers auto",
}


@dataclass(frozen=True)
class ModelFacts:
    """The facts about a model that decide its first config."""

    path: str
    """Path of the model, as the user gave it."""
    dtype: str
    """Dtype of the stored weights, as config.json states it."""
    needs_eager: bool
    """Whether transformers' default attention computes another model."""
    is_listed: bool
    """Whether its architecture is one of the tested ones."""
    layers: Layers
    """Its decoder layers, and what of them must stay."""
    lacking: DropLists
    """Drop lists of the model itself."""
    max_positions: int
    """Number of tokens of the longest sequence that it takes."""
    calibration_tokens: int
    """Number of tokens that its tokenizer makes of the calibration text."""
    held_out_tokens: int
    """Number of tokens that its tokenizer makes of the text for perplexity."""


def read_facts(path: str) -> ModelFacts:
    """The facts about the model at `path`, from config.json and the tokenizer."""
    location = locate_model(ModelConfig(path=path).location, None, weights=False)
    checkpoint = open_checkpoint(location, weights=False)
    check_architecture(checkpoint, allow_unlisted=True)
    config, lacking = read_config(checkpoint), drop_lists_of(checkpoint)
    size = measure(build_skeleton(config, lacking, torch.bfloat16))
    family = FAMILIES.get(config.architectures[0])
    stored = str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype"))
    return ModelFacts(
        path=path,
        dtype=stored if stored in DTYPES else ModelConfig(path=path).dtype,
        needs_eager=family is not None and family.needs_eager,
        is_listed=is_listed(checkpoint),
        layers=size.layers,
        lacking=lacking,
        max_positions=size.max_positions or SEQ_LEN,
        calibration_tokens=_count_tokens(checkpoint, CALIBRATION_TEXT),
        held_out_tokens=_count_tokens(checkpoint, HELD_OUT_TEXT),
    )


def first_config(facts: ModelFacts, file: str) -> str:
    """The YAML text; `file` is where it will be, for the commands that it tells."""
    return HEADER.format(file=file) + commented_yaml(_values(facts), NOTES)


def _values(facts: ModelFacts) -> dict[str, Any]:
    model: dict[str, Any] = {"path": facts.path}
    if HUB_NAME.fullmatch(facts.path) and not Path(facts.path).is_dir():
        model["revision"] = Off("main")
    model["dtype"] = facts.dtype
    if facts.needs_eager:
        model["attn_implementation"] = "eager"
    if not facts.is_listed:
        model["allow_unlisted"] = True
    half = min(REQUEST_TOKENS, facts.max_positions) // 2
    held_out = _samples(facts.held_out_tokens, facts.max_positions, MIN_TEXT_SAMPLES)
    return {
        "model": model,
        "calibration": {
            "source": CALIBRATION_TEXT,
            **_samples(facts.calibration_tokens, facts.max_positions, MIN_CALIBRATION_SAMPLES),
        },
        "plans": _plans(facts),
        "refit": Off([{"ridge": "auto", "held_out": 8}]),
        "evaluation": {
            "batch_size": 8,
            "perplexity": [{"name": "held_out", "source": HELD_OUT_TEXT, **held_out}],
            "divergence": {"source": HELD_OUT_TEXT, **held_out},
            "tasks": Off([{"name": "arc_challenge", "num_fewshot": 25}, {"name": "boolq", "num_fewshot": 0}]),
            "limit": Off(200),
            "gates": Off({"cliffs": ["attention"]}),
        },
        "accept": {"metric": "kl", "loss": "0.05 nats", "confidence": 0.95},
        "quantization": Off([{"method": "awq", "group_size": 128}, {"method": "gptq", "group_size": 128}]),
        "serving": Off(
            {
                "workloads": [{"prompt": half, "output": half}],
                "batch_sizes": [1, 8, 32],
                "pairs": 5,
                "kv_cache_bytes": 16 << 30,
            }
        ),
        "export": "none",
        "store": "drop-ray-store",
        "execution": {
            "num_workers": 1,
            "gpus_per_worker": 0,
            "hardware": Off("h100"),
            "layers": Off("streamed"),
            "cache_dir": Off("/mnt/nvme/drop-ray"),
            "store_options": Off({"endpoint_url": "https://minio.example.org:9000"}),
        },
    }


def _plans(facts: ModelFacts) -> list[dict[str, Any]]:
    """The least important of each kind, and as many attention layers at random, to see what the ranking is worth."""
    counts = {
        of: _counts(len(candidates(of, facts.layers, facts.lacking)), shares)
        for of, shares in (("attention", ATTENTION_SHARES), ("mlp", OTHER_SHARES), ("block", OTHER_SHARES))
    }
    plans: list[dict[str, Any]] = [{"strategy": of, "drop": drop} for of, drop in counts.items() if drop]
    if counts["attention"]:
        middle = counts["attention"][len(counts["attention"]) // 2]
        plans.append({"strategy": "random", "of": "attention", "seed": 0, "drop": [middle]})
    return plans


def _counts(available: int, shares: tuple[float, ...]) -> list[int]:
    return sorted({max(1, round(available * share)) for share in shares}) if available else []


def _samples(num_tokens: int, max_positions: int, least: int) -> dict[str, int]:
    """The longest samples, of a power of two tokens, of which the text gives at least so many."""
    seq_len = 1 << (min(SEQ_LEN, max_positions).bit_length() - 1)
    while seq_len > 2 and num_tokens // seq_len < least:
        seq_len //= 2
    return {"num_samples": min(MAX_SAMPLES, num_tokens // seq_len), "seq_len": seq_len}


def _count_tokens(checkpoint: Checkpoint, source: str) -> int:
    """Number of tokens of a text, counted as in packing: every document is followed by EOS."""
    documents = read_documents(resolve_path(source), "text", "calibration.source")
    tokenizer = load_tokenizer(checkpoint.folder)
    return sum(len(ids) + 1 for ids in tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"])
