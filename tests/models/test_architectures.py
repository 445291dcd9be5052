"""Which architectures are taken: listed ones, others after a probe, and those that are refused with the reason."""

import pytest
import torch
from tiny_models import COMMON, TRAITS, edit_json, logits_of, token_ids, write_checkpoint
from transformers import AutoModelForCausalLM, CohereConfig, GPT2Config, GraniteConfig

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
def granite(tmp_path_factory):
    """Fits without being listed: a Llama whose residual contributions are scaled."""
    config = GraniteConfig(**COMMON, num_hidden_layers=4, residual_multiplier=0.5)
    return write_unlisted(tmp_path_factory.mktemp("granite"), config)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_listed_architecture_stands_the_probe_and_has_a_tiny_model(architecture):
    config = base_config_class(architecture)(**{**COMMON, "num_hidden_layers": 4, **TRAITS[architecture]})
    config.architectures = [architecture]
    probe(config)


def test_an_unlisted_architecture_is_refused_until_it_is_allowed(granite):
    with pytest.raises(UserError, match=r"GraniteForCausalLM, which is not among .* set model.allow_unlisted: true"):
        drop_ray.load(granite)
    model = drop_ray.load(granite, allow_unlisted=True)
    original = AutoModelForCausalLM.from_pretrained(granite, dtype=torch.float32).eval()
    assert torch.equal(logits_of(model, IDS), logits_of(original, IDS))
    dropped = load_model(granite, DropLists((0, 2), (1,)))
    assert not torch.equal(logits_of(dropped, IDS), logits_of(original, IDS))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        # Attention and MLP side by side: there is no state between them.
        (CohereConfig(**COMMON, num_hidden_layers=2), "the MLP of layer 0 does not see the residual state after"),
        (GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64), "its decoder layers are not in `layers`"),
    ],
    ids=["parallel", "other names"],
)
def test_an_architecture_that_does_not_fit_is_refused_with_the_reason(config, reason, tmp_path):
    with pytest.raises(UserError, match=f"does not fit: {reason}"):
        drop_ray.load(write_unlisted(tmp_path, config), allow_unlisted=True)


REFUSED = {
    "names no architecture": {"architectures": None},
    "knows no architecture NovelForCausalLM": {"architectures": ["NovelForCausalLM"]},
    "drop-ray import": {"architectures": ["BaichuanForCausalLM"]},
    "SOLAR-10.7B .* is supported": {"architectures": ["SolarForCausalLM"]},
    "language model inside a multimodal one": {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}},
    r"quantized already \(fp8\); give its 16-bit checkpoint": {"quantization_config": {"quant_method": "fp8"}},
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
