"""The configs under jobs/configs: each is valid, and asks for no more than its model has."""

from pathlib import Path

import pytest

from drop_ray.config import load_config
from drop_ray.models.families import DropLists
from drop_ray.planning.requests import plan_requests

FOLDER = Path(__file__).parents[2] / "jobs" / "configs"
NUM_LAYERS = {
    "baichuan2_7b": 32,
    "deepseek_moe_16b": 28,
    "demo": 12,
    "demo_full": 12,
    "gemma2_9b": 42,
    "llama2_13b": 40,
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
    requests = plan_requests(config.plans, NUM_LAYERS[name], DropLists(), config.scoring.metrics[0])
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


def test_gemma_2_is_not_computed_without_its_soft_caps():
    assert load_config(FOLDER / "gemma2_9b.yaml").model.attn_implementation == "eager"
