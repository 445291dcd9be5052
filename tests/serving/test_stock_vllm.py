"""A `nemotron-nas` checkpoint of the demo in vLLM as it is installed, without drop_ray: what our model gives."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from vllm_apart import answer_of

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer

# The demo's attention-4, and an MLP.
DROPS = DropLists((2, 7, 10, 11), (6,))


def wide_model(folder):
    """A random model with MLPs of a width that is stated as `ffn_mult`, and the demo's tokenizer."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, num_hidden_layers=12, vocab_size=1024, max_position_embeddings=512)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_FOLDER / "model" / name, folder / name)
    return folder


@pytest.mark.full
@pytest.mark.parametrize("is_wide", [False, True])
def test_vllm_alone_gives_our_log_probabilities(is_wide, tmp_path):
    base = open_checkpoint(wide_model(tmp_path / "base") if is_wide else DEMO_FOLDER / "model")
    folder, output = tmp_path / "nas", tmp_path / "answer.json"
    export_checkpoint(base, DROPS, folder, format="nemotron-nas")
    mlp = json.loads((folder / "config.json").read_text())["block_configs"][0]["ffn"]
    assert ("ffn_mult" in mlp) == is_wide
    documents = [json.loads(line)["text"] for line in (DEMO_FOLDER / "heldout.jsonl").read_text().splitlines()]
    ids = torch.tensor(load_tokenizer(DEMO_FOLDER / "model")(" ".join(documents[:40])).input_ids[:256]).view(4, 64)
    request = {"folder": str(folder), "prompts": ids.tolist()}
    answer = answer_of(Path(__file__).with_name("stock_vllm.py"), request, output, VLLM_PLUGINS="")
    model = load_model(base, DROPS, dtype=torch.float32)
    with torch.no_grad():
        expected = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    assert (torch.tensor(answer) - expected).abs().max() < 1e-5
