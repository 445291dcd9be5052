"""A checkpoint whose config.json ties the output layer to the embedding, while its files hold one of its own.

What is right is what plain transformers makes of the folder, and it is the same model everywhere.
"""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, logits_of, make_model, make_tokenizer, token_ids
from transformers import AutoModelForCausalLM

from drop_ray.errors import UserError
from drop_ray.evaluation.perplexity import evaluate_perplexity
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.serving.servable import check_head

IDS = token_ids(2, 16)
BLOCK = DropLists((1,), (1,))
HEAD = "lm_head.weight"


def write(folder, architecture="LlamaForCausalLM", *, head="own", kind="safetensors", stated=True):
    """A model that config.json calls tied. Its files hold a head of its `own`, a `copy` of the embedding, or none."""
    model = make_model(architecture, tie_word_embeddings=True)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    if not stated:
        del fields["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(fields))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != HEAD}
    embedding = state["model.embed_tokens.weight"]
    if head == "own":
        state[HEAD] = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(3))
    elif head == "copy":
        state[HEAD] = embedding if kind == "bin" else embedding.clone()
    (folder / "model.safetensors").unlink()
    if kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def plain_logits(folder, **kwargs):
    return logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **kwargs).eval(), IDS)


def stored(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(params=["safetensors", "bin"])
def own_head(request, tmp_path):
    return write(tmp_path / "model", kind=request.param)


def test_the_stored_head_is_used_as_in_transformers(own_head, caplog):
    caplog.set_level(logging.WARNING)
    right = plain_logits(own_head)
    model = load_model(own_head)
    assert torch.equal(logits_of(model, IDS), right)
    assert not torch.equal(logits_of(make_model(tie_word_embeddings=True), IDS), right)
    assert open_checkpoint(own_head).config["tie_word_embeddings"] is False
    assert "ties the output layer to the embedding, but the files hold another one" in caplog.text
    result = evaluate_perplexity(model, IDS, 2, "text")
    plain = evaluate_perplexity(AutoModelForCausalLM.from_pretrained(own_head, dtype=torch.float32), IDS, 2, "text")
    assert result.metrics == plain.metrics


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_family_that_ties_by_default_needs_no_field(architecture, stated, tmp_path):
    folder = write(tmp_path / "model", architecture, stated=stated)
    attention = "eager" if architecture == "Gemma2ForCausalLM" else "sdpa"
    assert torch.equal(logits_of(load_model(folder), IDS), plain_logits(folder, attn_implementation=attention))


@pytest.mark.parametrize("format", ["dropped", "plain", "llm-drop"])
def test_an_export_is_one_model_in_every_loader(own_head, format, tmp_path):
    right = logits_of(load_model(own_head, BLOCK), IDS)
    folder = tmp_path / "export"
    export_checkpoint(open_checkpoint(own_head), BLOCK, folder, format=format)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(logits_of(load_model(folder), IDS), right)
    if format == "llm-drop":  # plain transformers would load all layers, which its own loader refuses to pass off
        return
    code = {"trust_remote_code": True} if format == "dropped" else {}
    assert torch.equal(plain_logits(folder, **code), right)


def test_a_run_does_not_take_it_for_the_model_that_is_tied(tmp_path):
    own, tied = write(tmp_path / "own"), write(tmp_path / "tied", head="copy")
    assert open_checkpoint(own).identity != open_checkpoint(tied).identity


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("format", ["dropped", "plain", "llm-drop"])
def test_a_copy_of_the_embedding_is_neither_read_nor_exported(kind, format, tmp_path):
    model = write(tmp_path / "model", head="copy", kind=kind)
    assert open_checkpoint(model).config["tie_word_embeddings"] is True
    assert torch.equal(logits_of(load_model(model), IDS), plain_logits(model))
    export_checkpoint(open_checkpoint(model), BLOCK, tmp_path / "export", format=format)
    assert HEAD not in stored(tmp_path / "export")
    assert torch.equal(logits_of(load_model(tmp_path / "export"), IDS), logits_of(load_model(model, BLOCK), IDS))


def test_a_head_that_config_json_does_not_tie_stays_in_the_files_even_if_it_is_equal(tmp_path):
    model = write(tmp_path / "model", head="copy", kind="bin")
    edit_json(model / "config.json", tie_word_embeddings=False)
    export = tmp_path / "export"
    export_checkpoint(open_checkpoint(model), BLOCK, export)
    assert torch.equal(stored(export)[HEAD], stored(export)["model.embed_tokens.weight"])
    assert torch.equal(plain_logits(export, trust_remote_code=True), logits_of(load_model(model, BLOCK), IDS))


def test_vllm_is_not_given_a_head_that_its_class_would_not_use(tmp_path):
    folder = write(tmp_path / "model", "Gemma2ForCausalLM")
    with pytest.raises(UserError, match="its output layer is not its embedding, and vLLM has none for Gemma2"):
        check_head(open_checkpoint(folder).config, str(folder))
    check_head(open_checkpoint(write(tmp_path / "tied", "Gemma2ForCausalLM", head="none")).config, "tied")
    check_head(open_checkpoint(write(tmp_path / "llama")).config, "llama")
