"""The configs under jobs/configs: each is valid, and asks for no more than its model has."""

from pathlib import Path

import pytest

from drop_ray.config import load_config
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.requests import plan_requests

FOLDER = Path(__file__).parents[2] / "jobs" / "configs"
NUM_LAYERS = {
    "baichuan2_7b": 32,
    "deepseek_moe_16b": 28,
    "demo": 12,
    "demo_full": 12,
    "gemma2_9b": 42,
    "llama2_13b": 40,
    "llama2_70b": 80,
    "llama31_405b": 126,
    "llama3_70b": 80,
    "llama3_8b": 32,
    "mistral_7b": 32,
    "solar_10_7b": 48,
    "yi_6b": 32,
}


def test_every_example_is_known_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == NUM_LAYERS.keys()


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_an_example_loads_and_its_plans_fit_the_model(name):
    config = load_config(FOLDER / f"{name}.yaml")
    assert config.name == name
    requests = plan_requests(config.plans, Layers(NUM_LAYERS[name]), DropLists(), config.scoring.metrics[0])
    assert set(config.export) <= {request.name for request in requests}


@pytest.mark.parametrize("name", sorted(NUM_LAYERS.keys() - {"demo", "demo_full"}))
def test_an_example_of_a_published_model_calibrates_and_evaluates_as_the_paper(name):
    config = load_config(FOLDER / f"{name}.yaml")
    assert (config.calibration.num_samples, config.calibration.seq_len) == (256, 2048)
    assert {task.name: task.num_fewshot for task in config.evaluation.tasks} == {
        **dict.fromkeys(["boolq", "rte", "openbookqa", "piqa"], 0),
        **dict.fromkeys(["mmlu", "winogrande", "gsm8k"], 5),
        "hellaswag": 10,
        "arc_challenge": 25,
    }
    assert config.execution.gpus_per_worker > 0


@pytest.mark.parametrize("name", ["llama2_70b", "llama3_70b", "llama3_8b", "mistral_7b"])
def test_an_example_of_the_papers_main_models_covers_what_the_paper_measures(name):
    config = load_config(FOLDER / f"{name}.yaml")
    assert {"attention", "mlp", "joint", "block"} <= {plan.strategy for plan in config.plans}
    assert {spec.method for spec in config.quantization} == {"awq", "gptq"}
    assert config.serving.model_len == 4096
    names = {request.name for request in plan_requests(config.plans, Layers(NUM_LAYERS[name]), DropLists(), "cosine")}
    quantized = {f"{plan}-{spec.label}" for spec in config.quantization for plan in spec.plans}
    assert {plan for spec in config.quantization for plan in spec.plans} <= names
    if config.serving.plans != "all":
        assert set(config.serving.plans) <= names | quantized


@pytest.mark.parametrize("name", ["llama2_70b", "llama3_70b"])
def test_the_70b_examples_drop_as_many_attention_layers_as_the_paper(name):
    config = load_config(FOLDER / f"{name}.yaml")
    assert config.plans[0].drop == (4, 8, 16, 32, 40, 48)


@pytest.mark.parametrize("name", ["llama2_70b", "llama3_70b", "llama3_8b", "mistral_7b"])
def test_the_engines_of_an_example_fit_its_gpus(name):
    """Weights and KV cache on a GPU of 80 GB, of which vLLM takes a tenth for itself: bytes of the published models."""
    weights = {"llama2_70b": 138e9, "llama3_70b": 141e9, "llama3_8b": 16.1e9, "mistral_7b": 14.5e9}[name]
    config = load_config(FOLDER / f"{name}.yaml")
    engines = 2 if config.serving.mode == "resident" else 1
    assert engines * (weights / config.execution.tensor_parallel + config.serving.kv_cache_bytes) < 0.9 * 80e9


def test_gemma_2_is_not_computed_without_its_soft_caps():
    assert load_config(FOLDER / "gemma2_9b.yaml").model.attn_implementation == "eager"
