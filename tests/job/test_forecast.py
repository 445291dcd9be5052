"""Forecasts of whole runs: the 70B config on its 8 GPUs by published sizes, and what was measured on a GPU."""

import pytest
from published_models import LLAMA_3_70B, SHOTS, published_job, published_size

from drop_ray.config.hardware import HardwareSpec
from drop_ray.evaluation.tasks.published_sizes import PUBLISHED
from drop_ray.job.expected import Expected, Phase, expect
from drop_ray.job.layout import Layout
from drop_ray.models.families import DropLists
from drop_ray.stages.dry_run_table import dry_run_lines, hardware_lines, token_lines
from drop_ray.stages.forecast import forecast


@pytest.fixture(scope="module")
def size():
    return published_size(LLAMA_3_70B)


@pytest.fixture
def job_of(tmp_path, size):
    """Makes a job of the 70B config with changes of its evaluation."""
    return lambda **evaluation: published_job(tmp_path, "llama3_70b", size, **evaluation)


def expected(works, stage):
    return sum((work.expected for work in works if work.stage == stage and work.expected), Expected())


def test_the_model_has_its_published_size(size):
    assert size.parameters == 70_553_706_496
    assert size.attention_parameters[0] == 8192 * (8192 * 2 + 2 * 1024) + 8192
    assert size.forward_flops(DropLists(), 1, 0) == 2 * (size.parameters - size.outside_parameters)


def test_all_of_the_evaluation_takes_at_most_8_hours_on_8_gpus(job_of):
    job = job_of()
    works = list(forecast(job))
    tasks = [work for work in works if work.name.removeprefix("evaluate ") in SHOTS]
    # The base, 18 plans, and the base and 3 plans quantized by 2 methods.
    assert [(work.name, work.units) for work in tasks] == [(f"evaluate {name}", 19 + 8) for name in SHOTS]
    found = expected(works, "evaluate")
    assert found.gpus == 8
    assert 4 < found.wall_hours < 8
    assert found.gpu_hours == pytest.approx(8 * found.wall_hours)
    lines = [*dry_run_lines(works, 0), *token_lines(job.volumes, job.config.evaluation)]
    assert max(map(len, lines)) <= 80
    text = "\n".join(hardware_lines(works, job.config.execution))
    assert "Expected on 8 GPUs (h100: 989 TFLOP/s x 0.4, 3.35 TB/s x 0.7):" in text


def test_all_gpus_compute_in_every_stage(job_of):
    works = list(forecast(job_of()))
    for stage in ("score", "evaluate", "quantize", "bench"):
        assert expected(works, stage).gpus == 8, stage


def test_without_reuse_it_takes_days_and_with_reuse_by_transformers_about_as_long_as_an_engine(job_of):
    hours = {
        (backend, share): expected(list(forecast(job_of(backend=backend, share_prefixes=share))), "evaluate").gpu_hours
        for backend in ("hf", "vllm")
        for share in (True, False)
    }
    assert hours["hf", False] > 2.5 * hours["hf", True]
    assert hours["vllm", False] > 3.5 * hours["vllm", True]
    assert hours["hf", True] == pytest.approx(hours["vllm", True], rel=0.5)


def test_the_paper_s_table_has_as_many_tokens_as_was_calculated_by_hand(size):
    volumes = [PUBLISHED[name].volume(shots, None, 16) for name, shots in SHOTS.items()]
    alone, cached = (19 * sum(getattr(volume, name) for volume in volumes) for name in ("alone", "cached"))
    assert alone == pytest.approx(1.29e9, rel=0.2)
    assert cached == pytest.approx(0.36e9, rel=0.2)
    hellaswag = PUBLISHED["hellaswag"].volume(10, None, 16)
    assert 19 * hellaswag.alone / alone == pytest.approx(0.74, abs=0.04)
    assert size.forward_flops(DropLists(), alone, 1000) == pytest.approx(1.8e20, rel=0.2)


@pytest.mark.parametrize(("streamed", "measured_s"), [(False, 2.16), (True, 6.20)])
def test_the_forecast_is_near_to_what_scoring_took_on_an_h200(streamed, measured_s):
    """The sweeps of docs/testing.md: a model of the size of Llama-3-8B, 32 samples of 2048 tokens."""
    fields = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    size = published_size(LLAMA_3_70B | fields)
    weights = (size.parameters - size.outside_parameters) * 2
    phase = Phase(size.forward_flops(DropLists(), 32 * 2048, 2048), loaded=weights * streamed)
    found = expect([phase], HardwareSpec(gpu="h200"), Layout(1, 1, 1), 2)
    assert measured_s / found.wall_s == pytest.approx(1, abs=0.15)
