"""Sparse attention whose indexer chooses the tokens, and residual states of several vectors: taken, or refused."""

import json

import pytest
import torch
import transformers
from tiny_models import COMMON, DEEPSEEK, LATENT, Silenced, logits_of, token_ids

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture

# The indexer chooses 4 of up to 24 tokens, so that its choice counts.
INDEXER = {"index_topk": 4, "index_head_dim": 16, "index_n_heads": 16, "q_lora_rank": 24}
TRAITS = {**COMMON, **DEEPSEEK, **LATENT, **INDEXER, "num_hidden_layers": 4, "n_group": 1, "topk_group": 1}
DROPS = DropLists((0, 2), (1,))
IDS = token_ids(2, 24)


def write(folder, architecture, **traits):
    torch.manual_seed(0)
    config = getattr(transformers, architecture).config_class(**{**TRAITS, **traits})
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "architecture", ["GlmMoeDsaForCausalLM", pytest.param("DeepseekV32ForCausalLM", marks=pytest.mark.full)]
)
def test_attention_goes_with_its_indexer(architecture, tmp_path):
    full = write(tmp_path, architecture)
    checkpoint = open_checkpoint(tmp_path)
    check_architecture(checkpoint, allow_unlisted=True)
    dense = write(tmp_path / "dense", architecture, index_topk=64)
    assert not torch.equal(logits_of(full, IDS), logits_of(dense, IDS))

    dropped = load_model(checkpoint, DROPS)
    assert not any("layers.0.self_attn" in name for name in dropped.state_dict())
    layers = full.model.layers
    for name, indices in (("self_attn", DROPS.attn), ("mlp", DROPS.mlp)):
        for index in indices:
            setattr(layers[index], name, Silenced(getattr(layers[index], name)))
    assert torch.equal(logits_of(dropped, IDS), logits_of(full, IDS))
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    without = dropped.generate(IDS, use_cache=False, **settings)
    assert torch.equal(dropped.generate(IDS, use_cache=True, **settings), without)


REFUSED = {
    # A layer that takes another's choice has nothing without it.
    "GlmMoeDsaForCausalLM": (
        {"indexer_types": ["full", "shared", "full", "shared"]},
        "GlmMoeDsaForCausalLM does not fit: its layers cannot be called one after the other .*top-k indices",
    ),
    # Hyper-connections.
    "DeepseekV4ForCausalLM": (
        None,
        "DeepseekV4ForCausalLM does not fit: the state between its layers is more than one vector a token",
    ),
    "HYV4ForCausalLM": (None, "HYV4ForCausalLM does not fit: its layers cannot be called one after the other"),
}


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_is_not_carried_is_refused_with_the_reason(architecture, tmp_path):
    traits, message = REFUSED[architecture]
    config = getattr(transformers, architecture).config_class(**({**TRAITS, **traits} if traits else {}))
    config.architectures = [architecture]
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(UserError, match=message):
        check_architecture(open_checkpoint(tmp_path, weights=False), allow_unlisted=True)
