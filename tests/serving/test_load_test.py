"""The load test's options and rows; vLLM's own program where it is installed, against a server of the tiny model."""

import pytest
import tiny_models
from installed import needs_vllm
from served import free_port, serving

from drop_ray.config import WorkloadSpec, parse_config
from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.serving.load_test import arguments, load_test_rows, row_of

WORKLOAD = WorkloadSpec(prompt=24, output=6, name="short")


def config_of(folder="m", **serving):
    return parse_config(
        {
            "name": "run",
            "model": {"path": str(folder)},
            "calibration": {"source": "c.txt"},
            "serving": {"workloads": [{"prompt": 24, "output": 6, "name": "short"}], **serving},
        },
        "test",
    )


def test_options_name_the_workload_the_rate_and_the_models_tokenizer(tmp_path):
    options = arguments("http://127.0.0.1:8000", tmp_path / "model", WORKLOAD, 2.5, 40, 7, "results")
    given = dict(zip(options[::2], options[1::2], strict=False))
    expected = {
        "--base-url": "http://127.0.0.1:8000",
        "--tokenizer": str(tmp_path / "model"),
        "--random-input-len": "24",
        "--random-output-len": "6",
        "--num-prompts": "40",
        "--request-rate": "2.5",
        "--seed": "7",
        "--percentile-metrics": "ttft,tpot,e2el",
        "--metric-percentiles": "50,95,99",
    }
    assert expected.items() <= given.items()
    assert "--ignore-eos" in options


def test_a_row_has_seconds_under_the_benchmarks_own_names():
    result = {"completed": 9, "failed": 1, "duration": 2.0, "request_throughput": 4.5, "output_throughput": 27.0}
    for name, start in (("ttft", 10), ("tpot", 20), ("e2el", 30)):
        result |= {f"p{percentile}_{name}_ms": start + percentile for percentile in (50, 95, 99)}
    row = row_of(result, "http://host:1", WORKLOAD, 5.0)
    assert (row["workload"], row["request_rate"], row["completed"], row["failed"]) == ("short", 5.0, 9, 1)
    assert (row["ttft_p50_s"], row["tpot_p95_s"], row["e2e_p99_s"]) == pytest.approx((0.06, 0.115, 0.129))
    assert row["output_tokens_per_s"] == 27


def test_what_is_no_address_of_a_server_is_said():
    for server in ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"):
        with pytest.raises(UserError, match=f"--server {server}: give the server's address"):
            list(load_test_rows(config_of(), server, [1], 1))


@pytest.mark.full
@needs_vllm
def test_a_server_is_loaded_at_each_rate(tmp_path):
    folder = tiny_models.write_checkpoint(tmp_path / "model", hidden_size=128, head_dim=32)
    options = ["--dtype=float32", "--enforce-eager", "--max-model-len=128", f"--kv-cache-memory-bytes={1 << 26}"]
    with serving(["serve", str(folder), "--", *options], tmp_path) as (url, server, _):
        rows = list(load_test_rows(config_of(folder), url, [5.0, 50.0], 8))
        server.terminate()
        server.wait(30)
    assert [(row["request_rate"], row["completed"], row["failed"]) for row in rows] == [(5.0, 8, 0), (50.0, 8, 0)]
    for row in rows:
        assert 0 < row["ttft_p50_s"] <= row["e2e_p50_s"]
    # Eight requests at five a second are spread over more than a second.
    assert rows[0]["seconds"] > rows[1]["seconds"]


@pytest.mark.full
@needs_vllm
def test_a_server_that_is_not_there_is_an_error_with_vllms_last_lines(tmp_path, monkeypatch):
    monkeypatch.setattr("drop_ray.serving.load_test.READY_S", 3)
    folder = tiny_models.write_checkpoint(tmp_path / "model")
    with pytest.raises(WorkerFailedError, match=r"(?s)the load test failed \(exit code 1\); its last lines:.*"):
        list(load_test_rows(config_of(folder), f"http://127.0.0.1:{free_port()}", [1], 1))
