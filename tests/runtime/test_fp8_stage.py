"""FP8 in a run: the base and a refitted plan, made without an engine, judged and served as further plans."""

import json

import pytest
from local_run import run_state

from drop_ray.errors import UserError
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.pipeline import run
from drop_ray.quantization.section import QUANTIZATION
from drop_ray.stages.forecast import forecast_lines

FP8 = {"method": "fp8", "held_out": 4, "plans": ["attention-2-refit"]}


def test_a_refitted_plan_becomes_8_bit_floats_and_stays_near(make_config):
    config = make_config(
        refit=[{"ridge": 0.1, "plans": ["attention-2"]}],
        quantization=[FP8],
        evaluation={"divergence": {"num_samples": 4}},
    )
    line = next(line.split()[1:3] for line in forecast_lines(config) if line.startswith("quantize"))
    assert line == ["2", "2"]
    done = run(config, "quantize")
    assert set(done.checkpoints) == {"base-fp8", "attention-2-refit-fp8"}
    checkpoint = open_checkpoint(done.checkpoints["attention-2-refit-fp8"])
    assert checkpoint.config["drop_attn_list"] == sorted(done.plans[1].drop_attn)
    assert "solved anew" in json.dumps(checkpoint.config["drop_ray"])
    kl = {name: panel.kl for name, panel in done.panels.items()}
    assert 0 < kl["base-fp8"] < 0.1 * kl["attention-2"]
    assert abs(kl["attention-2-refit-fp8"] - kl["attention-2-refit"]) < 0.2 * kl["attention-2-refit"]
    assert run(config, "quantize").computed == 0


def test_only_the_methods_of_a_run_decide_which_libraries_it_needs(make_config):
    fp8, both = (
        make_config(quantization=lines) for lines in ([FP8 | {"plans": []}], [{"method": "gptq", "group_size": 16}])
    )
    assert QUANTIZATION.libraries(fp8) == ()
    assert QUANTIZATION.libraries(both) == ("gptqmodel", "optimum")
    job = open_job(fp8)
    (variant,) = QUANTIZATION.variants(job, job.base_variant, run_state(job, []).variants)
    assert variant.libraries == ()
    assert "gptqmodel" not in variant.made_by.identity["versions"]


def test_vllm_on_a_cpu_has_no_kernels_for_blocks(make_config):
    serving = {"workloads": [{"prompt": 24, "output": 8}], "kv_cache_bytes": 1 << 20, "dtype": "bfloat16"}
    wide = [{**FP8, "plans": [], "scheme": "block"}]
    with pytest.raises(UserError, match="whole blocks of 128; use channel|of CPUs, vLLM serves blocks"):
        open_job(make_config(quantization=wide, serving=serving))
