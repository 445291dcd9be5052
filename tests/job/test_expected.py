"""Hours from operations, bytes and stated rates, against cases that were computed by hand."""

import pytest
from pydantic import ValidationError

from drop_ray.config import EvaluationConfig, ExecutionConfig, ServingConfig
from drop_ray.config.gpus import GPUS
from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.config.scoring import CalibrationConfig
from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.job.expected import Expected, Phase, expect
from drop_ray.job.layout import Layout
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import variant_of
from drop_ray.quantization.cost import quantization_phase
from drop_ray.stages.bench_cost import bench_phases
from drop_ray.stages.evaluation_cost import forward, task_phases

# 100 operations, 10 bytes moved and 2 bytes loaded a second.
ROUND = HardwareSpec(
    flops=200, bandwidth=20, memory=1, compute_efficiency=0.5, bandwidth_efficiency=0.5, load_bandwidth=2, start_s=30
)
ONE, EIGHT, ENGINES = Layout(1, 1, 1), Layout(8, 1, 1), Layout(2, 4, 1)
# 2 layers of 300 weights that a token meets, and 10 x 4 in the output layer.
SMALL = ModelSize(
    Layers(2, attending=(0, 1)), 700, (100, 100), (200, 200), (200, 200), 100, 4, (4, 4), (None, None), 2, 100
)
VOLUME = TaskVolume(10, 20, asked=400, alone=300, shared=200, cached=100, generated=0, basis="requests")


@pytest.mark.parametrize(
    ("phases", "layout", "at_once", "expected"),
    [
        ([Phase(flops=1000)], ONE, 1, Expected(10, 10, 1)),
        ([Phase(moved=1000)], ONE, 1, Expected(100, 100, 1)),
        ([Phase(loaded=1000)], ONE, 1, Expected(500, 500, 1)),
        ([Phase(flops=1000, moved=1000)], ONE, 1, Expected(100, 100, 1)),
        ([Phase(flops=1000), Phase(moved=1000)], ONE, 1, Expected(110, 110, 1)),
        ([Phase(flops=8000)], EIGHT, 16, Expected(80, 10, 8)),
        ([Phase(flops=8000)], EIGHT, 2, Expected(80, 40, 2)),
        ([Phase(flops=8000)], ENGINES, 5, Expected(80, 10, 8)),
        ([Phase(flops=8000)], ENGINES, 1, Expected(80, 20, 4)),
        # Four GPUs wait while the weights of their engine come, and while it starts.
        ([Phase(loaded=20, starts=1)], ENGINES, 2, Expected(4 * 10 + 4 * 30, 20, 8)),
        # Streamed: layers come while others compute.
        ([Phase(flops=1000, loaded=10)], ONE, 1, Expected(10, 10, 1)),
        ([Phase(flops=1000, loaded=100)], ONE, 1, Expected(50, 50, 1)),
        ([Phase(flops=1600)], Layout(16, 0.5, 1), 16, Expected(16, 2, 8)),
        ([], ONE, 1, Expected(0, 0, 1)),
        ([Phase(flops=1000)], ONE, 0, Expected()),
        ([Phase(flops=1000)], Layout(4, 0, 1), 4, Expected()),
    ],
)
def test_time_is_that_of_the_longest_of_what_overlaps(phases, layout, at_once, expected):
    assert expect(phases, ROUND, layout, at_once) == expected


def test_stages_follow_each_other():
    both = Expected(3600, 1800, 2) + Expected(7200, 900, 8)
    assert both == Expected(10800, 2700, 8)
    assert (both.gpu_hours, both.wall_hours) == (3, 0.75)


def test_a_table_that_was_computed_by_hand():
    """1.8e20 operations at 0.4 of 989 TFLOP/s are 126 GPU-hours: 15.8 hours on 8 GPUs."""
    found = expect([Phase(flops=1.8e20)], HardwareSpec(gpu="h100"), ENGINES, 19)
    assert (found.gpu_hours, found.wall_hours) == (pytest.approx(126.4, rel=0.001), pytest.approx(15.8, rel=0.001))


@pytest.mark.parametrize(
    ("backend", "share", "tokens"), [("hf", False, 300), ("hf", True, 200), ("vllm", True, 100), ("vllm", False, 400)]
)
def test_prompts_cost_the_tokens_that_the_backend_computes(backend, share, tokens):
    evaluation = EvaluationConfig(backend=backend, share_prefixes=share)
    (phase,) = task_phases(SMALL, 10, DropLists(), VOLUME, evaluation)
    # 2 x 600 weights, 2 layers x 2 x 20 tokens x 4 of attention, 2 x 40 of the output layer.
    assert phase == Phase(flops=tokens * (1200 + 320 + 80))


def test_a_plan_costs_what_is_left_of_it():
    dropped = DropLists(attn=(0,), mlp=(0, 1))
    assert forward(SMALL, 10, dropped, 1, 20) == 2 * 100 + 2 * 20 * 4 + 80


def test_generated_tokens_read_the_weights_once_for_a_batch():
    volume = TaskVolume(10, 10, asked=200, alone=200, shared=200, cached=200, generated=50, basis="requests")
    _, generated = task_phases(SMALL, 10, DropLists(), volume, EvaluationConfig(batch_size=5))
    # 50 tokens of 5 sequences are 10 steps, with 640 weights of 2 bytes, and 20 tokens of 8 bytes in 2 layers.
    assert generated.moved == 10 * (640 * 2 + 5 * 20 * 8 * 2)
    assert generated.flops == 10 * 5 * (1200 + 2 * 2 * 40 * 4 + 80)
    _, engine = task_phases(SMALL, 10, DropLists(), volume, EvaluationConfig(backend="vllm", batch_size=5))
    assert engine.moved == 5 * (640 * 2 + 10 * 20 * 8 * 2)  # all 10 at once
    _, quantized = task_phases(SMALL, 10, DropLists(), volume, EvaluationConfig(batch_size=5), layer_bytes=0.5)
    assert quantized.moved == 10 * (40 * 2 + 600 * 0.5 + 5 * 20 * 8 * 2)


def test_awq_tries_its_scales_and_gptq_adds_up_its_inputs():
    calibration = CalibrationConfig(token_ids="x", num_samples=20, seq_len=10)
    one = SMALL.forward_flops(DropLists(), 10, 10)
    gptq, awq = (
        quantization_phase(SMALL, DropLists(), QuantizationSpec(method=method, held_out=4), calibration)
        for method in ("gptq", "awq")
    )
    assert gptq == Phase((3 * 16 + 2 * 4) * one, loaded=1400)
    assert awq == Phase((22 * 16 + 2 * 4) * one, loaded=1400)


def test_a_reloading_benchmark_loads_every_round_and_a_resident_one_once():
    base = variant_of("model", DropPlan("base"))
    plan = variant_of("model", DropPlan("attention-1", (0,)))

    def loads(**fields):
        serving = ServingConfig(workloads=[{"prompt": 10, "output": 22}], batch_sizes=[1, 2], **fields)
        phases = list(bench_phases(serving, SMALL, 10, base, plan))
        return [(phase.loaded, phase.starts) for phase in phases if phase.starts], len(phases)

    # Of each side: loading, then 2 batch sizes at equal batch and one at equal memory, prefilled and generated.
    assert loads(mode="reload", pairs=3) == ([(1400 * 3, 3), (1200 * 3, 3)], 2 * (1 + 3 * 2))
    assert loads(mode="resident", pairs=5) == ([(1400, 1), (1200, 1)], 2 * (1 + 3 * 2))


def test_a_benchmarks_decoding_is_its_pairs_times_its_output():
    base = variant_of("model", DropPlan("base"))
    serving = ServingConfig(workloads=[{"prompt": 10, "output": 30}], batch_sizes=[1], mode="reload", pairs=3)
    phases = list(bench_phases(serving, SMALL, 10, base, base))
    # At its mean context of 25 tokens, of 8 bytes in each of 2 layers.
    assert phases[2].moved == 3 * 30 * (640 * 2 + 25 * 8 * 2)


def test_a_name_stands_for_its_data_sheet_and_own_values_go_before_it():
    assert ExecutionConfig(hardware="h100").hardware.peak == GPUS["h100"]
    assert HardwareSpec(gpu="h100", memory=94e9).peak.memory == 94e9
    assert HardwareSpec(gpu="h100", memory=94e9).peak.flops == GPUS["h100"].flops
    assert HardwareSpec(flops=1, bandwidth=2, memory=3).peak.bandwidth == 2


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS.keys())
def test_the_rates_of_a_gpu_are_those_of_a_gpu(gpu):
    """A slip of a power of ten shows: operations per byte moved, and seconds to read all of the memory."""
    assert 70 < gpu.flops / gpu.bandwidth < 500
    assert 0.015 < gpu.memory / gpu.bandwidth < 0.09


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ("h101", "hardware.gpu\n.*'h200', 'h100'"),
        ({}, "`flops`, `bandwidth`, `memory` must be given, or the name of a `gpu`: b200, h200"),
        ({"flops": 1e15, "memory": 8e10}, "`bandwidth` must be given"),
        ({"gpu": "h100", "compute_efficiency": 1.5}, "less than or equal to 1"),
        ({"gpu": "h100", "bandwidth_efficiency": 0}, "greater than 0"),
        ({"gpu": "h100", "price_per_gpu_hour": -1}, "greater than 0"),
        (7, "hardware"),
    ],
)
def test_hardware_that_is_not_stated_well_is_refused(hardware, message):
    with pytest.raises(ValidationError, match=message):
        ExecutionConfig(hardware=hardware)
