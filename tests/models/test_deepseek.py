"""DeepSeek v1 against a plain computation of its mixture of experts, and what DeepSeek-V3 keeps behind its layers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TRAITS, logits_of, make_model, token_ids, write_checkpoint
from torch.nn.functional import linear, silu

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.planning.inspection import inspect_model

IDS = token_ids(2, 24)


def gated(x, tensors, prefix):
    gate, up, down = (tensors[f"{prefix}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return linear(silu(linear(x, gate)) * linear(x, up), down)


def mixture(x, tensors, prefix, normalized):
    """DeepSeekMoE one token and expert at a time, from the checkpoint's own tensors; x: [tokens, hidden_size]."""
    scores = linear(x, tensors[f"{prefix}.gate.weight"]).softmax(-1)
    output = gated(x, tensors, f"{prefix}.shared_experts")
    for token in range(len(x)):
        best = scores[token].argsort(descending=True)[: TRAITS["DeepseekForCausalLM"]["num_experts_per_tok"]]
        total = scores[token, best].sum() if normalized else 1
        for expert in best.tolist():
            part = gated(x[token], tensors, f"{prefix}.experts.{expert}")
            output[token] += scores[token, expert] / total * part
    return output


@pytest.mark.parametrize("normalized", [False, True])
def test_the_mixture_of_deepseek_v1(normalized, tmp_path):
    write_checkpoint(tmp_path, "DeepseekForCausalLM", shard_size="1GB", norm_topk_prob=normalized)
    tensors = load_file(tmp_path / "model.safetensors")
    model = load_model(tmp_path)
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    assert "model.layers.0.mlp.gate_proj.weight" in tensors  # the first layer is dense
    for layer in (1, 2, 3):
        expected = mixture(x, tensors, f"model.layers.{layer}.mlp", normalized)
        with torch.no_grad():
            found = model.model.layers[layer].mlp(x[None])[0]
        assert torch.allclose(found, expected, atol=1e-6)
        assert expected.abs().max() > 0.01


def test_layers_that_predict_further_tokens_are_passed_over_and_not_exported(tmp_path, caplog):
    folder = write_checkpoint(tmp_path / "base", "DeepseekV3ForCausalLM", shard_size="1GB")
    tensors = load_file(folder / "model.safetensors")
    last = {name: value for name, value in tensors.items() if "layers.3." in name}
    extra = {name.replace("layers.3.", "layers.4."): value.clone() for name, value in last.items()}
    save_file({**tensors, **extra}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    assert any("1 layers that predict further tokens" in line for line in inspect_model(str(folder)).lines())
    expected = logits_of(make_model("DeepseekV3ForCausalLM"), IDS)
    assert torch.equal(logits_of(load_model(folder), IDS), expected)
    export_checkpoint(open_checkpoint(folder), DropLists((0,), ()), tmp_path / "dropped")
    assert "layers that predict further tokens" in caplog.text
    dropped = open_checkpoint(tmp_path / "dropped")
    assert not any("layers.4." in name for name in dropped.tensors)
    assert dropped.config["num_nextn_predict_layers"] == 0


def test_the_expert_bias_stays_in_float32(tmp_path):
    model = load_model(write_checkpoint(tmp_path, "DeepseekV3ForCausalLM"), dtype=torch.bfloat16)
    gate = model.model.layers[1].mlp.gate
    assert (gate.weight.dtype, gate.e_score_correction_bias.dtype) == (torch.bfloat16, torch.float32)
