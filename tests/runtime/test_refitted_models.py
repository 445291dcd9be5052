"""A plan of the demo, refitted and quantized: in transformers, in vLLM, as a draft of the base; each with its KL."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from vllm_apart import answer_of

from drop_ray.calibration import packing
from drop_ray.config import parse_config
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer
from drop_ray.pipeline import run
from drop_ray.quantization.dequantized import open_dequantized

pytestmark = pytest.mark.nightly
DROPPED, REFITTED = "attention-4", "attention-4-refit"
QUANTIZED = [f"{REFITTED}-{method}" for method in ("awq", "gptq")]
CONFIG = {
    "name": "run",
    "model": {"path": "demo:model", "dtype": "float32"},
    "calibration": {"source": "demo:calibration.jsonl", "num_samples": 32, "seq_len": 256},
    "plans": [{"strategy": "attention", "drop": [4]}],
    "refit": [{"ridge": 0.1, "text": {"source": "demo:calibration.jsonl", "num_samples": 64, "seq_len": 256}}],
    "evaluation": {"divergence": {"source": "demo:heldout.jsonl", "num_samples": 16}},
    "quantization": [{"method": method, "group_size": 64, "plans": [REFITTED]} for method in ("awq", "gptq")],
    "export": [DROPPED, REFITTED],
}
# vLLM's kernels for 4 bits have no float32.
SERVED_IN = {REFITTED: "float32", **dict.fromkeys(QUANTIZED, "float16")}
DRAFTS = {DROPPED: "float32", REFITTED: "float32", QUANTIZED[0]: "float16"}
# Of a log-probability: kernels of float32, and those that multiply 4 bits by float16.
TOLERANCES = {REFITTED: 1e-3, **dict.fromkeys(QUANTIZED, 0.1)}


@pytest.fixture(scope="module")
def made(local_ray, tmp_path_factory):
    """({variant: its checkpoint}, {variant: its KL to the base on held-out text})."""
    store = tmp_path_factory.mktemp("refitted") / "store"
    done = run(parse_config({**CONFIG, "store": str(store)}, "test"))
    rows = pq.read_table(Path(done.folder) / "tables" / "divergences.parquet").to_pylist()
    return {name: Path(folder) for name, folder in done.checkpoints.items()}, {row["variant"]: row for row in rows}


@pytest.fixture(scope="module")
def prompts():
    documents = [json.loads(line)["text"] for line in (DEMO_FOLDER / "heldout.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(DEMO_FOLDER / "model")
    tokenize = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
    return packing.pack(documents, tokenize, tokenizer.eos_token_id, 8, 64, field="heldout").tolist()


@pytest.fixture(scope="module")
def served(made, prompts, tmp_path_factory):
    """What vLLM makes of the prompts, by engine: each checkpoint, and the base with each as its draft."""
    folders = made[0]
    base, output = str(DEMO_FOLDER / "model"), tmp_path_factory.mktemp("served") / "answers.json"
    engines = {name: {"model": str(folders[name]), "dtype": dtype} for name, dtype in SERVED_IN.items()}
    engines |= {dtype: {"model": base, "dtype": dtype} for dtype in set(DRAFTS.values())}
    engines |= {
        f"draft {name}": {"model": base, "dtype": dtype, "draft": str(folders[name])} for name, dtype in DRAFTS.items()
    }
    request = {"engines": engines, "prompts": prompts}
    return answer_of(Path(__file__).with_name("refitted_engines.py"), request, output, OMP_NUM_THREADS="2")


def as_it_computes(folder):
    """A checkpoint in float32, with the values that 4-bit kernels compute with."""
    checkpoint = open_checkpoint(folder)
    if "quantization_config" not in checkpoint.config:
        return load_model(checkpoint, dtype=torch.float32)
    packed = open_dequantized(folder)
    fields = {key: value for key, value in packed.config.items() if key != "quantization_config"}
    return load_model(replace(packed, config=fields), dtype=torch.float32)


def test_what_came_back_stays_in_4_bits(made):
    kl = {name: row["kl"] for name, row in made[1].items()}
    assert kl[REFITTED] < 0.5 * kl[DROPPED]
    assert all(kl[REFITTED] < kl[name] < 0.6 * kl[DROPPED] for name in QUANTIZED), kl


@pytest.mark.parametrize("name", [REFITTED, *QUANTIZED])
def test_card_and_config_say_that_it_was_refitted(made, name):
    folder = made[0][name]
    fields = json.loads((folder / "config.json").read_text())
    assert "solved anew" in fields["drop_ray"]["refit"]
    assert fields["drop_ray"]["refit"] in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", TOLERANCES)
def test_vllm_gives_what_transformers_gives(made, served, prompts, name):
    model = as_it_computes(made[0][name])
    ids = torch.tensor(prompts)
    with torch.no_grad():
        expected = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    assert (torch.tensor(served[name]["logprobs"]) - expected).abs().max() < TOLERANCES[name]
    if name == REFITTED:
        assert_greedy(model, ids, torch.tensor(served[name]["tokens"]))


def assert_greedy(model, prompts, tokens):
    """Each token has the highest logit after those before it, or one that rounding cannot tell from it."""
    with torch.no_grad():
        logits = model(torch.cat((prompts, tokens), dim=1)).logits[:, prompts.shape[1] - 1 : -1]
    chosen = logits.gather(2, tokens[..., None])[..., 0]
    assert (logits.max(dim=2).values - chosen).max() < TOLERANCES[REFITTED]


@pytest.mark.parametrize("name", DRAFTS)
def test_as_a_draft_it_changes_no_token_of_the_base(served, name):
    assert served[f"draft {name}"]["tokens"] == served[DRAFTS[name]]["tokens"]


def test_refitted_drafts_are_accepted_more_often_than_the_dropped_one(served):
    accepted = {name: served[f"draft {name}"]["accepted"] for name in DRAFTS}
    assert all(accepted[name] > accepted[DROPPED] for name in DRAFTS if name != DROPPED), accepted
