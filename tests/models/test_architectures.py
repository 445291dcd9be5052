"""Which architectures are taken: listed ones, others after a probe, and those that are refused with the reason."""

import pytest
import torch
from tiny_models import COMMON, TRAITS, edit_json, logits_of, token_ids, write_checkpoint
from transformers import AutoModelForCausalLM, BloomConfig, GemmaConfig

import drop_ray
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture, probe

IDS = token_ids(2, 24)


def write_unlisted(folder, config):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """Fits without being listed: a Llama whose embeddings are scaled."""
    config = GemmaConfig(**COMMON, num_hidden_layers=4, head_dim=8)
    return write_unlisted(tmp_path_factory.mktemp("gemma"), config)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_listed_architecture_stands_the_probe_and_has_a_tiny_model(architecture):
    config = base_config_class(architecture)(**{**COMMON, "num_hidden_layers": 4, **TRAITS[architecture]})
    config.architectures = [architecture]
    probe(config)


def test_an_unlisted_architecture_is_refused_until_it_is_allowed(gemma):
    with pytest.raises(UserError, match=r"GemmaForCausalLM, which is not among .* set model.allow_unlisted: true"):
        drop_ray.load(gemma)
    model = drop_ray.load(gemma, allow_unlisted=True)
    original = AutoModelForCausalLM.from_pretrained(gemma, dtype=torch.float32).eval()
    assert torch.equal(logits_of(model, IDS), logits_of(original, IDS))
    dropped = load_model(gemma, DropLists((0, 2), (1,)))
    assert not torch.equal(logits_of(dropped, IDS), logits_of(original, IDS))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(hidden_size=32, n_layer=2, n_head=2, vocab_size=64), "without its sub-layers no state passes"),
    ],
    ids=["the residual is added inside"],
)
def test_an_architecture_that_does_not_fit_is_refused_with_the_reason(config, reason, tmp_path):
    with pytest.raises(UserError, match=f"does not fit: {reason}"):
        drop_ray.load(write_unlisted(tmp_path, config), allow_unlisted=True)


REFUSED = {
    "names no architecture": {"architectures": None},
    "knows no architecture NovelForCausalLM": {"architectures": ["NovelForCausalLM"]},
    "drop-ray import": {"architectures": ["BaichuanForCausalLM"]},
    "SOLAR-10.7B .* is supported": {"architectures": ["SolarForCausalLM"]},
    "does not load as AutoModelForImageTextToText; write its language model to a folder first, .* drop-ray import": {
        "architectures": ["VoxtralForConditionalGeneration"],
        "text_config": {"model_type": "llama"},
    },
    "is a PaliGemmaForConditionalGeneration, which is not among .*Gemma3ForConditionalGeneration, .*; set model.all": {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "text_config": {"model_type": "gemma"},
    },
    "is a Mistral3ForConditionalGeneration around a GemmaForCausalLM, which is not among the tested": {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": {"model_type": "gemma"},
    },
    "inside a multimodal one, and transformers has no class for its language model alone": {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "text_config": {"model_type": "qwen3_vl_moe_text"},
    },
    r"quantized already \(awq\); give its 16-bit checkpoint": {"quantization_config": {"quant_method": "awq"}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_dropped_from_is_refused_by_name_with_the_remedy(message, llama_folder, tmp_path):
    (tmp_path / "config.json").write_text((llama_folder / "config.json").read_text())
    edit_json(tmp_path / "config.json", **REFUSED[message])
    with pytest.raises(UserError, match=message):
        check_architecture(open_checkpoint(tmp_path, weights=False), allow_unlisted=False)


def test_gemma_2_is_refused_with_an_attention_that_leaves_out_its_soft_caps(tmp_path):
    folder = write_checkpoint(tmp_path, "Gemma2ForCausalLM")
    with pytest.raises(UserError, match="sdpa leaves out the soft caps of Gemma 2; set it to eager"):
        load_model(folder, attn_implementation="sdpa")
    assert load_model(folder).config._attn_implementation == "eager"
