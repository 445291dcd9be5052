"""Dropped checkpoints in other processes: with and without remote code, with and without drop_ray."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_models import (
    REPRESENTATIVES,
    droppable,
    logits_of,
    logits_without,
    modeling_files,
    token_ids,
    write_checkpoint,
)

from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model

IDS = token_ids(2, 24)
DROPS = DropLists((0, 2), (2, 3))
OTHERS = [architecture for architecture in FAMILIES if architecture not in REPRESENTATIVES]


def run_python(code, cache):
    """Start and imports take seconds: the tests give a process as many models as they can."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(cache)},
    )
    return result.returncode, result.stdout, result.stderr


def write_dropped(folder, architecture):
    base = open_checkpoint(write_checkpoint(folder / "base", architecture))
    export_checkpoint(base, only(DROPS, droppable(architecture)), folder / "dropped")


@pytest.mark.parametrize(
    "architectures", [REPRESENTATIVES, pytest.param(OTHERS, marks=pytest.mark.full)], ids=["some", "others"]
)
def test_remote_code_loads_every_architecture_in_a_process_that_never_imports_drop_ray(architectures, tmp_path):
    for architecture in architectures:
        write_dropped(tmp_path / architecture, architecture)
    attention = {name: "eager" if FAMILIES[name].needs_eager else "sdpa" for name in architectures}
    code = f"""
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
for name, attention in {attention!r}.items():
    folder = Path({str(tmp_path)!r}) / name
    model = AutoModelForCausalLM.from_pretrained(
        folder / "dropped", trust_remote_code=True, dtype="float32", attn_implementation=attention
    ).eval()
    torch.save(model(torch.tensor({IDS.tolist()})).logits.detach(), folder / "logits.pt")
    model.save_pretrained(folder / "again")
assert not any(name.split(".")[0] == "drop_ray" for name in sys.modules)
"""
    status, _, errors = run_python(code, tmp_path / "modules")
    assert status == 0, errors
    for architecture in architectures:
        expected = logits_without(architecture, only(DROPS, droppable(architecture)), IDS)
        assert torch.equal(torch.load(tmp_path / architecture / "logits.pt"), expected), architecture
        # Saved again it is still a dropped checkpoint, with the modeling files beside it.
        again = tmp_path / architecture / "again"
        assert json.loads((again / "config.json").read_text())["model_type"].startswith("dropped_"), architecture
        assert modeling_files(architecture) <= {path.name for path in again.iterdir()}
        assert torch.equal(logits_of(load_model(again), IDS), expected), architecture


def test_plain_transformers_without_remote_code_fails_loudly(tmp_path):
    write_dropped(tmp_path, "LlamaForCausalLM")
    code = f"""
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained({str(tmp_path / "dropped")!r})
"""
    status, _, errors = run_python(code, tmp_path / "modules")
    assert status != 0
    assert "trust_remote_code" in errors


def test_an_llm_drop_checkpoint_is_dropped_with_remote_code_only(tmp_path):
    """Also as a bare configuration with the base's own weights linked beside it."""
    expected = {name: logits_without(name, DROPS, IDS) for name in ("MistralForCausalLM", "DeepseekForCausalLM")}
    for architecture in expected:
        base = write_checkpoint(tmp_path / architecture / "base", architecture)
        for form in ("llm-drop", "config-only"):
            export_checkpoint(open_checkpoint(base), DROPS, tmp_path / architecture / form, format=form)
        for path in base.glob("*.safetensors*"):
            (tmp_path / architecture / "config-only" / path.name).symlink_to(path)
    code = f"""
import torch
from pathlib import Path
from transformers import AutoModelForCausalLM
def save_logits(folder, name, **arguments):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", **arguments).eval()
    torch.save(model(torch.tensor({IDS.tolist()})).logits.detach(), folder / name)
for folder in Path({str(tmp_path)!r}).glob("*ForCausalLM"):
    for form in ("llm-drop", "config-only"):
        save_logits(folder / form, "dropped.pt", trust_remote_code=True)
save_logits(Path({str(tmp_path)!r}) / "MistralForCausalLM" / "llm-drop", "full.pt")
"""
    status, _, errors = run_python(code, tmp_path / "modules")
    assert status == 0, errors
    for architecture, logits in expected.items():
        for form in ("llm-drop", "config-only"):
            assert torch.equal(torch.load(tmp_path / architecture / form / "dropped.pt"), logits), (architecture, form)
    full = logits_without("MistralForCausalLM", DropLists(), IDS)
    assert torch.equal(torch.load(tmp_path / "MistralForCausalLM" / "llm-drop" / "full.pt"), full)


@pytest.mark.parametrize("order", ["drop_ray first", "transformers first"])
def test_importing_drop_ray_registers_the_dropped_types(order, tmp_path):
    for architecture in ("LlamaForCausalLM", "DeepseekForCausalLM", "Gemma3ForCausalLM"):
        write_dropped(tmp_path / architecture, architecture)
    imports = ["import drop_ray", "from transformers import AutoModelForCausalLM"]
    code = "\n".join(imports if order == "drop_ray first" else reversed(imports))
    code += f"""
from pathlib import Path
for folder in sorted(Path({str(tmp_path)!r}).glob("*/dropped")):
    print(type(AutoModelForCausalLM.from_pretrained(folder)).__module__)
"""
    status, output, errors = run_python(code, tmp_path / "modules")
    assert status == 0, errors
    homes = ["modeling_deepseek", "modeling_dropped", "modeling_dropped"]
    assert output.split() == [f"drop_ray.models.{home}" for home in homes]
