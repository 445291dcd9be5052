"""A family that is not listed: its dropped checkpoint loads in every way that the documentation names."""

import json
import subprocess
import sys

import pytest
import torch
from processes import bare
from tiny_models import COMMON, logits_of, make_tokenizer, token_ids
from transformers import AutoConfig, AutoModelForCausalLM, GemmaConfig, GemmaForCausalLM, GPTNeoXConfig

import drop_ray
from drop_ray.errors import UserError
from drop_ray.evaluation.export_check import check_export
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import attention_for
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model

DROPS = DropLists((1,), (2,))
IDS = token_ids(2, 24)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma")
    torch.manual_seed(0)
    config = GemmaConfig(**COMMON, num_hidden_layers=4, head_dim=8)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "base")
    make_tokenizer().save_pretrained(folder / "base")
    export_checkpoint(open_checkpoint(folder / "base"), DROPS, folder / "dropped")
    return folder


@pytest.fixture(scope="module")
def right(gemma):
    return logits_of(load_model(gemma / "base", DROPS), IDS)


def test_gemma_is_not_listed():
    assert "GemmaForCausalLM" not in FAMILIES


def test_a_program_that_imports_drop_ray_loads_it(gemma, right):
    model, report = AutoModelForCausalLM.from_pretrained(
        gemma / "dropped", dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    assert torch.equal(logits_of(model.eval(), IDS), right)


def test_its_export_gives_the_logits_of_what_it_was_made_of(gemma):
    assert check_export(open_checkpoint(gemma / "base"), DROPS, gemma / "dropped", "dropped") == 0


def test_the_api_loads_it(gemma, right):
    assert torch.equal(logits_of(drop_ray.load(gemma / "dropped", allow_unlisted=True), IDS), right)
    with pytest.raises(UserError, match="allow_unlisted"):
        drop_ray.load(gemma / "dropped")


@pytest.mark.full
def test_transformers_without_drop_ray_loads_it_as_remote_code(gemma, right, tmp_path):
    """In a process of its own: this one knows the family's dropped class."""
    program = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(gemma / "dropped")!r}, dtype=torch.float32, trust_remote_code=True)
with torch.no_grad():
    torch.save(model.eval()(torch.tensor({IDS.tolist()})).logits, {str(tmp_path / "logits.pt")!r})
"""
    subprocess.run([sys.executable, "-c", program], env=bare(tmp_path), cwd=tmp_path, check=True, timeout=300)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), right)


def test_types_that_nobody_has_are_still_unknown():
    with pytest.raises(ValueError, match="dropped_novel"):
        AutoConfig.for_model("dropped_novel")
    with pytest.raises(ValueError, match="novel"):
        AutoConfig.for_model("novel")


def test_saving_keeps_the_format(gemma, right, tmp_path):
    AutoModelForCausalLM.from_pretrained(gemma / "dropped", dtype=torch.float32).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "dropped_gemma"
    assert torch.equal(logits_of(drop_ray.load(tmp_path, allow_unlisted=True), IDS), right)


def test_the_class_decides_the_attention(monkeypatch):
    assert attention_for("GemmaForCausalLM") == "sdpa"
    assert attention_for("GemmaForCausalLM", "eager") == "eager"
    assert attention_for("Gemma2ForCausalLM") == "eager"
    monkeypatch.setattr(GemmaForCausalLM, "_supports_sdpa", False)
    assert attention_for("GemmaForCausalLM") == "eager"
    with pytest.raises(UserError, match="GemmaForCausalLM has no sdpa in transformers; set it to eager"):
        attention_for("GemmaForCausalLM", "sdpa")


def test_gpt_neox_is_found_by_its_type():
    assert AutoConfig.for_model("dropped_gpt_neox").__class__.__name__ == "DroppedGPTNeoXConfig"
    assert isinstance(AutoConfig.for_model("dropped_gpt_neox"), GPTNeoXConfig)
